"""Every registered attention kernel against float64, at odd sizes, with both kinds of mask and any strides.

A kernel that doesn't run on this machine is skipped here; test_triton.py runs this file again in Triton's interpreter.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import torch
from attention_truth import HEADS, B, L, N, assert_close, device_of, operands, truth

from videogen.kernels import ATTENTION, Attention
from videogen.registry import RegistryError

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    """Fill every new tensor with NaN, so that an element that a kernel leaves unwritten fails the comparison."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=ATTENTION.names())
def attention(request: pytest.FixtureRequest) -> Attention:
    try:
        kernel = ATTENTION.build(request.param)
    except RegistryError as missing:
        pytest.skip(str(missing))
    if device_of(kernel) not in kernel.support.devices:
        pytest.skip(f"attention {request.param!r} runs on {sorted(kernel.support.devices)}, which is not here")
    return kernel


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("head_dim", [16, 33, 64, 72, 96])
def test_matches_float64(attention: Attention, head_dim: int, dtype: torch.dtype) -> None:
    q, k, v = operands(attention, dtype, head_dim)
    assert_close(attention(q, k, v), q, k, v)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(B, L), (B, 1, 1, L), (B, HEADS, 1, L), (B, 1, N, L), (B, HEADS, N, L)], ids=str)
def test_masks_and_rows_with_nothing_to_attend_to(
    attention: Attention, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    q, k, v = operands(attention, dtype, 33)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.4
    mask[0] = False
    mask[1, ..., -3:] = True
    if len(shape) == 4 and shape[2] == N:
        mask[1, :, 5] = False
    mask = mask.to(q.device)
    out = attention(q, k, v, mask=mask)
    assert_close(out, q, k, v, mask)
    assert (out[0] == 0).all()


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (3, 80), (80, 1), (65, 33)])
def test_cross_lengths(attention: Attention, queries: int, keys: int) -> None:
    q, k, v = operands(attention, torch.float32, 24, queries, keys)
    assert_close(attention(q, k, v), q, k, v)


def test_no_keys_give_zeros_and_no_queries_give_nothing(attention: Attention) -> None:
    q, k, v = operands(attention, torch.float32, 16)
    assert (attention(q, k[:, :, :0], v[:, :, :0]) == 0).all()
    assert attention(q[:, :, :0], k, v).shape == (B, HEADS, 0, 16)


def test_any_strides(attention: Attention) -> None:
    q, k, v = operands(attention, torch.float32, 16)
    # head_dim outermost, keys backwards in steps of two, one value vector for all keys, a mask read across
    q = q.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)
    k = k.repeat_interleave(2, 2)[:, :, ::2]
    v = v[:, :, :1].expand(-1, -1, L, -1)
    mask = (torch.rand(B, 1, L, N, generator=torch.Generator().manual_seed(1)) < 0.5).to(q.device).transpose(2, 3)
    assert_close(attention(q, k, v, mask=mask), q, k, v, mask)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_large_scores_stay_finite(attention: Attention, dtype: torch.dtype) -> None:
    q, k, v = operands(attention, dtype, 16)
    # scores of several hundred: exp would overflow in every dtype; the largest score takes nearly all the weight
    out = attention(q * 30, k * 30, v)
    expected, _ = truth(q * 30, k * 30, v)
    # a score near 4000 has a float32 error of 4000 * eps, which becomes a relative error of the weight
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=4 * torch.finfo(dtype).eps + 4e-3)


def test_gradients_or_a_refusal(attention: Attention) -> None:
    q, k, v = (tensor.requires_grad_() for tensor in operands(attention, torch.float32, 5, 4, 3))
    mask = torch.tensor([[True, False, True], [False, False, False]], device=q.device)
    if not attention.support.backward:
        with pytest.raises(ValueError, match=r"no backward .*no_grad.*use attention=sdpa"):
            attention(q, k, v)
        with torch.no_grad():
            assert_close(attention(q, k, v), q, k, v)
        return
    full = mask[:, None, None, :].repeat(1, 1, 4, 1)
    full[0, :, 2] = False
    exact = "float64" in attention.support.dtypes
    q, k, v = (tensor.detach().to(torch.float64 if exact else torch.float32).requires_grad_() for tensor in (q, k, v))
    for given in (None, mask, full):
        run = functools.partial(attention, mask=given)
        if exact:
            # fast: the Jacobian against finite differences along random directions, not entry by entry
            assert torch.autograd.gradcheck(run, (q, k, v), fast_mode=True)
            continue
        wanted = torch.autograd.grad(ATTENTION.build("reference")(q, k, v, mask=given).square().sum(), (q, k, v))
        torch.testing.assert_close(torch.autograd.grad(run(q, k, v).square().sum(), (q, k, v)), wanted)


def test_autocast_is_one_dtype_for_all_kernels(attention: Attention) -> None:
    # what a block sees under autocast: normalised queries and keys in float32, values in bfloat16
    q, k, v = operands(attention, torch.bfloat16, 16)
    with torch.autocast(q.device.type, dtype=torch.bfloat16):
        out = attention(q.float(), k.float(), v)
    assert_close(out, q, k, v)


def test_refusals_name_value_and_remedy(attention: Attention) -> None:
    q, k, v = operands(attention, torch.float32, 16)
    with pytest.raises(ValueError, match=r"bool, True = attend, not float32: pass mask.bool\(\)"):
        attention(q, k, v, mask=torch.ones(B, L, device=q.device))
    with pytest.raises(ValueError, match=r"shape \(2, 19\) does not fit: give \(B, L\) = \(2, 27\)"):
        attention(q, k, v, mask=torch.ones(B, N, dtype=torch.bool, device=q.device))
    with pytest.raises(ValueError, match=r"does not fit"):
        attention(q, k, v, mask=torch.ones(1, 1, N, L, dtype=torch.bool, device=q.device))
    with pytest.raises(ValueError, match=r"q float32, k float16, v float32; cast"):
        attention(q, k.half(), v)
    with pytest.raises(ValueError, match=r"q is \(B, heads, N, head_dim\).*\(2, 3, 27, 8\)"):
        attention(q, k, v[..., :8])
    with pytest.raises(ValueError, match=r"four axes"):
        attention(q[0], k[0], v[0])
    with pytest.raises(ValueError, match=r"takes .*float32.*, not int64: no attention kernel"):
        attention(q.long(), k.long(), v.long())


def test_takes_exactly_what_it_declares(attention: Attention) -> None:
    q, k, v = operands(attention, torch.float32, 300)
    if attention.support.max_head_dim is None:
        assert_close(attention(q, k, v), q, k, v)
    else:
        with pytest.raises(ValueError, match=r"head_dim up to 256, not 300: use attention=sdpa"):
            attention(q, k, v)
    if "float64" not in attention.support.dtypes:
        with pytest.raises(ValueError, match=r"not float64: use attention=sdpa"):
            attention(q[..., :16].double(), k[..., :16].double(), v[..., :16].double())
