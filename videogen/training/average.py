"""Weights between those from before a training run and those after it: what was learnt, and less of what was lost."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from videogen.checkpoints import write_folder


def average_weights(before: Path, after: Path, share: float, output: Path) -> None:
    """A checkpoint's folder whose weights lie on the line from one model's to another's (WiSE-FT, Wortsman et al.,
    arXiv 2109.01903, section 3): a short run on a new task costs some of the old one, and most of that comes back.

    Args:
        before: folder of one part, `config.json` and `model.safetensors`.
        after: folder of the same part, trained on.
        share: 0 gives the weights of `before`, 1 those of `after`.
        output: the new folder, which must not be there yet; its config is that of `after`.

    Raises:
        ValueError: a share outside 0 to 1, or other tensors in one than in the other; they are named.
        OSError: a file is missing, or the folder is there already.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}: 0 to 1, from the weights before to those after")
    if output.exists():
        raise FileExistsError(f"{output} is there already: give the folder of a new model")
    old, new = (load_file(folder / "model.safetensors") for folder in (before, after))
    shapes = [{name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (old, new)]
    if shapes[0] != shapes[1]:
        differing = sorted({name for name, _ in shapes[0].items() ^ shapes[1].items()})
        raise ValueError(f"{before} and {after} aren't one model's: they differ in {', '.join(differing)}")
    averaged = {
        name: torch.lerp(old[name].double(), tensor.double(), share).to(tensor.dtype) for name, tensor in new.items()
    }

    def write(folder: Path) -> None:
        save_file(averaged, folder / "model.safetensors")
        (folder / "config.json").write_text((after / "config.json").read_text(encoding="utf-8"), encoding="utf-8")

    write_folder(output, write)
