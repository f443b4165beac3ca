"""From the text encoder's width to the model's; built as `caption(text_dim, dim)`, (B, L, text_dim) -> (B, L, dim).

One with an attribute `timed` that is True reads more than the text, and is called as
`caption(text, text_mask, timestep, kernel)`: words (B, L) or None, the time (B,) on the scale that the model embeds it
on, and the attention.
"""

from __future__ import annotations

from typing import Any

from videogen.registry import Registry

CAPTIONS: Registry[Any] = Registry("dit/caption", "videogen.dit.captions")
