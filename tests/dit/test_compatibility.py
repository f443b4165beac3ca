"""Parts that don't go together: they declare it, and a model refuses them before it allocates anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from videogen.bounded.memory import Peak
from videogen.dit.blocks import BLOCKS, Kit
from videogen.dit.layers import PatternBlock
from videogen.dit.model import DiT
from videogen.dit.parts import choose
from videogen.dit.patterns import Full
from videogen.kernels.reference import ReferenceAttention

SIZES = {"dim": 24, "depth": 2, "num_heads": 2}


@pytest.fixture(autouse=True)
def demanding() -> Iterator[None]:
    """A block that goes with one modulation and two positions."""

    @BLOCKS.register("demanding")
    class Demanding(PatternBlock):
        """Full attention that says what it goes with."""

        goes_with = {"modulation": {"adaln_single"}, "position": {"rope", "none"}}  # noqa: RUF012

        def __init__(self, dim: int, num_heads: int, kit: Kit) -> None:
            super().__init__(dim, num_heads, kit, Full())

    yield
    del BLOCKS._entries["demanding"]


class Maskless(ReferenceAttention):
    """The reference, which is told to take no masks and small heads."""

    support = dataclasses.replace(ReferenceAttention.support, mask=False, max_head_dim=16)


def test_parts_that_go_together_are_built() -> None:
    assert isinstance(DiT(3, 10, choose(block="demanding", modulation="adaln_single"), **SIZES), nn.Module)
    assert isinstance(DiT(3, 10, choose(Maskless()), **SIZES), nn.Module)


def test_what_doesnt_go_together_is_refused_before_anything_is_allocated() -> None:
    refused = [
        (choose(block="demanding"), {}, "dit.block=demanding doesn't go with dit.modulation=adaln_zero: use dit.modu"),
        (choose(), {"layers": "[block, demanding]"}, "dit.block=demanding doesn't go with"),
        (choose(Maskless(), block="frame_causal"), {}, "dit.block=frame_causal works by masks and the kernel Maskless"),
        (choose(Maskless()), {"layers": "[full3d, sliding_tile]"}, "dit.block=sliding_tile works by masks"),
        (choose(Maskless()), {"dim": 48}, "the kernel Maskless takes a head_dim up to 16, not 24: use attention=sdpa"),
    ]
    for parts, knobs, message in refused:
        with Peak() as peak, pytest.raises(ValueError, match=message):
            DiT(3, 10, parts, **{**SIZES, **knobs})
        assert peak.bytes == 0


@pytest.mark.parametrize("name", BLOCKS.names())
def test_a_block_that_works_by_masks_says_so(name: str) -> None:
    parts = choose()
    with torch.device("meta"):
        block = BLOCKS.build(name, 24, 2, parts.kit(parts.modulation(24, 24, parts.norm), bias=True))
    masks = [bool(module.pattern.masks) for module in block.modules() if hasattr(module, "pattern")]
    assert any(masks) == getattr(block, "needs_mask", False)
