"""Norms, residuals and activations in few passes: the same numbers, and nothing written over that is still needed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from videogen.dit.arithmetic import linear_gelu, mix, rms_norm
from videogen.dit.rotary import rotary
from videogen.dit.text import sentences

Distance = Callable[[Tensor, Tensor], float]
#: a few roundings of the dtype
ALLOWED = {torch.float32: 1e-6, torch.bfloat16: 1e-2}


@pytest.mark.parametrize("dtype", ALLOWED)
@pytest.mark.parametrize("grad", [False, True])
def test_rms_norm_divides_by_the_root_of_the_mean_square(distance: Distance, dtype: torch.dtype, grad: bool) -> None:
    # a slice of a packed projection, as queries are, and a token of zeros
    x = torch.randn(2, 5, 3, 6, 4).to(dtype)[:, :, 1]
    x[0, 0] = 0
    weight, before = torch.randn(4).to(dtype), x.clone()
    wide = x.double()
    wanted = wide / (wide.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight.double()
    with torch.set_grad_enabled(grad):
        got = rms_norm(x, weight, 1e-6)
    assert got.dtype == dtype
    assert distance(got.double(), wanted) < ALLOWED[dtype]
    assert torch.equal(x, before)
    assert distance(rms_norm(x, None, 1e-6).double() * weight.double(), wanted) < ALLOWED[dtype]


def test_rms_norm_has_the_gradient_of_torchs() -> None:
    x, weight = torch.randn(3, 8, requires_grad=True), torch.randn(8, requires_grad=True)
    ours, theirs = rms_norm(x, weight, 1e-6), F.rms_norm(x, (8,), weight, 1e-6)
    for got, wanted in zip(*(torch.autograd.grad(y.sin().sum(), (x, weight)) for y in (ours, theirs)), strict=True):
        assert torch.allclose(got, wanted, atol=1e-5)


def test_mix_writes_over_what_nobody_needs_any_more() -> None:
    start, factor, x = torch.randn(1, 1, 4), torch.randn(1, 1, 4), torch.randn(1, 3, 4)
    wanted = start + factor * x
    with torch.no_grad():
        assert torch.allclose(mix(start, factor, spare := x.clone()), wanted)
        assert torch.allclose(spare, wanted)
        # under autocast a branch gives less precision than the tokens that it is added to
        narrow = x.bfloat16()
        assert mix(start, factor, narrow).dtype == torch.float32
        assert torch.equal(narrow, x.bfloat16())
    kept = x.clone()
    assert torch.allclose(mix(start, factor, x), wanted)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("dtype", ALLOWED)
@pytest.mark.parametrize("approximate", ["tanh", "none"])
def test_gelu_of_a_product(distance: Distance, dtype: torch.dtype, approximate: str) -> None:
    layer, x = nn.Linear(16, 24).to(dtype), torch.randn(2, 5, 16).to(dtype)
    wanted = F.gelu(F.linear(x.double(), layer.weight.double(), layer.bias.double()), approximate=approximate)
    assert distance(linear_gelu(layer, x, approximate).double().detach(), wanted.detach()) < ALLOWED[dtype]
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        assert distance(linear_gelu(layer, x, approximate).double(), wanted.detach()) < ALLOWED[dtype]
    assert counted.get_total_flops() == 2 * 10 * 16 * 24


@torch.no_grad()
def test_what_stands_in_for_a_layer_is_asked() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    layer, x = Doubled(4, 6), torch.randn(3, 4)
    assert torch.allclose(linear_gelu(layer, x, "tanh"), F.gelu(layer(x), approximate="tanh"))


@pytest.mark.parametrize("dtype", ALLOWED)
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("pairs", ["interleaved", "half", "axis_half"])
def test_turning_leaves_what_it_turns(distance: Distance, dtype: torch.dtype, grad: bool, pairs: str) -> None:
    angles = [torch.randn(5, 1, 2), torch.randn(5, 1, 4)]
    table = rotary(angles, pairs, torch.device("cpu"))
    x = torch.randn(2, 5, 3, 12).to(dtype)
    before = x.clone()
    # the partner of each channel, and the angle of the pair, told one by one
    joined = torch.cat(angles, -1).double()
    first, second = {
        "interleaved": (range(0, 12, 2), range(1, 12, 2)),
        "half": (range(6), range(6, 12)),
        "axis_half": ((0, 1, 4, 5, 6, 7), (2, 3, 8, 9, 10, 11)),
    }[pairs]
    a, b = x[..., list(first)].double(), x[..., list(second)].double()
    wanted = torch.empty_like(x, dtype=torch.float64)
    wanted[..., list(first)] = a * joined.cos() - b * joined.sin()
    wanted[..., list(second)] = b * joined.cos() + a * joined.sin()
    with torch.set_grad_enabled(grad):
        got = table.turn(x)
    assert got.dtype == dtype
    assert distance(got.double(), wanted) < ALLOWED[dtype]
    assert torch.equal(x, before)


def test_padding_behind_the_longest_sentence_is_cut_off_once() -> None:
    text, mask = torch.randn(2, 7, 3), torch.arange(7) < torch.tensor([4, 2])[:, None]
    memo: dict[object, object] = {}
    cut, words = sentences(text, mask, 0, memo)
    assert cut is not None
    assert words is not None
    assert torch.equal(cut, text[:, :4])
    assert torch.equal(words, mask[:, :4])
    assert sentences(text, mask, 0, memo)[0] is cut
    # no mask of sentences of one length, and a token of none at all
    assert sentences(text, torch.arange(7).expand(2, -1) < 5, 0, {})[1] is None
    assert sentences(text, torch.zeros_like(mask), 0, {})[0].shape == (2, 1, 3)  # type: ignore[union-attr]
    # where nothing is kept, nobody waits to learn how long it is
    assert sentences(text, mask, 0, None)[0] is text
    assert sentences(text, mask, 9, memo)[0].shape == (2, 9, 3)  # type: ignore[union-attr]
