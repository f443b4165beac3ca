"""The MLP of a block, (B, N, D) -> (B, N, D), built as `mlp(dim, *, knobs)`."""

from __future__ import annotations

from typing import Any

from videogen.registry import Registry

MLPS: Registry[Any] = Registry("dit/mlp", "videogen.dit.mlps")
