"""What a Triton kernel ships as: the forms in which it is compiled, declared so that no card is needed."""

from __future__ import annotations

from typing import Any, NamedTuple


class Variant(NamedTuple):
    """One compiled form of a kernel, as its launcher asks for it on a card of one compute capability.

    A module with a kernel declares `shipped(capability: int) -> list[Variant]`; see docs/kernels.md.

    Args:
        title: of its row in a table, e.g. "flash_forward bf16 D=128 key mask".
        kernel: the function under `triton.jit`.
        types: argument -> Triton's name of its type, e.g. "*bf16", "i32"; of every argument that is no constant.
        constants: argument -> value, of constexpr arguments and of those that are 1 and so compiled in.
        aligned: arguments, pointers and strides, that are multiples of 16.
        num_warps: of one program.
        num_stages: steps of a loop whose loads are in flight.
    """

    title: str
    kernel: Any
    types: dict[str, str]
    constants: dict[str, Any]
    aligned: tuple[str, ...]
    num_warps: int
    num_stages: int
