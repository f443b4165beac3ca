"""Latents of many clips, encoded once: a denoiser trains on these faster than on pixels."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Items
from tqdm import tqdm

from videogen.checkpoints import write_folder
from videogen.data import Dataset
from videogen.training.draw import Shape, device_of, draw_shape, generator
from videogen.training.settings import TrainSettings

# clips of one shape that are encoded together
CHUNK = 32


class LatentCache:
    """Raw latents in half precision with their sentences, by the shape of their clips.

    Args:
        latents: shape -> (n, C, t, h, w).
        texts: shape -> n sentences.
    """

    def __init__(self, latents: dict[Shape, Tensor], texts: dict[Shape, list[str]]) -> None:
        self.latents, self.texts = latents, texts

    def batch(
        self, shape: Shape, size: int, source: Generator, device: torch.device | None = None
    ) -> tuple[Tensor, list[str]]:
        """Random latents (size, C, t, h, w), float32, on a device, and their sentences.

        Raises:
            ValueError: no clip of this shape was encoded.
        """
        if shape not in self.texts:
            raise ValueError(f"of the encoded clips none is {'x'.join(map(str, shape))}: raise train.cached_clips")
        rows = torch.randint(len(self.texts[shape]), (size,), generator=source)
        return self.latents[shape][rows].to(device).float(), [self.texts[shape][row] for row in rows.tolist()]

    @classmethod
    def open(cls, folder: Path, vae: Any, dataset: Dataset, settings: TrainSettings) -> LatentCache:
        """The cache in `folder`, or a new one made with the VAE and kept there for a resumed run."""
        if not folder.exists():
            latents, texts = _encode(vae, dataset, settings)
            write_folder(folder, lambda path: _save(path, latents, texts))
        stored = load_file(folder / "latents.safetensors")
        texts_stored = json.loads((folder / "texts.json").read_text())
        shapes = {name: Shape(*map(int, name.split("x"))) for name in stored}
        return cls({shapes[n]: t for n, t in stored.items()}, {shapes[n]: texts_stored[n] for n in stored})


def _save(folder: Path, latents: dict[Shape, Tensor], texts: dict[Shape, list[str]]) -> None:
    save_file({"x".join(map(str, shape)): tensor for shape, tensor in latents.items()}, folder / "latents.safetensors")
    (folder / "texts.json").write_text(json.dumps({"x".join(map(str, shape)): t for shape, t in texts.items()}))


@torch.no_grad()
def _encode(vae: Any, dataset: Dataset, settings: TrainSettings) -> tuple[dict[Shape, Tensor], dict[Shape, list[str]]]:
    latents: dict[Shape, list[Tensor]] = defaultdict(list)
    texts: dict[Shape, list[str]] = defaultdict(list)
    device = device_of(vae)
    chunks = DataLoader(_Chunks(dataset, settings), batch_size=None, num_workers=settings.workers)
    for shape, video, said in tqdm(chunks, desc="encoding clips", mininterval=10.0):
        mode = vae.encode(video.to(device)).mode()
        # an encoder may lay its channels out last, which safetensors can't write
        latents[Shape(*shape)].append(mode.half().contiguous().cpu())
        texts[Shape(*shape)] += said
    return {shape: torch.cat(parts) for shape, parts in latents.items()}, dict(texts)


class _Chunks(Items[tuple[Shape, Tensor, list[str]]]):
    """The clips to be encoded, those of one shape together."""

    def __init__(self, dataset: Dataset, settings: TrainSettings) -> None:
        self.dataset, self.settings = dataset, settings

    def __len__(self) -> int:
        return math.ceil(self.settings.cached_clips / CHUNK)

    def __getitem__(self, number: int) -> tuple[Shape, Tensor, list[str]]:
        if number >= len(self):
            raise IndexError(number)
        first = number * CHUNK
        shape = draw_shape(self.settings, generator(self.settings.seed, first))
        numbers = range(first, min(first + CHUNK, self.settings.cached_clips))
        clips = [self.dataset.clip(index, *shape) for index in numbers]
        return shape, torch.stack([clip.video for clip in clips]), [clip.text for clip in clips]
