"""LTX-Video's autoencoder as its authors published it, in one file with the transformer or alone."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS, ltx
from videogen.checkpoints.layouts._shapes import count

#: how many times fewer channels a folding downsampler's convolution gives than leave it -> its kind
FOLDS = {2: "temporal", 4: "spatial", 8: "spatiotemporal"}


class Stage(NamedTuple):
    """One entry of a half's list.

    Args:
        kind: "level" of residual blocks, "widen" (one residual block), "conv" that strides, or "fold" and unfold.
        width: channels that its first convolution gives.
        blocks: residual blocks, of a level.
        noisy: they add noise.
    """

    kind: str
    width: int
    blocks: int
    noisy: bool


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {"encoder.down_blocks.0.res_blocks.0.conv1.conv.weight", "per_channel_statistics.mean-of-means"} <= set(keys)


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    pixels, latent = tensors["encoder.conv_in.conv.weight"].shape[1], tensors["decoder.conv_in.conv.weight"].shape[1]
    encoder, decoder = list(_stages(tensors, "encoder.down_blocks")), list(_stages(tensors, "decoder.up_blocks"))
    down, up = _levels(encoder), _levels(decoder)[::-1]
    downs, ups = _changes(encoder), _changes(decoder)[::-1]
    kinds = []
    for change, level in zip(downs, down[1:], strict=True):
        fold = [FOLDS[level.width // stage.width] for stage in change if stage.kind == "fold"]
        kinds.append(next(iter(fold), "conv" if any(stage.kind == "conv" for stage in change) else "none"))
    # where nothing else can have changed the width
    narrows = any(
        [stage.kind for stage in change] == ["fold"] and finer.width != coarser.width
        for change, (finer, coarser) in zip(ups, pairwise(up), strict=True)
    )
    noisy = tuple(level.noisy for level in up)
    return {
        "latent_channels": latent,
        "patch_size": math.isqrt(pixels // 3),
        "encoder_widths": tuple(level.width for level in down),
        "encoder_blocks": tuple(level.blocks for level in down),
        "downsamplers": tuple(kinds),
        "decoder_widths": tuple(level.width for level in up),
        "decoder_blocks": tuple(level.blocks for level in up),
        "upsamplers": tuple(any(stage.kind == "fold" for stage in change) for change in ups),
        # these have no weights of their own; they came with the upsamplers that narrow
        "upsample_residual": narrows,
        "upsample_narrows": narrows,
        "decoder_causal": False,
        "timestep_conditioning": "decoder.last_scale_shift_table" in tensors,
        "decoder_noise": noisy if any(noisy) else (),
    }


def _stages(tensors: Mapping[str, Tensor], start: str) -> Iterator[Stage]:
    for index in range(count(tensors, rf"{re.escape(start)}\.(\d+)\.")):
        name = f"{start}.{index}"
        blocks = count(tensors, rf"{re.escape(name)}\.res_blocks\.(\d+)\.")
        for kind, conv in (
            ("level", "res_blocks.0.conv1.conv"),
            ("widen", "conv1.conv"),
            ("conv", "conv"),
            ("fold", "conv.conv"),
        ):
            if (weight := tensors.get(f"{name}.{conv}.weight")) is not None:
                noisy = f"{name}.res_blocks.0.per_channel_scale1" in tensors
                yield Stage(kind, weight.shape[0], blocks, noisy)


def _levels(stages: list[Stage]) -> list[Stage]:
    return [stage for stage in stages if stage.kind == "level"]


def _changes(stages: list[Stage]) -> list[list[Stage]]:
    """What lies between each level and the next."""
    changes: list[list[Stage]] = []
    for stage in stages:
        if stage.kind == "level":
            changes.append([])
        else:
            changes[-1].append(stage)
    return changes[:-1]


def _renames(knobs: Config) -> list[tuple[str, str]]:
    # each half is one list there, in the order of the forward pass
    counts = {"encoder": 0, "decoder": 0}
    names = []
    for ours, _ in ltx.places(knobs):
        half = ours.partition(".")[0]
        names.append((ours, f"{half}.{'down' if half == 'encoder' else 'up'}_blocks.{counts[half]}"))
        counts[half] += 1
    return [
        *ltx.place_renames(names),
        (r"\.blocks\.", ".res_blocks."),
        ltx.NOISE,
        (r"\.norm\.", ".norm3.norm."),
        (r"\.shortcut\.conv\.", ".conv_shortcut."),
        (r"^decoder\.(embed|scale_shift_table)", r"decoder.last_\1"),
        (r"\.(last_)?embed\.0\.", r".\1time_embedder.timestep_embedder.linear_1."),
        (r"\.(last_)?embed\.2\.", r".\1time_embedder.timestep_embedder.linear_2."),
        (r"^(encoder|decoder)\.out\.", r"\1.conv_out."),
        (r"^decoder\.time_scale$", "decoder.timestep_scale_multiplier"),
        (r"^latent_mean$", "per_channel_statistics.mean-of-means"),
        (r"^latent_std$", "per_channel_statistics.std-of-means"),
    ]


LAYOUT = Layout(
    kind="vae",
    part="ltx",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    axes=ltx.LAYOUT.axes,
    # other statistics of the latents, which nothing uses
    ignored=r"per_channel_statistics\.(channel|mean-of-stds|mean-of-stds_over_std-of-means)",
    prefixes=("vae.",),
)


@LAYOUTS.register("ltx_original")
def _layout() -> Layout:
    return LAYOUT
