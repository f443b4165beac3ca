"""Attention by lists of blocks: every builder against the mask that it stands for, and the kernel against float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fused_truth import device
from guarded import fenced, watched
from torch import Tensor

from videogen.kernels import ATTENTION
from videogen.kernels.blocks import BlockList, builders, from_classes

pytest.importorskip("triton")

from videogen.kernels._triton import INTERPRETED

runs_here = pytest.mark.skipif(
    not (INTERPRETED or torch.cuda.is_available()), reason="test_in_the_interpreter runs this one"
)

GRID = (3, 4, 5)
N = 60
PLACES = list(itertools.product(*map(range, GRID)))
Sees = Callable[[tuple[int, ...], tuple[int, ...]], bool]


def index(place: tuple[int, ...]) -> int:
    return (place[0] * GRID[1] + place[1]) * GRID[2] + place[2]


def in_tiles(tile: tuple[int, ...], reach: tuple[int, ...]) -> Sees:
    """Sliding tiles as their paper's figure has them: a window of whole tiles that never leaves the grid."""

    def sees(q: tuple[int, ...], k: tuple[int, ...]) -> bool:
        for i, length in enumerate(GRID):
            last, own, other = (length - 1) // tile[i], q[i] // tile[i], k[i] // tile[i]
            start = min(max(own - reach[i], 0), max(last - 2 * reach[i], 0))
            if not start <= other <= start + 2 * reach[i]:
                return False
        return True

    return sees


def skips(k: int, run: int) -> Sees:
    return lambda q, other: index(q) // run % k == index(other) // run % k


LISTS: dict[str, tuple[BlockList, Sees]] = {
    "tiles": (builders.sliding_tile(GRID, (2, 2, 3), (0, 1, 0), size=16), in_tiles((2, 2, 3), (0, 1, 0))),
    "small tiles": (builders.sliding_tile(GRID, (1, 1, 2), (1, 1, 1), size=16), in_tiles((1, 1, 2), (1, 1, 1))),
    "window": (
        builders.window(GRID, (2, 0, 2), (1, 0, 1), size=16),
        lambda q, k: (q[0] + 1) // 2 == (k[0] + 1) // 2 and (q[2] + 1) // 2 == (k[2] + 1) // 2,
    ),
    "causal": (builders.frame_causal(GRID, 2, size=16), lambda q, k: k[0] // 2 <= q[0] // 2),
    "single skip": (builders.skip(N, 4, size=16), skips(4, 1)),
    "group skip": (builders.skip(N, 3, "group", size=16), skips(3, 3)),
}


@pytest.mark.parametrize("name", LISTS)
def test_builders_say_what_their_patterns_mean(name: str) -> None:
    blocks, sees = LISTS[name]
    expected = torch.tensor([[sees(q, k) for k in PLACES] for q in PLACES])
    assert torch.equal(blocks.mask()[0, 0], expected)
    assert blocks.complete
    assert 0 < blocks.density <= 1
    # the way back lists the same pairs
    pairs = torch.zeros(2, blocks.tokens.shape[1], blocks.tokens.shape[1], dtype=torch.bool)
    for way, (first, columns) in enumerate(((blocks.first, blocks.keys), (blocks.first_back, blocks.queries))):
        for row, (start, end) in enumerate(itertools.pairwise(first[0, 0].tolist())):
            pairs[way, row, columns[start:end].long()] = True
    assert torch.equal(pairs[0], pairs[1].T)


def test_radial_holds_all_that_the_paper_keeps_and_blocks_of_it_alone() -> None:
    grid, decay, sink, size = (9, 7, 16), 0.3, 1, 16
    area = grid[1] * grid[2]
    frame, place = (torch.arange(9 * area) // area, torch.arange(9 * area) % area)
    apart, near = (frame[:, None] - frame).abs(), (place[:, None] - place).abs()
    octave = 2.0 ** apart.clamp(min=1).float().log2().floor()
    band = (octave <= decay * area) & (near + 1 <= decay * area / octave)
    kept = band | ((apart % (octave / (decay * area)).ceil() == 0) & (near == 0)) | (frame[None] < sink)
    mask = builders.radial(grid, decay, sink, size=size).mask()[0, 0]
    assert (mask | ~kept).all()
    # each block of pairs that is in the list has a pair in it that the paper keeps
    stripe = frame * -(-area // size) + place // size
    count = int(stripe.max()) + 1
    found = torch.zeros(2, count, count, dtype=torch.bool)
    for way, whole in enumerate((mask, kept)):
        rows, columns = whole.nonzero(as_tuple=True)
        found[way, stripe[rows], stripe[columns]] = True
    assert torch.equal(found[0], found[1])
    assert mask.float().mean() < 0.8


def test_samples_and_heads_have_lists_of_their_own() -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(-1, 3, (2, 40), generator=generator)
    related = torch.rand(2, 3, 3, 3, generator=generator) < 0.5
    blocks = from_classes(classes, related, 16)
    both = (classes[:, :, None] >= 0) & (classes[:, None, :] >= 0)
    for b, h in itertools.product(range(2), range(3)):
        expected = both[b] & related[b, h][classes[b].clamp(min=0)][:, classes[b].clamp(min=0)]
        assert torch.equal(blocks.mask()[b, h], expected)
    assert not blocks.complete


def operands(dtype: torch.dtype, length: int, head_dim: int = 20) -> list[Tensor]:
    """q, k and v as views of one packed projection (2, N, 3, 3, head_dim)."""
    packed = torch.randn(2, length, 3, 3, head_dim, generator=torch.Generator().manual_seed(0))
    return list(packed.to(device(), dtype).permute(2, 0, 3, 1, 4))


def truth(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    weights = (scores - scores.detach().amax(-1, keepdim=True)).exp() * mask
    # nothing to attend to: zeros, and gradients of zero
    return weights / weights.sum(-1, keepdim=True).clamp_min(1e-30) @ v


def moved(blocks: BlockList) -> BlockList:
    return BlockList(*(part.to(device()) if isinstance(part, Tensor) else part for part in blocks))


@runs_here
@pytest.mark.parametrize(
    ("name", "dtype", "head_dim"),
    [
        ("tiles", torch.float32, 20),
        ("window", torch.float32, 32),
        ("causal", torch.float16, 16),
        ("group skip", torch.bfloat16, 72),
        ("single skip", torch.float32, 16),
    ],
)
def test_matches_float64(name: str, dtype: torch.dtype, head_dim: int) -> None:
    blocks = moved(LISTS[name][0])
    kernel: Any = ATTENTION.build("block_sparse")
    leaves = [part.detach().requires_grad_() for part in operands(dtype, N, head_dim)]
    exact = [part.detach().double().requires_grad_() for part in leaves]
    out, expected = kernel(*leaves, blocks=blocks), truth(*exact, blocks.mask())
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    grads = torch.autograd.grad(out, leaves, upstream)
    wanted = torch.autograd.grad(expected, exact, upstream.double())
    eps = torch.finfo(dtype).eps
    for got, true, units in ((out, expected, 4), *((g, w, 8) for g, w in zip(grads, wanted, strict=True))):
        assert got.dtype == dtype
        # weights and products are rounded once each, in the interpreter cut: some eps of the largest term
        allowed = units * eps * true.detach().abs().max().clamp_min(1)
        assert ((got.double() - true).abs() <= allowed).all()


@runs_here
def test_padding_heads_and_empty_lists() -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(-1, 3, (2, 41), generator=generator)
    related = torch.rand(2, 3, 3, 3, generator=generator) < 0.5
    related[0, 1, 2] = False
    blocks = moved(from_classes(classes, related, 16))
    leaves = [part.detach().requires_grad_() for part in operands(torch.float32, 41)]
    kernel: Any = ATTENTION.build("block_sparse")
    out, expected = kernel(*leaves, blocks=blocks), truth(*leaves, blocks.mask())
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    assert (out.transpose(1, 2)[classes.to(device()) < 0] == 0).all()
    upstream = torch.randn_like(out)
    for got, true in zip(*(torch.autograd.grad(made, leaves, upstream) for made in (out, expected)), strict=True):
        torch.testing.assert_close(got, true, rtol=1e-4, atol=1e-5)


@runs_here
def test_gradients_are_those_of_the_function() -> None:
    blocks = moved(
        from_classes(torch.tensor([[0, 1, 1, 0, 2]]), torch.tensor([[[[1, 1, 0], [0, 1, 0], [1, 1, 1]]]]) > 0, 16)
    )
    kernel: Any = ATTENTION.build("block_sparse")
    inputs = [part[:1, :1].clone().requires_grad_() for part in operands(torch.float64, 5, 4)]
    # output and log-sum-exp, both
    assert torch.autograd.gradcheck(lambda *given: kernel.attend(*given, blocks), inputs, fast_mode=True)


@runs_here
def test_log_sum_exp_is_that_of_the_scores() -> None:
    blocks, (q, k, v) = moved(LISTS["causal"][0]), operands(torch.float32, N, 16)
    kernel: Any = ATTENTION.build("block_sparse")
    scores = (q @ k.transpose(-1, -2) / 4).masked_fill(~blocks.mask(), float("-inf"))
    torch.testing.assert_close(kernel.attend(q, k, v, blocks)[1], scores.logsumexp(-1), rtol=1e-5, atol=1e-5)


@runs_here
def test_reads_and_writes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = moved(LISTS["tiles"][0])
    q, k, v = (fenced(part).requires_grad_() for part in operands(torch.float32, N))
    kernel: Any = ATTENTION.build("block_sparse")
    with watched(monkeypatch):
        out = kernel(q, k, v, blocks=blocks)
        out.backward(torch.ones_like(out))
    for part in (out, q.grad, k.grad, v.grad):
        assert part is not None
        assert part.isfinite().all()


@runs_here
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_a_nan_stays_in_its_row() -> None:
    q, k, v = operands(torch.float32, N)
    q = q.clone()
    q[1, 2, 7, 3] = float("nan")
    kernel: Any = ATTENTION.build("block_sparse")
    out = kernel(q, k, v, blocks=moved(LISTS["tiles"][0]))
    assert out[1, 2, 7].isnan().all()
    assert out.isnan().sum() == q.shape[-1]


# opcheck looks at what it made itself
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@runs_here
def test_operators_keep_torchs_contracts() -> None:
    from videogen.kernels._block_sparse import block_sparse_attention

    *lists, _, complete = moved(from_classes(torch.tensor([[0, 1, 1, 0, 1]]), torch.eye(2)[None, None] > 0, 16))
    inputs = [part[:1, :1].clone().requires_grad_() for part in operands(torch.float32, 5, 4)]
    torch.library.opcheck(block_sparse_attention, (*inputs, *lists, complete, False))


@pytest.mark.skipif(INTERPRETED, reason="the interpreter takes CPU tensors")
def test_a_cpu_is_refused() -> None:
    blocks, (q, k, v) = LISTS["tiles"][0], (part.cpu() for part in operands(torch.float32, N))
    kernel: Any = ATTENTION.build("block_sparse")
    for given in (None, blocks):
        with pytest.raises(ValueError, match=r"attention 'block_sparse' runs on cuda, not on cpu: use attention=sdpa"):
            kernel(q, k, v, blocks=given)


def test_refusals_name_the_remedy() -> None:
    blocks, (q, k, v) = LISTS["tiles"][0], (part.cpu() for part in operands(torch.float32, N + 1))
    kernel: Any = ATTENTION.build("block_sparse")
    with pytest.raises(ValueError, match=r"of 60 tokens for 61 queries and 61 keys"):
        kernel(q, k, v, blocks=blocks)
    with pytest.raises(ValueError, match=r"leave one out"):
        kernel(q, k, v, mask=torch.ones(2, N + 1, dtype=torch.bool), blocks=blocks)
    with pytest.raises(ValueError, match=r"choose sdpa"):
        ATTENTION.build("block_sparse", dense="block_sparse")
    with pytest.raises(ValueError, match=r"size=24 .* try 64 or 128"):
        builders.skip(60, 4, size=24)


@pytest.mark.skipif(not INTERPRETED, reason="test_in_the_interpreter runs this one")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiles_without_a_break() -> None:
    kernel: Any = ATTENTION.build("block_sparse")
    q, k, v = (part[:1, :1].clone() for part in operands(torch.float32, 8, 4))

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # the list is built while the compiler looks on, and is a constant to it
        out: Tensor = kernel(q * 2, k, v, blocks=builders.frame_causal((4, 1, 2), 2, size=16))
        return out + 1

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(q, k, v), run(q, k, v))
