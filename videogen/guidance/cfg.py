"""Classifier-free guidance: away from the prediction without text, by the same scale throughout."""

from __future__ import annotations

import dataclasses

from videogen.guidance import GUIDES
from videogen.guidance._shared import TextGuide


@GUIDES.register("cfg")
@dataclasses.dataclass(kw_only=True, eq=False)
class ClassifierFree(TextGuide):
    """Classifier-free guidance (Ho and Salimans, arXiv 2207.12598, eq. 6): none + scale * (full - none)."""
