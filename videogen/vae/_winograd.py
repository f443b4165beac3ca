"""Convolutions by three taps in time, of several frames at once: Winograd's algorithms (arXiv 1509.09308, section 4.1).

Identities of algebra: sums of frames are convolved, and the results are sums of what comes out. They differ from the
plain formula by rounding alone: F(2, 3) has about that of the plain sum, F(4, 3) up to three times as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

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


def kernels_of_two(first: Tensor, middle: Tensor, last: Tensor) -> tuple[Tensor, ...]:
    """What `two_at_once` convolves by."""
    outer = (first + last).div_(2)
    return torch.add(outer, middle, alpha=0.5), torch.sub(outer, middle, alpha=0.5), first, last


def two_at_once(x: Tensor, kernels: Sequence[Tensor], bias: Tensor | None, along: Along, out: Tensor) -> None:
    """Four convolutions of images for two results, not six, (B, C, T + 2, H, W) into (B, K, T, H', W').

    Of an odd number the last result costs three, as ever.
    """
    # neighbours of the even results, and of the odd ones
    a, b, c = (x[:, :, k : x.shape[2] - 2 + k : 2] for k in range(3))
    d = x[:, :, 3::2]
    even, odd, pairs = out[:, :, 0::2], out[:, :, 1::2], d.shape[2]
    both, change = along(b + c, kernels[0], bias), along(c - b, kernels[1])
    torch.add(both, change, out=even)
    torch.sub(both[:, :, :pairs], change[:, :, :pairs], out=odd)
    even += along(a - c, kernels[2])
    if pairs:
        odd -= along(b[:, :, :pairs] - d, kernels[3])


def kernels_of_four(first: Tensor, middle: Tensor, last: Tensor) -> tuple[Tensor, ...]:
    """What `four_at_once` convolves by: at each point and its negative, at 0, at infinity."""
    kernels = []
    for point, other in (POINTS, POINTS[::-1]):
        norm = 2 * point**2 * (point**2 - other**2)
        even = torch.add(first, last, alpha=point**2).div_(norm)
        kernels += [torch.add(even, middle, alpha=sign * point / norm) for sign in (1, -1)]
    return *kernels, first / (POINTS[0] * POINTS[1]) ** 2, last


def four_at_once(x: Tensor, kernels: Sequence[Tensor], bias: Tensor | None, along: Along, out: Tensor) -> None:
    """Six convolutions of images for four results, not twelve, (B, C, 4n + 2, H, W) into (B, K, 4n, H', W')."""
    a, b, c, d, e, f = (x[:, :, k : x.shape[2] - 2 + k : 4] for k in range(6))
    results = [out[:, :, k::4] for k in range(4)]
    for pair, (point, other) in enumerate((POINTS, POINTS[::-1])):
        even, odd = torch.sub(e, c, alpha=other**2), torch.sub(d, b, alpha=other**2)
        positive = along(torch.add(even, odd, alpha=point), kernels[2 * pair])
        negative = along(even.sub_(odd, alpha=point), kernels[2 * pair + 1])
        parts = positive + negative, positive.sub_(negative)
        for power, result in enumerate(results):
            if pair:
                result.add_(parts[power % 2], alpha=point**power)
            elif bias is None:
                torch.mul(parts[power % 2], point**power, out=result)
            else:
                torch.add(bias[:, None, None, None], parts[power % 2], alpha=point**power, out=result)
    total, product = POINTS[0] ** 2 + POINTS[1] ** 2, (POINTS[0] * POINTS[1]) ** 2
    results[0] += along(torch.sub(e, c, alpha=total).add_(a, alpha=product), kernels[4])
    results[3] += along(torch.sub(f, d, alpha=total).add_(b, alpha=product), kernels[5])
