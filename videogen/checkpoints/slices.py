"""Published tensors that hold several of ours side by side: cut up on loading, put together on saving."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

SLICE = re.compile(r"(?P<name>.*)\[(?P<axis>rows|columns) (?P<start>\d+):(?P<stop>\d+)\]")
AXES = {"rows": 0, "columns": 1}


def cut(tensors: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """The tensors, those of which slices are wanted replaced by these slices.

    Args:
        tensors: by name.
        wanted: names, among them some like `linear.weight[rows 0:64]`; a tensor that its slices don't cover from end
            to end stays whole.
    """
    found = dict(tensors)
    for name, slices in _slices(wanted).items():
        if name not in found:
            continue
        axis, bounds = AXES[slices[0]["axis"]], [(int(one["start"]), int(one["stop"])) for one in slices]
        ends = [0, *(stop for _, stop in bounds)]
        if found[name].ndim > axis and [*(start for start, _ in bounds), found[name].shape[axis]] == ends:
            whole = found.pop(name)
            for one, (start, stop) in zip(slices, bounds, strict=True):
                found[one[0]] = whole.narrow(axis, start, stop - start)
    return found


def joined(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, slices put together again: the inverse of `cut`."""
    parts = _slices(tensors)
    whole = {
        name: torch.cat([tensors[one[0]] for one in slices], AXES[slices[0]["axis"]]) for name, slices in parts.items()
    }
    return {name: tensor for name, tensor in tensors.items() if not SLICE.fullmatch(name)} | whole


def without_slice(name: str) -> str:
    """The name of the tensor that a name stands for a slice of, or the name itself."""
    found = SLICE.fullmatch(name)
    return name if found is None else found["name"]


def _slices(names: Iterable[str]) -> dict[str, list[re.Match[str]]]:
    """The names that are slices, by the tensor, from its start."""
    groups: dict[str, list[re.Match[str]]] = defaultdict(list)
    for name in names:
        if found := SLICE.fullmatch(name):
            groups[found["name"]].append(found)
    return {name: sorted(slices, key=lambda one: int(one["start"])) for name, slices in groups.items()}
