"""Norms of queries and keys (B, N, heads, head_dim), built as `norm(num_heads, head_dim, *, knobs)`."""

from __future__ import annotations

from typing import Any

from videogen.registry import Registry

QK_NORMS: Registry[Any] = Registry("dit/qk_norm", "videogen.dit.qk_norms")
