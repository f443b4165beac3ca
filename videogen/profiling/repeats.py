"""Layers that are alike: one of them is run, and the others are said to have taken as much."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from videogen.bounded.memory import Peak
from videogen.profiling.meter import Meter

#: of a module: what differs between layers that are alike, and what a run may change
OWN = frozenset({"forward", "training"})
PLAIN = (str, int, float, bool, type(None), torch.dtype, torch.device, torch.Size)


class Taken(NamedTuple):
    """What a layer took.

    Args:
        flops: name -> operations.
        most: bytes alive at once beside those before it.
        kept: bytes that stay behind it besides what it gave.
        out: what it gave: the number of the input that it handed on, or the shape and type of what it made.
    """

    flops: Counter[str]
    most: int
    kept: int
    out: Any


class Repeats:
    """Inside the `with` block, of the layers in each list of a module's, one of a kind is run for inputs of one shape.

    On the meta device nothing but shapes decides what a layer takes. Layers are of a kind if all that they hold is, but
    for the numbers in their weights.

    Args:
        module: on the meta device; its layers keep no state from call to call.
        peak: counts the bytes.
        meter: counts the operations.
    """

    def __init__(self, module: nn.Module, peak: Peak, meter: Meter) -> None:
        self._layers, self._peak, self._meter = list(dict.fromkeys(_layers(module))), peak, meter
        self._taken: dict[Any, Taken] = {}
        self._kept: list[Tensor] = []

    def __enter__(self) -> Repeats:
        """Start to step in."""
        kinds = {layer: _kind(layer, set()) for layer in self._layers}
        for layer, kind in kinds.items():
            layer.forward = self._instead(layer.forward, kind)
        return self

    def __exit__(self, *error: object) -> None:
        """Stop."""
        for layer in self._layers:
            del layer.forward

    def _instead(self, forward: Any, kind: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            key = kind, _kind((args, kwargs), set())
            inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            if key in self._taken:
                return self._replayed(self._taken[key], inputs)
            before, flops, most = self._peak.now, self._meter.flops.copy(), self._peak.bytes
            self._peak.bytes = before
            out = forward(*args, **kwargs)
            places = {id(tensor): index for index, tensor in enumerate(inputs)}
            made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor) and id(leaf) not in places]
            given = sum({leaf.untyped_storage()._cdata: leaf.untyped_storage().nbytes() for leaf in made}.values())
            self._taken[key] = Taken(
                flops=self._meter.flops - flops,
                most=self._peak.bytes - before,
                kept=self._peak.now - before - given,
                out=tree_map_only(Tensor, lambda x: _Told(places.get(id(x)), x.shape, x.dtype), out),
            )
            self._peak.bytes = max(most, self._peak.bytes)
            return out

        return run

    def _replayed(self, taken: Taken, inputs: list[Tensor]) -> Any:
        self._meter.flops.update(taken.flops)
        # alive for a moment, and from now on
        torch.empty(taken.most, dtype=torch.uint8)
        if taken.kept > 0:
            self._kept.append(torch.empty(taken.kept, dtype=torch.uint8))

        def made(told: _Told) -> Tensor:
            return torch.empty(told.shape, dtype=told.dtype) if told.place is None else inputs[told.place]

        return tree_map_only(_Told, made, taken.out)


class _Told:
    """A tensor that a layer gave: the number of the input that it is, or None, and its shape and type."""

    def __init__(self, place: int | None, shape: torch.Size, dtype: torch.dtype) -> None:
        self.place, self.shape, self.dtype = place, shape, dtype


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of the outermost lists."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _layers(child)


def _kind(value: Any, within: set[int]) -> Any:
    """What is equal for values that nothing but numbers in tensors tells apart."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype
    if isinstance(value, PLAIN):
        return value
    if id(value) in within:
        return id(value)
    within = within | {id(value)}
    if isinstance(value, Mapping):
        return tuple((key if isinstance(key, PLAIN) else id(key), _kind(each, within)) for key, each in value.items())
    if isinstance(value, (set, frozenset)):
        return frozenset(value)
    if isinstance(value, (list, tuple)):
        return type(value), tuple(_kind(each, within) for each in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # what is remembered from step to step is no input of a layer
        names = [field.name for field in dataclasses.fields(value) if field.name != "memo"]
        return type(value), tuple(_kind(getattr(value, name), within) for name in names)
    if isinstance(value, nn.Module) or (hasattr(value, "__dict__") and not callable(value)):
        return type(value), tuple((name, _kind(each, within)) for name, each in vars(value).items() if name not in OWN)
    return id(value)
