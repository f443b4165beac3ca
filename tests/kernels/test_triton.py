"""The Triton kernel: its results in the interpreter, its refusals without one, and the tiles that it chooses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from attention_truth import assert_close, device_of, operands

from videogen.kernels import ATTENTION

triton_kernel = pytest.importorskip("videogen.kernels.triton")

FOLDER = Path(__file__).parent
# shared memory of one block in bytes: compute capability 9.0, 8.0, 8.6 and AMD's
CARDS = {"9.0": (True, 232_448), "8.0": (False, 166_912), "8.6": (False, 101_376), "amd": (False, 65_536)}

interpreted = triton_kernel.INTERPRETED
runs_here = pytest.mark.skipif(
    not (interpreted or torch.cuda.is_available()), reason="test_contract_in_the_interpreter runs this one"
)


@pytest.mark.skipif(interpreted, reason="already in the interpreter")
def test_contract_in_the_interpreter() -> None:
    # triton reads the variable when a kernel is decorated, so the interpreter needs a process of its own
    options = ["-p", "no:cacheprovider", "-k", "triton"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, FOLDER / "test_attention_contract.py", __file__],
        cwd=FOLDER.parent.parent,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    assert " passed" in result.stdout


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


@pytest.mark.parametrize("mask_kind", [triton_kernel.NO_MASK, triton_kernel.KEY_MASK, triton_kernel.FULL_MASK])
@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("card", CARDS)
def test_every_head_dim_has_a_tile_that_fits(card: str, itemsize: int, mask_kind: int) -> None:
    hopper, shared = CARDS[card]
    for width in (16, 32, 64, 128, 256):
        tile = triton_kernel.choose_tile(width, itemsize, mask_kind, hopper=hopper, shared=shared)
        assert triton_kernel.shared_bytes(tile, width, itemsize, mask_kind) <= shared
        assert min(tile.block_m, tile.block_n) >= 16


def test_a_card_too_small_for_any_tile_is_refused() -> None:
    with pytest.raises(ValueError, match=r"head_dim 256 fits 4096 bytes .* use attention=sdpa"):
        triton_kernel.choose_tile(256, 4, triton_kernel.NO_MASK, hopper=False, shared=4096)


@runs_here
def test_short_sequences_get_small_tiles() -> None:
    attention = ATTENTION.build("triton")
    q = torch.zeros(1, 1, 17, 64, device=device_of(attention))
    assert attention.tile(q, 77, triton_kernel.NO_MASK)[:2] == (32, min(128, attention.tile(q, 999, 0).block_n))
