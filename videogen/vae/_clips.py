"""A video in clips of so many frames, each coded alone, side by side or with a frame in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from videogen.vae._streaming import filled


def pieces(chunks: Iterable[Tensor], size: int, common: int = 0) -> Iterator[Tensor]:
    """Cut a stream of (B, C, T, H, W) anew, into pieces of `size` frames and a last one of what is left.

    Args:
        size: frames of a piece.
        common: with how many of the last frames of a piece the next one begins.
    """
    waiting: Tensor | None = None
    begun = False
    for chunk in filled(chunks):
        waiting = chunk if waiting is None else torch.cat([waiting, chunk], dim=2)
        while waiting.shape[2] >= size:
            yield waiting[:, :, :size]
            waiting, begun = waiting[:, :, size - common :], True
    if waiting is not None and waiting.shape[2] > (common if begun else 0):
        yield waiting


def check_clip(micro_frames: int, stride: int) -> None:
    """ValueError for clips that are no 1 + k strides; 0 stands for no clips."""
    if micro_frames and (micro_frames < 1 or (micro_frames - 1) % stride):
        nearest = 1 + max(micro_frames - 1, 0) // stride * stride
        raise ValueError(
            f"micro_frames={micro_frames} is not 1 + k * {stride}: use {nearest} or {nearest + stride}, or 0 for "
            "whole clips"
        )
