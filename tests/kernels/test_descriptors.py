"""Attention by tensor descriptors: its numbers in the interpreter, its refusals, and the copies that compilers make."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

triton_kernel = pytest.importorskip("videogen.kernels.triton")
from interpreter import run_interpreted  # noqa: E402

from videogen.kernels import ATTENTION, Axes  # noqa: E402
from videogen.kernels._ahead_of_time import CARDS, Card, _compiled  # noqa: E402
from videogen.kernels._flash import Sides  # noqa: E402
from videogen.kernels._flash_descriptors import refusal, shipped  # noqa: E402

interpreted = triton_kernel.INTERPRETED
runs_here = pytest.mark.skipif(not interpreted, reason="test_in_the_interpreter runs this one")
REFERENCE = ATTENTION.build("reference")


@pytest.mark.skipif(interpreted, reason="already in the interpreter")
def test_in_the_interpreter() -> None:
    run_interpreted(__file__)


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@runs_here
@pytest.mark.parametrize(
    ("head_dim", "dtype"), [(24, torch.float32), (72, torch.float16), (64, torch.bfloat16)], ids=["24", "72", "64"]
)
def test_cross_attention_of_odd_lengths(head_dim: int, dtype: torch.dtype) -> None:
    kernel = ATTENTION.build("triton", block_m=16, block_n=16, descriptors=True)
    q = random(2, 21, 2, head_dim, dtype=dtype).transpose(1, 2).requires_grad_()
    k, v = (random(2, 35, 2, head_dim, dtype=dtype, seed=seed).transpose(1, 2).requires_grad_() for seed in (1, 2))
    mask = random(2, 35, seed=3) > -0.5
    mask[1] = False
    grad = random(2, 2, 21, head_dim, dtype=dtype, seed=4)
    for given in (None, mask):
        out, lse = kernel.with_lse(q, k, v, mask=given)  # type: ignore[attr-defined]
        exact = REFERENCE(q.double(), k.double(), v.double(), mask=given)
        # rounded once, in sums of size one
        off = 4 * torch.finfo(dtype).eps
        torch.testing.assert_close(out.double(), exact, rtol=0, atol=off)
        scores = q.double() @ k.double().transpose(-1, -2) * head_dim**-0.5
        scores = scores if given is None else scores.masked_fill(~given[:, None, None], -torch.inf)
        torch.testing.assert_close(lse.double(), scores.logsumexp(-1), rtol=0, atol=1e-5 if given is None else 2e-5)
        # the backward goes by pointers, from the same logarithms
        found, wanted = (torch.autograd.grad(x, (q, k, v), grad.to(x.dtype)) for x in (out, exact))
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=8 * off)


@runs_here
@pytest.mark.parametrize("groups", [(0,), (1,)], ids=["spatial", "temporal"])
def test_groups_in_place_from_a_packed_projection(groups: tuple[int, ...]) -> None:
    qkv, axes = random(2, 5 * 9, 3, 2, 24), Axes.of(5, 9, groups=groups)
    found = ATTENTION.build("triton", descriptors=True).packed(qkv, axes)  # type: ignore[attr-defined]
    assert torch.allclose(found, ATTENTION.build("triton").packed(qkv, axes), rtol=0, atol=2e-6)  # type: ignore[attr-defined]


@runs_here
def test_no_keys_and_no_queries() -> None:
    kernel = ATTENTION.build("triton", descriptors=True)
    assert kernel(random(1, 2, 3, 16), random(1, 2, 0, 16), random(1, 2, 0, 16)).eq(0).all()
    assert kernel(random(1, 2, 0, 16), random(1, 2, 3, 16), random(1, 2, 3, 16)).shape == (1, 2, 0, 16)


@runs_here
def test_refusals_reach_the_caller() -> None:
    q = random(1, 2, 8, 20, dtype=torch.float16)
    with pytest.raises(ValueError, match=r"strides of multiples of 16 bytes, and q has one of 40: leave .* off"):
        ATTENTION.build("triton", descriptors=True)(q, q, q)


def test_what_descriptors_do_not_take() -> None:
    def sides(q: Tensor, mask: Tensor | None = None, first: Tensor | None = None) -> Sides:
        return Sides(q, q, q, mask, first, first, 4, 4)

    q = torch.zeros(1, 2, 8, 1, 2, 16)
    assert refusal(sides(q), 90) is None
    assert refusal(sides(q), 100) is None
    assert "9.0 (Hopper) or later, and this card has 8.0" in str(refusal(sides(q), 80))
    assert "segments" in str(refusal(sides(q, first=torch.zeros(2, dtype=torch.int32)), 90))
    assert "not one of pairs" in str(refusal(sides(q, torch.ones(1, 2, 1, 8, 8, 1, dtype=torch.bool)), 90))
    assert "not on two" in str(refusal(sides(torch.zeros(1, 2, 4, 2, 2, 16)), 90))
    assert "not float64" in str(refusal(sides(q.double()), 90))
    assert "begins 4 bytes behind one" in str(refusal(sides(torch.zeros(513)[1:].view(q.shape)), 90))
    assert "q has one of 0" in str(refusal(sides(q[:, :1].expand(1, 2, 8, 1, 2, 16)), 90))


@pytest.mark.skipif(interpreted, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("card", CARDS[1:], ids=lambda card: card.name)
def test_tiles_move_by_the_accelerator(card: Card) -> None:
    variant = next(form for form in shipped(card.capability) if form.title == "flash_forward_described bf16 128 dense")
    ptx = _compiled(variant, card).asm["ptx"]
    assert "cp.async.bulk.tensor.5d.shared" in ptx
    assert "cp.async.bulk.tensor.5d.global.shared" in ptx
    # no tile is loaded or stored by its addresses
    assert "ld.global" not in ptx
    assert not shipped(80)
