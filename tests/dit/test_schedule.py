"""Schedules of layers: what they say, and what they refuse."""

from __future__ import annotations

import pytest

from videogen.dit.schedule import Layer, layers


def test_lists_repeat_and_nest() -> None:
    read = layers("[full3d * 2, [a(mode=single), b(k=2, mode='group')]*2, [[c]*2, d]]")
    assert [layer.name for layer in read] == ["full3d", "full3d", "a", "b", "a", "b", "c", "c", "d"]
    assert read[3] == Layer("b", {"k": 2, "mode": "group"})
    assert layers("full3d*3") == [Layer("full3d", {})] * 3


def test_values_are_plain_data() -> None:
    (layer,) = layers("[w(window=(0, 8, 8), shifted=true, ratio=2.5, name=x, none=null, list=[1, 2])]")
    assert layer.knobs == {
        "window": (0, 8, 8), "shifted": True, "ratio": 2.5, "name": "x", "none": None, "list": [1, 2],
    }  # fmt: skip
    # nothing is evaluated
    assert layers("[w(a=__import__)]")[0].knobs == {"a": "__import__"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("[a", r"expected , or \] at 'the end'"), ("[a]*x", "expected a number of repeats at 'x'"), ("", "a block's name"),
     ("[a] b", "expected the end at 'b'"), ("[a(k)]", "expected = at"), ("[a(k=)]", "expected a value at"),
     ("[a, , b]", "expected a block's name")],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(text: str, wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted):
        layers(text)
