"""What a file without a config tells: settings read off the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

#: groups of the normalisation, which have no weights of their own: those of every release in the shape of SD's
GROUPS = 32


def count(keys: Iterable[str], pattern: str) -> int:
    """How many different things the pattern's group stands for among the keys, e.g. r"down\\.(\\d+)\\."."""
    return len({match[1] for key in keys if (match := re.match(pattern, key))})


def level_config(tensors: Mapping[str, Tensor], level: str, block: str, conv: str) -> dict[str, Any]:
    """The config of diffusers that an autoencoder in the shape of Stable Diffusion's would have.

    Args:
        level: what its levels are called under "encoder.", without the number.
        block: what the residual blocks of one are called.
        conv: what stands between a convolution's name and its weight.

    Raises:
        KeyError: a tensor that tells a size is missing.
    """
    levels = count(tensors, rf"encoder\.{level}\.(\d+)\.")
    widths = [tensors[f"encoder.{level}.{i}.{block}.0.conv1{conv}.weight"].shape[0] for i in range(levels)]
    # of a missing encoder there is nothing to tell
    first = tensors[f"encoder.conv_in{conv}.weight"].shape[0]
    if not widths or widths[0] != first:
        raise ValueError(f"levels of {widths} channels after a convolution to {first}: the first has as many as that")
    return {
        "block_out_channels": widths,
        "layers_per_block": count(tensors, rf"encoder\.{level}\.0\.{block}\.(\d+)\."),
        "latent_channels": tensors[f"decoder.conv_in{conv}.weight"].shape[1],
        "norm_num_groups": GROUPS,
    }


def ldm_renames(levels: int) -> list[tuple[str, str]]:
    """Names of diffusers -> those of the code that Stable Diffusion was trained with; its decoder counts upward."""
    ups = [(rf"\.up_blocks\.{i}\.", f".up.{levels - 1 - i}.") for i in range(levels)]
    return [
        *ups,
        (r"\.down_blocks\.", ".down."),
        (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
        (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
        (r"\.mid_block\.attentions\.0\.group_norm\.", ".mid.attn_1.norm."),
        (r"\.mid_block\.attentions\.0\.\{to_q,to_k,to_v\}\.", ".mid.attn_1.{q,k,v}."),
        (r"\.mid_block\.attentions\.0\.to_out\.0\.", ".mid.attn_1.proj_out."),
        (r"\.resnets\.", ".block."),
        (r"\.(down|up)samplers\.0\.", r".\1sample."),
        (r"\.conv_shortcut\.", ".nin_shortcut."),
        (r"\.conv_norm_out\.", ".norm_out."),
    ]
