"""Factorized attention: first within each frame, then along time at each position."""

from __future__ import annotations

from videogen.dit.blocks import BLOCKS
from videogen.dit.blocks._divided import DividedBlock


@BLOCKS.register("factorized")
class FactorizedBlock(DividedBlock):
    """Spatial attention, temporal attention, attention to the text, MLP.

    Divided space-time attention, https://arxiv.org/abs/2102.05095; in a DiT, Latte's variant 3 (https://arxiv.org/abs/2401.03048).

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
    """
