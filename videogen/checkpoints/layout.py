"""A published layout: how a family of checkpoints names its settings and tensors, and what ours are called."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from videogen.checkpoints.slices import cut, joined
from videogen.checkpoints.transforms import Transform

Config = Mapping[str, Any]
CHOICE = re.compile(r"\{([^}]*)\}")
AS_IT_IS = Transform(lambda x: x, lambda x: x)


class LayoutError(ValueError):
    """A checkpoint that doesn't fit the part that its config describes; every key that doesn't is named."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """One family of published checkpoints, as tables: nothing of the original project's code is needed.

    Args:
        kind: of the part, as in `videogen.kinds`.
        part: its registered name.
        recognise: whether a config.json (empty where there is none) and a file's keys are of this family.
        knobs: the family's config and tensors by name -> the knobs of our part; those of a denoiser's wiring too
            (latent_channels, text_dim), and `dit` for a DiT's parts: kind -> name and knobs.
        renames: our knobs -> pairs that turn our keys into the published ones: regular expressions, all applied in
            order. `{q,k,v}` in the result names several tensors: ours is their concatenation along the first axis.
            `name[rows 0:64]` and `name[columns 0:64]` are a part of one tensor, whose other parts are ours too.
        axes: published keys whose tensors have axes of size 1 that ours lack, or lack some that ours have (a linear
            layer that is a 1x1 convolution here): a pattern -> their number of axes.
        transforms: our knobs -> published keys whose tensors are laid out otherwise than ours, before they are put
            together: a pattern, of which the first that matches counts -> the change and its inverse.
        constants: our knobs -> published tensors that never vary, which our part has without storing them: written on
            saving; on loading they may be absent, but not others than these.
        ignored: published keys that hold nothing: other constants, counters, parts of the training loss.
        prefixes: what stands before the part's keys where a file holds a whole pipeline; the rest of it is left out.
        untold: knobs that matter to those who use the part and that no file of the family says; presets do. One of a
            DiT's parts is called like dit.time.default_fps.
    """

    kind: str
    part: str
    recognise: Callable[[Config, Collection[str]], bool]
    knobs: Callable[[Config, Any], dict[str, Any]]
    renames: Callable[[Config], Iterable[tuple[str, str]]]
    axes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    transforms: Callable[[Config], Mapping[str, Transform]] = lambda knobs: {}
    constants: Callable[[Config], Mapping[str, Tensor]] = lambda knobs: {}
    ignored: str = r"(?!)"
    prefixes: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()

    def own(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """This part's tensors among those of a file, by their names without the prefix of a pipeline."""
        for prefix in self.prefixes:
            if any(key.startswith(prefix) for key in tensors):
                return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        return tensors

    def published_keys(self, ours: Iterable[str], knobs: Config) -> dict[str, list[str]]:
        """Each of our keys -> the published name of that tensor, or the names of its pieces in order."""
        renames = [(re.compile(pattern), replacement) for pattern, replacement in self.renames(knobs)]
        names = {}
        for key in ours:
            name = key
            for pattern, replacement in renames:
                name = pattern.sub(replacement, name)
            names[key] = _spelled_out(name)
        return names

    def to_ours(self, published: Mapping[str, Tensor], part: nn.Module, knobs: Config) -> dict[str, Tensor]:
        """A published state dict as one that `part`, built with these knobs, loads strictly.

        Raises:
            LayoutError: keys are missing or left over, or of another shape, or constants have other values.
        """
        rest = {key: tensor for key, tensor in published.items() if not re.fullmatch(self.ignored, key)}
        constants = self.constants(knobs)
        varied = [key for key, value in constants.items() if key in rest and not _is(rest.pop(key), value)]
        ours: dict[str, Tensor] = {}
        missing, misshapen = [], []
        state, transforms = part.state_dict(), self.transforms(knobs)
        wanted = self.published_keys(state, knobs)
        rest = cut(rest, itertools.chain.from_iterable(wanted.values()))
        for key, names in wanted.items():
            expected = state[key]
            pieces = {name: rest.pop(name) for name in names if name in rest}
            if len(pieces) < len(names):
                missing += [name for name in names if name not in pieces]
                continue
            try:
                changed = [_transform(transforms, name).to_ours(piece) for name, piece in pieces.items()]
                whole = torch.cat(changed) if len(changed) > 1 else changed[0]
            except RuntimeError:
                # an axis that can't be cut as the transform has it, or pieces that don't go together
                found = ", ".join(str(tuple(piece.shape)) for piece in pieces.values())
                misshapen.append(f"{', '.join(names)} {found}, not to be laid out as {tuple(expected.shape)}")
                continue
            if _without_ones(whole.shape) != _without_ones(expected.shape):
                misshapen.append(f"{', '.join(names)} {tuple(whole.shape)} for {tuple(expected.shape)}")
                continue
            ours[key] = whole.reshape(expected.shape)
        faults = {
            "missing": missing,
            "left over": sorted(rest),
            "of another shape": misshapen,
            "constants with other values": varied,
        }
        if any(faults.values()):
            said = "; ".join(f"{title}: {_some(keys)}" for title, keys in faults.items() if keys)
            raise LayoutError(f"the weights are not those of {self.kind} {self.part!r} with this config: {said}")
        return ours

    def to_published(self, ours: Mapping[str, Tensor], knobs: Config) -> dict[str, Tensor]:
        """Our state dict in the published layout; the inverse of `to_ours`, but for the ignored keys."""
        published: dict[str, Tensor] = {}
        transforms = self.transforms(knobs)
        for key, names in self.published_keys(ours, knobs).items():
            pieces = ours[key].chunk(len(names)) if len(names) > 1 else [ours[key]]
            for name, piece in zip(names, pieces, strict=True):
                theirs = _transform(transforms, name).to_published(piece)
                axes = next((n for pattern, n in self.axes.items() if re.fullmatch(pattern, name)), theirs.ndim)
                laid_out = theirs.reshape(_with_axes(theirs.shape, axes))
                published[name] = laid_out.clone(memory_format=torch.contiguous_format)
        return {**joined(published), **self.constants(knobs)}


def _transform(transforms: Mapping[str, Transform], name: str) -> Transform:
    return next((found for pattern, found in transforms.items() if re.fullmatch(pattern, name)), AS_IT_IS)


def _spelled_out(name: str) -> list[str]:
    """a.{q,k}.b -> a.q.b, a.k.b"""
    # fixed text and choices alternate
    choices = [piece.split(",") if index % 2 else [piece] for index, piece in enumerate(CHOICE.split(name))]
    return ["".join(parts) for parts in itertools.product(*choices)]


def _with_axes(shape: torch.Size, axes: int) -> tuple[int, ...]:
    """The shape with so many axes: without axes of size 1, from the back, or with more of them behind the channels."""
    kept = list(shape)
    for index in reversed(range(len(kept))):
        if len(kept) > axes and kept[index] == 1:
            del kept[index]
    return (*kept[:2], *[1] * (axes - len(kept)), *kept[2:])


def _without_ones(shape: torch.Size) -> list[int]:
    return [size for size in shape if size != 1]


def _is(found: Tensor, constant: Tensor) -> bool:
    """Whether that is the constant, up to the rounding of a file in half precision."""
    return found.shape == constant.shape and torch.allclose(found.float(), constant, rtol=1e-2, atol=0)


def _some(keys: list[str], most: int = 8) -> str:
    tail = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + tail
