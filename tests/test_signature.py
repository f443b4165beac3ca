"""What a signature says: which knobs there are, which values fit, and what a refusal says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pytest

from videogen.registry import Registry, RegistryError, fits

if TYPE_CHECKING:
    from somewhere import Attention


@pytest.fixture
def registry() -> Registry[Any]:
    """A registry with one part whose knobs are of every type that parts use; its wiring is known to checkers alone."""
    made: Registry[Any] = Registry("part", "tests", modules={})

    @made.register("wavelet")
    class Wavelet:
        """A part."""

        def __init__(
            self,
            dim: int,
            attention: Attention,
            *,
            name: str = "haar",
            channels: int = 8,
            scale: float = 1.0,
            causal: bool = True,
            mode: Literal["nearest", "trilinear"] = "nearest",
            strides: tuple[int, int, int] = (4, 8, 8),
            widths: Sequence[int] = (64, 128),
            limit: int | None = None,
        ) -> None:
            self.dim, self.name, self.strides = dim, name, strides

    return made


def test_knobs_are_read_without_the_types_of_the_wiring(registry: Registry[Any]) -> None:
    knobs = {knob.name: knob for knob in registry.knobs("wavelet")}
    assert "dim" not in knobs
    assert (knobs["scale"].type, knobs["scale"].default) == (float, 1.0)
    assert knobs["mode"].type == Literal["nearest", "trilinear"]


def test_unknown_knob_gives_the_nearest(registry: Registry[Any]) -> None:
    with pytest.raises(RegistryError, match=r"'wavelet' has no knob 'chanels': did you mean 'channels'\? choose from:"):
        registry.check("wavelet", {"chanels": 4})


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"channels": True}, "channels=True is not of type int"),
        ({"channels": 4.0}, "channels=4.0 is not of type int"),
        ({"scale": "1"}, "scale='1' is not of type float"),
        ({"causal": 1}, "causal=1 is not of type bool"),
        ({"mode": "cubic"}, "mode='cubic' is not of type Literal['nearest', 'trilinear']"),
        ({"strides": [4, 8]}, "strides=[4, 8] is not of type tuple[int, int, int]"),
        ({"widths": "64"}, "widths='64' is not of type Sequence[int]"),
        ({"limit": "none"}, "limit='none' is not of type int | None"),
    ],
)
def test_a_value_of_another_type_is_refused(registry: Registry[Any], knobs: dict[str, Any], told: str) -> None:
    with pytest.raises(RegistryError) as caught:
        registry.build("wavelet", 8, None, **knobs)
    # collections.abc is where Sequence lives, and Python prints that
    assert told in str(caught.value).replace("collections.abc.", "")


def test_values_of_the_declared_types_are_taken(registry: Registry[Any]) -> None:
    good = {"scale": 2, "mode": "trilinear", "strides": [2, 4, 4], "widths": [32], "limit": None, "channels": 4}
    part = registry.build("wavelet", 8, None, name="db2", **good)
    assert (part.dim, part.name, part.strides) == (8, "db2", [2, 4, 4])


def test_wiring_may_be_given_by_name(registry: Registry[Any]) -> None:
    assert registry.build("wavelet", dim=8, attention=None).dim == 8


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1, float, True),
        (True, float, False),
        (True, Literal[1], False),
        (1.0, Literal[1], False),
        ((1, 2.5), tuple[float, ...], True),
        ([1, "2"], list[int], False),
        (b"12", Sequence[int], False),
        ([], tuple[int, int], False),
        ([[64, 64], [48, 80]], list[tuple[int, int]], True),
        ([[64, 64], [48]], list[tuple[int, int]], False),
        ({"a": 1}, dict[str, int], True),
        ("a", dict[str, int], False),
        (len, Callable[..., int], True),
        (None, float | None, True),
        (object(), Any, True),
    ],
)
def test_fits(value: Any, annotation: Any, expected: bool) -> None:
    assert fits(value, annotation) is expected


def test_a_knob_without_a_default_is_refused(registry: Registry[Any]) -> None:
    with pytest.raises(RegistryError, match="'strict': knob 'channels' needs a default"):

        @registry.register("strict")
        def strict(dim: int, *, channels: int) -> None:
            """Refused: a config could not leave the knob out."""
