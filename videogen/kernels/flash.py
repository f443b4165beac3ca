"""Attention by the flash-attn package, FlashAttention 2 or 3 as installed: an optional backend."""

from __future__ import annotations

import importlib.util
from typing import Any

from torch import Tensor

from videogen.kernels import ATTENTION, Support
from videogen.kernels._shared import check
from videogen.registry import RegistryError


@ATTENTION.register("flash")
class FlashAttention:
    """flash_attn_func of https://github.com/Dao-AILab/flash-attention; a key mask or any other is refused.

    https://arxiv.org/abs/2307.08691; with the package of FlashAttention-3 (flash_attn_interface, Hopper), that one.

    Args:
        deterministic: the backward pass adds in a fixed order, a little slower.

    Raises:
        RegistryError: the package isn't installed.
    """

    support = Support(
        dtypes=frozenset({"float16", "bfloat16"}),
        devices=frozenset({"cuda"}),
        max_head_dim=256,
        mask=False,
        backward=True,
    )

    def __init__(self, *, deterministic: bool = False) -> None:
        self.deterministic, self.run = deterministic, _flash_attention()

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """q (B, heads, N, head_dim), k and v (B, heads, L, head_dim) -> (B, heads, N, head_dim).

        Raises:
            ValueError: shapes that don't belong together, or inputs that the package doesn't take.
        """
        q, k, v, _ = check("flash", self.support, q, k, v, mask)
        # the package has heads behind the tokens, as projections give them
        out = self.run(*(x.transpose(1, 2) for x in (q, k, v)), deterministic=self.deterministic)
        # FlashAttention 3 gave log-sum-exp as well for a while
        whole: Tensor = out[0] if isinstance(out, tuple) else out
        return whole.transpose(1, 2)


def _flash_attention() -> Any:
    if importlib.util.find_spec("flash_attn_interface") is not None:
        from flash_attn_interface import flash_attn_func

        return flash_attn_func
    if importlib.util.find_spec("flash_attn") is not None:
        from flash_attn import flash_attn_func

        return flash_attn_func
    raise RegistryError("attention 'flash' needs flash-attn: pip install flash-attn, on a machine with CUDA's compiler")
