"""Two worlds in one: procedural shapes and clips of real film, drawn by share."""

from __future__ import annotations

import random

from videogen.data import DATASETS, Clip


@DATASETS.register("mixed")
class Mixed:
    """Shapes and a folder of clips, in a given proportion: what the shipped VAE learns from.

    Args:
        folder: path of the folder dataset.
        split: split of the folder dataset; empty for all.
        folder_share: share of clips that come from the folder, 0 to 1.
        seed: of the draws.
    """

    def __init__(self, *, folder: str = "", split: str = "train", folder_share: float = 0.5, seed: int = 0) -> None:
        if not 0 <= folder_share <= 1:
            raise ValueError(f"folder_share={folder_share} is no share: give 0 to 1")
        self.shapes = DATASETS.build("shapes", seed=seed)
        self.folder = DATASETS.build("folder", path=folder, split=split)
        self.folder_share, self.seed = folder_share, seed

    def clip(self, index: int, num_frames: int, height: int, width: int) -> Clip:
        """The clip of this index, from one of the two."""
        real = random.Random(f"{self.seed}:{index}").random() < self.folder_share
        return (self.folder if real else self.shapes).clip(index, num_frames, height, width)
