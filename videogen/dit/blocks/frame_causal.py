"""Frame-causal attention: tokens attend to their own frames and those before, as an autoregressive model needs."""

from __future__ import annotations

from videogen.dit.blocks import BLOCKS, Kit
from videogen.dit.layers import PatternBlock
from videogen.dit.patterns import FrameCausal


@BLOCKS.register("frame_causal")
class FrameCausalBlock(PatternBlock):
    """Self-attention to all tokens that aren't later, attention to the text, MLP.

    Chunks of frames as in SkyReels-V2, https://arxiv.org/abs/2504.13074, section 3.3.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
        frames: latent frames of a chunk, within which all tokens see each other.
    """

    needs_mask = True

    def __init__(self, dim: int, num_heads: int, kit: Kit, *, frames: int = 1) -> None:
        if frames < 1:
            raise ValueError(f"frames={frames} of a chunk: at least 1")
        super().__init__(dim, num_heads, kit, FrameCausal(frames))
