"""What every attention kernel does before it runs: autocast, one form of mask, refusal with a reason."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from videogen.kernels import ATTENTION, Support
from videogen.registry import RegistryError

# devices on which torch's own operators run attention in every dtype below (float64 not on mps, torch says so itself)
TORCH_DEVICES = frozenset({"cpu", "cuda", "mps"})
TORCH_DTYPES = frozenset({"float16", "bfloat16", "float32", "float64"})


class Operands(NamedTuple):
    """Checked inputs: q (B, heads, N, head_dim), k and v (B, heads, L, head_dim), mask (B, 1 or heads, 1 or N, L)."""

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None


def check(name: str, support: Support, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Operands:
    """Refuse what the kernel `name` doesn't support, before it runs, and bring the rest into one form.

    Under autocast q, k and v take the autocast dtype, as in torch's own attention. A key mask (B, L) becomes
    (B, 1, 1, L); no mask is copied or expanded.

    Raises:
        ValueError: shapes that don't belong together, or inputs outside `support`; names a kernel that takes them.
    """
    q, k, v = (_autocast(tensor) for tensor in (q, k, v))
    _check_shapes(q, k, v)
    if mask is not None:
        mask = full_mask(mask, q, k)
    reason = refusal(support, q, k, v, mask)
    if reason is not None:
        raise ValueError(f"attention {name!r} {reason}: {_remedy(q, k, v, mask)}")
    return Operands(q, k, v, mask)


def refusal(support: Support, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> str | None:
    """Why `support` leaves these inputs out, or None when it takes them."""
    dtype, head_dim = _name(q.dtype), q.shape[-1]
    if q.device.type not in support.devices:
        return f"runs on {_list(support.devices)}, not on {q.device.type}"
    if dtype not in support.dtypes:
        return f"takes {_list(support.dtypes)}, not {dtype}"
    if support.max_head_dim is not None and head_dim > support.max_head_dim:
        return f"takes a head_dim up to {support.max_head_dim}, not {head_dim}"
    if mask is not None and not support.mask:
        return "takes no mask"
    if not support.backward and torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v)):
        return "has no backward and an input requires grad (wrap the call in torch.no_grad() if none is wanted)"
    return None


def full_mask(mask: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Check a mask and give it four axes: (B, L) or (B, 1 or heads, 1 or N, L) -> (B, 1 or heads, 1 or N, L).

    Raises:
        ValueError: not bool, on another device, or of a shape that doesn't fit q and k.
    """
    (batch, heads, queries, _), keys = q.shape, k.shape[2]
    if mask.dtype != torch.bool:
        raise ValueError(f"an attention mask is bool, True = attend, not {_name(mask.dtype)}: pass mask.bool()")
    if mask.device != q.device:
        raise ValueError(f"the mask is on {mask.device} and q on {q.device}: move the mask with mask.to({q.device})")
    if mask.shape == (batch, keys):
        return mask[:, None, None, :]
    fits = mask.ndim == 4 and mask.shape[0] == batch and mask.shape[3] == keys
    if not (fits and mask.shape[1] in (1, heads) and mask.shape[2] in (1, queries)):
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} does not fit: give (B, L) = {(batch, keys)} "
            f"or (B, 1 or heads, 1 or N, L) = ({batch}, 1 or {heads}, 1 or {queries}, {keys})"
        )
    return mask


def _check_shapes(q: Tensor, k: Tensor, v: Tensor) -> None:
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not q.ndim == k.ndim == v.ndim == 4:
        raise ValueError(f"attention takes four axes, (B, heads, N, head_dim): got {shapes}")
    if k.shape != v.shape or q.shape[:2] != k.shape[:2] or q.shape[3] != k.shape[3]:
        raise ValueError(
            f"q is (B, heads, N, head_dim) and k, v are (B, heads, L, head_dim), N and L free: got {shapes}"
        )
    if not q.dtype == k.dtype == v.dtype:
        dtypes = ", ".join(f"{label} {_name(t.dtype)}" for label, t in zip("qkv", (q, k, v), strict=True))
        raise ValueError(f"q, k and v need one dtype: got {dtypes}; cast them, e.g. q.to(v.dtype)")
    if not q.device == k.device == v.device:
        raise ValueError(f"q, k and v need one device: got q {q.device}, k {k.device}, v {v.device}")


def _autocast(tensor: Tensor) -> Tensor:
    # a norm leaves float32 under autocast while the value projection gives bfloat16; torch's own attention casts
    # both (and leaves float64 alone), so that swapping kernels changes the kernel and nothing else
    device = tensor.device.type
    if tensor.dtype == torch.float64 or not tensor.is_floating_point() or not torch.is_autocast_enabled(device):
        return tensor
    return tensor.to(torch.get_autocast_dtype(device))


def _remedy(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> str:
    # torch's own is always there; the float32 reference takes nearly everything, at the price of an (N, L) matrix
    for name in sorted(ATTENTION.names(), key=lambda name: (name != "sdpa", name == "reference")):
        try:
            candidate: Support = ATTENTION.get(name).support  # type: ignore[attr-defined]
        except (RegistryError, ImportError):
            continue
        if refusal(candidate, q, k, v, mask) is None:
            return f"use attention={name}"
    return "no attention kernel takes these inputs here"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _list(words: frozenset[str]) -> str:
    return ", ".join(sorted(words))
