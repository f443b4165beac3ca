"""Which part of a DiT holds where nothing else is chosen: the one list, which loads nothing."""

from __future__ import annotations

from collections.abc import Mapping

#: kind -> name
DEFAULTS: Mapping[str, str] = {
    "block": "full3d",
    "position": "rope",
    "time": "sincos",
    "modulation": "adaln_zero",
    "norm": "layer",
    "qk_norm": "rms",
    "mlp": "gelu",
    "cross": "attention",
    "caption": "normed_mlp",
    "pool": "normed_mlp",
    "image_tokens": "none",
    "known": "none",
}
