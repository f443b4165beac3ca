"""How much memory there is, and whether a model's weights fit into it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from videogen.profiling.units import size

#: control groups, version 2 and 1: folder, limit, what is in use, and what of that are files the system can drop
GROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available(device: torch.device | None = None) -> int | None:
    """Bytes that can still be allocated on a device, the default one if None; None where the system doesn't tell."""
    device = device or torch.get_default_device()
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    told = [found for found in (_of_system(), *map(_of_group, GROUPS)) if found is not None]
    return min(told, default=None)


def weight_bytes(module: Any) -> int:
    """Bytes of a module's parameters and buffers; 0 of what is no module."""
    if not isinstance(module, nn.Module):
        return 0
    return sum(value.numel() * value.element_size() for value in itertools.chain(module.parameters(), module.buffers()))


def check_fits(
    needed: Mapping[str, int],
    remedy: str = "choose a smaller model, or a machine with more",
    device: torch.device | None = None,
) -> None:
    """Refuse what is larger than the memory, before it is allocated.

    Args:
        needed: what of -> bytes.
        remedy: what to do about it.
        device: whose memory; the default one's if None.

    Raises:
        ValueError: what it takes and what there is.
    """
    free, total = available(device), sum(needed.values())
    if free is None or total <= free:
        return
    shares = ", ".join(f"{name} {size(share)}" for name, share in needed.items() if share)
    raise ValueError(f"the weights take {size(total)} ({shares}) and {size(free)} of memory are free: {remedy}")


def _of_system() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        # where nothing tells what is free, all that there is
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _of_group(group: tuple[Path, str, str, str]) -> int | None:
    """What the control group of a container leaves; None without a limit."""
    folder, limit, used, droppable = group
    try:
        most = (folder / limit).read_text(encoding="ascii").strip()
        taken = int((folder / used).read_text(encoding="ascii"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        # no limit is written as a word, or as more than any machine has
        return None if most == "max" else max(0, int(most) - taken + int(stat.get(droppable, 0)))
    except (OSError, ValueError):
        return None
