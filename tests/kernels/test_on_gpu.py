"""The attention kernels on a card, forward and backward, against float64: python -m pytest tests/kernels -m gpu.

With TRITON_INTERPRET=1 the same tests run on a CPU, which proves them and not the card.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from on_gpu import DEVICE, ON_CARD, assert_near, autograd, needs_card, random, skipped, skipped_before_hopper

from videogen.kernels import ATTENTION, Axes, attend_axes
from videogen.kernels.blocks import BlockList, builders

pytestmark = [pytest.mark.gpu, skipped]

REFERENCE = ATTENTION.build("reference")
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# whole tiles, a part of one, and more than a few programs; in the interpreter a tile takes 10 ms
N, L = (301, 333) if ON_CARD else (37, 70)


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    """What is allocated next holds NaN, so that an element that a kernel leaves unwritten fails the comparison."""
    torch.full((2**24 if ON_CARD else 1,), math.nan, device=DEVICE)
    yield
    if ON_CARD:
        # a kernel that goes astray is told with the test that launched it
        torch.cuda.synchronize()


def kernel(**knobs: Any) -> Any:
    return ATTENTION.build("triton", **knobs)


def operands(head_dim: int, dtype: torch.dtype, queries: int = N, keys: int = L, heads: int = 2) -> list[Tensor]:
    """q as heads of (B, N, C), k and v as views of one packed projection."""
    q = random(2, queries, heads, head_dim, dtype=dtype).transpose(1, 2)
    k, v = random(2, keys, 2, heads, head_dim, dtype=dtype, seed=1).permute(2, 0, 3, 1, 4)
    return [q, k, v]


def check(run: Any, inputs: list[Tensor], mask: Tensor | None = None, least: float = 1e-3) -> None:
    """Output and gradients beside those of the reference in float64."""
    out, grads = autograd(run, inputs)
    wanted, exact = autograd(functools.partial(REFERENCE, mask=mask), [x.double() for x in inputs])
    assert out.dtype == inputs[0].dtype
    assert_near(out, wanted, "out")
    for name, got, true in zip("qkv", grads, exact, strict=True):
        assert_near(got, true, f"gradient of {name}", 2, least)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("head_dim", [32, 64, 72, 96, 128, 256])
def test_dense(head_dim: int, dtype: str) -> None:
    check(kernel(), operands(head_dim, TYPES[dtype]))


MASKS = {"keys": (2, L), "keys of heads": (2, 2, 1, L), "pairs": (2, 2, N, L), "pairs of all heads": (2, 1, N, L)}
WAYS: list[Any] = [(mask, False) for mask in MASKS]
WAYS += [pytest.param(mask, True, marks=skipped_before_hopper) for mask in MASKS if "pairs" not in mask]


@pytest.mark.parametrize(("mask", "descriptors"), WAYS)
@pytest.mark.parametrize(("head_dim", "dtype"), [(64, "bf16"), (128, "bf16"), (72, "fp16"), (256, "bf16")])
def test_masks(head_dim: int, dtype: str, mask: str, descriptors: bool) -> None:
    given = random(*MASKS[mask]) > 0.2
    # one sample sees nothing, and neither does a row of the other
    given[0], given[1, ..., :3] = False, True
    if "pairs" in mask:
        given[1, :, 5] = False
    run = functools.partial(kernel(descriptors=descriptors), mask=given)
    check(run, operands(head_dim, TYPES[dtype]), given)


@skipped_before_hopper
@pytest.mark.parametrize(("head_dim", "dtype"), [(32, "bf16"), (96, "fp16"), (128, "fp16"), (128, "fp32")])
def test_descriptors(head_dim: int, dtype: str) -> None:
    check(kernel(descriptors=True), operands(head_dim, TYPES[dtype]))


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (3, 80), (80, 1), (65, 33), (17, 17)])
def test_short_and_unequal_lengths(queries: int, keys: int) -> None:
    for dtype in (torch.bfloat16, torch.float32):
        check(kernel(), operands(64, dtype, queries, keys), least=1.0 if keys == 1 else 1e-3)


# the corners of what benchmarks/tiles.py tries
@pytest.mark.parametrize("descriptors", [False, pytest.param(True, marks=skipped_before_hopper)], ids=["", "tma"])
@pytest.mark.parametrize("tile", [(64, 32, 4, 2), (64, 128, 4, 3), (128, 32, 8, 4), (128, 128, 8, 2)], ids=str)
def test_tiles(tile: tuple[int, int, int, int], descriptors: bool) -> None:
    knobs = dict(zip(("block_m", "block_n", "num_warps", "num_stages"), tile, strict=True))
    with torch.no_grad():
        inputs = operands(64, torch.bfloat16)
        wanted = REFERENCE(*(x.double() for x in inputs))
        assert_near(kernel(**knobs, descriptors=descriptors)(*inputs), wanted, "out")


def test_logarithms_of_sums() -> None:
    q, k, v = operands(64, torch.float32)
    scores = q.double() @ k.double().transpose(-1, -2) / 8
    for descriptors in (False, *([True] if skipped_before_hopper.args == (False,) else [])):
        lse = kernel(descriptors=descriptors).with_lse(q, k, v)[1]
        torch.testing.assert_close(lse.double(), scores.logsumexp(-1), rtol=0, atol=2e-5)


T, S, K = (16, 40, 4) if ON_CARD else (5, 18, 3)
LAYOUTS = {
    "spatial": Axes.of(T, S, groups=(0,)),
    "temporal": Axes.of(T, S, groups=(1,)),
    "single skip": Axes.of(T * S // K, K, groups=(1,)),
    "group skip": Axes.of(T * S // K**2, K, K, groups=(1,)),
    "boxes": Axes.of(1, T, 2, S // 6, 3, 1, groups=(0, 2, 4)),
    # longer than what shares a tile
    "long temporal": Axes.of(N, 3, groups=(1,)),
}


@pytest.mark.parametrize(
    ("head_dim", "dtype", "masked"), [(72, "bf16", False), (128, "bf16", True), (64, "fp16", False), (96, "fp32", True)]
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_groups_in_place(layout: str, head_dim: int, dtype: str, masked: bool) -> None:
    axes = LAYOUTS[layout]
    qkv = random(2, axes.length, 3, 2, head_dim, dtype=TYPES[dtype])
    mask = random(2, axes.length, seed=3) > -0.5 if masked else None
    if mask is not None:
        mask[0, : axes.length // 2] = False

    def plain(qkv: Tensor) -> Tensor:
        return attend_axes(REFERENCE, *qkv.unbind(2), axes, mask=mask)

    wanted, exact = autograd(plain, [qkv.double()])
    ways = [lambda qkv: kernel().packed(qkv, axes, mask=mask)]
    ways += [lambda qkv: kernel().within(*qkv.unbind(2), axes, mask=mask)] * (dtype == "bf16")
    for run in ways:
        out, grads = autograd(run, [qkv])
        assert_near(out, wanted, "out")
        assert_near(grads[0], exact[0], "gradient", 2)


@pytest.mark.parametrize(("head_dim", "dtype"), [(64, "bf16"), (128, "fp16"), (32, "fp32")])
def test_segments(head_dim: int, dtype: str) -> None:
    from videogen.kernels.triton import Segments

    # a segment with no queries, one with no keys, and tokens behind the last
    ends = ([0, 133, 133, 140, 251], [0, 5, 125, 125, 260]) if ON_CARD else ([0, 33, 33, 40, 51], [0, 5, 25, 25, 60])
    queries, keys = (torch.tensor(starts, dtype=torch.int32, device=DEVICE) for starts in ends)
    inputs = [random(260, 2, head_dim, dtype=TYPES[dtype], seed=seed) for seed in range(3)]
    segments = Segments(queries, keys, max(b - a for a, b in zip(ends[0], ends[0][1:], strict=False)), 140)

    def apart(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.zeros_like(q)
        for i in range(4):
            rows, columns = slice(*ends[0][i : i + 2]), slice(*ends[1][i : i + 2])
            one = REFERENCE(*(x.transpose(0, 1)[None] for x in (q[rows], k[columns], v[columns])))
            out[rows] = one[0].transpose(0, 1)
        return out

    out, grads = autograd(lambda *x: kernel().ragged(*x, segments)[0], inputs)
    wanted, exact = autograd(apart, [x.double() for x in inputs])
    assert_near(out, wanted, "out")
    for name, got, true in zip("qkv", grads, exact, strict=True):
        assert_near(got, true, f"gradient of {name}", 2)


GRID = (4, 12, 16) if ON_CARD else (3, 4, 6)
TOKENS, SIZE = math.prod(GRID), 128 if ON_CARD else 16
LISTS = {
    "tiles": lambda device: builders.sliding_tile(GRID, (2, 4, 6), (0, 1, 1), size=SIZE, device=device),
    "causal": lambda device: builders.frame_causal(GRID, 1, size=SIZE, device=device),
    "skip": lambda device: builders.skip(TOKENS, 4, size=SIZE, device=device),
    "radial": lambda device: builders.radial(GRID, 0.5, size=SIZE, device=device),
}


@pytest.mark.parametrize(
    ("pattern", "head_dim", "dtype"),
    [
        ("tiles", 64, "bf16"),
        ("causal", 128, "bf16"),
        ("radial", 72, "fp16"),
        ("skip", 96, "bf16"),
        ("tiles", 256, "fp16"),
        ("causal", 32, "fp32"),
        ("tiles", 128, "fp32"),
    ],
)
def test_lists_of_blocks(pattern: str, head_dim: int, dtype: str) -> None:
    blocks: BlockList = LISTS[pattern](torch.device(DEVICE))
    qkv = random(2, TOKENS, 3, 2, head_dim, dtype=TYPES[dtype])
    inputs = list(qkv.permute(2, 0, 3, 1, 4))
    mask = blocks.mask().expand(2, -1, -1, -1)
    check(functools.partial(ATTENTION.build("block_sparse"), blocks=blocks), inputs, mask)


@needs_card
def test_offsets_beyond_32_bits() -> None:
    frames, axes = 1400, Axes.of(1400, 256, groups=(0,))
    qkv = torch.zeros(1, axes.length, 3, 16, 128, dtype=torch.bfloat16, device=DEVICE)
    assert qkv.numel() > 2**31
    last = random(1, 256, 3, 16, 128, dtype=torch.bfloat16)
    qkv[:, -256:] = last
    with torch.no_grad():
        found = kernel().packed(qkv, axes)[:, -256:]
        wanted = REFERENCE(*last.double().permute(2, 0, 3, 1, 4)).transpose(1, 2)
        assert_near(found, wanted, f"frame {frames - 1}")
        by_tma = (x.unflatten(1, axes.sizes)[0].transpose(1, 2) for x in qkv.unbind(2))
        if skipped_before_hopper.args == (False,):
            assert_near(kernel(descriptors=True)(*by_tma)[-1].transpose(0, 1)[None], wanted, "by descriptors")


@needs_card
def test_equal_inputs_give_equal_bits_and_graphs_replay_them() -> None:
    inputs = operands(128, torch.bfloat16)
    (out, grads), (again, same) = autograd(kernel(), inputs), autograd(kernel(), inputs)
    assert torch.equal(out, again)
    assert all(torch.equal(*pair) for pair in zip(grads, same, strict=True))
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        replayed = kernel()(*inputs)
    graph.replay()
    assert torch.equal(out, replayed)


def test_what_is_not_finite_stays_in_its_group() -> None:
    axes = LAYOUTS["temporal"]
    qkv = random(2, axes.length, 3, 2, 72, dtype=torch.bfloat16)
    clean, (d_clean,) = autograd(lambda x: kernel().packed(x, axes), [qkv])
    qkv[0, 2 * S + 4, 2, 1, 7] = math.nan
    out, (d_qkv,) = autograd(lambda x: kernel().packed(x, axes), [qkv])
    touched = torch.zeros(2, T, S, 2, 1, dtype=torch.bool, device=DEVICE)
    touched[0, :, 4, 1] = True
    touched = touched.flatten(1, 2)
    assert out.isnan().any()
    assert torch.equal(out.where(~touched, 0), clean.where(~touched, 0))
    assert torch.equal(d_qkv.where(~touched[:, :, None], 0), d_clean.where(~touched[:, :, None], 0))


def test_autocast_casts_what_a_norm_left_wide() -> None:
    q, k, v = operands(64, torch.bfloat16)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        out = kernel()(q.float(), k.float(), v)
    assert_near(out, REFERENCE(q.double(), k.double(), v.double()), "out")


@pytest.mark.parametrize("name", ["triton", "block_sparse"])
def test_compiles_without_a_break(name: str) -> None:
    part: Any = ATTENTION.build(name)
    blocks = LISTS["tiles"](torch.device(DEVICE)) if name == "block_sparse" else None
    given = {} if blocks is None else {"blocks": blocks}
    inputs = [random(1, 2, TOKENS, 64, dtype=torch.bfloat16, seed=seed) for seed in range(3)]

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = part(q * 2, k, v, **given)
        return out + 1

    compiled = torch.compile(run, fullgraph=True, backend="inductor" if ON_CARD else "aot_eager")
    (out, grads), (wanted, exact) = autograd(compiled, inputs), autograd(run, inputs)
    # the same kernels; what is around them may be rounded otherwise
    assert_near(out, wanted.double(), "out")
    for got, true in zip(grads, exact, strict=True):
        assert_near(got, true.double(), "gradient", 2)
