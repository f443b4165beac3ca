"""Convolutions of video that multiply less, two frames at a time, where no gradient is asked.

An identity of algebra: the numbers differ from the plain formula's by rounding alone. The kernels are made of the
layer's weights at every call: that costs little beside a frame, and nothing can fall behind an update of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videogen.vae._lean import channels_last, frames_first, frames_last, joined, lean

#: a convolution of images (N, C, H, W) by a kernel (K, C, kh, kw) and a bias
Convolve = Callable[[Tensor, Tensor, Tensor | None], Tensor]
#: fewer positions don't repay the making of kernels, and fewer channels don't repay the sums of frames
POSITIONS, CHANNELS = 1024, 16
#: numbers that are worked on at once, so that what is made on the way takes little room
BLOCK = 2**20


class Conv3d(nn.Conv3d):
    """3D convolution without padding in time, (B, C, T + taps - 1, H, W) -> (B, C', T, H', W').

    The past can be given by itself, (B, C, taps - 1, H, W), so that nobody has to copy a clip behind it.
    """

    def forward(self, x: Tensor, past: Tensor | None = None) -> Tensor:
        few = x[:, 0].numel() < POSITIONS
        if lean(x) and not few and self.stride[0] == 1:
            return along_time(channels_last(x), self.weight, self.bias, self._of_images, past)
        x = x if past is None else joined(past, x)
        return super().forward(x.contiguous() if lean(x) and few else x)

    def _of_images(self, images: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(images, kernel, bias, self.stride[1:], self.padding[1:])


class Conv2d(nn.Conv2d):
    """2D convolution of images (N, C, H, W), whose channels lie last unless there are few positions."""

    def forward(self, images: Tensor) -> Tensor:
        if lean(images):
            # of few positions, laying out the weights is the work: they are left as they are
            images = images.contiguous() if images[:, 0].numel() < POSITIONS else channels_last(images)
        return super().forward(images)


def along_time(
    x: Tensor, weight: Tensor, bias: Tensor | None, convolve: Convolve, past: Tensor | None = None
) -> Tensor:
    """Convolution of frames by taps in time, (B, C, T + taps - 1, H, W) -> (B, K, T, H', W').

    Images are convolved and added up: of few channels or rows, torch's own convolution in 3D falls back to one that
    takes 2 to 7 times as long. Three taps are done for two frames at once, which saves a third.

    Args:
        weight: (K, C, taps, kh, kw).
        convolve: of images, by one tap.
        past: what lies in front of x (B, C, taps - 1, H, W), if x hasn't got it.
    """
    taps = taps_of(weight)
    if len(taps) == 3 and min(weight.shape[:2]) >= CHANNELS:
        return two_at_once(x, taps, bias, convolve, past)
    if past is not None and len(taps) > 1:
        x = joined(past, x)
    frames = x.shape[2] - len(taps) + 1
    out = of_frames(x[:, :, :frames], lambda images: convolve(images, taps[0], bias))
    for k, tap in enumerate(taps[1:], start=1):
        out += by_tap(x[:, :, k : k + frames], tap, convolve)
    return out


def two_at_once(
    x: Tensor, taps: Sequence[Tensor], bias: Tensor | None, convolve: Convolve, past: Tensor | None = None
) -> Tensor:
    """Three taps for two frames by four convolutions of images, not six, (B, C, T + 2, H, W) -> (B, K, T, H', W').

    Winograd's F(2, 3), https://arxiv.org/abs/1509.09308, section 4.1. It takes 0.7 of the time, with the roundings of
    the plain sum (4.4e-7 of the root mean square beside 3.4e-7, in float32, of 128 channels). Of an odd number the
    last frame costs three, as ever.
    """
    first, middle, last = taps
    mean, alternating = (first + middle + last).div_(2), (first - middle + last).div_(2)
    frames = x.shape[2] - (2 if past is None else 0)
    out: Tensor | None = None
    for start, window in _windows(x, past):
        # neighbours of the even results, and of the odd ones
        a, b, c = (window[:, :, k : window.shape[2] - 2 + k : 2] for k in range(3))
        d = window[:, :, 3::2]
        both = of_frames(b + c, lambda images: convolve(images, mean, bias))
        change = by_tap(c - b, alternating, convolve)
        if out is None:
            out = frames_last(x.new_empty(x.shape[0], frames, *both.shape[3:], both.shape[1]))
        end, pairs = start + window.shape[2] - 2, d.shape[2]
        even, odd = out[:, :, start:end:2], out[:, :, start + 1 : end : 2]
        torch.add(both, change, out=even)
        torch.sub(both[:, :, :pairs], change[:, :, :pairs], out=odd)
        even += by_tap(a - c, first, convolve)
        if pairs:
            odd -= by_tap(b[:, :, :pairs] - d, last, convolve)
    assert out is not None
    return out


def _windows(x: Tensor, past: Tensor | None) -> Iterator[tuple[int, Tensor]]:
    """A clip in pieces that share two frames, and which result each begins with: few frames, so that sums are small."""
    step, done = 2 * max(1, BLOCK // x[:, :, 0].numel()), 0
    if past is not None:
        head = x[:, :, :2]
        yield 0, joined(past, head)
        done = head.shape[2]
    for start in range(0, x.shape[2] - 2, step):
        yield done + start, x[:, :, start : start + step + 2]


def of_frames(x: Tensor, of_images: Callable[[Tensor], Tensor]) -> Tensor:
    """What takes images (N, C, H, W), on each frame of (B, C, T, H, W)."""
    # with the channels last from the start: else a single image gets a stride by which torch doesn't see that they are
    images = frames_first(x).flatten(0, 1).permute(0, 3, 1, 2)
    return frames_last(of_images(images).permute(0, 2, 3, 1).unflatten(0, (x.shape[0], -1)))


def by_tap(x: Tensor, tap: Tensor, convolve: Convolve) -> Tensor:
    """Each frame of (B, C, T, H, W) convolved by one tap, without a bias."""
    return of_frames(x, lambda images: convolve(images, tap, None))


def taps_of(weight: Tensor) -> tuple[Tensor, ...]:
    """The kernels (K, C, kh, kw) of a kernel of clips; the channels of each lie last, by one pass over the weights."""
    return weight.permute(2, 0, 3, 4, 1).contiguous().permute(0, 1, 4, 2, 3).unbind()
