"""3x3 convolutions of images in 4/9 of the products: Winograd's F(2x2, 3x3), https://arxiv.org/abs/1509.09308."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: numbers that are worked on at once, so that they stay in the caches and take little room
BLOCK = 2**20


def winograd(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """3x3 convolution with a border of zeros, (N, C, H, W) -> (N, K, H, W), of images whose channels lie last.

    Every 2x2 results are made of 16 products a pair of channels, in the place of 36, and those of all positions are
    matrix products.

    Args:
        images: of even height and width.
        weight: (K, C, 3, 3).
    """
    count, channels, height, width = images.shape
    kernels = kernels_of(kernels_of(weight, -1), -1).flatten(0, 1)
    padded = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    out = images.new_empty(count, height, width, len(weight))
    rows = 2 * max(1, BLOCK // (8 * width * max(channels, len(weight))))
    for image, result in zip(padded, out, strict=True):
        for row in range(0, height, rows):
            _some_rows(image[row : row + rows + 2], kernels, bias, result[row : row + rows])
    return out.permute(0, 3, 1, 2)


def kernels_of(weight: Tensor, dim: int) -> Tensor:
    """What the four sums of inputs along an axis are weighed by (4, …), of three taps along that dimension."""
    first, middle, last = weight.unbind(dim)
    outer = first + last
    return torch.stack([first, (outer + middle) / 2, (outer - middle) / 2, last])


def _some_rows(padded: Tensor, kernels: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Rows (2h + 2, 2w + 2, C) by (16, K, C) into (2h, 2w, K)."""
    sums = _sums(_sums(padded, 1), 1).flatten(0, 1)
    size = sums.shape[1:3]
    products = torch.bmm(sums.flatten(1, 2), kernels.transpose(1, 2)).unflatten(1, size)
    if bias is not None:
        # this one is in each of the four results
        products[5] += bias
    half = products.new_empty(2, 4, *products.shape[1:])
    _results(products.unflatten(0, (4, 4)), half[0], half[1])
    for row, part in enumerate(half):
        _results(part, out[row::2, 0::2], out[row::2, 1::2])


def _sums(x: Tensor, dim: int) -> Tensor:
    """Of the inputs a, b, c, d of each two results along a dimension: a - c, b + c, c - b, b - d (4, …)."""
    even, odd = x.unflatten(dim, (-1, 2)).unbind(dim + 1)
    count = even.shape[dim] - 1
    (a, c), (b, d) = ((half.narrow(dim, 0, count), half.narrow(dim, 1, count)) for half in (even, odd))
    out = x.new_empty(4, *a.shape)
    torch.sub(a, c, out=out[0])
    torch.add(b, c, out=out[1])
    torch.sub(c, b, out=out[2])
    torch.sub(b, d, out=out[3])
    return out


def _results(products: Tensor, even: Tensor, odd: Tensor) -> None:
    """The two results of four products (4, …): p0 + p1 + p2 and p1 - p2 - p3."""
    torch.add(products[1], products[2], out=even)
    even += products[0]
    torch.sub(products[1], products[2], out=odd)
    odd -= products[3]
