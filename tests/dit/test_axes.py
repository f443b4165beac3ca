"""Attention within groups on axes: the same as in groups taken apart, and nothing is copied between the projections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from videogen.dit.blocks import BlockCondition
from videogen.dit.layers import SelfAttention
from videogen.dit.parts import choose
from videogen.dit.patterns import Full, Heads, Pattern, SkipGroup, SkipSingle, Spatial, Temporal, Window
from videogen.dit.positions import POSITIONS
from videogen.kernels import ATTENTION, Axes, attend_axes

DIM, HEADS, GRID = 48, 2, (3, 4, 6)
TOKENS = GRID[0] * GRID[1] * GRID[2]
PATTERNS: dict[str, Pattern] = {
    "full": Full(),
    "spatial": Spatial(),
    "temporal": Temporal(),
    "single": SkipSingle(4),
    "group": SkipGroup(2),
    "boxes": Window((1, 2, 3)),
    "columns": Window((0, 2, 0)),
}
COPIES = {"aten::copy_", "aten::clone", "aten::contiguous"}


def heads(batch: int = 2) -> Heads:
    source = torch.Generator().manual_seed(0)
    return Heads(*(torch.randn(batch, TOKENS, HEADS, 8, generator=source) for _ in range(3)))


def attention(pattern: Pattern, **parts: Any) -> SelfAttention:
    chosen = choose(**parts)
    return SelfAttention(DIM, HEADS, chosen.kit(chosen.modulation(DIM, DIM, chosen.norm), bias=True), pattern)


def given(batch: int, rotary: bool) -> tuple[Tensor, BlockCondition]:
    tokens = torch.randn(batch, TOKENS, DIM, generator=torch.Generator().manual_seed(1))
    turn = POSITIONS.build("rope", DIM, HEADS).rotary(GRID, tokens.device) if rotary else None
    return tokens, BlockCondition(grid=GRID, time=torch.zeros(batch, 1, DIM), rotary=turn)


@pytest.mark.parametrize("name", PATTERNS)
def test_axes_are_the_groups(name: str) -> None:
    pattern, kernel = PATTERNS[name], ATTENTION.build("reference")
    axes = pattern.axes(GRID)
    assert axes is not None
    q, k, v, mask, order = pattern.group(heads(), GRID, None)
    assert mask is None
    assert order is None
    apart = kernel(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
    wanted = pattern.ungroup(apart, GRID, None)
    torch.testing.assert_close(attend_axes(kernel, *heads(), axes), wanted)
    index = torch.arange(TOKENS).expand(1, -1)
    assert torch.equal(axes.gather(index)[0].view(-1, q.shape[1]), pattern.split(index, GRID))
    assert torch.equal(axes.scatter(axes.gather(index)), index)
    if axes.fits:
        assert torch.equal(axes.together(axes.apart(index), 1), index)


def test_axes_are_as_few_as_tell_them() -> None:
    assert Axes.of(1, 3, 2, 1, 5, groups=(0, 1, 2)) == Axes((6, 5), (0,))
    assert Axes.of(1, 1) == Axes((1,), ())
    assert Axes.of(1, 7, groups=(1,)) == Axes((7,), (0,))
    assert Axes.of(4, 7).strided
    assert not Axes.of(4, 7, 2, groups=(1,)).strided


def test_what_is_filled_up_or_masked_is_not_on_axes() -> None:
    assert SkipSingle(5).axes((1, 2, 3)) is None
    assert SkipGroup(2).axes((1, 2, 3)) is None
    assert Window((0, 4, 4)).axes((1, 4, 6)) is None
    assert Window((0, 2, 2), (0, 1, 1)).axes((1, 4, 4)) is None
    assert Pattern().axes(GRID) is None


def test_keys_that_are_not_valid() -> None:
    kernel = ATTENTION.build("sdpa")
    valid = torch.rand(2, TOKENS, generator=torch.Generator().manual_seed(2)) > 0.3
    for pattern in (Spatial(), Temporal(), Window((1, 2, 3))):
        q, k, v, _, _ = pattern.group(heads(), GRID, None)
        mask = pattern.split(valid, GRID)
        wanted = pattern.ungroup(kernel(*(x.transpose(1, 2) for x in (q, k, v)), mask=mask).transpose(1, 2), GRID, None)
        torch.testing.assert_close(attend_axes(kernel, *heads(), pattern.axes(GRID), mask=valid), wanted)


@pytest.mark.parametrize("qk_norm", ["none", "rms", "rms_heads", "layer"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", ["spatial", "temporal", "single", "group"])
def test_nothing_is_copied_between_the_projections(name: str, batch: int, qk_norm: str) -> None:
    layer = attention(PATTERNS[name], qk_norm=qk_norm)
    tokens, condition = given(batch, rotary=True)
    layer(tokens, condition)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        layer(tokens, condition)
    linears = sorted(event.time_range.start for event in seen.events() if event.name == "aten::linear")
    projected = max(
        event.time_range.end
        for event in seen.events()
        if event.name == "aten::linear" and event.time_range.start < linears[-1]
    )
    between = [event for event in seen.events() if projected <= event.time_range.start < linears[-1]]
    assert "aten::scaled_dot_product_attention" in [event.name for event in between]
    # a norm's eps becomes a tensor of one number by a copy
    copies = [event for event in between if event.name in COPIES and event.input_shapes[0]]
    assert [(event.name, event.input_shapes) for event in copies] == []


@pytest.mark.parametrize("rotary", [False, True], ids=["bare", "rotary"])
@pytest.mark.parametrize("name", PATTERNS)
def test_a_layer_on_axes_is_the_layer_in_groups(
    name: str, rotary: bool, randomised: Callable[[nn.Module], nn.Module]
) -> None:
    layer = randomised(attention(PATTERNS[name])).double()
    tokens, condition = given(2, rotary)
    tokens = tokens.double().requires_grad_()

    class Apart(type(layer.pattern)):  # type: ignore[misc]
        """The pattern without its axes."""

        def axes(self, grid: tuple[int, int, int]) -> None:
            return None

    found = layer(tokens, condition)
    grad = torch.randn(found.shape, dtype=found.dtype, generator=torch.Generator().manual_seed(3))
    exact = torch.autograd.grad(found, [tokens, layer.qkv.weight], grad)
    layer.pattern.__class__ = Apart
    try:
        wanted = layer(tokens, condition)
    finally:
        layer.pattern.__class__ = Apart.__base__
    torch.testing.assert_close(found, wanted)
    for one, other in zip(exact, torch.autograd.grad(wanted, [tokens, layer.qkv.weight], grad), strict=True):
        torch.testing.assert_close(one, other)


def test_whatever_stands_in_for_a_projection_is_called() -> None:
    class Adapter(nn.Linear):
        """Twice what the layer gives."""

        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    layer, condition = attention(Temporal()), given(1, rotary=False)
    calls: list[nn.Module] = []
    plain = layer(*condition)
    handle = layer.qkv.register_forward_hook(lambda module, *_: calls.append(module))
    torch.testing.assert_close(layer(*condition), plain)
    assert calls == [layer.qkv]
    handle.remove()
    adapter = Adapter(DIM, 3 * DIM)
    adapter.load_state_dict({name: value / 2 for name, value in layer.qkv.state_dict().items()})
    layer.qkv = adapter
    torch.testing.assert_close(layer(*condition), plain)
