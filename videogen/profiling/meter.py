"""Floating-point operations, counted on the meta device, where tensors have shapes and no numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

META = torch.device("meta")
PRODUCTS = (torch.ops.aten.bmm, torch.ops.aten.baddbmm)
#: layers whose one operand is a weight, also where torch computes them as a batch of products
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Meter:
    """Counts the operations of one module inside the `with` block, a multiply-add as two, and allocates nothing.

    Products and convolutions are counted, as is the custom of the field; norms, activations and sums aren't. Attention
    counts every pair of a query and a key, masked or not, and takes memory as a fused kernel does. What a module would
    make on the host has shapes alone here, and the numbers that it reads are ones.

    Args:
        module: on the meta device; its gradients aren't counted.
        group: the name to count under, from the dotted path of the submodule at work.
        scores: the name to count products of activations under; None is that of the submodule.

    Attributes:
        flops: name -> operations so far.
    """

    def __init__(self, module: nn.Module, group: Callable[[str], str], scores: str | None = None) -> None:
        self.flops: Counter[str] = Counter()
        self._names = {child: name for name, child in module.named_modules()}
        self._group, self._scores = group, scores
        self._stack: list[nn.Module] = [module]
        self._exit = ExitStack()

    def __enter__(self) -> Meter:
        """Start to count."""
        handles = (register_module_forward_pre_hook(self._enter), register_module_forward_hook(self._leave))
        for handle in handles:
            self._exit.callback(handle.remove)
        for context in (torch.no_grad(), torch.device("meta"), _Functions(self._attention), _Operators(self._operator)):
            self._exit.enter_context(context)
        return self

    def __exit__(self, *error: object) -> None:
        """Stop."""
        self._exit.close()

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self._stack.append(module)

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._stack.pop()

    def _operator(self, operator: Any, flops: int) -> None:
        weighted = operator not in PRODUCTS or isinstance(self._stack[-1], WEIGHTED)
        self._count(flops, self._scores is None or weighted)

    def _attention(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        pairs = q[..., 0].numel() * k.shape[-2]
        self._count(2 * pairs * (q.shape[-1] + v.shape[-1]), self._scores is None)

    def _count(self, flops: int, of_module: bool) -> None:
        # a module that isn't one of ours (made on the fly) belongs to the one that called it
        name = next((self._names[module] for module in reversed(self._stack) if module in self._names), "")
        self.flops[self._group(name) if of_module else self._scores or ""] += flops


class _Operators(TorchDispatchMode):
    """Runs all operators on the meta device and counts those that there is a formula for."""

    def __init__(self, count: Callable[[Any, int], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = count

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if given.get("device") is not None:
            given["device"] = META
        # a generator belongs to a device that there are numbers on
        if given.get("generator") is not None:
            given["generator"] = None
        args, given = tree_map_only(Tensor, _hollow, (args, given))
        out = func(*args, **given)
        operator = func.overloadpacket
        if (formula := flop_registry.get(operator)) is not None:
            self.count(operator, formula(*args, **given, out_val=out))
        return out


class _Functions(TorchFunctionMode):
    """Stands in for torch's own attention, which on the meta device would be two products and a matrix between them,
    and for the numbers that a module reads."""

    def __init__(self, count: Callable[[Tensor, Tensor, Tensor], None]) -> None:
        super().__init__()
        self.count = count

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func in READERS:
            return READERS[func](args[0].shape)
        if func is not F.scaled_dot_product_attention:
            return func(*args, **given)
        q, k, v = (given[name] if name in given else args[i] for i, name in enumerate(("query", "key", "value")))
        self.count(q, k, v)
        return q.new_empty(*q.shape[:-1], v.shape[-1])


#: how a module reads numbers out of a tensor
READERS: dict[Any, Callable[[Sequence[int]], Any]] = {
    Tensor.tolist: lambda shape: _ones(shape),
    Tensor.item: lambda shape: 1.0,
    Tensor.__bool__: lambda shape: True,
    Tensor.__float__: lambda shape: 1.0,
    Tensor.__int__: lambda shape: 1,
}


def _ones(shape: Sequence[int]) -> Any:
    """Lists of that shape."""
    return [_ones(shape[1:])] * shape[0] if shape else 1.0


def _hollow(tensor: Tensor) -> Tensor:
    return tensor if tensor.device == META else torch.empty_like(tensor, device=META)
