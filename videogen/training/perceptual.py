"""How different two images look: the distance between a trained network's features of them."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Generator, Tensor, nn

from videogen.bounded import on_meta

#: of the images that are tried when a network's least side is sought, in pixels
LARGEST = 512


class PerceptualDistance(nn.Module):
    """Squared distance of unit-length features, at every level of a network that timm knows (arXiv 1801.03924).

    It is equation 1 of the paper with all of its learned channel weights equal to 1.

    Args:
        name: of a model in timm.
        weights: its weights, a local safetensors file.

    Raises:
        ValueError: timm has no such model, or the file is none of its weights.
        FileNotFoundError: there is no such file.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, weights: str) -> None:
        super().__init__()
        self.name = name
        self.network, mean, std = _load(name, weights)
        self.eval().requires_grad_(False)
        # pixels here are in [-1, 1], the network's means and deviations are for [0, 1]
        self.register_buffer("mean", 2 * torch.tensor(mean).view(3, 1, 1) - 1)
        self.register_buffer("std", 2 * torch.tensor(std).view(3, 1, 1))

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        """Two batches of images (N, 3, H, W), about [-1, 1] -> the mean distance of their pairs."""
        both = (torch.cat([images, others]) - self.mean) / self.std
        levels = [F.normalize(level.float(), dim=1, eps=1e-10).chunk(2) for level in self.network(both)]
        return torch.stack([(a - b).square().sum(1).mean() for a, b in levels]).sum()

    def check(self, height: int, width: int) -> None:
        """Refuse images that vanish on their way through the network; found on the meta device, so at once.

        Raises:
            ValueError: the network can't take such images; the least side that it takes is named.
        """
        hollow = on_meta(self.network)
        if _takes(hollow, height, width):
            return
        least = next((side for side in range(1, LARGEST + 1) if _takes(hollow, side, side)), None)
        limit = f"{least} pixels a side are its least" if least else f"it takes none of up to {LARGEST} pixels a side"
        raise ValueError(
            f"train.perceptual_model={self.name!r} can't take frames of {height}x{width}, and {limit}: choose larger "
            "train.sizes, another train.perceptual_model, or train.perceptual=0"
        )


def draw_frames(videos: tuple[Tensor, ...], count: int, source: Generator) -> tuple[Tensor, ...]:
    """Up to `count` random frames of each clip, the same of each video: (B, 3, T, H, W) -> (B * count, 3, H, W)."""
    batch, frames = videos[0].shape[0], videos[0].shape[2]
    chosen = torch.rand(batch, frames, generator=source).argsort(1)[:, :count]
    rows = torch.arange(batch).unsqueeze(1)
    return tuple(video[rows, :, chosen].flatten(0, 1) for video in videos)


def _takes(hollow: nn.Module, height: int, width: int) -> bool:
    try:
        hollow(torch.empty(1, 3, height, width, device="meta"))
    except RuntimeError:
        return False
    return True


def _load(name: str, weights: str) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    """timm's model as an extractor of features with the file's weights; and the mean and deviation of its pixels."""
    import timm

    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f": did you mean {close[0]!r}?" if close else "; timm.list_models() names those that there are"
        raise ValueError(f"train.perceptual_model={name!r} is no model of timm{hint}")
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"train.perceptual_weights={weights} is no file: give the safetensors file of {name!r}")
    network: Any = timm.create_model(name, pretrained=False, features_only=True, feature_cls="getter")
    try:
        # the file also has the classifier, which an extractor of features has not
        missing = network.model.load_state_dict(load_file(path), strict=False).missing_keys
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"train.perceptual_weights={weights} can't be loaded into {name!r}: {error}") from error
    if missing:
        count = len(missing)
        raise ValueError(
            f"train.perceptual_weights={weights} lacks {count} tensors of {name!r}, such as {missing[0]}: give the "
            "file of this model with timm's names, or set train.perceptual_model"
        )
    return network, network.pretrained_cfg["mean"], network.pretrained_cfg["std"]
