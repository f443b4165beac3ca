"""The small operations of a block in plain torch, the default: compilers fuse some of them by themselves."""

from __future__ import annotations

from videogen.kernels.fused import FUSED
from videogen.kernels.fused._reference import PlainOps


@FUSED.register("torch")
class TorchOps(PlainOps):
    """An operation of torch's after the other: any device, any dtype, any norm."""
