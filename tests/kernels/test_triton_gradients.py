"""The Triton kernels' outputs, logarithms of sums and gradients against float64, in the interpreter."""

from __future__ import annotations

import functools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

triton_kernel = pytest.importorskip("videogen.kernels.triton")
from interpreter import run_interpreted  # noqa: E402

from videogen.kernels import Axes  # noqa: E402
from videogen.kernels._flash import Sides, _backward, _forward, flash, flash_packed  # noqa: E402

interpreted = triton_kernel.INTERPRETED
runs_here = pytest.mark.skipif(not interpreted, reason="test_in_the_interpreter runs this one")

ATTENTION = triton_kernel.TritonAttention() if interpreted else None
# tiles of 16, so that short sequences meet whole tiles, a partial one, and several programs
SMALL = triton_kernel.TritonAttention(block_m=16, block_n=16) if interpreted else None


@pytest.mark.skipif(interpreted, reason="already in the interpreter")
def test_in_the_interpreter() -> None:
    run_interpreted(__file__)


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def truth(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Output and logarithm of the sum of exponents in float64; a row with nothing to attend to is 0 and -inf."""
    q, k, v = (x.double() for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~(mask[:, None, None] if mask.ndim == 2 else mask), -math.inf)
    lse = scores.logsumexp(-1)
    weights = torch.where(lse.isinf()[..., None], 0.0, scores - lse[..., None]).exp().masked_fill(scores.isinf(), 0.0)
    return weights @ v, lse


def gradients(run: object, leaves: list[Tensor], grad: Tensor) -> tuple[Tensor, list[Tensor]]:
    leaves = [x.detach().requires_grad_() for x in leaves]
    out = run(*leaves)  # type: ignore[operator]
    return out.detach(), list(torch.autograd.grad(out, leaves, grad.to(out.dtype)))


def rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


@runs_here
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("head_dim", [32, 64, 72, 96, 128, 256])
def test_errors_are_those_of_torch(head_dim: int, dtype: torch.dtype) -> None:
    # heads of a packed projection; lengths that fill no tile
    q = random(1, 37, 1, head_dim, dtype=dtype).transpose(1, 2)
    k, v = random(1, 45, 2, 1, head_dim, dtype=dtype, seed=1).permute(2, 0, 3, 1, 4)
    grad = random(1, 1, 37, head_dim, dtype=dtype, seed=2)
    wanted = gradients(lambda *x: truth(*x)[0], [q, k, v], grad)
    torchs = gradients(F.scaled_dot_product_attention, [q, k, v], grad)
    found = gradients(ATTENTION, [q, k, v], grad)
    assert found[0].dtype == dtype
    assert rms(found[0] - wanted[0]) <= 2 * rms(torchs[0] - wanted[0])
    for name, ours, theirs, exact in zip("qkv", found[1], torchs[1], wanted[1], strict=True):
        assert rms(ours - exact) <= 3 * rms(theirs - exact), name


@runs_here
@pytest.mark.parametrize("mask", ["none", "keys", "keys of heads", "pairs"])
def test_masks(mask: str) -> None:
    q, k, v = random(2, 2, 21, 24), random(2, 2, 19, 24, seed=1), random(2, 2, 19, 24, seed=2)
    shape = {"keys": (2, 19), "keys of heads": (2, 2, 1, 19), "pairs": (2, 2, 21, 19)}.get(mask)
    given = None if shape is None else random(*shape, seed=3) > 0
    if given is not None:
        # one sample sees nothing at all, one query or head of the other neither
        given[0] = False
        given[1, ..., 3:5] = True
    if mask == "pairs":
        given[1, :, 5] = False
    grad = random(*q.shape, seed=4)
    wanted, exact = gradients(lambda *x: truth(*x, given)[0], [q, k, v], grad)
    found, ours = gradients(functools.partial(SMALL, mask=given), [q, k, v], grad)
    torch.testing.assert_close(found.double(), wanted.double(), rtol=0, atol=2e-6)
    for one, other in zip(ours, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=5e-6)
    lse = SMALL.with_lse(q, k, v, mask=given)[1]
    torch.testing.assert_close(lse.double(), truth(q, k, v, given)[1], rtol=0, atol=2e-6)


@runs_here
def test_logarithms_of_sums_join_two_attentions() -> None:
    q, k, v = random(1, 2, 20, 16), random(1, 2, 40, 16, seed=1), random(1, 2, 40, 16, seed=2)

    def halves(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        one, first = ATTENTION.with_lse(q, k[:, :, :25], v[:, :, :25])
        other, second = ATTENTION.with_lse(q, k[:, :, 25:], v[:, :, 25:])
        share = (first - torch.logaddexp(first, second)).exp()[..., None]
        return one * share + other * (1 - share)

    grad = random(1, 2, 20, 16, seed=3)
    wanted, exact = gradients(ATTENTION, [q, k, v], grad)
    found, ours = gradients(halves, [q, k, v], grad)
    torch.testing.assert_close(found, wanted)
    for one, other in zip(ours, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@runs_here
@pytest.mark.parametrize("axes", [Axes.of(2, 3, groups=(1,)), Axes.of(2, 2, 2, groups=(1,)), Axes.of(6)], ids=str)
def test_gradcheck(axes: Axes) -> None:
    source = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, axes.length, 3, 2, 3, dtype=torch.float64, generator=source).requires_grad_()
    mask = torch.rand(2, axes.length, generator=source) > 0.3
    q, k, v = (axes.apart(x) for x in qkv.unbind(2))
    keys = axes.apart(mask)[:, :, None, None]
    rest = {"mask": None, "first_q": None, "first_k": None, "longest_q": 0, "longest_k": 0, "knobs": []}
    # what becomes of one output's gradient without the other's
    check = functools.partial(torch.autograd.gradcheck, fast_mode=True, check_undefined_grad=axes.groups == ())
    assert check(functools.partial(flash, **rest), (q, k, v))
    assert check(functools.partial(flash_packed, mask=keys, knobs=[]), (axes.apart(qkv),))


@runs_here
def test_gradcheck_of_segments() -> None:
    source = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(9, 2, 3, dtype=torch.float64, generator=source).requires_grad_() for _ in range(3))
    starts = torch.tensor([0, 4, 4, 9], dtype=torch.int32)
    segments = triton_kernel.Segments(starts, starts, 5, 5)
    check = functools.partial(torch.autograd.gradcheck, fast_mode=True, check_undefined_grad=False)
    assert check(lambda *x: ATTENTION.ragged(*x, segments), (q, k, v))


@runs_here
@pytest.mark.parametrize("knobs", [[], [16, 16, 0, 0]], ids=str)
def test_segments_are_sequences_of_their_own(knobs: list[int]) -> None:
    attention = SMALL if knobs else ATTENTION
    # a segment with no queries, one with no keys, and tokens behind the last
    queries, keys = (torch.tensor(starts, dtype=torch.int32) for starts in ([0, 33, 33, 40, 51], [0, 5, 25, 25, 60]))
    q, k, v = random(55, 2, 24), random(64, 2, 24, seed=1), random(64, 2, 24, seed=2)
    grad = random(55, 2, 24, seed=3)
    segments = triton_kernel.Segments(queries, keys, 33, 35)

    def apart(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.zeros_like(q)
        for i in range(4):
            rows, columns = slice(*queries[i : i + 2]), slice(*keys[i : i + 2])
            one = (x.transpose(0, 1)[None] for x in (q[rows], k[columns], v[columns]))
            out[rows] = truth(*one)[0][0].transpose(0, 1).to(q.dtype)
        return out

    wanted, exact = gradients(apart, [q, k, v], grad)
    found, ours = gradients(lambda *x: attention.ragged(*x, segments)[0], [q, k, v], grad)
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6)
    for one, other in zip(ours, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=5e-6)


@runs_here
@pytest.mark.parametrize(("heads", "groups", "length"), [(2, 3, 5), (1, 1, 37)])
def test_nothing_is_read_or_written_outside(heads: int, groups: int, length: int) -> None:
    def guarded(fill: float) -> tuple[Tensor, Tensor]:
        """A tensor (1, groups, length, 1, heads, 24) in the middle of a larger one."""
        whole = torch.full((1, groups + 2, length + 2, 1, heads + 2, 40), fill)
        return whole, whole[:, 1:-1, 1:-1, :, 1:-1, 8:32]

    inside = [guarded(math.nan)[1].copy_(random(1, groups, length, 1, heads, 24, seed=i)) for i in range(5)]
    q, k, v, d_out, _ = inside
    (wholes, (out, d_q, d_k, d_v)) = zip(*(guarded(7.0) for _ in range(4)), strict=True)
    d_out = torch.empty_strided(out.shape, out.stride()).copy_(d_out)
    lse = torch.full((groups + 1, heads, length), 7.0)
    sides = Sides(q, k, v, None, None, None, 0, 0)
    _forward(sides, out, lse[:groups], [])
    _backward(sides, d_out, torch.zeros(groups, heads, length), out, lse[:groups], (d_q, d_k, d_v))
    dense = [x[0, :, :, 0].transpose(1, 2) for x in (q, k, v)]
    wanted, exact = gradients(lambda *x: truth(*x)[0], dense, d_out[0, :, :, 0].transpose(1, 2))
    for found, one in zip((out, d_q, d_k, d_v), (wanted, *exact), strict=True):
        torch.testing.assert_close(found[0, :, :, 0].transpose(1, 2).double(), one.double(), rtol=0, atol=5e-6)
        found.fill_(7.0)
    # with the inside blanked, what is left are the guards
    assert all((whole == 7.0).all() for whole in wholes)
    assert (lse[groups] == 7.0).all()


@runs_here
# torch's own check looks for a gradient where there is none
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_operators_keep_torchs_contracts() -> None:
    axes = Axes.of(2, 3, groups=(1,))
    qkv = random(1, 6, 3, 2, 8).requires_grad_()
    mask = axes.apart(torch.tensor([[True, False, True, True, True, True]]))[:, :, None, None]
    q, k, v = (axes.apart(x).detach().requires_grad_() for x in qkv.unbind(2))
    utilities = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(flash, (q, k, v, mask, None, None, 0, 0, []), test_utils=utilities)
    torch.library.opcheck(flash_packed, (axes.apart(qkv).detach().requires_grad_(), mask, []), test_utils=utilities)


@runs_here
def test_compiles_without_a_break_under_autocast() -> None:
    q, k, v = random(2, 2, 9, 16), random(2, 2, 9, 16, seed=1), random(2, 2, 9, 16, dtype=torch.bfloat16, seed=2)

    def loss(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return ATTENTION(q, k, v).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    wanted, exact = gradients(loss, [q, k, v], torch.tensor(1.0))
    found, ours = gradients(compiled, [q, k, v], torch.tensor(1.0))
    torch.testing.assert_close(found, wanted)
    for one, other in zip(ours, exact, strict=True):
        torch.testing.assert_close(one, other)


@runs_here
@pytest.mark.filterwarnings("ignore:(invalid value|All-NaN slice) encountered:RuntimeWarning")
def test_a_nan_stays_in_its_row() -> None:
    q, k, v = random(2, 2, 40, 16), random(2, 2, 40, 16, seed=1), random(2, 2, 40, 16, seed=2)
    mask = torch.ones(2, 40, dtype=torch.bool)
    mask[:, 7] = False
    clean = SMALL(q, k, v, mask=mask)
    q[0, 0, 5] = math.nan
    # keys that nobody attends to
    k[:, :, 7], v[:, :, 7] = math.nan, math.nan
    out = SMALL(q, k, v, mask=mask)
    assert out[0, 0, 5].isnan().all()
    out[0, 0, 5] = clean[0, 0, 5]
    assert torch.equal(out, clean)
    grad = random(*q.shape, seed=3)
    grad[0, 0, 9] = math.nan
    d_q, d_k, d_v = gradients(functools.partial(SMALL, mask=mask), [q.nan_to_num(), k, v], grad)[1]
    assert d_q.isnan().any(-1).nonzero().tolist() == [[0, 0, 9]]
    # a key hears of every query of its head, and one that nobody attends to of none
    for x in (d_k, d_v):
        assert x[0, 0, [*range(7), *range(8, 40)]].isnan().all()
        assert (x[:, :, 7] == 0).all()
        assert not x[0, 1].isnan().any()
        assert not x[1].isnan().any()
