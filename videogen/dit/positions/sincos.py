"""Fixed sin-cos codes of rows and columns, added to the tokens; time is a rotation, or no matter of this part."""

from __future__ import annotations

import functools
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videogen.dit.codes import clip_axis, sines_first
from videogen.dit.positions import POSITIONS
from videogen.dit.positions._thirds import thirds
from videogen.dit.rotary import Rotary, rotary


@POSITIONS.register("sincos")
class SinCos(nn.Module):
    """A sin-cos code of the column in half of the channels, of the row in the other half, sines before cosines.

    ViT's code in two dimensions, as PixArt (https://arxiv.org/abs/2310.00426), Latte, Open-Sora-Plan and Open-Sora have
    it. The place of token i of a side of n tokens is i * base / n / scale * reference / sqrt(height * width).

    Args:
        dim: width of the tokens, a multiple of 4.
        num_heads: attention heads; head_dim = dim / num_heads.
        base: as many places a side spans, however long it is; 0 is the root of the number of tokens in a frame. None
            counts tokens as they are.
        scale: divides the places: above 1, a larger grid is squeezed into the trained one.
        reference: side of the square, in pixels, whose places stay; those of larger frames are divided, as far as
            their sides in pixels (`Condition.size`) are longer. None leaves all as they are.
        over_padding: measure the sides of a padded batch, as Open-Sora-Plan does, and not those of each clip.
        time: "rotary" turns queries and keys by the frame, neighbouring channels in pairs over the whole head; "thirds"
            a third of each head by frame, row and column each, where rows and columns are counted from 0, and divided
            by `scale` and for `reference` as the places of the codes are.

    Raises:
        ValueError: dim is no multiple of 4, head_dim is odd, or has no three even thirds, or a number that places can't
            be counted in.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        base: int | None = None,
        scale: float = 1.0,
        reference: int | None = None,
        over_padding: bool = False,
        time: Literal["none", "rotary", "thirds"] = "none",
    ) -> None:
        super().__init__()
        self.dim, self.head_dim = dim, dim // num_heads
        if dim % 4 or (time == "rotary" and self.head_dim % 2):
            raise ValueError(f"dim {dim} in {num_heads} heads: sines and cosines need dim / 4 and head_dim / 2 whole")
        if time == "thirds" and self.head_dim % 6:
            raise ValueError(
                f"head_dim {self.head_dim} has no three even thirds: choose dim / num_heads a multiple of 6"
            )
        if scale <= 0 or (base or 0) < 0 or (reference is not None and reference < 1):
            raise ValueError(f"base={base}, scale={scale}, reference={reference}: give numbers above 0")
        self.base, self.scale, self.reference = base, scale, reference
        self.over_padding, self.time = over_padding, time
        #: its rotation depends on the size too
        self.turns_by_size = time == "thirds" and reference is not None
        #: fields of the condition that `add` takes
        self.conditions = frozenset() if reference is None else frozenset({"size"})

    def add(
        self,
        tokens: Float[Tensor, "b n d"],
        grid: tuple[int, int, int],
        valid: Bool[Tensor, "b n"] | None,
        size: Float[Tensor, "b 2"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """The tokens with their code.

        Args:
            size: height and width of each clip in pixels.

        Raises:
            ValueError: no size, and a reference that asks for it.
        """
        measured = None if self.over_padding else valid
        (rows, height), (columns, width) = (clip_axis(grid, axis, tokens.device, measured) for axis in (1, 2))
        # the divisor of a whole clip, (B or 1, 1)
        divisor = torch.full_like(height, self.scale)
        if self.reference is not None:
            divisor = divisor * self._sides(size)[:, None] / self.reference
        if self.base is not None:
            base = (height * width).sqrt().round() if self.base == 0 else torch.full_like(height, self.base)
            rows, columns = rows * base / height, columns * base / width
        column = sines_first(columns / divisor, self.dim // 2)[:, None, None, :]
        row = sines_first(rows / divisor, self.dim // 2)[:, None, :, None]
        codes = [x.expand(-1, -1, grid[1], grid[2], -1) for x in (column, row)]
        out: Tensor = (tokens.unflatten(1, grid) + torch.cat(codes, dim=-1).to(tokens.dtype)).flatten(1, 3)
        return out

    def rotary(
        self,
        grid: tuple[int, int, int],
        device: torch.device,
        fps: Tensor | None = None,
        size: Float[Tensor, "b 2"] | None = None,
    ) -> Rotary | None:
        """The turns by frame, by all three axes, or None.

        Args:
            size: height and width of each clip in pixels, for a reference.

        Raises:
            ValueError: no size, and a reference that asks for it.
        """
        if self.time == "none":
            return None
        if self.time == "thirds":
            sides = None if self.reference is None else self._sides(size).double() / self.reference
            return thirds(grid, self.head_dim, self.scale, sides, device)
        # a compiled graph must own its tensors, so it computes the table itself
        return (_table if torch.compiler.is_compiling() else _cached_table)(grid, self.head_dim, device)

    def _sides(self, size: Float[Tensor, "b 2"] | None) -> Float[Tensor, " b"]:
        """Of the square of as many pixels."""
        if size is None:
            raise ValueError(
                f"condition.size is missing and reference={self.reference} needs it: give height and width, (B, 2)"
            )
        return size.float().prod(1).sqrt()


def _table(grid: tuple[int, int, int], head_dim: int, device: torch.device) -> Rotary:
    # the table outlives the call: made under inference_mode, autograd would refuse it in a later training step
    with torch.inference_mode(False), torch.no_grad():
        # float64 on the host, as mps has none
        frequency = 10000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float64, device="cpu") / head_dim)
        angles = torch.outer(torch.arange(grid[0], dtype=torch.float64, device="cpu"), frequency)
        return rotary([angles.repeat_interleave(grid[1] * grid[2], 0)[:, None]], "interleaved", device)


_cached_table = functools.lru_cache(maxsize=32)(_table)
