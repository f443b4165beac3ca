"""Every kernel in every form that ships, compiled for cards that aren't here: no spills, matrix units, memory."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("triton")

import videogen.kernels
from videogen.kernels._ahead_of_time import AMD, CARDS, MODULES, Card, report, spills_anyway, variants
from videogen.kernels._triton import INTERPRETED
from videogen.kernels._variants import Variant

pytestmark = pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")

ALL = [] if INTERPRETED else [(variant, card) for card in CARDS for variant in variants(card)]
HOPPER = CARDS[1]


def first_of_each() -> list[Variant]:
    """One form of each kernel of ours."""
    chosen: dict[str, Variant] = {}
    for variant in variants(HOPPER) if not INTERPRETED else []:
        chosen.setdefault(variant.kernel.__name__, variant)
    return list(chosen.values())


def check(variant: Variant, card: Card) -> None:
    found = report(variant, card)
    if not spills_anyway(variant):
        assert found.spilled == 0, f"{found}: choose a smaller tile, or more warps"
    assert found.shared <= card.shared
    assert 0 < found.registers <= 255


def test_no_module_that_ships_kernels_is_forgotten() -> None:
    folder = Path(videogen.kernels.__file__).parent
    declaring = {path for path in folder.rglob("*.py") if "\ndef shipped(" in path.read_text(encoding="utf-8")}
    assert {Path(module.__file__ or "") for module in MODULES} == declaring


@pytest.mark.parametrize("kernel", ["flash_forward", "flash_backward_queries", "block_sparse_forward"])
def test_attention_ships_in_every_type_and_width(kernel: str) -> None:
    for card in CARDS:
        own = [variant for variant in variants(card) if variant.kernel.__name__ == kernel]
        found = {(variant.types["p_q"], variant.constants["HEAD_DIM"]) for variant in own}
        types, widths = ("*bf16", "*fp16", "*fp32"), (32, 64, 72, 96, 128, 256)
        assert found == {(dtype, head_dim) for dtype in types for head_dim in widths}


def test_titles_tell_forms_apart() -> None:
    for card in CARDS:
        titles = [variant.title for variant in variants(card)]
        assert len(titles) == len(set(titles))


@pytest.mark.parametrize("variant", first_of_each(), ids=lambda variant: variant.title)
def test_one_form_of_each_kernel(variant: Variant) -> None:
    check(variant, HOPPER)


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "card"), ALL, ids=lambda part: part.name if isinstance(part, Card) else part.title)
def test_every_form_on_every_card(variant: Variant, card: Card) -> None:
    check(variant, card)


@pytest.mark.slow
@pytest.mark.parametrize("variant", first_of_each(), ids=lambda variant: variant.title)
def test_amd_compiles_them(variant: Variant) -> None:
    assert report(variant, AMD).registers > 0
