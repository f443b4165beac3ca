"""Twice the size (nearest neighbours), then a convolution, without convolving the repetitions.

Identities of algebra, on kernels that are made of the layer's weights at every call.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.vae._lean import BLOCK, frames_last
from videogen.vae._taps import Convolve, by_tap, taps_of


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
    # some images at a time, or some rows of one, so that what is made on the way takes little room
    rows = max(1, BLOCK // (width * max(channels, len(weight))))
    several = max(1, rows // height)
    for given, results in zip(padded.split(several), out.split(several), strict=True):
        for row in range(0, height, rows):
            _double(given[:, row : row + rows + 2], kernels, bias, results[:, row : row + rows])
    return out.view(count, 2 * height, 2 * width, len(weight)).permute(0, 3, 1, 2)


def _of_neighbours(taps: Tensor, dim: int) -> Tensor:
    """What weighs, at twice the size, the neighbour before (its excess), the position, the neighbour after (3, …)."""
    first, middle, last = taps.unbind(dim)
    return torch.stack([first, first + middle + last, last])


def _double(padded: Tensor, kernels: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Some rows of `doubled`: (N, h + 2, w + 2, C) by (3, 3, K, C) into (N, h, 2, w, 2, K)."""

    def products(rows: Tensor, kernels: Tensor) -> list[Tensor]:
        """Along the width: the excess of the neighbours before, the positions, that of those after (N, h, w, K)."""
        here = rows[:, :, 1:-1].contiguous()
        parts = rows[:, :, :-2] - here, here, rows[:, :, 2:] - here
        return [part @ kernel.t() for part, kernel in zip(parts, kernels, strict=True)]

    left, middle, right = products(padded[:, 1:-1], kernels[1])
    if bias is not None:
        middle += bias
    columns = left.add_(middle), right.add_(middle)
    for side, neighbours in ((0, padded[:, :-2]), (1, padded[:, 2:])):
        left, middle, right = products(neighbours - padded[:, 1:-1], kernels[2 * side])
        torch.add(columns[0], left.add_(middle), out=out[:, :, side, :, 0])
        torch.add(columns[1], right.add_(middle), out=out[:, :, side, :, 1])


def doubled_in_time(x: Tensor, weight: Tensor, bias: Tensor | None, convolve: Convolve) -> Tensor:
    """Twice the frames but the first (nearest), then three taps, (B, C, 1 + n, H, W) -> (B, K, 1 + 2n, H', W').

    Before the first frame lies that frame. A frame b after a becomes b b, whose results are (g0 + g1) a + g2 b and
    g0 a + (g1 + g2) b: three convolutions of images for two results, not six. See `doubled`.
    """
    first, middle, last = taps_of(weight)
    own = by_tap(x, first + middle + last, convolve, bias)
    if x.shape[2] == 1:
        return own
    change, frames = x[:, :, :-1] - x[:, :, 1:], 2 * x.shape[2] - 1
    out = frames_last(x.new_empty(x.shape[0], frames, *own.shape[3:], own.shape[1]))
    out[:, :, :1] = own[:, :, :1]
    for start, tap in ((1, first + middle), (2, first)):
        torch.add(own[:, :, 1:], by_tap(change, tap, convolve), out=out[:, :, start::2])
    return out
