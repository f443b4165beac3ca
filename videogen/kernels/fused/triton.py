"""The small operations of a block as Triton kernels: each reads its inputs once and writes its results once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from videogen.kernels.fused import FUSED, Activation, Turns
from videogen.kernels.fused._gated import gated
from videogen.kernels.fused._launch import DEVICES, DTYPES
from videogen.kernels.fused._qk_norm_rope import qk_norm_rope
from videogen.kernels.fused._qk_norm_rope_kernels import MOST_RUNS
from videogen.kernels.fused._reference import PlainOps
from videogen.kernels.fused._residual_norm import residual_norm


@FUSED.register("triton")
class TritonOps:
    """One Triton kernel for each operation, forward and backward, in float32 inside (float64 for float64).

    Under autocast the results have its type, as those of the linear layers around them. What a kernel doesn't take is
    refused; switch that operation off and it runs in plain torch.

    Args:
        qk_norm_rope: norms of queries and keys with their rotation; RMSNorm, LayerNorm or none, of one head or of all.
        residual_norm: gated residual with the norm, scale and shift of the next branch; RMSNorm or LayerNorm.
        gated: the gate of a gated MLP.
    """

    def __init__(self, *, qk_norm_rope: bool = True, residual_norm: bool = True, gated: bool = True) -> None:
        self.on = {"qk_norm_rope": qk_norm_rope, "residual_norm": residual_norm, "gated": gated}
        self.plain = PlainOps()

    def qk_norm_rope(
        self,
        q: Tensor,
        k: Tensor,
        norm_q: Callable[[Tensor], Tensor],
        norm_k: Callable[[Tensor], Tensor],
        rotary: Turns | None,
    ) -> tuple[Tensor, Tensor]:
        """(B, N, heads, head_dim) each -> the same, contiguous.

        Raises:
            ValueError: a device, type, head_dim, norm or table of turns that the kernel doesn't take.
        """
        if not self.on["qk_norm_rope"]:
            return self.plain.qk_norm_rope(q, k, norm_q, norm_k, rotary)
        _check("qk_norm_rope", q, k)
        norm, other = (_norm("qk_norm_rope", part) for part in (norm_q, norm_k))
        if norm.settings != other.settings:
            raise _refusal("qk_norm_rope", f"takes one norm for both, not {norm_q} and {norm_k}")
        if q.shape[-1] % 2:
            raise _refusal("qk_norm_rope", f"takes an even head_dim, not {q.shape[-1]}")
        cos, sin, runs = _turns(rotary)
        weights = norm.weight, other.weight, norm.bias, other.bias
        across = norm.width not in (None, q.shape[-1])
        out: tuple[Tensor, Tensor] = qk_norm_rope(
            *(_unit(q), _unit(k), *weights, cos, sin, list(runs), norm.kind, across, norm.eps)
        )
        return out

    def residual_norm(
        self, tokens: Tensor, out: Tensor, gate: Tensor | None, norm: nn.Module, shift: Tensor | None, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, N, D) -> tokens and what the next branch sees, each (B, N, D).

        Raises:
            ValueError: a device, type or norm that the kernel doesn't take.
        """
        if not self.on["residual_norm"]:
            return self.plain.residual_norm(tokens, out, gate, norm, shift, scale)
        _check("residual_norm", tokens, out, gate, shift, scale)
        kind = _norm("residual_norm", norm)
        if kind.kind == "none" or kind.width != tokens.shape[-1]:
            raise _refusal("residual_norm", f"takes LayerNorm and RMSNorm of {tokens.shape[-1]} channels, not {norm}")
        signals = [gate, shift, scale]
        if len({part.shape[1] for part in signals if part is not None}) > 1:
            signals = [None if part is None else part.expand(-1, tokens.shape[1], -1) for part in signals]
        gate, shift, scale = signals[0], signals[1], cast("Tensor", signals[2])
        dtype = torch.promote_types(tokens.dtype, out.dtype)
        # what a linear layer would round to by itself, if it weren't written so
        entered = _autocast_dtype(tokens) or torch.promote_types(dtype, scale.dtype)
        given = [None if part is None else _unit(part) for part in (tokens, out, gate, kind.weight, kind.bias)]
        signs = [None if part is None else _unit(part) for part in (shift, scale)]
        new, seen, _ = residual_norm(*given, *signs, kind.kind == "layer", kind.eps, dtype, entered)
        return new, seen

    def gated(self, packed: Tensor, activation: Activation) -> Tensor:
        """(…, 2 D) -> (…, D).

        Raises:
            ValueError: a device or type that the kernel doesn't take.
        """
        if not self.on["gated"]:
            return self.plain.gated(packed, activation)
        _check("gated", packed)
        rows: Tensor = gated(_unit(packed.flatten(0, -2)), activation)
        return rows.view(*packed.shape[:-1], rows.shape[-1])


class _Norm(NamedTuple):
    kind: str
    width: int | None
    eps: float
    weight: Tensor | None
    bias: Tensor | None

    @property
    def settings(self) -> tuple[Any, ...]:
        return self.kind, self.width, self.eps, self.weight is None, self.bias is None


def _norm(operation: str, module: Any) -> _Norm:
    if isinstance(module, nn.Identity):
        return _Norm("none", None, 0.0, None, None)
    if not isinstance(module, (nn.LayerNorm, nn.RMSNorm)) or len(module.normalized_shape) != 1:
        raise _refusal(operation, f"takes LayerNorm and RMSNorm, not {type(module).__name__}")
    kind, bias = ("layer", module.bias) if isinstance(module, nn.LayerNorm) else ("rms", None)
    eps = torch.finfo(torch.float32).eps if module.eps is None else module.eps
    return _Norm(kind, module.normalized_shape[0], eps, module.weight, bias)


def _turns(rotary: Turns | None) -> tuple[Tensor | None, Tensor | None, tuple[int, ...]]:
    if rotary is None:
        return None, None, (2,)
    if torch.is_grad_enabled() and (rotary.cos.requires_grad or rotary.sin.requires_grad):
        raise _refusal("qk_norm_rope", "has no gradient for turns that are learned")
    if len(rotary.runs) > MOST_RUNS:
        raise _refusal("qk_norm_rope", f"takes up to {MOST_RUNS} runs of channels, not {len(rotary.runs)}")
    return _unit(rotary.cos), _unit(rotary.sin), rotary.runs


def _check(operation: str, first: Tensor, *others: Tensor | None) -> None:
    """Refuse devices and types that no kernel takes; on the meta device there are shapes alone, which all take."""
    tensors = [first, *(part for part in others if part is not None)]
    devices = {part.device.type for part in tensors} - {"meta"}
    if devices - DEVICES:
        needs = "a CUDA device, or TRITON_INTERPRET=1 in the environment, set before Python starts (slow, for tests)"
        raise _refusal(operation, f"needs {needs}; the inputs are on {', '.join(sorted(devices))}")
    for part in tensors:
        if str(part.dtype).removeprefix("torch.") not in DTYPES:
            raise _refusal(operation, f"takes {', '.join(sorted(DTYPES))}, not {part.dtype}")


def _refusal(operation: str, reason: str) -> ValueError:
    return ValueError(f"fused=triton: {operation} {reason}: use fused=torch, or fused.{operation}=false")


def _unit(tensor: Tensor) -> Tensor:
    """The tensor with neighbouring channels in neighbouring places, as it nearly always is."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def _autocast_dtype(tensor: Tensor) -> torch.dtype | None:
    device = tensor.device.type
    if tensor.dtype == torch.float64 or device == "meta" or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)
