"""What a computation would take, found on the meta device, where tensors have shapes and no numbers."""

from __future__ import annotations

import copy
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Peak(TorchDispatchMode):
    """Counts the bytes of all tensors that are made inside the `with` block and alive at once.

    What an operator takes for itself while it runs (a copy in a faster layout, an im2col buffer) isn't seen.

    Attributes:
        bytes: the most so far.
        now: alive at this moment.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.now = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator, and count what it made."""
        # what came from outside, as weights do, isn't counted when an operator gives a view of it
        self._seen.update(leaf.untyped_storage() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        size = storage.nbytes()
        self.now += size
        self.bytes = max(self.bytes, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size


def on_meta(module: nn.Module) -> Any:
    """A copy with shapes in place of numbers; the weights aren't copied, so it costs nothing."""
    memo: dict[int, Any] = {}
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        hollow = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(hollow) if isinstance(tensor, nn.Parameter) else hollow
    return copy.deepcopy(module, memo).requires_grad_(False)


def receptive_field(run: Callable[[], Any], module: nn.Module, width: int) -> float:
    """How far a value looks to each side through convolutions, at most, in units of the input's positions.

    Each convolution adds half of its kernel's width at its own resolution; branches are counted as if they followed
    one another, so this is an upper bound. Norms and attention over a whole frame aren't counted.

    Args:
        run: calls the module once, on an input `width` positions wide.
        module: whose convolutions are counted, on the meta device or not.
        width: of that input.
    """
    reach = 0.0

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal reach
        assert isinstance(layer, CONVOLUTIONS)
        reach += (layer.kernel_size[-1] - 1) / 2 * layer.dilation[-1] * width / inputs[0].shape[-1]

    handles = [layer.register_forward_hook(hook) for layer in module.modules() if isinstance(layer, CONVOLUTIONS)]
    try:
        # without a gradient, layers would work around their convolutions
        with torch.enable_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return reach
