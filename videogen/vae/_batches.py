"""Clips whose latents come in batches of two, after the first frame's: their lengths, and how a stream is cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from videogen.vae import VAESpec
from videogen.vae._streaming import filled

#: latent frames that are coded at once; a clip's first batch has one more
BATCH = 2


class BatchSpec(VAESpec):
    """A spec of clips whose latents, after the first frame's, come two at a time: 1 + 8k frames."""

    @property
    def frame_step(self) -> int:
        """Frames that a clip grows by: those of a batch."""
        return BATCH * self.temporal_stride

    def fitting_length(self, num_frames: int) -> int:
        """The length of the shortest clip of whole batches that has at least so many frames."""
        return num_frames + -(num_frames - 1) % self.frame_step

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(C, T, H, W) of the latents of a clip.

        Raises:
            ValueError: the strides or the batches don't divide the size; the nearest valid ones are named.
        """
        over = (num_frames - 1) % self.frame_step
        if num_frames > 1 and over:
            below = num_frames - over
            raise ValueError(
                f"{num_frames} frames do not fit a temporal stride of {self.temporal_stride} and batches of {BATCH} "
                f"strides: use {below} or {below + self.frame_step}"
            )
        return super().latent_shape(num_frames, height, width)


def batches(chunks: Iterable[Tensor], step: int, *, begins: bool = True) -> Iterator[Tensor]:
    """A stream cut anew into `step` frames at a time, one more where a clip begins, and what is left at its end."""
    waiting: Tensor | None = None
    count = step + int(begins)
    for chunk in filled(chunks):
        waiting = chunk if waiting is None else torch.cat([waiting, chunk], dim=2)
        while waiting.shape[2] >= count:
            yield waiting[:, :, :count]
            waiting, count = waiting[:, :, count:], step
    if waiting is not None and waiting.shape[2]:
        yield waiting


def check_count(num_latents: int) -> None:
    if num_latents % BATCH != 1:
        choices = f"{num_latents - 1} or {num_latents + 1}" if num_latents else "1"
        raise ValueError(f"{num_latents} latent frames do not fit batches of {BATCH} after the first: use {choices}")
