"""Frozen encoders of transformers in a local folder: what must lie there, and how their weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers


def read_tokenizer(path: Path) -> Any:
    """The tokenizer of a folder; no code of the folder is run."""
    return transformers.AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)


def read_tower(name: str, path: Path, dtype: str, what: str) -> Any:
    """A frozen model of transformers with the weights of a folder, from safetensors alone; on the meta device, its
    shapes.

    Args:
        name: of its class, which transformers loads when it is asked for: that takes seconds.
        path: the folder.
        dtype: of the weights.
        what: the model is called in an error.

    Raises:
        ValueError: the weights don't fill the model.
    """
    model_class = getattr(transformers, name)
    if torch.get_default_device().type == "meta":
        config = model_class.config_class.from_pretrained(str(path), local_files_only=True)
        return model_class(config).to(getattr(torch, dtype)).requires_grad_(False)
    # `torch_dtype` is the name that transformers 4 and 5 both take
    model, told = model_class.from_pretrained(
        str(path),
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        torch_dtype=getattr(torch, dtype),
        output_loading_info=True,
    )
    # transformers fills what is missing with random numbers and goes on
    if missing := sorted(told["missing_keys"]):
        raise ValueError(f"the weights in {path} lack {missing[0]} and {len(missing) - 1} more: it is no {what}")
    return model.requires_grad_(False)


def checked(name: str, folder: str, what: str) -> Path:
    """The folder, once everything that loading needs is there.

    Raises:
        FileNotFoundError: the folder, its config or its weights are missing.
    """
    if not folder:
        raise FileNotFoundError(
            f"{name} needs folder=…, a local folder with config.json, *.safetensors and a tokenizer"
        )
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json: give a local folder with a {what}; none is downloaded")
    if not list(path.glob("*.safetensors")):
        raise FileNotFoundError(f"{folder} has no *.safetensors: convert its weights, other formats are not read")
    return path
