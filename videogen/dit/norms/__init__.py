"""Norms of tokens, built as `norm(dim, *, knobs)`."""

from __future__ import annotations

from typing import Any

from videogen.registry import Registry

NORMS: Registry[Any] = Registry("dit/norm", "videogen.dit.norms")
