"""Attention by the sageattention package, with queries and keys in 8 bits: an optional backend for sampling."""

from __future__ import annotations

import importlib.util
from typing import Any

from torch import Tensor

from videogen.kernels import ATTENTION, Support
from videogen.kernels._shared import check
from videogen.registry import RegistryError


@ATTENTION.register("sage")
class SageAttention:
    """sageattn of https://github.com/thu-ml/SageAttention: quantised, so near to attention and not equal to it.

    https://arxiv.org/abs/2410.02367 and https://arxiv.org/abs/2411.10958, whichever the package chooses for the card.

    Args:
        smooth_k: take the mean of the keys off before they are quantised.

    Raises:
        RegistryError: the package isn't installed.
    """

    support = Support(
        dtypes=frozenset({"float16", "bfloat16"}),
        devices=frozenset({"cuda"}),
        max_head_dim=128,
        mask=False,
        backward=False,
    )

    def __init__(self, *, smooth_k: bool = True) -> None:
        self.smooth_k, self.run = smooth_k, _sage_attention()

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """q (B, heads, N, head_dim), k and v (B, heads, L, head_dim) -> (B, heads, N, head_dim).

        Raises:
            ValueError: shapes that don't belong together, or inputs that the package doesn't take.
        """
        q, k, v, _ = check("sage", self.support, q, k, v, mask)
        out: Tensor = self.run(q, k, v, tensor_layout="HND", is_causal=False, smooth_k=self.smooth_k)
        return out


def _sage_attention() -> Any:
    if importlib.util.find_spec("sageattention") is None:
        raise RegistryError("attention 'sage' needs sageattention: pip install sageattention")
    from sageattention import sageattn

    return sageattn
