"""The largest pieces that a budget of memory allows, chosen once the size of a clip is known."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from videogen.bounded.cost import Cost
from videogen.bounded.cuts import cut
from videogen.bounded.tiles import TiledVAE
from videogen.bounded.windows import WindowedVAE
from videogen.vae import Posterior, VAESpec, VideoVAE

UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
#: latent frames a chunk, of VAEs that stream, and sides of a tile in latents; the largest that fit are taken
CHUNKS = (8, 4, 2, 1)
WINDOWS = (32, 16, 8, 4)
TILES = (96, 64, 48, 32, 24, 16)


def parse_bytes(text: str) -> int:
    """The number of bytes that "4GiB", "800 MB" or "1e9" mean.

    Raises:
        ValueError: no such number, or nothing.
    """
    found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([KMG]?i?B?)\s*", text, re.IGNORECASE)
    unit = UNITS.get(found[2].upper()) if found else None
    try:
        size = int(float(found[1]) * unit) if found and unit else 0
    except ValueError:
        size = 0
    if size < 1:
        raise ValueError(f"a memory budget of {text!r} is no size: write it like 4GiB or 800MB")
    return size


@dataclasses.dataclass(frozen=True)
class Plan:
    """How clips of one size are cut.

    Args:
        chunk: latent frames at once; those of a window, where the VAE can't stream.
        tile: side of the tiles in pixels; None codes whole frames.
        overlap: what tiles share, in pixels.
        bytes: what this is expected to take beside the weights.
    """

    chunk: int
    tile: int | None
    overlap: int
    bytes: float

    def line(self, task: str, height: int, width: int, windows: bool) -> str:
        """The choice in words."""
        time = f"windows of {self.chunk} latent frames" if windows else f"{self.chunk} latent frames at a time"
        space = f"in tiles of {self.tile} that share {self.overlap} pixels" if self.tile else "in whole frames"
        note = "; a clip longer than a window is not coded as the whole clip would be" if windows else ""
        return f"{task} {width}x{height}: {time}, {space}, about {self.bytes / 2**20:.0f} MiB{note}"


class BoundedVAE(nn.Module):
    """Any VAE, within a budget of memory: longer chunks first, then smaller ones, then tiles.

    Where streams equal the whole clip (`whole_clip_only` is empty), cutting time changes nothing, so it comes first.
    Other VAEs get the largest windows that fit, which overlap and fade. Both directions plan for themselves, on the
    meta device, when they first see a size.

    Args:
        vae: coded with.
        budget: bytes, or words such as "4GiB", for all that coding takes beside the weights and the clip itself.
        say: told in one line what was chosen, once for each size.

    Raises:
        ValueError: a budget that is no size.
    """

    #: windows stand in for the whole clip where a VAE can't stream
    whole_clip_only = ""

    def __init__(self, vae: VideoVAE, *, budget: int | str, say: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self.vae, self.budget = vae, parse_bytes(budget) if isinstance(budget, str) else budget
        self.say = say or (lambda line: print(f"videogen: {line}", file=sys.stderr))
        self._plans: dict[tuple[str, int, int, int], Plan] = {}

    @property
    def spec(self) -> VAESpec:
        """That of the VAE within."""
        return self.vae.spec

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Posterior:
        """Video in [-1, 1] -> posterior over raw latents, of which the mode alone is known."""
        self.spec.latent_shape(*video.shape[2:])
        return Modes(torch.cat(list(self.encode_stream([video])), dim=2))

    def decode(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 t_out h_out w_out"]:
        """Raw latents -> video, about [-1, 1]; without gradients."""
        return torch.cat(list(self.decode_stream([latents])), dim=2)

    @torch.no_grad()
    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks of video -> modes of the posterior.

        Raises:
            ValueError: as the VAE within, or even the smallest pieces don't fit the budget.
        """
        yield from self._code("encoding", chunks, self.spec.temporal_stride, self.spec.spatial_stride)

    @torch.no_grad()
    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks of raw latents -> video. Raises as `encode_stream`."""
        yield from self._code("decoding", chunks, 1, 1)

    def _code(self, task: str, chunks: Iterable[Tensor], frames: int, pixels: int) -> Iterator[Tensor]:
        """One direction; `frames` and `pixels` of a chunk are those of one latent."""
        stream = (chunk for chunk in chunks if chunk.shape[2])
        first = next(stream, None)
        if first is None:
            return
        plan = self.plan(task, len(first), first.shape[3] // pixels, first.shape[4] // pixels)
        vae: Any = self.vae
        if plan.tile is not None:
            vae = TiledVAE(vae, tile=plan.tile, overlap=plan.overlap)
        if self.vae.whole_clip_only:
            ratio = self.spec.temporal_stride
            vae = WindowedVAE(vae, window=plan.chunk * ratio, stride=max(1, plan.chunk * 3 // 4) * ratio)
        code = vae.encode_stream if task == "encoding" else vae.decode_stream
        yield from code(_rechunked(first, stream, plan.chunk * frames))

    def plan(self, task: str, batch: int, height: int, width: int) -> Plan:
        """The choice for "encoding" or "decoding" frames of `height` x `width` latents.

        Raises:
            ValueError: even the smallest pieces need more than the budget.
        """
        key = (task, batch, height, width)
        if key not in self._plans:
            stride = self.spec.spatial_stride
            plan = self._choose(task, batch, height, width)
            self.say(plan.line(task, height * stride, width * stride, bool(self.vae.whole_clip_only)))
            self._plans[key] = plan
        return self._plans[key]

    def _choose(self, task: str, batch: int, height: int, width: int) -> Plan:
        cost = Cost(self.vae, task)
        stride, plan = self.spec.spatial_stride, None
        for chunk in CHUNKS if not self.vae.whole_clip_only else WINDOWS:
            plan = Plan(chunk, None, 0, batch * cost.bytes(chunk, cut(height, height, 0), cut(width, width, 0)))
            if plan.bytes <= self.budget:
                return plan
        for tile in TILES:
            overlap = cost.overlap(tile)
            rows, columns = cut(height, tile, overlap), cut(width, tile, overlap)
            if len(rows.starts) * len(columns.starts) == 1:
                continue
            needed = batch * cost.bytes(chunk, rows, columns)
            plan = Plan(chunk, tile * stride, overlap * stride, needed)
            if plan.bytes <= self.budget:
                return plan
        assert plan is not None
        raise ValueError(
            f"{task} {width * stride}x{height * stride} needs about {plan.bytes / 2**20:.0f} MiB even in the smallest "
            f"pieces and the budget is {self.budget / 2**20:.0f} MiB: raise memory_budget, or make the video smaller"
        )


class Modes:
    """A posterior of which the mode alone is known.

    Args:
        latents: (B, C, T, H, W).
    """

    def __init__(self, latents: Float[Tensor, "b c t h w"]) -> None:
        self.latents = latents

    def mode(self) -> Tensor:
        """The most likely latents (B, C, T, H, W)."""
        return self.latents

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Nothing: the spread was not kept; always a ValueError."""
        raise ValueError("within a memory budget only the mode is kept: take .mode(), or encode without a budget")

    def kl(self) -> Tensor:
        """Nothing: the spread was not kept; always a ValueError."""
        raise ValueError("within a memory budget only the mode is kept: encode without a budget for training")


def _rechunked(first: Tensor, rest: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same frames in chunks of at most `size`."""
    yield from torch.split(first, size, dim=2)
    for chunk in rest:
        yield from torch.split(chunk, size, dim=2)
