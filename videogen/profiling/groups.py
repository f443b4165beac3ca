"""The groups that a denoiser's parameters and operations are summed in, told by the names of its modules."""

from __future__ import annotations

import re
from collections import Counter

from torch import nn

#: products of activations with each other, whatever module they are in
SCORES = "attention scores"
OTHER = "other"
#: in order: the first pattern found in a module's dotted path names its group
PATTERNS = {
    "embed": r"^(embed|known|position|image|conv_in)\b",
    "text": r"^(text|caption|pooled?)\b",
    "out": r"^(out|norm|conv_out|norm_out)\b",
    "modulation": r"^(time|fps|shared)\b|(^|[._])(modulation|adaln|time_proj)\b",
    "MLP": r"(^|[._])(mlp|ffn?|feed)",
    "convolutions": r"(^|\.)(res|conv|resample)\b",
    "long skips": r"^skips\b",
    "attention projections": r"^(blocks|first|down|middle|up)\b",
}
#: as they are printed
GROUPS = (
    "embed",
    "attention projections",
    SCORES,
    "MLP",
    "convolutions",
    "long skips",
    "modulation",
    "text",
    "out",
    OTHER,
)


def group_of(path: str) -> str:
    """The group of a module, by its dotted path within the denoiser."""
    return next((group for group, pattern in PATTERNS.items() if re.search(pattern, path)), OTHER)


def parameters(denoiser: nn.Module) -> Counter[str]:
    """How many parameters each group has; one that two modules share counts once."""
    found: Counter[str] = Counter()
    for name, value in denoiser.named_parameters():
        found[group_of(name)] += value.numel()
    return found
