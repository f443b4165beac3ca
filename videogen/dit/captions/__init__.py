"""From the text encoder's width to the model's, for tokens and for pooled text; built as `caption(text_dim, dim)`."""

from __future__ import annotations

from typing import Any

from videogen.registry import Registry

CAPTIONS: Registry[Any] = Registry("dit/caption", "videogen.dit.captions")
