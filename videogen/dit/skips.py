"""Long skip connections: what leaves a stage of blocks comes back before its mirror stage, as in a U-Net."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from videogen.dit.blocks import BlockCondition


class LongSkips(nn.Module):
    """A linear layer of [what comes, what was] before each later stage, for tokens and text; it starts as [I, 0].

    U-ViT's skips (https://arxiv.org/abs/2209.12152, section 3.1) between stages instead of blocks: the U of
    Open-Sora-Plan 1.5's SUV.

    Args:
        stages: blocks of each stage, an odd number of stages.
        dim: width of the tokens.
        text_width: width of the text.

    Raises:
        ValueError: an even number of stages, or an empty one.
    """

    def __init__(self, stages: Sequence[int], dim: int, text_width: int) -> None:
        super().__init__()
        if len(stages) % 2 == 0 or min(stages) < 1:
            raise ValueError(f"stages={list(stages)}: an odd number of them, each with a block or more")
        pairs, ends = len(stages) // 2, list(accumulate(stages))
        #: behind which blocks a stage is kept, and before which one comes back, the last one kept first
        self.kept = [end - 1 for end in ends[:pairs]]
        self.joined = ends[pairs:-1]
        self.tokens, self.text = (nn.ModuleList([_first(width) for _ in range(pairs)]) for width in (dim, text_width))

    def run(
        self, blocks: nn.ModuleList, tokens: Tensor, text: Tensor | None, condition: BlockCondition
    ) -> tuple[Tensor, Tensor | None]:
        """All blocks in a row, with the skips between them: (B, N, D) and (B, L, E) -> the same."""
        stack: list[tuple[Tensor, Tensor | None]] = []
        for index, block in enumerate(blocks):
            if index in self.joined:
                place, (was, said) = self.joined.index(index), stack.pop()
                tokens = self.tokens[place](torch.cat([tokens, was], -1))
                if text is not None and said is not None:
                    text = self.text[place](torch.cat([text, said], -1))
            tokens, text = block(tokens, text, condition)
            if index in self.kept:
                stack.append((tokens, text))
        return tokens, text


def _first(width: int) -> nn.Linear:
    """A linear layer from two vectors to one that starts as the first."""
    layer = nn.Linear(2 * width, width)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(width, 2 * width, device=layer.weight.device))
    nn.init.zeros_(layer.bias)
    return layer
