"""A denoiser that sees a long film through overlapping windows, as many frames at once as it was trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from videogen.denoiser import Condition, Denoiser
from videogen.initial_noise import Seen
from videogen.pipelines.along_time import AlongTime
from videogen.pipelines.cutting import cut_condition
from videogen.pipelines.placing import Window, place_windows
from videogen.pipelines.sampling import Sampling
from videogen.vae import VAESpec


class Windowed:
    """A denoiser whose predictions for overlapping windows of a film are blended at every step (MultiDiffusion,
    arXiv 2302.08113, eq. 5, in time; Gen-L-Video, arXiv 2305.18264).

    Windows are predicted one after the other: a long film takes the memory of a short one.

    Args:
        denoiser: any.
        length: of a window in latent frames.
        overlap: how many of them two windows have in common at least, fewer than `length`.
    """

    def __init__(self, denoiser: Denoiser, length: int, overlap: int) -> None:
        self.denoiser, self.length, self.overlap = denoiser, length, overlap
        self.conditions = denoiser.conditions
        # conditions remember what layers make of them, so those of a window stay the same objects from step to step
        self._cut: dict[tuple[int, int, int], tuple[Condition, Condition]] = {}

    def __call__(self, latents: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """See `videogen.denoiser.Denoiser`; times per frame (B, T) are cut as the latents are.

        Raises:
            ValueError: a condition that can't be cut, or that leaves a window without what the model needs.
        """
        windows = place_windows(latents.shape[2], self.length, self.overlap)
        conditions = [self._of(condition, window, latents.shape[2]) for window in windows]
        blended: Tensor | None = None
        for window, inner in zip(windows, conditions, strict=True):
            there = slice(window.start, window.stop)
            times = timestep[:, there] if timestep.ndim == 2 else timestep
            predicted = self.denoiser(latents[:, :, there], times, inner)
            if blended is None:
                # in float32 or better: in half precision weights wouldn't sum to 1
                sums = torch.promote_types(predicted.dtype, torch.float32)
                blended = predicted.new_zeros(*predicted.shape[:2], *latents.shape[2:], dtype=sums)
            blended[:, :, there] += window.weights.to(blended)[:, None, None] * predicted
        assert blended is not None
        return blended.to(predicted.dtype)

    def _of(self, condition: Condition, window: Window, frames: int) -> Condition:
        key = id(condition), window.start, window.stop
        if key not in self._cut:
            # the whole is kept beside its part, so that no other condition gets its id
            self._cut[key] = condition, cut_condition(self.denoiser, condition, slice(*key[1:]), frames)
        return self._cut[key][1]


def windowed(denoiser: Denoiser, settings: Sampling, spec: VAESpec) -> Denoiser:
    """The denoiser itself for a film that isn't longer than a window, or that is to be seen whole; else in windows.

    Raises:
        ValueError: a window or an overlap that the VAE's stride doesn't fit, an overlap as long as the window, or a
            model without the attention that is to be in windows.
    """
    if not settings.window:
        return denoiser
    length, overlap = window_latents(settings, spec)
    film = spec.latent_shape(settings.num_frames, settings.height, settings.width)[1]
    if length >= film:
        return denoiser
    return (AlongTime if settings.window_of == "attention" else Windowed)(denoiser, length, overlap)


def seen_at_once(settings: Sampling, spec: VAESpec) -> Seen | None:
    """What the model sees at once, in latent frames; None for all of every film.

    Raises as `windowed`.
    """
    if not settings.window:
        return None
    length, overlap = window_latents(settings, spec)
    return Seen(length, length - overlap)


def window_latents(settings: Sampling, spec: VAESpec) -> tuple[int, int]:
    """Length and overlap of windows in latent frames.

    Raises as `windowed`.
    """
    window, overlap, stride = settings.window, settings.window_overlap, spec.temporal_stride
    try:
        length = spec.latent_shape(window, settings.height, settings.width)[1]
    except ValueError as error:
        raise ValueError(f"window={window}: {error}") from error
    if overlap < 0 or overlap % stride:
        nearest = max(overlap // stride * stride, 0)
        raise ValueError(
            f"window_overlap={overlap}: a latent frame holds {stride}, use {nearest} or {nearest + stride}"
        )
    if overlap // stride >= length:
        raise ValueError(
            f"window_overlap={overlap} frames of window={window}: {overlap // stride} of {length} latent frames, "
            "so that no window would go on; ask for a smaller overlap or a larger window"
        )
    return length, overlap // stride
