"""Which parts of a DiT go together: parts declare it, and a model asks before it allocates anything.

A part says so in class attributes, and one that says nothing goes with everything:

    goes_with   kind of part -> the names that it goes with, e.g. {"modulation": {"adaln_zero"}}
    needs_mask  True where it works by masks, so that the attention kernel must take them
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from videogen.kernels import Attention
from videogen.registry import Registry


def refusal(
    registries: Mapping[str, Registry[Any]], names: Mapping[str, str], attention: Attention, head_dim: int
) -> str | None:
    """Why parts can't be one model, with the remedy, or None if they can.

    Args:
        registries: kind -> registry.
        names: kind -> the name of its part.
        attention: the kernel.
        head_dim: channels of a head.
    """
    for kind, name in names.items():
        part = registries[kind].get(name)
        for other, allowed in getattr(part, "goes_with", {}).items():
            if other in names and names[other] not in allowed:
                fitting = " or ".join(f"dit.{other}={choice}" for choice in sorted(allowed))
                return f"dit.{kind}={name} doesn't go with dit.{other}={names[other]}: use {fitting}"
        if getattr(part, "needs_mask", False) and not attention.support.mask:
            return f"dit.{kind}={name} works by masks and {_name(attention)} takes none: use attention=sdpa"
    most = attention.support.max_head_dim
    if most is not None and head_dim > most:
        return f"{_name(attention)} takes a head_dim up to {most}, not {head_dim}: use attention=sdpa, or more heads"
    return None


def _name(attention: Attention) -> str:
    # what stands in for a kernel on the meta device says for which
    return f"the kernel {type(getattr(attention, 'kernel', attention)).__name__}"
