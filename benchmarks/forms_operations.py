"""Forms of the fused operations, forward and backward, for `benchmarks/sweeps.py`."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import fused_ops
import torch
from forms_attention import DEVICE, Form, Sweep
from torch import Tensor

from videogen.kernels.fused import FUSED, _gated, _qk_norm_rope, _residual_norm


@contextlib.contextmanager
def constants(module: ModuleType, **values: Any) -> Iterator[None]:
    """Other constants of a launcher, which looks them up when it launches."""
    before = {name: getattr(module, name) for name in values}
    try:
        vars(module).update(values)
        yield
    finally:
        vars(module).update(before)


def knobs(operation: str, backward: bool) -> tuple[ModuleType, dict[str, dict[str, Any]]]:
    """The launcher of an operation, and its constants by the name of a form."""
    if operation in ("qk_norm_rope", "residual_norm"):
        module = _qk_norm_rope if operation == "qk_norm_rope" else _residual_norm
        named = {
            f"{n} warps": {"warps_of": lambda *_, n=n: n} for n in ((2, 4, 8, 16) if backward else (1, 2, 4, 8, 16))
        }
        if not backward:
            return module, named
        most = torch.cuda.get_device_properties(0).multi_processor_count if DEVICE == "cuda" else 1
        every = {f"{n} programs": {"programs": lambda _, rows, n=n: min(rows, n * most)} for n in (2, 4, 8, 16)}
        if operation == "residual_norm":
            stages = {f"{n} stages": {"stages_of": lambda *_, n=n: n} for n in (1, 2, 3)}
            every = {f"{a} {b}": every[a] | stages[b] for a, b in itertools.product(every, stages)}
        pairs = itertools.product(named.items(), every.items())
        return module, {f"{a} {b}": one | other for (a, one), (b, other) in pairs}
    pairs = itertools.product((512, 1024, 2048, 4096), (2, 4, 8))
    return _gated, {f"{size} {n} warps": {"BLOCK": size, "WARPS": n} for size, n in pairs if 4 <= size / (32 * n) <= 16}


OPERATIONS, TOKENS = ("qk_norm_rope", "residual_norm", "geglu"), ("osp-1.3", "wan-1.3b")


def operations(shape: str, operation: str, backward: bool) -> Sweep:
    """A small operation, or its gradient with the sums behind it."""
    case = fused_ops.cases(fused_ops.SHAPES[shape], torch.bfloat16, DEVICE)[operation]
    ops, moved = FUSED.build("triton"), case.moved_back if backward else case.moved
    leaves = [x.detach().requires_grad_(backward) for x in case.inputs]
    outs = case.call(ops, leaves) if backward else []
    upstream = [torch.randn_like(out) for out in outs]

    def run(**values: Any) -> Sequence[Tensor]:
        with constants(module, **values):
            if not backward:
                with torch.no_grad():
                    return case.call(ops, leaves)
            return torch.autograd.grad(outs, leaves, upstream, retain_graph=True)

    module, named = knobs(operation, backward)
    forms: dict[str, Form] = {"ships": run}
    forms |= {name: functools.partial(run, **values) for name, values in named.items()}
    own = fused_ops.SHAPES[shape]
    size = own.batch * own.tokens * own.heads * own.head_dim * 2
    return Sweep(forms, 1e-9 * moved * size, "GB/s")


def of_operations() -> Iterator[tuple[str, str, Callable[[], Sweep]]]:
    for shape, operation, backward in itertools.product(TOKENS, OPERATIONS, (False, True)):
        name = f"{operation} {'backward' if backward else 'forward'}"
        yield name, shape, functools.partial(operations, shape, operation, backward)
