"""What coding a piece of video takes in memory, from two small runs on the meta device."""

from __future__ import annotations

from typing import Any

import torch

from videogen.bounded.cuts import Axis
from videogen.bounded.memory import Peak, on_meta, receptive_field
from videogen.vae import VAESpec

#: convolutions copy what they work on into layouts of their own, which isn't seen from outside
MARGIN = 1.5


class Cost:
    """What one direction of a VAE takes, from runs on the meta device; it grows with a piece's area and frames.

    Args:
        vae: measured on a hollow copy.
        task: "encoding" or "decoding".
    """

    #: side of the measured pieces in latents
    SIDE = 16

    def __init__(self, vae: Any, task: str) -> None:
        self.vae, self.task = on_meta(vae), task
        self.spec: VAESpec = vae.spec
        parameter = next(self.vae.parameters())
        self.dtype: torch.dtype = parameter.dtype
        low, high = (2, 4) if vae.whole_clip_only else (1, 2)
        (peak1, rest1), (peak2, rest2) = self._measure(low), self._measure(high)
        self.chunk, self.peak, self.rest = low, peak1, max(rest1, rest2)
        self.growth = max(0.0, (peak2 - peak1) / (high - low))
        self.reach = receptive_field(self._once, self.vae, self.SIDE * self._pixels)

    def bytes(self, chunk: int, rows: Axis, columns: Axis) -> float:
        """Of frames in tiles, cut in latents like this, `chunk` latent frames at a time."""
        peak, rest = self.peak + self.growth * (chunk - self.chunk), self.rest
        tile, count = rows.size * columns.size, len(rows.starts) * len(columns.starts)
        # what tiles keep of the past lies there for all of them, the work is done for one after the other
        waiting = (count - 1) * tile * rest
        joined = 0 if count == 1 else (count * tile + rows.length * columns.length) * self._result(chunk)
        return (MARGIN * tile * peak + waiting) / self.SIDE**2 + joined

    def overlap(self, tile: int) -> int:
        """Of tiles, in latents: what convolutions see beyond a border, twice, but at most a quarter of a tile."""
        reach = -int(-self.reach // self._pixels)
        return max(1, min(2 * reach + 2, tile // 4))

    @property
    def _pixels(self) -> int:
        return self.spec.spatial_stride if self.task == "encoding" else 1

    def _result(self, chunk: int) -> int:
        """Bytes of what one latent position of a chunk becomes."""
        values = 3 * self.spec.temporal_stride * self.spec.spatial_stride**2
        return chunk * self.dtype.itemsize * (self.spec.latent_channels if self.task == "encoding" else values)

    def _measure(self, chunk: int) -> tuple[int, int]:
        """Most bytes at once, and bytes that stay between chunks, for pieces of SIDE x SIDE."""
        with Peak() as peak:
            rest = self._run(chunk, peak)
        return peak.bytes, rest

    def _once(self) -> None:
        """The shortest clip, in one piece."""
        code = self.vae.encode if self.task == "encoding" else self.vae.decode
        code(self._clip(self.spec.fitting_length(1)))

    def _clip(self, frames: int) -> torch.Tensor:
        """What this direction is given: a video of so many frames, or its latents."""
        side = self.SIDE * self.spec.spatial_stride
        shape = (3, frames, side, side) if self.task == "encoding" else self.spec.latent_shape(frames, side, side)
        return torch.empty(1, *shape, dtype=self.dtype, device="meta")

    def _run(self, chunk: int, peak: Peak) -> int:
        """Code a clip of a few chunks, or of one window; the most bytes that lie there between two of them."""
        spec, rest = self.spec, 0
        latents = chunk + int(spec.first_frame_alone) if self.vae.whole_clip_only else 1 + 4 * chunk
        frames = spec.fitting_length(1 + (latents - 1) * spec.temporal_stride)
        step = frames if self.vae.whole_clip_only else chunk * (spec.temporal_stride if self.task == "encoding" else 1)
        code = self.vae.encode_stream if self.task == "encoding" else self.vae.decode_stream
        for piece in code(torch.split(self._clip(frames), step, dim=2)):
            rest = max(rest, peak.now - piece.untyped_storage().nbytes())
        return rest
