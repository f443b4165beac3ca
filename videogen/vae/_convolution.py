"""Convolutions of video that multiply less: two frames at a time, and upsampling by two without its repetitions.

These are identities of algebra: the numbers differ from the plain formula's by rounding alone. They are taken where
`lean` says so, without gradients and on a CPU. Their kernels are made of the layer's weights at every call: that costs
little beside a frame, and nothing can fall behind an update of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videogen.vae._lean import channels_last, frames_last, lean

#: a convolution of images (N, C, H, W) by a kernel (K, C, kh, kw) and a bias
Convolve = Callable[[Tensor, Tensor, Tensor | None], Tensor]
#: fewer positions don't repay the making of kernels, and fewer channels don't repay the sums of frames
POSITIONS, CHANNELS = 1024, 16
#: numbers that are worked on at once, so that what is made on the way takes little room
BLOCK = 2**20


class Conv3d(nn.Conv3d):
    """3D convolution without padding in time, (B, C, T + taps - 1, H, W) -> (B, C', T, H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        if not lean(x):
            return super().forward(x)
        x = channels_last(x)
        if self.stride[0] > 1 or x[:, 0].numel() < POSITIONS:
            return super().forward(x)
        return along_time(x, self.weight, self.bias, self._of_images)

    def _of_images(self, images: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(images, kernel, bias, self.stride[1:], self.padding[1:])  # type: ignore[arg-type]


def of_frames(x: Tensor, of_images: Callable[[Tensor], Tensor]) -> Tensor:
    """What takes images (N, C, H, W), on each frame of (B, C, T, H, W)."""
    return of_images(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (x.shape[0], -1)).transpose(1, 2)


def along_time(x: Tensor, weight: Tensor, bias: Tensor | None, convolve: Convolve) -> Tensor:
    """Convolution of frames by taps in time, (B, C, T + taps - 1, H, W) -> (B, K, T, H', W').

    Images are convolved and added up: of few channels or rows, torch's own convolution in 3D falls back to one that
    takes 2 to 7 times as long. Three taps are done for two frames at once, which saves a third.

    Args:
        weight: (K, C, taps, kh, kw).
        convolve: of images, by one tap.
    """
    # each with its channels last, by one pass over the weights
    taps = weight.permute(2, 0, 3, 4, 1).contiguous().permute(0, 1, 4, 2, 3).unbind()
    frames = x.shape[2] - len(taps) + 1
    if len(taps) == 3 and min(weight.shape[:2]) >= CHANNELS:
        return two_at_once(x, taps, bias, convolve)
    out = of_frames(x[:, :, :frames], lambda images: convolve(images, taps[0], bias))
    for k, tap in enumerate(taps[1:], start=1):
        out += _by_tap(x[:, :, k : k + frames], tap, convolve)
    return out


def two_at_once(x: Tensor, taps: Sequence[Tensor], bias: Tensor | None, convolve: Convolve) -> Tensor:
    """Three taps for two frames by four convolutions of images, not six, (B, C, T + 2, H, W) -> (B, K, T, H', W').

    Winograd's F(2, 3), https://arxiv.org/abs/1509.09308, section 4.1. It takes 0.7 of the time, with the roundings of
    the plain sum (4.4e-7 of the root mean square beside 3.4e-7, in float32, of 128 channels). Of an odd number the
    last frame costs three, as ever.
    """
    first, middle, last = taps
    mean, alternating = (first + middle + last).div_(2), (first - middle + last).div_(2)
    frames = x.shape[2] - 2
    step = 2 * max(1, BLOCK // x[:, :, 0].numel())
    out: Tensor | None = None
    for start in range(0, frames, step):
        end = min(start + step, frames)
        # neighbours of the even results, and of the odd ones
        a, b, c = (x[:, :, start + k : end + k : 2] for k in range(3))
        d = x[:, :, start + 3 : end + 2 : 2]
        both = of_frames(b + c, lambda images: convolve(images, mean, bias))
        change = _by_tap(c - b, alternating, convolve)
        if out is None:
            out = frames_last(x.new_empty(x.shape[0], frames, *both.shape[3:], both.shape[1]))
        even, odd = out[:, :, start:end:2], out[:, :, start + 1 : end : 2]
        pairs = odd.shape[2]
        torch.add(both, change, out=even)
        torch.sub(both[:, :, :pairs], change[:, :, :pairs], out=odd)
        even += _by_tap(a - c, first, convolve)
        if pairs:
            odd -= _by_tap(b[:, :, :pairs] - d, last, convolve)
    assert out is not None
    return out


def _by_tap(x: Tensor, tap: Tensor, convolve: Convolve) -> Tensor:
    return of_frames(x, lambda images: convolve(images, tap, None))


def doubled(images: Tensor, weight: Tensor, bias: Tensor | None, border: str = "constant") -> Tensor:
    """Twice the size (nearest neighbours), then a 3x3 convolution, in a quarter of its products.

    (N, C, H, W) -> (N, K, 2H, 2W). Along one axis the neighbours a, b, c become a a b b c c, of which the two results
    around b are g0 a + (g1 + g2) b and (g0 + g1) b + g2 c. Both are (g0 + g1 + g2) b, plus g0 (a - b) and g2 (c - b):
    three products for two results, and along two axes nine for four, in the place of thirty-six.

    Args:
        weight: (K, C, 3, 3).
        border: what lies beyond the images, as `F.pad` names it: "constant" (zeros) or "replicate".
    """
    count, channels, height, width = images.shape
    kernels = _of_neighbours(_of_neighbours(weight, -1), -1)
    padded = F.pad(images, (1, 1, 1, 1), mode=border).permute(0, 2, 3, 1)
    out = images.new_empty(count, height, 2, width, 2, len(weight))
    rows = max(1, BLOCK // (width * max(channels, len(weight))))
    for image, result in zip(padded, out, strict=True):
        for row in range(0, height, rows):
            _double(image[row : row + rows + 2], kernels, bias, result[row : row + rows])
    return out.view(count, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)


def _of_neighbours(taps: Tensor, dim: int) -> Tensor:
    """What weighs, at twice the size, the neighbour before (its excess), the position, the neighbour after (3, …)."""
    first, middle, last = taps.unbind(dim)
    return torch.stack([first, first + middle + last, last])


def _double(padded: Tensor, kernels: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Some rows of `doubled`: (h + 2, w + 2, C) by (3, 3, K, C) into (h, 2, w, 2, K)."""

    def products(rows: Tensor, kernels: Tensor) -> list[Tensor]:
        """Along the width: the excess of the neighbours before, the positions, that of those after (h, w, K)."""
        here = rows[:, 1:-1].contiguous()
        parts = rows[:, :-2] - here, here, rows[:, 2:] - here
        return [part @ kernel.t() for part, kernel in zip(parts, kernels, strict=True)]

    left, middle, right = products(padded[1:-1], kernels[1])
    if bias is not None:
        middle += bias
    columns = left.add_(middle), right.add_(middle)
    for side, neighbours in ((0, padded[:-2]), (1, padded[2:])):
        left, middle, right = products(neighbours - padded[1:-1], kernels[2 * side])
        torch.add(columns[0], left.add_(middle), out=out[:, side, :, 0])
        torch.add(columns[1], right.add_(middle), out=out[:, side, :, 1])


def doubled_in_time(x: Tensor, weight: Tensor, bias: Tensor | None, convolve: Convolve) -> Tensor:
    """Twice the frames but the first (nearest), then three taps, (B, C, 1 + n, H, W) -> (B, K, 1 + 2n, H', W').

    Before the first frame lies that frame. A frame b after a becomes b b, whose results are (g0 + g1) a + g2 b and
    g0 a + (g1 + g2) b: three convolutions of images for two results, not six. See `doubled`.
    """
    first, middle, last = weight.permute(2, 0, 3, 4, 1).contiguous().permute(0, 1, 4, 2, 3)
    own = of_frames(x, lambda images: convolve(images, first + middle + last, bias))
    if x.shape[2] == 1:
        return own
    change, frames = x[:, :, :-1] - x[:, :, 1:], 2 * x.shape[2] - 1
    out = frames_last(x.new_empty(x.shape[0], frames, *own.shape[3:], own.shape[1]))
    out[:, :, :1] = own[:, :, :1]
    for start, tap in ((1, first + middle), (2, first)):
        torch.add(own[:, :, 1:], _by_tap(change, tap, convolve), out=out[:, :, start::2])
    return out
