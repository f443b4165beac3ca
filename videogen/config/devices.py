"""Where a command computes, and in which precision, from their names in a config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from videogen.config.schema import ConfigError

if TYPE_CHECKING:
    import torch


def find_device(name: str) -> torch.device:
    """The device of a name; "auto" is a graphics card if there is one, else the CPU.

    Raises:
        ConfigError: no such device on this machine.
    """
    import torch

    there = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if there else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device={name} is none: use auto, cpu or cuda, or cuda:1 for the second card") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device={name}: use auto, cpu or cuda")
    if device.type == "cuda" and not there:
        raise ConfigError(f"device={name}: torch sees no graphics card here, use device=cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device={name}: there are {torch.cuda.device_count()} cards, counted from 0")
    return device


def find_precision(name: str) -> torch.dtype:
    """The dtype that a setting `precision` names."""
    import torch

    dtype: torch.dtype = getattr(torch, name)
    return dtype
