"""The Triton kernels on groups of tokens where they lie, against the same groups taken apart; in the interpreter."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor

triton_kernel = pytest.importorskip("videogen.kernels.triton")
from interpreter import run_interpreted  # noqa: E402

from videogen.kernels import ATTENTION, Axes, attend_axes  # noqa: E402
from videogen.kernels._flash import Sides, tile_of  # noqa: E402

interpreted = triton_kernel.INTERPRETED
runs_here = pytest.mark.skipif(not interpreted, reason="test_in_the_interpreter runs this one")
REFERENCE = ATTENTION.build("reference")
KERNEL = triton_kernel.TritonAttention() if interpreted else None

T, S, K = 5, 9, 3
LAYOUTS = {
    "spatial": Axes.of(T, S, groups=(0,)),
    "temporal": Axes.of(T, S, groups=(1,)),
    "full": Axes.of(T * S),
    "single skip": Axes.of(T * S // K, K, groups=(1,)),
    "group skip": Axes.of(T * S // K**2, K, K, groups=(1,)),
    # boxes of 1 x 3 x 3 and of 5 x 1 x 3 tokens on a grid of 5 x 3 x 3
    "boxes of a frame": Axes.of(T, 1, 1, 3, 3, 1, groups=(0, 2, 4)),
    "columns": Axes.of(1, T, 3, 1, 1, 3, groups=(0, 2, 4)),
    # longer than what shares a tile
    "long temporal": Axes.of(37, 2, groups=(1,)),
    "long group skip": Axes.of(10, 2, 4, groups=(1,)),
}


@pytest.mark.skipif(interpreted, reason="already in the interpreter")
def test_in_the_interpreter() -> None:
    run_interpreted(__file__)


def packed(axes: Axes, head_dim: int = 24, dtype: torch.dtype = torch.float32) -> Tensor:
    source = torch.Generator().manual_seed(head_dim)
    return torch.randn(2, axes.length, 3, 2, head_dim, generator=source).to(dtype)


def plain(qkv: Tensor, axes: Axes, mask: Tensor | None = None) -> Tensor:
    """Groups taken apart by a list of indices, token by token, and the reference on each."""
    index = torch.arange(axes.length).reshape(axes.sizes).permute(*axes.groups, *axes.tokens)
    index = index.reshape(math.prod(axes.sizes[axis] for axis in axes.groups), -1)
    out = torch.zeros_like(qkv[:, :, 0])
    for group in index:
        q, k, v = qkv[:, group].permute(2, 0, 3, 1, 4)
        out[:, group] = REFERENCE(q, k, v, mask=None if mask is None else mask[:, group]).transpose(1, 2)
    return out


@runs_here
@pytest.mark.parametrize("masked", [False, True], ids=["all", "key mask"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_place_equals_apart(layout: str, masked: bool) -> None:
    axes = LAYOUTS[layout]
    qkv = packed(axes)[: 1 if layout.startswith("long") else 2].requires_grad_()
    mask = torch.rand(len(qkv), axes.length, generator=torch.Generator().manual_seed(1)) > 0.4 if masked else None
    if mask is not None:
        mask[0, : axes.length // 2] = False
    wanted = plain(qkv, axes, mask)
    grad = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(2))
    exact = torch.autograd.grad(wanted, qkv, grad)[0]
    q, k, v = qkv.unbind(2)
    # one tensor and its gradient, or three of them
    found = KERNEL.packed(qkv, axes, mask=mask) if masked else KERNEL.within(q, k, v, axes)
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6)
    torch.testing.assert_close(torch.autograd.grad(found, qkv, grad)[0], exact, rtol=0, atol=5e-6)


@runs_here
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", ["temporal", "group skip"])
def test_half_precision_in_a_shared_tile(layout: str, dtype: torch.dtype) -> None:
    axes = LAYOUTS[layout]
    qkv = packed(axes, 72, dtype).requires_grad_()
    found = KERNEL.packed(qkv, axes)
    wanted = plain(qkv.double(), axes)
    grad = torch.randn(wanted.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    exact = torch.autograd.grad(wanted, qkv, grad)[0]
    # outputs of size one, rounded once; gradients from products that were rounded too
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=4 * eps)
    torch.testing.assert_close(torch.autograd.grad(found, qkv, grad.to(dtype))[0], exact, rtol=0, atol=16 * eps)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    # products of float32 sit in registers, and 16 rows are the least
    [(torch.bfloat16, {1: 32, 5: 4, 16: 2, 17: 2, 32: 2, 33: 1}), (torch.float32, {1: 16, 5: 2, 8: 2, 9: 1, 16: 1})],
    ids=str,
)
def test_short_groups_share_a_tile(dtype: torch.dtype, expected: dict[int, int]) -> None:
    shared = {}
    for length in expected:
        x = torch.empty(1, 70_000, length, 1, 16, 64, device="meta", dtype=dtype)
        shared[length] = tile_of("forward", Sides(x, x, x, None, None, None, 0, 0))[1]
    assert shared == expected


def gradient() -> Tensor:
    return torch.randn(2, T * S, 2, 24, generator=torch.Generator().manual_seed(2))


@functools.lru_cache
def undisturbed() -> tuple[Tensor, Tensor]:
    """Output and gradient of temporal attention with finite numbers."""
    qkv = packed(LAYOUTS["temporal"]).requires_grad_()
    out = KERNEL.packed(qkv, LAYOUTS["temporal"])
    return out.detach(), torch.autograd.grad(out, qkv, gradient())[0]


@runs_here
@pytest.mark.filterwarnings("ignore:(invalid value|All-NaN slice) encountered:RuntimeWarning")
@pytest.mark.parametrize("case", ["nan q", "nan k", "nan v", "nan gradient", "inf v", "inf gradient"])
def test_what_is_not_finite_stays_in_its_group(case: str) -> None:
    word, place = case.split()
    value, part = float(word), ("q", "k", "v", "gradient").index(place)
    axes = LAYOUTS["temporal"]
    qkv, grad = packed(axes), gradient()
    out, d_clean = undisturbed()
    # frame 2 at position 4 of the first sample, one head, one channel
    if part < 3:
        qkv[0, 2 * S + 4, part, 1, 7] = value
    else:
        grad[0, 2 * S + 4, 1, 7] = value
    qkv.requires_grad_()
    found = KERNEL.packed(qkv, axes)
    d_found = torch.autograd.grad(found, qkv, grad)[0]
    touched = torch.zeros(2, T, S, 1, 2, 1, dtype=torch.bool)
    touched[0, :, 4, :, 1] = True
    touched = touched.flatten(1, 2)
    if part < 3:
        row = torch.zeros_like(touched)
        row[0, 2 * S + 4, :, 1] = True
        spread = (row if part == 0 else touched)[:, :, 0].expand_as(out)
        assert not found[spread].isfinite().any() or value == math.inf
        assert torch.equal(found[~spread], out[~spread])
    assert torch.equal(d_found[~touched.expand_as(d_found)], d_clean[~touched.expand_as(d_found)])
    if value != math.inf:
        assert d_found[touched.expand_as(d_found)].isnan().any()


@runs_here
def test_any_kernel_takes_axes() -> None:
    for name in ("sdpa", "reference", "triton"):
        kernel = ATTENTION.build(name)
        for layout in ("group skip", "temporal", "boxes of a frame"):
            qkv = packed(LAYOUTS[layout])
            found = attend_axes(kernel, *qkv.unbind(2), LAYOUTS[layout])
            torch.testing.assert_close(found, plain(qkv, LAYOUTS[layout]), rtol=0, atol=2e-6)


@runs_here
def test_strides_that_are_no_view() -> None:
    axes = LAYOUTS["single skip"]
    q, k, v = packed(axes).unbind(2)
    wanted = KERNEL.within(q, k, v, axes)
    # channels outermost, every other token, one value for all tokens
    q = q.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)
    k = k.repeat_interleave(2, 1)[:, ::2]
    assert torch.equal(KERNEL.within(q, k, v, axes), wanted)
    v = v[:, :1].expand(-1, axes.length, -1, -1)
    torch.testing.assert_close(KERNEL.within(q, k, v, axes), v.contiguous(), rtol=0, atol=1e-6)
    none = KERNEL.within(q[:0], k[:0], v[:0], axes)
    assert none.shape == (0, axes.length, 2, 24)


@runs_here
def test_refusals_name_the_reason() -> None:
    q = torch.zeros(1, 12, 2, 16)
    with pytest.raises(ValueError, match=r"are 10 tokens, and the sequence has 12"):
        KERNEL.within(q, q, q, Axes.of(10))
    boxes = Axes((2, 1, 3, 1, 2), (0, 2, 4))
    with pytest.raises(ValueError, match=r"two axes of groups and two of tokens, not .*attend_axes"):
        KERNEL.within(q, q, q, boxes)
    with pytest.raises(ValueError, match=r"mask of keys \(B, N\)"):
        KERNEL.within(q, q, q, Axes.of(12), mask=torch.ones(1, 1, 12, 12, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"head_dim up to 256, not 300: use attention="):
        KERNEL.packed(torch.zeros(1, 12, 3, 1, 300), Axes.of(12))
    with pytest.raises(ValueError, match=r"not int32: no attention kernel"):
        KERNEL.within(q.int(), q.int(), q.int(), Axes.of(12))
    starts = torch.tensor([0, 4, 12])
    with pytest.raises(ValueError, match=r"int32 \(segments \+ 1\).*int64"):
        KERNEL.ragged(q[0], q[0], q[0], triton_kernel.Segments(starts, starts, 8, 8))


@runs_here
def test_gradients_of_a_view_of_axes() -> None:
    # head_dim 72 is padded, its projection is what a model of width 144 has
    axes = Axes.of(3, 4, groups=(1,))
    weight = torch.randn(3 * 144, 20, generator=torch.Generator().manual_seed(0)).mul(0.2).requires_grad_()
    tokens = torch.randn(1, 12, 20, generator=torch.Generator().manual_seed(1))
    project = functools.partial(torch.nn.functional.linear, tokens)
    qkv = project(weight).unflatten(-1, (3, 2, 72))
    exact = torch.autograd.grad(plain(qkv, axes).square().sum(), weight, retain_graph=True)[0]
    found = torch.autograd.grad(KERNEL.packed(qkv, axes).square().sum(), weight)[0]
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-4)
