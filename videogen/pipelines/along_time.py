"""Attention along time in windows of the film, inside of a network that sees the film whole otherwise."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from videogen.denoiser import Condition, Denoiser
from videogen.dit.layers import SelfAttention
from videogen.dit.patterns import Pattern, Spatial, Temporal
from videogen.pipelines.placing import place_windows, pyramid
from videogen.unet.transformers import TemporalTransformer


class Fused:
    """Attention in overlapping windows of its sequence, whose results are blended: an attention kernel around another.

    FreeNoise's window-based attention fusion (arXiv 2310.15169, section 3.3): a window counts the more the nearer a
    frame is to its centre. Windows are the published ones where the stride fits the film, else evenly spread.

    Args:
        attend: a kernel, or another way from queries, keys and values to what is attended to.
        length: of a window in frames of the sequence.
        overlap: how many of them two windows have in common at least, fewer than `length`.
    """

    def __init__(self, attend: Callable[..., Tensor], length: int, overlap: int) -> None:
        self.attend, self.length, self.overlap = attend, length, overlap
        support: Any = getattr(attend, "support", None)
        # frames reach it as a sequence of their own, not as axes or blocks of a longer one
        self.support = support and dataclasses.replace(support, axes=False, blocks=False)

    def __call__(
        self,
        q: Float[Tensor, "b heads t head_dim"],
        k: Float[Tensor, "b heads t head_dim"],
        v: Float[Tensor, "b heads t head_dim"],
        *,
        mask: Tensor | None = None,
    ) -> Float[Tensor, "b heads t head_dim"]:
        """See `videogen.kernels.Attention`; all windows go through the kernel as one batch."""
        # in float32 or better: in half precision weights wouldn't sum to 1
        wide = torch.promote_types(q.dtype, torch.float32)
        seen, weights = _windows(q.shape[2], self.length, self.overlap, q.device, wide)
        parts = (x[:, :, seen].transpose(1, 2).flatten(0, 1) for x in (q, k, v))
        masked = {} if mask is None else {"mask": _of_windows(mask, seen)}
        out: Tensor = self.attend(*parts, **masked).unflatten(0, (len(q), len(seen))).transpose(1, 2)
        blended = out.new_zeros(*q.shape[:3], out.shape[-1], dtype=wide)
        blended.index_add_(2, seen.flatten(), (out * weights).flatten(2, 3))
        return blended.to(out.dtype)


@functools.lru_cache(maxsize=8)
def _windows(
    frames: int, length: int, overlap: int, device: torch.device, dtype: torch.dtype
) -> tuple[Int[Tensor, "windows length"], Float[Tensor, "windows length 1"]]:
    """The frames of each window, and what it counts at them."""
    windows = place_windows(frames, length, overlap, pyramid)
    seen = torch.tensor([list(range(each.start, each.stop)) for each in windows], device=device)
    return seen, torch.stack([each.weights for each in windows]).to(dtype).to(device)[..., None]


def _of_windows(mask: Tensor, seen: Tensor) -> Tensor:
    """(B, L) or (B, 1 or heads, 1 or N, L) -> the same for windows as a batch, (B * windows, …)."""
    if mask.ndim == 2:
        return mask[:, seen].flatten(0, 1)
    if mask.shape[2] == 1:
        return mask[..., seen].permute(0, 3, 1, 2, 4).flatten(0, 1)
    return mask[:, :, seen[:, :, None], seen[:, None]].transpose(1, 2).flatten(0, 1)


class AlongTime:
    """A denoiser whose attention along time is `Fused`: a factorised model on more frames than it was trained on.

    What happens within a frame, and how a frame reads the text, doesn't depend on the length of a film: it is computed
    once a frame, and not once a window.

    Args:
        denoiser: any whose frames meet in attention along time alone.
        length, overlap: as `videogen.pipelines.windows.Windowed` has them, in latent frames.

    Raises:
        ValueError: a denoiser that isn't such, or whose patches don't divide the windows.
    """

    def __init__(self, denoiser: Denoiser, length: int, overlap: int) -> None:
        self.denoiser, self.conditions = denoiser, denoiser.conditions
        self.layers = layers_along_time(denoiser)
        patch = getattr(denoiser, "patch_size", (1,))[0]
        if length % patch or overlap % patch:
            raise ValueError(
                f"windows of {length} latent frames that overlap by {overlap}: a token of this model holds {patch} of "
                "them, which has to divide both; choose another window= and window_overlap="
            )
        self.length, self.overlap = length // patch, overlap // patch

    def __call__(self, latents: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """See `videogen.denoiser.Denoiser`."""
        with contextlib.ExitStack() as stack:
            for layer, name in self.layers:
                fused = Fused(getattr(layer, name), self.length, self.overlap)
                stack.enter_context(_instead(layer, name, fused))
            return self.denoiser(latents, timestep, condition)


def layers_along_time(denoiser: Denoiser) -> list[tuple[nn.Module, str]]:
    """The layers in which frames attend to each other, and the names of what they attend by.

    Raises:
        ValueError: there are none, or frames meet in other layers too.
    """
    found: list[tuple[nn.Module, str]] = []
    other = set()
    for module in denoiser.modules() if isinstance(denoiser, nn.Module) else ():
        pattern = getattr(module, "pattern", None)
        if isinstance(module, TemporalTransformer):
            found += [(module.attention1, "attend"), (module.attention2, "attend")]
        elif isinstance(module, SelfAttention) and isinstance(pattern, Temporal):
            found.append((module, "kernel"))
        elif isinstance(pattern, Pattern) and not (isinstance(module, SelfAttention) and isinstance(pattern, Spatial)):
            other.add(type(pattern).__name__)
    if other or not found:
        why = f"frames also meet in attention of another kind ({', '.join(sorted(other))})" if other else "it has none"
        raise ValueError(
            f"window_of=attention puts attention along time into windows, and of this model {why}: take "
            "window_of=network, whose windows the whole model sees one by one"
        )
    return found


@contextlib.contextmanager
def _instead(layer: nn.Module, name: str, value: object) -> Iterator[None]:
    """An attribute of a layer's own, in place of what it has or its class has."""
    own = vars(layer)
    before = {name: own[name]} if name in own else {}
    own[name] = value
    try:
        yield
    finally:
        del own[name]
        own.update(before)
