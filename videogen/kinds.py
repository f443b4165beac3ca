"""The kinds of part, and the registry that holds each; nothing is imported until a kind is asked for."""

from __future__ import annotations

import importlib
from typing import Any

from videogen.registry import Registry, RegistryError, nearest

# kind (also its Hydra group) -> module:registry
KINDS = {
    "vae": "videogen.vae:VAES",
    "denoiser": "videogen.denoiser:DENOISERS",
    "dit/block": "videogen.dit.blocks:BLOCKS",
    "dit/position": "videogen.dit.positions:POSITIONS",
    "dit/time": "videogen.dit.times:TIMES",
    "dit/modulation": "videogen.dit.modulations:MODULATIONS",
    "dit/norm": "videogen.dit.norms:NORMS",
    "dit/qk_norm": "videogen.dit.qk_norms:QK_NORMS",
    "dit/mlp": "videogen.dit.mlps:MLPS",
    "dit/cross": "videogen.dit.crosses:CROSSES",
    "dit/caption": "videogen.dit.captions:CAPTIONS",
    "dit/pool": "videogen.dit.pools:POOLS",
    "dit/image_tokens": "videogen.dit.image_tokens:IMAGE_TOKENS",
    "dit/known": "videogen.dit.known:KNOWN",
    "scheduler": "videogen.schedulers:SCHEDULERS",
    "guide": "videogen.guidance:GUIDES",
    "task": "videogen.tasks:TASKS",
    "initial_noise": "videogen.initial_noise:INITIAL_NOISE",
    "attention": "videogen.kernels:ATTENTION",
    "fused": "videogen.kernels.fused:FUSED",
    "text": "videogen.text:TEXT_ENCODERS",
    "vision": "videogen.vision:VISION",
    "data": "videogen.data:DATASETS",
}


def registry(kind: str) -> Registry[Any]:
    """The registry of a kind; "dit/block", "dit.block" and "block" are the same kind.

    Raises:
        RegistryError: no such kind; the nearest is named.
    """
    wanted = kind.replace(".", "/")
    for name, target in KINDS.items():
        if wanted in (name, name.rsplit("/")[-1]):
            module, attribute = target.split(":")
            found: Registry[Any] = getattr(importlib.import_module(module), attribute)
            return found
    raise RegistryError(f"no kind of part is called {kind!r}: {nearest(kind, KINDS)}")
