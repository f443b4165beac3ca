"""The Triton kernel compiled for cards that are not here: matrix instructions used, shared memory, no spills."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton")
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from videogen.kernels.triton import (  # noqa: E402
    FULL_MASK,
    INTERPRETED,
    KEY_MASK,
    NO_MASK,
    Tile,
    choose_tile,
    flash_forward,
    shared_bytes,
)

pytestmark = pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")

# compute capability: shared memory of one block in bytes, matrix instruction
CARDS = {80: (166_912, "mma.sync"), 90: (232_448, "wgmma.mma_async")}


def compiled(capability: int, dtype: str, head_dim: int, mask_kind: int, tile: Tile) -> Any:
    """What the launcher would compile for contiguous head_dim, aligned pointers and strides of 16 elements."""
    names = flash_forward.arg_names
    constants = dict.fromkeys(("s_qd", "s_kd", "s_vd", "s_od"), 1)
    constants |= {"HEAD_DIM": head_dim, "D": head_dim, "BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n}
    constants |= {"MASK": mask_kind, "UPCAST": False, "s_ml": 1}
    types = dict.fromkeys(names, "i32") | dict.fromkeys(constants, "constexpr")
    types |= {"p_mask": "*u8", "scale_log2": "fp32"} | dict.fromkeys(("p_q", "p_k", "p_v", "p_o"), f"*{dtype}")
    aligned = [name for name in names if name.startswith(("p_", "s_q", "s_k", "s_v", "s_o")) and name not in constants]
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(fn=flash_forward, signature=types, constexprs=constants, attrs=attributes)
    options = {"num_warps": tile.num_warps, "num_stages": tile.num_stages}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def spilled_bytes(ptx: str, folder: Path) -> int | None:
    """Stores and loads of spilled registers by the ptxas that comes with triton; None when it doesn't know the card."""
    (folder / "kernel.ptx").write_text(ptx)
    architecture = re.search(r"\.target\s+(sm_\w+)", ptx)
    assert architecture is not None
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    for tool in (tools / "ptxas", tools / "ptxas-blackwell"):
        if not tool.exists():
            continue
        command = [tool, "-v", f"--gpu-name={architecture[1]}", folder / "kernel.ptx", "-o", folder / "kernel.cubin"]
        report = subprocess.run(command, capture_output=True, text=True, check=False).stderr
        found = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
        if found:
            return int(found[1]) + int(found[2])
    return None


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("capability", CARDS)
def test_compiles_to_matrix_instructions_without_spills(
    capability: int, dtype: str, head_dim: int, tmp_path: Path
) -> None:
    check_resources(capability, dtype, head_dim, NO_MASK, tmp_path)


@pytest.mark.parametrize("mask_kind", [KEY_MASK, FULL_MASK])
@pytest.mark.parametrize("capability", CARDS)
def test_masks_compile_without_spills(capability: int, mask_kind: int, tmp_path: Path) -> None:
    check_resources(capability, "bf16", 64, mask_kind, tmp_path)


def check_resources(capability: int, dtype: str, head_dim: int, mask_kind: int, folder: Path) -> None:
    shared, instruction = CARDS[capability]
    tile = choose_tile(head_dim, 2, mask_kind, hopper=capability == 90, shared=shared)
    kernel = compiled(capability, dtype, head_dim, mask_kind, tile)
    ptx = kernel.asm["ptx"]
    assert instruction in ptx
    # keys and values arrive in copies of 16 bytes, or the strides were not seen to be aligned
    assert re.search(r"cp\.async\.\w+\.shared\.global \[[^\]]+\], \[[^\]]+\], 0x10", ptx)
    # the bound that chooses the tile is a bound
    assert kernel.metadata.shared <= shared_bytes(tile, head_dim, 2, mask_kind) <= shared
    spilled = spilled_bytes(ptx, folder)
    assert spilled in (0, None), f"{tile} spills {spilled} bytes: choose a smaller tile"
