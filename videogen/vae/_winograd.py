"""Convolutions by three taps in time, of several frames at once: Winograd's algorithms (arXiv 1509.09308, section 4.1).

Identities of algebra: sums of frames are convolved, and the results are sums of what comes out. They differ from the
plain formula by rounding alone: F(2, 3) has about that of the plain sum, F(4, 3) up to three times as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

#: F(4, 3) evaluates polynomials at 0, these, their negatives and infinity; of those tried (1 and 2 are usual) these
#: round least: 7.5e-7 of the root mean square in float32, of 128 channels, 1.1e-6 with 1 and 2, 3.4e-7 the plain sum
POINTS = (0.75, 1.5)


class Along(Protocol):
    """Convolves each frame of (B, C, T, H, W) by one tap, (K, C, kh, kw)."""

    def __call__(self, x: Tensor, tap: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, C, T, H, W) -> (B, K, T, H', W')."""
        ...


class Piece(NamedTuple):
    """Frames (B, C, T + 2, H, W), and where their results go (B, K, T, H', W')."""

    frames: Tensor
    results: Tensor


def two_at_once(pieces: Sequence[Piece], taps: Sequence[Tensor], bias: Tensor | None, along: Along) -> None:
    """F(2, 3): four convolutions of images for two results, not six; of an odd number the last costs three, as ever."""
    first, middle, last = taps
    outer = (first + last).div_(2)
    mean, alternating = torch.add(outer, middle, alpha=0.5), torch.sub(outer, middle, alpha=0.5)
    for x, out in pieces:
        # neighbours of the even results, and of the odd ones
        a, b, c = (x[:, :, k : out.shape[2] + k : 2] for k in range(3))
        d = x[:, :, 3::2]
        even, odd, pairs = out[:, :, 0::2], out[:, :, 1::2], d.shape[2]
        both, change = along(b + c, mean, bias), along(c - b, alternating)
        torch.add(both, change, out=even)
        torch.sub(both[:, :, :pairs], change[:, :, :pairs], out=odd)
        even += along(a - c, first)
        if pairs:
            odd -= along(b[:, :, :pairs] - d, last)


def four_at_once(pieces: Sequence[Piece], taps: Sequence[Tensor], bias: Tensor | None, along: Along) -> None:
    """F(4, 3): six convolutions of images for four results, not twelve; the results of each piece are 4n."""
    first, middle, last = taps
    for point, other in (POINTS, POINTS[::-1]):
        norm = 2 * point**2 * (point**2 - other**2)
        outer = torch.add(first, last, alpha=point**2).div_(norm)
        kernels = [torch.add(outer, middle, alpha=sign * point / norm) for sign in (1, -1)]
        for x, out in pieces:
            _, b, c, d, e, _ = (x[:, :, k : out.shape[2] + k : 4] for k in range(6))
            even, odd = torch.sub(e, c, alpha=other**2), torch.sub(d, b, alpha=other**2)
            positive = along(torch.add(even, odd, alpha=point), kernels[0])
            negative = along(even.sub_(odd, alpha=point), kernels[1])
            parts = positive + negative, positive.sub_(negative)
            for power in range(4):
                _put(out[:, :, power::4], parts[power % 2], point**power, bias, add=point != POINTS[0])
    total, product = POINTS[0] ** 2 + POINTS[1] ** 2, (POINTS[0] * POINTS[1]) ** 2
    for result, kernel in ((0, first / product), (3, last)):
        for x, out in pieces:
            # the results' own neighbours: their first, third and fifth
            near, mid, far = (x[:, :, k : out.shape[2] + k : 4] for k in range(result // 3, 6, 2))
            out[:, :, result::4] += along(torch.sub(far, mid, alpha=total).add_(near, alpha=product), kernel)


def _put(out: Tensor, part: Tensor, factor: float, bias: Tensor | None, *, add: bool) -> None:
    """A share of some results: the first one, with the bias, or one more."""
    if add:
        out.add_(part, alpha=factor)
    elif bias is None:
        torch.mul(part, factor, out=out)
    else:
        torch.add(bias[:, None, None, None], part, alpha=factor, out=out)
