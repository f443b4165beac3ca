"""The Triton kernel: its results in the interpreter, its refusals without one, and the tiles that it chooses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from attention_truth import assert_close, device_of, operands
from interpreter import run_interpreted

from videogen.kernels import ATTENTION

triton_kernel = pytest.importorskip("videogen.kernels.triton")

from videogen.kernels._flash import Sides, tile_of  # noqa: E402
from videogen.kernels._flash_forward import FULL_MASK, KEY_MASK, NO_MASK  # noqa: E402
from videogen.kernels._flash_tiles import choose_tile, shared_bytes  # noqa: E402

# compute capability and shared memory of one block in bytes; the last is AMD's
CARDS = {"10.0": (100, 232_448), "9.0": (90, 232_448), "8.0": (80, 166_912), "8.6": (86, 101_376), "amd": (80, 65_536)}
PASSES = ("forward", "queries", "keys")

interpreted = triton_kernel.INTERPRETED
runs_here = pytest.mark.skipif(
    not (interpreted or torch.cuda.is_available()), reason="test_contract_in_the_interpreter runs this one"
)


@pytest.mark.skipif(interpreted, reason="already in the interpreter")
def test_contract_in_the_interpreter() -> None:
    run_interpreted("-k", "triton", str(Path(__file__).with_name("test_attention_contract.py")), __file__)


@pytest.mark.skipif(interpreted, reason="the interpreter takes CPU tensors")
def test_refuses_the_cpu_without_the_interpreter() -> None:
    q = torch.zeros(1, 1, 4, 16)
    with pytest.raises(ValueError, match=r"needs a CUDA device, or TRITON_INTERPRET=1 .* on cpu: use attention=sdpa"):
        ATTENTION.build("triton")(q, q, q)


@runs_here
@pytest.mark.parametrize(("block_m", "block_n"), [(16, 16), (32, 16), (16, 32)])
def test_many_tiles_with_triton_knobs(block_m: int, block_n: int) -> None:
    attention = ATTENTION.build("triton", block_m=block_m, block_n=block_n)
    q, k, v = operands(attention, torch.float32, 33, 37, 51)
    mask = (torch.rand(2, 1, 37, 51, generator=torch.Generator().manual_seed(0)) < 0.5).to(device_of(attention))
    # rows 3 and 4 meet their first key in the last tile and in none: the running maximum starts from -inf again
    mask[:, :, 3, :49] = False
    mask[:, :, 4] = False
    for given in (None, mask, mask[:, 0, 0]):
        assert_close(attention(q, k, v, mask=given), q, k, v, given)


def test_triton_knobs_are_checked() -> None:
    with pytest.raises(ValueError, match=r"block_m=48 is not a power of two from 16"):
        ATTENTION.build("triton", block_m=48)
    with pytest.raises(ValueError, match=r"block_n=8 .* try 16"):
        ATTENTION.build("triton", block_n=8)
    with pytest.raises(ValueError, match=r"num_stages=0"):
        ATTENTION.build("triton", num_stages=0)


@pytest.mark.parametrize("kernel", PASSES)
@pytest.mark.parametrize("card", CARDS)
def test_every_head_dim_has_a_tile_that_fits(card: str, kernel: str) -> None:
    capability, shared = CARDS[card]
    for width in (16, 32, 64, 128, 256):
        for mask_kind in (NO_MASK, KEY_MASK, FULL_MASK):
            for itemsize in (2, 4):
                tile = choose_tile(kernel, width, itemsize, mask_kind, capability=capability, shared=shared)
                assert shared_bytes(kernel, tile, width, itemsize, mask_kind) <= shared
                assert min(tile.block_m, tile.block_n) >= 16


def test_a_card_too_small_for_any_tile_is_refused() -> None:
    with pytest.raises(ValueError, match=r"head_dim 256 fits 4096 bytes .* use attention=sdpa"):
        choose_tile("forward", 256, 4, NO_MASK, capability=80, shared=4096)


def test_short_sequences_get_small_tiles() -> None:
    def tile(keys: int) -> tuple[int, int]:
        q, k = torch.empty(1, 1, 17, 1, 1, 64, device="meta"), torch.empty(1, 1, keys, 1, 1, 64, device="meta")
        return tile_of("forward", Sides(q, k, k, None, None, None, 0, 0))[0][:2]

    assert tile(77) == (32, min(128, tile(999)[1]))
