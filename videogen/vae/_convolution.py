"""Convolutions of video that multiply less, several frames at a time, where no gradient is asked.

The kernels are made of the layer's weights at every call: that costs little beside a frame, and nothing can fall behind
an update of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from videogen.vae._lean import channels_last, frames_first, frames_last, joined, kept_last, lean
from videogen.vae._winograd import Piece, four_at_once, two_at_once

#: a convolution of images (N, C, H, W) by a kernel (K, C, kh, kw) and a bias
Convolve = Callable[[Tensor, Tensor, Tensor | None], Tensor]
#: fewer positions don't repay the making of kernels
POSITIONS = 2048
#: nor do fewer channels the sums of frames, and, since there are fewer products to save, of rows
CHANNELS, ROW_CHANNELS = 64, 256
#: numbers that are worked on at once, so that what is made on the way takes little room
BLOCK = 2**20
#: numbers of a clip from which on it isn't copied behind its past
LARGE = 2**22


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
        return kept_last(F.conv2d(images, kernel, bias, self.stride[1:], self.padding[1:]))  # type: ignore[arg-type]


class Conv2d(nn.Conv2d):
    """2D convolution of images (N, C, H, W), whose channels lie last unless there are few positions."""

    def forward(self, images: Tensor) -> Tensor:
        if not lean(images):
            return super().forward(images)
        if images[:, 0].numel() < POSITIONS:
            # laying out the weights would be the work: they are left as they are
            return super().forward(images.contiguous())
        images = channels_last(images)
        plain = self.kernel_size != (3, 3) or self.stride != (1, 1) or self.padding != (1, 1) or self.groups > 1
        if plain or min(self.in_channels, self.out_channels) < ROW_CHANNELS:
            return kept_last(super().forward(images))
        return by_rows(images, self.weight, self.bias)


def by_rows(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """3x3 convolution with a border of zeros, of rows as if they were frames: see `along_time`.

    (N, C, H, W) -> (N, K, H, W). Takes 0.8 of the time at 256 and 512 channels, and as much as before at 128.
    """

    def convolve(rows: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        return kept_last(F.conv2d(rows, kernel, bias, padding=(0, 1)))

    rows = F.pad(images, (0, 0, 1, 1)).unsqueeze(3)
    return along_time(rows, weight.unsqueeze(3), bias, convolve).squeeze(3)


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
    several = len(taps) == 3 and min(weight.shape[:2]) >= CHANNELS
    # a copy of little costs less than a piece more
    if past is not None and not (several and x.numel() >= LARGE and x.shape[2] >= 4):
        x, past = joined(past, x), None
    frames = x.shape[2] - len(taps) + 1 if past is None else x.shape[2]

    def along(x: Tensor, tap: Tensor, bias: Tensor | None = None) -> Tensor:
        return of_frames(x, lambda images: convolve(images, tap, bias))

    if not several:
        out = along(x[:, :, :frames], taps[0], bias)
        for k, tap in enumerate(taps[1:], start=1):
            out += along(x[:, :, k : k + frames], tap)
        return out
    channels, height, width = convolve(x[:0, :, 0], taps[0], None).shape[1:]
    out = frames_last(x.new_empty(x.shape[0], frames, height, width, channels))
    pieces = list(_pieces(x, past, out))
    fours = [piece for piece in pieces if piece.results.shape[2] % 4 == 0]
    if fours:
        four_at_once(fours, taps, bias, along)
    if len(fours) < len(pieces):
        two_at_once(pieces[len(fours) :], taps, bias, along)
    return out


def _pieces(x: Tensor, past: Tensor | None, out: Tensor) -> Iterator[Piece]:
    """A clip in pieces that share two frames, of few results; what doesn't fill four is the last one."""
    if past is not None:
        yield Piece(joined(past, x[:, :, :4]), out[:, :, :4])
        x, out = x[:, :, 2:], out[:, :, 4:]
    whole, step = out.shape[2] // 4 * 4, 4 * max(1, BLOCK // x[:, :, 0].numel())
    for start in range(0, whole, step):
        end = min(start + step, whole)
        yield Piece(x[:, :, start : end + 2], out[:, :, start:end])
    if whole < out.shape[2]:
        yield Piece(x[:, :, whole:], out[:, :, whole:])


def of_frames(x: Tensor, of_images: Callable[[Tensor], Tensor]) -> Tensor:
    """What takes images (N, C, H, W), on each frame of (B, C, T, H, W)."""
    # with the channels last from the start: else a single image gets a stride by which torch doesn't see that they are
    images = frames_first(x).flatten(0, 1).permute(0, 3, 1, 2)
    return frames_last(of_images(images).permute(0, 2, 3, 1).unflatten(0, (x.shape[0], -1)))


def taps_of(weight: Tensor) -> tuple[Tensor, ...]:
    """The kernels (K, C, kh, kw) of a kernel of clips; the channels of each lie last, by one pass over the weights."""
    return weight.permute(2, 0, 3, 4, 1).contiguous().permute(0, 1, 4, 2, 3).unbind()
