"""Combinations that together hold every pair of values, far fewer than all that there are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

Combination = dict[str, str]
Pair = frozenset[tuple[str, str]]


def pairs(axes: Mapping[str, Sequence[str]]) -> Iterator[Pair]:
    """Each value of an axis with each value of every other axis."""
    for first, second in itertools.combinations(axes, 2):
        for a, b in itertools.product(axes[first], axes[second]):
            yield frozenset({(first, a), (second, b)})


def covering(full: Mapping[str, Sequence[str]], drawn: Mapping[str, Sequence[str]], times: int) -> list[Combination]:
    """The whole product of some axes, each `times`, and on the other axes those values that bring the most new pairs.

    Args:
        full: axis -> values, all of whose combinations there are.
        drawn: axis -> values, one of which is drawn for each combination.
        times: how often each combination of the full axes is drawn for.
    """
    missing = set(pairs({**full, **drawn}))
    found = []
    for _, values in itertools.product(range(times), itertools.product(*full.values())):
        combination = dict(zip(full, values, strict=True))
        for axis, choices in drawn.items():
            # of equally good ones that which stands furthest behind in turn, so that none is left out
            turn = len(found) % len(choices)
            turned = [*choices[turn:], *choices[:turn]]
            combination[axis] = max(turned, key=lambda value: len(_of(combination, axis, value) & missing))
            missing -= _of(combination, axis, combination[axis])
        found.append(combination)
    return found


def _of(combination: Combination, axis: str, value: str) -> set[Pair]:
    """The pairs of a value with what is chosen already."""
    return {frozenset({(axis, value), other}) for other in combination.items() if other[0] != axis}
