"""Kernels compiled for cards that aren't here: what each takes of a card, and whether it uses its matrix units."""

# triton has no types for Python
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from videogen.kernels import _block_sparse, _flash_descriptors, _flash_shipped
from videogen.kernels._triton import SHARED
from videogen.kernels._variants import Variant
from videogen.kernels.fused import _gated_kernels, _qk_norm_rope_kernels, _residual_norm_kernels

#: every module that declares what it ships
MODULES = (
    _flash_shipped,
    _flash_descriptors,
    _block_sparse,
    _qk_norm_rope_kernels,
    _residual_norm_kernels,
    _gated_kernels,
)


class Card(NamedTuple):
    """A kind of card.

    Args:
        name: of the architecture.
        capability: what `shipped` is asked for.
        shared: memory of one program in bytes.
        products: matrix instructions, the best first.
    """

    name: str
    capability: int
    shared: int
    products: tuple[str, ...]


#: a kernel whose product can't feed a card's newest unit uses the one before it, which all NVIDIA cards have
CARDS = (
    Card("sm_80", 80, SHARED[80], ("mma.sync",)),
    Card("sm_90", 90, SHARED[90], ("wgmma.mma_async", "mma.sync")),
    Card("sm_100", 100, SHARED[100], ("tcgen05.mma", "mma.sync")),
)
#: MI300; the tiles of sm_80 stand in for its own, which haven't been chosen
AMD = Card("gfx942", 80, 65_536, ("v_mfma",))


class Report(NamedTuple):
    """What a compiled kernel takes.

    Args:
        card: that it was compiled for.
        title: of the variant.
        warps: of a program.
        stages: steps of a loop whose loads are in flight.
        registers: of a thread.
        spilled: bytes of registers that were put away into memory and loaded back, stores and loads.
        shared: memory of a program in bytes.
        product: the matrix instruction that it uses and how often it stands there; None of a kernel without products.
        wide: it has loads of 16 bytes.
    """

    card: str
    title: str
    warps: int
    stages: int
    registers: int
    spilled: int
    shared: int
    product: tuple[str, int] | None
    wide: bool


def variants(card: Card) -> list[Variant]:
    """All that ships for a kind of card."""
    return [variant for module in MODULES for variant in module.shipped(card.capability)]


def spills_anyway(variant: Variant) -> bool:
    """Whether no tile of a variant is without spills: float32 products of attention above a head_dim of 64.

    They use no matrix unit at full precision, and hold a row of each operand in the registers of a thread.
    """
    return " fp32 " in variant.title and variant.constants.get("D", 0) > 64 and "HEAD_DIM" in variant.constants


def report(variant: Variant, card: Card) -> Report:
    """Compile a variant for a card.

    Raises:
        RuntimeError: no assembler that came with triton takes the kernel.
        AssertionError: a kernel with products that uses no matrix unit.
    """
    compiled = _compiled(variant, card)
    if card is AMD:
        text, found = compiled.asm["amdgcn"], _of_amd(compiled.asm["amdgcn"])
    else:
        text, found = compiled.asm["ptx"], _of_nvidia(compiled.asm["ptx"])
    registers, spilled = found
    counts = [(name, text.count(name)) for name in card.products]
    product = next(((name, count) for name, count in counts if count), None)
    assert product is not None or not _has_products(compiled), f"{variant.title} uses no matrix unit of {card.name}"
    # 16 bytes at once, into registers or straight into shared memory
    wide = re.search(r"ld\.global\S*\.v4\.b32|ld\.global\S*\.v8|cp\.async\.c[ag]\S* \[[^\]]+\], \[[^\]]+\], 0x10", text)
    wide = wide or re.search(r"cp\.async\.bulk\.tensor", text)
    wide = wide or re.search(r"(global|buffer)_load_dwordx4", text)
    shape = variant.num_warps, variant.num_stages
    return Report(
        card.name, variant.title, *shape, registers, spilled, compiled.metadata.shared, product, wide is not None
    )


def _compiled(variant: Variant, card: Card) -> Any:
    names = variant.kernel.arg_names
    source = ASTSource(
        fn=variant.kernel,
        signature=variant.types | dict.fromkeys(variant.constants, "constexpr"),
        constexprs=variant.constants,
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in variant.aligned},
    )
    target = GPUTarget("hip", card.name, 64) if card is AMD else GPUTarget("cuda", card.capability, 32)
    return triton.compile(
        source, target=target, options={"num_warps": variant.num_warps, "num_stages": variant.num_stages}
    )


def _has_products(compiled: Any) -> bool:
    """Whether there are products of 16-bit numbers, which is what matrix units are asked for."""
    return re.search(r"tt\.dot .*x(b?f16)", compiled.asm["ttir"]) is not None


def _of_nvidia(ptx: str) -> tuple[int, int]:
    """Registers and bytes spilled, by the assembler that came with triton."""
    architecture = re.search(r"\.target\s+(sm_\w+)", ptx)
    assert architecture is not None
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    said = []
    for tool in sorted(tools.glob("ptxas*")):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "kernel.ptx"
            source.write_text(ptx, encoding="utf-8")
            command = [str(tool), "-v", f"--gpu-name={architecture[1]}", str(source), "-o", f"{folder}/kernel.cubin"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
        used = re.search(r"Used (\d+) registers", done.stderr)
        if done.returncode == 0 and spilled and used:
            return int(used[1]), int(spilled[1]) + int(spilled[2])
        said.append(f"{tool.name}: {done.stderr.strip().splitlines()[:1]}")
    raise RuntimeError(f"no assembler takes a kernel for {architecture[1]}: {'; '.join(said)}")


def _of_amd(assembly: str) -> tuple[int, int]:
    """Vector registers, and 4 bytes for each spill of one."""
    counts = {name: re.search(rf"\.{name}:\s+(\d+)", assembly) for name in ("vgpr_count", "vgpr_spill_count")}
    registers, spills = (int(found[1]) if found else -1 for found in counts.values())
    return registers, 4 * spills
