"""Working in place and with the channels last in memory, where no gradient is asked for: what coding on a CPU does."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: half precision has too few digits for sums in another order
DTYPES = (torch.float32, torch.float64)
#: of images that are done at once
PIXELS = 2**16
#: numbers that a layer works on at once, where it goes through a clip or an image in pieces
BLOCK = 2**20


def lean(x: Tensor) -> bool:
    """Whether layers may take the short ways of this module, of `_convolution` and of `_doubling` with x.

    They were measured on CPUs; a meta tensor stands for one, so that memory planned there is that of the real run.
    """
    return not torch.is_grad_enabled() and x.device.type in ("cpu", "meta") and x.dtype in DTYPES


def channels_last(x: Tensor) -> Tensor:
    """The same numbers, each position's channels side by side in memory; a copy only if they don't lie so yet.

    A frame is then a view, oneDNN's convolutions need no layout of their own, and norms over channels read in order.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.contiguous(memory_format=formats[x.dim()])


def kept_last(images: Tensor) -> Tensor:
    """What was made of images (N, C, H, W) whose channels lie last; so do its own, but the meta device forgets it."""
    if not images.is_meta:
        return images
    _, channels, height, width = images.shape
    return images.as_strided(images.shape, (channels * height * width, 1, width * channels, channels))


def frames_first(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B, T, H, W, C), a view."""
    return x.permute(0, 2, 3, 4, 1)


def frames_last(x: Tensor) -> Tensor:
    """(B, T, H, W, C) -> (B, C, T, H, W), a view."""
    return x.permute(0, 4, 1, 2, 3)


def of_frames(x: Tensor, of_images: Callable[[Tensor], Tensor]) -> Tensor:
    """What takes images (N, C, H, W), on each frame of (B, C, T, H, W)."""
    # with the channels last from the start: else a single image gets a stride by which torch doesn't see that they are
    images = frames_first(x).flatten(0, 1).permute(0, 3, 1, 2)
    return frames_last(of_images(images).permute(0, 2, 3, 1).unflatten(0, (x.shape[0], -1)))


def joined(past: Tensor, x: Tensor) -> Tensor:
    """Frames in front of others, (B, C, P, H, W) and (B, C, T, H, W) -> (B, C, P + T, H, W)."""
    if not lean(x):
        return torch.cat([past, x], dim=2)
    # a frame that is repeated has no order in memory, and `cat` would take another than that of x
    return frames_last(torch.cat([frames_first(past), frames_first(x)], dim=1))


def over_rms(x: Tensor, eps: float) -> Tensor:
    """Each position over the root mean square of its channels (dim 1), which lie last: torch's own takes 1.6 times."""
    squares: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True).square_() / x.shape[1]
    return x * squares.add_(eps).rsqrt_()


def few_at_a_time(half: nn.Module, images: Tensor, pixels: int) -> Tensor:
    """What a half of an image autoencoder makes of images (N, …) that are so many pixels each.

    They know nothing of one another, so that memory needn't follow their number: some 65536 pixels are done at once,
    fewer of which don't repay the laying out of weights. A half in training mode may have norms over all images.
    """
    groups = 1 if half.training or not lean(images) else -(-len(images) * pixels // PIXELS)
    done = [half(group) for group in images.chunk(groups)]
    return done[0] if len(done) == 1 else torch.cat(done)


def silu(x: Tensor) -> Tensor:
    """SiLU of what nobody else holds, in its place if it can be: a large tensor less, and its pages stay warm."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def plus(x: Tensor, y: Tensor) -> Tensor:
    """x + y, where nobody else holds x: into its place if it can be."""
    return x + y if torch.is_grad_enabled() else x.add_(y)
