"""The FlashAttention kernels compiled for cards that are not here: instructions, shared memory, spills, grid axes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton")
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from videogen.kernels._ahead_of_time import spills_anyway  # noqa: E402
from videogen.kernels._flash_shipped import shipped  # noqa: E402
from videogen.kernels._triton import INTERPRETED, SHARED  # noqa: E402
from videogen.kernels._variants import Variant  # noqa: E402

pytestmark = pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")

# by compute capability; tcgen05 needs as many rows as a tensor core of that card has
INSTRUCTIONS = {80: ("mma.sync",), 90: ("wgmma.mma_async",), 100: ("tcgen05.mma", "mma.sync")}
QUICK = ("flash_forward bf16 64 dense", "flash_backward_queries bf16 64 dense", "flash_backward_keys bf16 64 dense")
CASES = [(capability, variant) for capability in SHARED for variant in shipped(capability)]


def marked(quick: bool) -> list[Any]:
    return [
        pytest.param(capability, variant, id=f"sm_{capability} {variant.title}")
        for capability, variant in CASES
        if (variant.title in QUICK) == quick
    ]


def compiled(capability: int, variant: Variant) -> Any:
    names = variant.kernel.arg_names
    source = ASTSource(
        fn=variant.kernel,
        signature={name: variant.types.get(name, "constexpr") for name in names},
        constexprs=variant.constants,
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in variant.aligned},
    )
    options = {"num_warps": variant.num_warps, "num_stages": variant.num_stages}
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


def check(capability: int, variant: Variant, folder: Path) -> None:
    kernel = compiled(capability, variant)
    ptx = kernel.asm["ptx"]
    # Hopper's products are of 64 rows by four warps, smaller ones are Ampere's; float32 at full precision is neither
    rows = max(variant.constants["BLOCK_M"], variant.constants["BLOCK_N"])
    products = INSTRUCTIONS[capability] if variant.num_warps >= 4 and rows >= 64 else INSTRUCTIONS[80]
    assert variant.types["p_q"] == "*fp32" or any(instruction in ptx for instruction in products)
    # tiles arrive in copies of 16 bytes, or the strides were not seen to be aligned
    assert re.search(r"cp\.async\.\w+\.shared\.global \[[^\]]+\], \[[^\]]+\], 0x10|ld\.global\.(\w+\.)*v4\.b32", ptx)
    # CUDA's second and third grid axes end at 65535
    assert "get_program_id x" in kernel.asm["ttir"]
    assert not re.search(r"get_program_id [yz]", kernel.asm["ttir"])
    assert kernel.metadata.shared <= SHARED[capability]
    spilled = spilled_bytes(ptx, folder)
    if not spills_anyway(variant):
        assert spilled in (0, None), f"{spilled} bytes are spilled: choose a smaller tile"


@pytest.mark.parametrize(("capability", "variant"), marked(quick=True))
def test_what_ships_compiles(capability: int, variant: Variant, tmp_path: Path) -> None:
    check(capability, variant, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "variant"), marked(quick=False))
def test_all_that_ships_compiles(capability: int, variant: Variant, tmp_path: Path) -> None:
    check(capability, variant, tmp_path)
