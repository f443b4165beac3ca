"""How tokens read the text, (tokens, text, condition) -> what is added; built as `cross(dim, num_heads, kit)`."""

from __future__ import annotations

from typing import Any

from videogen.registry import Registry

CROSSES: Registry[Any] = Registry("dit/cross", "videogen.dit.crosses")
