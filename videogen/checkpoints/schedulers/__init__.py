"""Published schedulers: what a folder's scheduler_config.json says, as one of ours with all of its knobs set."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from videogen.checkpoints.folder import read_json
from videogen.checkpoints.layout import LayoutError
from videogen.checkpoints.schedulers import chains, edm, flows, multistep, solvers
from videogen.checkpoints.schedulers.fields import Fields, PublishedScheduler
from videogen.registry import nearest

__all__ = ["CLASSES", "PublishedScheduler", "read_scheduler", "scheduler_file"]

FILE = "scheduler_config.json"
#: the published class -> what reads its settings
CLASSES: dict[str, Callable[[Fields], PublishedScheduler]] = {
    "CogVideoXDDIMScheduler": chains.cogvideox_ddim,
    "CogVideoXDPMScheduler": multistep.cogvideox_dpm,
    "DDIMScheduler": chains.ddim,
    "DDPMScheduler": chains.ddpm,
    "DPMSolverMultistepScheduler": multistep.dpm_solver,
    "EDMDPMSolverMultistepScheduler": multistep.edm_dpm_solver,
    "EDMEulerScheduler": edm.edm_euler,
    "EulerAncestralDiscreteScheduler": solvers.euler_ancestral,
    "EulerDiscreteScheduler": solvers.euler,
    "FlowMatchEulerDiscreteScheduler": flows.flow_match_euler,
    "FlowMatchHeunDiscreteScheduler": flows.flow_match_heun,
    "FlowMatchLCMScheduler": flows.flow_match_lcm,
    "HeunDiscreteScheduler": solvers.heun,
    "LCMScheduler": solvers.lcm,
    "PNDMScheduler": solvers.pndm,
    "UniPCMultistepScheduler": multistep.unipc,
}


def scheduler_file(path: Path) -> Path | None:
    """The scheduler_config.json of a folder, or of a whole model's folder, where there is one."""
    return next((file for file in (path / FILE, path / "scheduler" / FILE) if file.is_file()), None)


def read_scheduler(path: Path) -> PublishedScheduler:
    """The scheduler that a published folder or a scheduler_config.json describes.

    Every setting is read, is known to mean nothing there, or is refused. Where the published code does otherwise than
    the scheduler here, a warning says in which cases.

    Raises:
        LayoutError: no such file, a class that has no counterpart, or a setting that has none.
        ValueError: a damaged file.
    """
    file = path if path.is_file() else scheduler_file(path)
    if file is None:
        raise LayoutError(f"{path} has neither {FILE} nor scheduler/{FILE}: give the folder of a published scheduler")
    config = read_json(file)
    name = config.get("_class_name")
    if name not in CLASSES:
        raise LayoutError(f"{file}: scheduler {name!r} has no counterpart here: {nearest(str(name), CLASSES)}")
    fields = Fields(config, file)
    found = CLASSES[name](fields)
    fields.finish()
    for remark in found.remarks:
        warnings.warn(f"{file}: {remark}", stacklevel=2)
    return found
