"""FreeInit: a film is sampled again from noise that keeps the low frequencies of the first result."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from videogen.pipelines.sampling import FreeInitFilter, Sampling

ORDER = 4


def low_pass(
    size: tuple[int, int, int], kind: FreeInitFilter, space: float, time: float, order: int = ORDER
) -> Float[Tensor, "t h w"]:
    """How much of each frequency is kept, (T, H, W) in the order of `torch.fft.fftn`.

    The published filters (FreeInit, arXiv 2312.07537, and the project's code) on frequencies that are symmetric at odd
    sizes too, where the published grid is half a step off.

    Args:
        kind: butterworth 1 / (1 + (d / space)^(2 order)), gaussian exp(-d^2 / (2 space^2)), ideal 1 where
            d^2 <= 2 space, as published; box 1 where no frequency is above its stop.
        space: d_s, where the filter stops along height and width, above 0 to 1, the highest frequency there is.
        time: d_t, the same along time.
        order: of butterworth.
    """
    t, h, w = (2 * torch.fft.fftfreq(count, dtype=torch.float64) for count in size)
    t, h, w = t[:, None, None], h[:, None], w
    distance: Tensor = (space / time * t).square() + h.square() + w.square()
    kept: Tensor
    match kind:
        case "box":
            kept = ((t.abs() <= time) & (h.abs() <= space) & (w.abs() <= space)).double()
        case "ideal":
            kept = (distance <= 2 * space).double()
        case "gaussian":
            kept = torch.exp(-distance / (2 * space**2))
        case "butterworth":
            kept = 1 / (1 + (distance / space**2) ** order)
    return kept


def mixed(
    low: Float[Tensor, "b c t h w"], high: Float[Tensor, "b c t h w"], kept: Float[Tensor, "t h w"]
) -> Float[Tensor, "b c t h w"]:
    """The frequencies of `low` as far as they are kept, those of `high` for the rest."""
    axes = (-3, -2, -1)
    spectrum = torch.fft.fftn(high, dim=axes)
    spectrum = spectrum + (torch.fft.fftn(low, dim=axes) - spectrum) * kept.to(low)
    inverse: Tensor = torch.fft.ifftn(spectrum, dim=axes)
    return inverse.real


def started_over(
    film: Float[Tensor, "b c t h w"], noise: Tensor, fresh: Tensor, level: tuple[Tensor, Tensor], settings: Sampling
) -> Float[Tensor, "b c t h w"]:
    """What the next round starts from: the film noised back with its own noise, and fresh noise at high frequencies.

    Args:
        film: latents to which the round before came.
        noise: that the first round started from, standard normal.
        fresh: standard normal, drawn for this round.
        level: alpha and sigma at the start.
    """
    alpha, sigma = level
    kept = low_pass((film.shape[2], film.shape[3], film.shape[4]), *_filter(settings))
    return mixed(alpha * film + sigma * noise, torch.hypot(alpha, sigma) * fresh, kept)


def check_free_init(settings: Sampling, level: tuple[Tensor, Tensor], *, from_film: bool) -> None:
    """Refuse rounds that can't be, or that nothing would come of.

    Args:
        level: alpha and sigma at the start.
        from_film: whether the walk starts from a film in place of noise.

    Raises:
        ValueError: says why, and what to do.
    """
    rounds = settings.free_init
    if rounds < 0:
        raise ValueError(f"free_init={rounds}: 0 or more rounds beside the first")
    if not rounds:
        return
    _, space, time = _filter(settings)
    for name, stop in (("free_init_space", space), ("free_init_time", time)):
        if not 0 < stop <= 1:
            raise ValueError(f"{name}={stop} lies outside (0, 1]: 1 is the highest frequency there is")
    if from_film:
        raise ValueError(f"free_init={rounds} samples again from noise, and this task starts from a film: leave it out")
    if not float(level[0]):
        raise ValueError(
            f"free_init={rounds}: this walk starts at pure noise, which keeps nothing of the round before; take one "
            "whose start has some signal, as scheduler=ddim has"
        )


def _filter(settings: Sampling) -> tuple[FreeInitFilter, float, float]:
    return settings.free_init_filter, settings.free_init_space, settings.free_init_time
