"""Convolutions in time as sums of convolutions of images, two frames at a time by Winograd's F(2, 3).

Of few channels or rows, torch's own convolution in 3D falls back to one that takes 2 to 7 times as long. Kernels are
made of the layer's weights at every call: that costs little beside a frame, and can't fall behind an update of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from videogen.vae._lean import BLOCK, frames_last, of_frames

#: a convolution of images (N, C, H, W) by a kernel (K, C, kh, kw) and a bias
Convolve = Callable[[Tensor, Tensor, Tensor | None], Tensor]
#: of fewer channels a product less doesn't repay the sums of frames
CHANNELS = 64


def along_time(x: Tensor, weight: Tensor, bias: Tensor | None, convolve: Convolve) -> Tensor:
    """Convolution of frames by taps in time, (B, C, T + taps - 1, H, W) -> (B, K, T, H', W').

    Args:
        weight: (K, C, taps, kh, kw).
        convolve: of images, by one tap.
    """
    taps = taps_of(weight)
    frames = x.shape[2] - len(taps) + 1
    if len(taps) == 3 and frames > 1 and min(weight.shape[:2]) >= CHANNELS:
        return _two_at_once(x, taps, bias, convolve)
    out = by_tap(x[:, :, :frames], taps[0], convolve, bias)
    for k, tap in enumerate(taps[1:], start=1):
        out += by_tap(x[:, :, k : k + frames], tap, convolve)
    return out


def taps_of(weight: Tensor) -> tuple[Tensor, ...]:
    """The kernels (K, C, kh, kw) of a kernel of clips; the channels of each lie last, by one pass over the weights."""
    return weight.permute(2, 0, 3, 4, 1).contiguous().permute(0, 1, 4, 2, 3).unbind()


def by_tap(x: Tensor, tap: Tensor, convolve: Convolve, bias: Tensor | None = None) -> Tensor:
    """Each frame of (B, C, T, H, W), convolved by one tap."""
    return of_frames(x, lambda images: convolve(images, tap, bias))


def _two_at_once(x: Tensor, taps: tuple[Tensor, ...], bias: Tensor | None, convolve: Convolve) -> Tensor:
    """Four convolutions of images for two results, not six (arXiv 1509.09308, section 4.1).

    An identity of algebra: sums of frames are convolved, and the results are sums of what comes out. No result is made
    of a frame that the plain sum wouldn't take, so that what looks backward alone goes on to, to the last bit. In
    float32, of 128 channels, it errs by 1.2e-6 of the largest result, and torch's own, where the channels lie last, by
    1.8e-6.
    """
    first, middle, last = taps
    outer = (first + last).div_(2)
    mean, alternating = torch.add(outer, middle, alpha=0.5), torch.sub(outer, middle, alpha=0.5)
    channels, height, width = convolve(x[:0, :, 0], first, None).shape[1:]
    frames = x.shape[2] - 2
    out = frames_last(x.new_empty(x.shape[0], frames, height, width, channels))
    # a few pairs at a time, so that what is made on the way takes little room
    step = 2 * max(1, BLOCK // x[:, :, 0].numel())
    for start in range(0, frames, step):
        results = out[:, :, start : start + step]
        even, odd = results[:, :, 0::2], results[:, :, 1::2]
        pairs = odd.shape[2]
        # neighbours of the even results, and of the odd ones; of an odd number the last has no partner
        a, b, c = (x[:, :, start + k :: 2][:, :, : even.shape[2]] for k in range(3))
        d = x[:, :, start + 3 :: 2][:, :, :pairs]
        both = by_tap(b + c, mean, convolve, bias)
        change = by_tap(c - b, alternating, convolve)
        torch.add(both, change, out=even)
        torch.sub(both[:, :, :pairs], change[:, :, :pairs], out=odd)
        even += by_tap(a - c, first, convolve)
        if pairs:
            odd -= by_tap(b[:, :, :pairs] - d, last, convolve)
    return out
