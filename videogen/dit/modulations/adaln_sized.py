"""adaLN-single that is told the clip: its size for what happens within frames, its length for what happens in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from videogen.denoiser import Condition
from videogen.dit.embeddings import TimestepEmbedding
from videogen.dit.initial import linear
from videogen.dit.modulations import MODULATIONS
from videogen.dit.modulations._table import AdaLNSingleFinal, AdaLNSingleLayer

#: of a block that this modulation goes with: within frames, along time, MLP
BRANCHES = 3


@MODULATIONS.register("adaln_sized")
class AdaLNSized:
    """Open-Sora 1.1's modulation (https://arxiv.org/abs/2412.20404), for training on clips of many sizes and lengths.

    Height, width and their ratio are embedded and added to the timestep for the attention within frames and the MLP,
    the number of latent frames and frames a second for that along time; the last layer sees the timestep alone.

    Args:
        dim: width of the tokens, a multiple of 3.
        time_dim: width of the embedded timestep, the same.
        norm: builds the norm that is modulated, `norm(dim)`.
        default_fps: stands in where the condition has no frames a second.

    Raises:
        ValueError: time_dim isn't dim, or no multiple of 3.
    """

    goes_with: ClassVar[dict[str, set[str]]] = {"block": {"factorized", "stdit2"}}

    def __init__(self, dim: int, time_dim: int, norm: Callable[[int], nn.Module], *, default_fps: float = 24.0) -> None:
        if time_dim != dim or dim % 3:
            raise ValueError(
                f"adaln_sized needs dit.time.dim = dim, a multiple of 3, not {time_dim} and {dim}: leave the first "
                "out, and choose such a width"
            )
        self.dim, self.norm, self.default_fps = dim, norm, default_fps

    def shared(self, branches: int) -> nn.Module:
        """The embeddings and linear layers of all blocks."""
        return ClipSignals(self.dim, self.default_fps)

    def layer(self, dim: int, branches: int, *, norms: int | None = None, gated: bool = True) -> nn.Module:
        """The table of one block.

        Raises:
            ValueError: a block of other branches, or whose tokens are of another width than the model's.
        """
        if (dim, branches, gated) != (self.dim, BRANCHES, True):
            raise ValueError(
                f"adaln_sized modulates {BRANCHES} gated branches of width {self.dim}, not {branches} of {dim}: use "
                "adaln_single or adaln_zero"
            )
        return AdaLNSingleLayer(dim, branches, [self.norm(dim) for _ in range(norms or branches)], gated)

    def final(self) -> nn.Module:
        """Table of the last layer."""
        return AdaLNSingleFinal(self.dim, self.norm(self.dim))


class ClipSignals(nn.Module):
    """Shift, scale and gate of the three branches, before each block's table is added.

    Args:
        dim: width of the tokens.
        default_fps: stands in where the condition has no frames a second.
    """

    #: fields of the condition that it takes
    conditions = frozenset({"size", "fps"})

    def __init__(self, dim: int, default_fps: float) -> None:
        super().__init__()
        self.default_fps = default_fps
        self.space = nn.Sequential(nn.SiLU(), linear(dim, 6 * dim))
        self.time = nn.Sequential(nn.SiLU(), linear(dim, 3 * dim))
        self.side, self.ratio = (TimestepEmbedding(dim // 3, 1.0) for _ in range(2))
        self.frames, self.fps = (TimestepEmbedding(dim, 1.0) for _ in range(2))

    def forward(
        self, time: Float[Tensor, "b f d"], condition: Condition, frames: Float[Tensor, "b_or_1 1"]
    ) -> Float[Tensor, "b f nine_d"]:
        """The embedded timestep (B, F, D) -> signals (B, F, 9 D).

        Args:
            condition: its size is height and width in pixels (B, 2).
            frames: latent frames of each clip.

        Raises:
            ValueError: no size.
        """
        size, fps, dtype = condition.size, condition.fps, time.dtype
        if size is None:
            raise ValueError("condition.size is missing and adaln_sized needs it: give height and width, (B, 2)")
        if fps is None:
            fps = torch.full((len(time),), self.default_fps, device=time.device)
        ratio = size[:, :1] / size[:, 1:]
        picture = torch.cat([self.side(size, dtype).flatten(1), self.ratio(ratio, dtype).flatten(1)], dim=1)
        clip = self.frames(frames, dtype) + self.fps(fps[:, None], dtype)
        within, feed = self.space(time + picture[:, None]).chunk(2, dim=-1)
        return torch.cat([within, self.time(time + clip), feed], dim=-1)
