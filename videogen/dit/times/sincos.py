"""Sin-cos features and an MLP, for the timestep and for other numbers of a clip."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from videogen.denoiser import Condition
from videogen.dit.embeddings import TimestepEmbedding
from videogen.dit.times import TIMES

Scalar = Literal["fps", "guidance"]
#: what a scalar is multiplied with before it is embedded; FLUX began with that of guidance, and all have followed
SCALES = {"fps": 1.0, "guidance": 1000.0}


@TIMES.register("sincos")
class SincosTime(TimestepEmbedding):
    """The embedded timestep, https://arxiv.org/abs/2212.09748, section 3.2, and scalars embedded likewise added to it.

    Args:
        width: of the tokens.
        dim: width of what modulates the blocks; None is that of the tokens.
        features: sin-cos features of a timestep.
        scale: what timesteps are multiplied with: 1000 for times in [0, 1], 1 for steps of 0 … 999; -1000 with an
            offset of 1000 for a model whose time runs from noise to data.
        offset: what is added to them then.
        scalars: numbers of a clip that are embedded like the timestep and added to it.
        default_fps: stands in where the condition has no fps; None leaves it out then.
        constant: a number that is the same for every clip, embedded like the timestep, in as many features as the
            result is wide, and added to it: 2 in CogVideoX1.5-5B-I2V, whose authors call it ofs. None is none.

    Raises:
        ValueError: a default of a scalar that isn't read.
    """

    def __init__(
        self,
        width: int,
        *,
        dim: int | None = None,
        features: int = 256,
        scale: float = 1000.0,
        offset: float = 0.0,
        scalars: tuple[Scalar, ...] = (),
        default_fps: float | None = None,
        constant: float | None = None,
    ) -> None:
        self.dim = dim or width
        super().__init__(self.dim, scale, features, offset)
        if default_fps is not None and "fps" not in scalars:
            raise ValueError(f"default_fps={default_fps} is for dit.time.scalars=[fps]: leave it out")
        self.default_fps, self.conditions = default_fps, frozenset[str](scalars)
        self.scalars = nn.ModuleDict({name: TimestepEmbedding(self.dim, SCALES[name], features) for name in scalars})
        # the number is multiplied by what it is embedded at: a timestep of 1
        self.constant = None if constant is None else TimestepEmbedding(self.dim, constant, self.dim)

    def forward(
        self, timestep: Shaped[Tensor, "b f"], dtype: torch.dtype, condition: Condition | None = None
    ) -> Float[Tensor, "b f dim"]:
        """(B, F) -> (B, F, D) in `dtype`, with the scalars (B,) that the condition gives added to each."""
        embedded: Tensor = super().forward(timestep, dtype)
        for name, embedding in self.scalars.items():
            value = getattr(condition, name, None)
            if value is None and name == "fps" and self.default_fps is not None:
                value = torch.full((len(embedded),), self.default_fps, device=embedded.device)
            if value is not None:
                embedded = embedded + embedding(value[:, None], dtype)
        if self.constant is not None:
            embedded = embedded + self.constant(timestep.new_ones(1, 1), dtype)
        return embedded
