"""Attention in float64, inputs for it that no kernel finds convenient, and how far from it rounding may lead."""

from __future__ import annotations

import torch
from torch import Tensor

from videogen.kernels import Attention

B, HEADS, N, L = 2, 3, 19, 27


def device_of(kernel: Attention) -> str:
    return "cuda" if torch.cuda.is_available() and "cuda" in kernel.support.devices else "cpu"


def operands(kernel: Attention, dtype: torch.dtype, head_dim: int, queries: int = N, keys: int = L) -> list[Tensor]:
    """q as a head-split view of (B, N, C), k and v as views of one packed projection: no tensor is contiguous."""
    generator = torch.Generator().manual_seed(head_dim)
    q = torch.randn(B, queries, HEADS, head_dim, generator=generator).to(dtype).transpose(1, 2)
    k, v = torch.randn(B, keys, 2, HEADS, head_dim, generator=generator).to(dtype).permute(2, 0, 3, 1, 4)
    return [tensor.to(device_of(kernel)) for tensor in (q, k, v)]


def truth(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """softmax(q k^T / sqrt(head_dim)) v in float64 with 0/0 = 0, and the same sum over |v|, the scale of its error."""
    q, k, v = q.double(), k.double(), v.double()
    scores = torch.einsum("bhnd,bhld->bhnl", q, k) / q.shape[-1] ** 0.5
    weights = (scores - scores.amax(-1, keepdim=True)).exp() if k.shape[2] else scores
    if mask is not None:
        weights = weights * (mask[:, None, None, :] if mask.ndim == 2 else mask)
    weights = torch.nan_to_num(weights / weights.sum(-1, keepdim=True))
    return weights @ v, weights @ v.abs()


def assert_close(out: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> None:
    """Within the rounding that a fused kernel can't avoid, as a share of sum(weight * |v|), the size of its terms.

    16 bits: weights and output are rounded once each, half an eps on hardware, a whole one in Triton's interpreter,
    which cuts bits off: 2 eps. float32: a score of size 4 is a sum of up to 96 products and its error goes through
    exp: 16 eps, where 5 is the most that is measured.
    """
    expected, scale = truth(q, k, v, mask)
    eps = torch.finfo(out.dtype).eps * (16 if out.dtype == torch.float32 else 2)
    assert out.shape == q.shape
    assert out.dtype == q.dtype
    assert ((out.double() - expected).abs() <= eps * scale).all(), f"off by {error(out, expected, scale):.1f} of 1"


def error(out: Tensor, expected: Tensor, scale: Tensor) -> float:
    """Largest error in units of the dtype's eps."""
    return float(((out.double() - expected).abs() / scale.clamp_min(1e-30)).max()) / torch.finfo(out.dtype).eps
