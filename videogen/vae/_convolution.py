"""Convolutions of video that multiply less, several frames at a time, where no gradient is asked.

The kernels are made of the layer's weights at every call: that costs little beside a frame, and nothing can fall behind
an update of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from videogen.vae._lean import channels_last, frames_first, frames_last, joined, lean
from videogen.vae._winograd import four_at_once, kernels_of_four, kernels_of_two, two_at_once

#: a convolution of images (N, C, H, W) by a kernel (K, C, kh, kw) and a bias
Convolve = Callable[[Tensor, Tensor, Tensor | None], Tensor]
#: fewer positions don't repay the making of kernels, and fewer channels don't repay the sums of frames
POSITIONS, CHANNELS = 1024, 16
#: numbers that are worked on at once, so that what is made on the way takes little room; and from how many on a clip
#: isn't copied behind its past
BLOCK, LARGE = 2**20, 2**22


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
        return F.conv2d(images, kernel, bias, self.stride[1:], self.padding[1:])  # type: ignore[arg-type]


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
    takes 2 to 7 times as long. Three taps are done for four frames at once, which halves the products, and for two.

    Args:
        weight: (K, C, taps, kh, kw).
        convolve: of images, by one tap.
        past: what lies in front of x (B, C, taps - 1, H, W), if x hasn't got it.
    """
    taps = taps_of(weight)
    # a copy of little costs less than a piece more
    if past is not None and (x.numel() < LARGE or len(taps) != 3):
        x, past = joined(past, x), None
    frames = x.shape[2] - len(taps) + 1 if past is None else x.shape[2]

    def along(x: Tensor, tap: Tensor, bias: Tensor | None = None) -> Tensor:
        return of_frames(x, lambda images: convolve(images, tap, bias))

    if len(taps) != 3 or min(weight.shape[:2]) < CHANNELS:
        out = along(x[:, :, :frames], taps[0], bias)
        for k, tap in enumerate(taps[1:], start=1):
            out += along(x[:, :, k : k + frames], tap)
        return out
    channels, height, width = convolve(x[:0, :, 0], taps[0], None).shape[1:]
    out = frames_last(x.new_empty(x.shape[0], frames, height, width, channels))
    fours = kernels_of_four(*taps) if frames >= 4 else ()
    twos = kernels_of_two(*taps) if frames % 4 else ()
    for start, piece in _pieces(x, past):
        end = start + piece.shape[2] - 2
        middle = end - (end - start) % 4
        if middle > start:
            four_at_once(piece[:, :, : middle - start + 2], fours, bias, along, out[:, :, start:middle])
        if end > middle:
            two_at_once(piece[:, :, middle - start :], twos, bias, along, out[:, :, middle:end])
    return out


def _pieces(x: Tensor, past: Tensor | None) -> Iterator[tuple[int, Tensor]]:
    """A clip in pieces that share two frames, and which result each begins with: they take little on the way."""
    step, done = 4 * max(1, BLOCK // x[:, :, 0].numel()), 0
    if past is not None:
        yield 0, joined(past, x[:, :, :4])
        done, x = min(4, x.shape[2]), x[:, :, 2:]
    for start in range(0, x.shape[2] - 2, step):
        yield done + start, x[:, :, start : start + step + 2]


def of_frames(x: Tensor, of_images: Callable[[Tensor], Tensor]) -> Tensor:
    """What takes images (N, C, H, W), on each frame of (B, C, T, H, W)."""
    # with the channels last from the start: else a single image gets a stride by which torch doesn't see that they are
    images = frames_first(x).flatten(0, 1).permute(0, 3, 1, 2)
    return frames_last(of_images(images).permute(0, 2, 3, 1).unflatten(0, (x.shape[0], -1)))


def taps_of(weight: Tensor) -> tuple[Tensor, ...]:
    """The kernels (K, C, kh, kw) of a kernel of clips; the channels of each lie last, by one pass over the weights."""
    return weight.permute(2, 0, 3, 4, 1).contiguous().permute(0, 1, 4, 2, 3).unbind()
