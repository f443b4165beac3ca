"""Files of tensors: safetensors, whole or in shards, and the pickles of older releases, read without running them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from videogen.checkpoints.folder import read_json

PICKLES = (".pt", ".pth", ".ckpt", ".bin")
INDEX = ".index.json"
#: where training runs of the published projects keep the weights inside a pickle
NESTED = ("state_dict", "ema_state_dict", "model_state_dict", "model", "module", "ema")
#: two files that are one autoencoder, as Mochi's: their keys are told apart by the files' names
HALVES = ("decoder.safetensors", "encoder.safetensors")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, or of a folder: one file, or the shards that its index names.

    A file called encoder.safetensors beside one called decoder.safetensors is half of an autoencoder, and so is that:
    both are read, and "encoder." or "decoder." is put before their keys.

    Raises:
        ValueError: truncated, a pickle that holds anything but tensors, two shards with the same key, no file of
            tensors or several; the file is named.
        FileNotFoundError: no such path, or a shard is missing.
    """
    folder = path if path.is_dir() else path.parent
    if path.name in HALVES and all((folder / half).is_file() for half in HALVES):
        return _read_halves(folder)
    if path.is_file():
        return _read_file(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} doesn't exist: give a checkpoint's folder or file")
    indices = sorted(path.glob(f"*{INDEX}"))
    if indices:
        return _read_shards(indices[0])
    files = sorted(path.glob("*.safetensors")) or sorted(p for p in path.iterdir() if p.suffix in PICKLES)
    if tuple(file.name for file in files) == HALVES:
        return _read_halves(path)
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise ValueError(f"{path} should hold one file of tensors and has {found}: give the file itself")
    return _read_file(files[0])


def _read_halves(folder: Path) -> dict[str, Tensor]:
    return {f"{Path(half).stem}.{key}": tensor for half in HALVES for key, tensor in _read_file(folder / half).items()}


def _read_shards(index: Path) -> dict[str, Tensor]:
    where = read_json(index).get("weight_map")
    if not isinstance(where, Mapping):
        raise ValueError(f"{index} has no weight_map: it is no index of shards")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(where.values())):
        # a name, never a path: an index may not lead out of its folder
        shard = index.parent / Path(name).name
        if not shard.is_file():
            raise FileNotFoundError(f"{shard} is missing, though {index.name} names it: copy all shards")
        tensors |= _read_file(shard)
    absent = sorted(set(where) - set(tensors))
    if absent:
        raise ValueError(f"{index} promises tensors that no shard holds: {', '.join(absent[:8])}")
    return tensors


def _read_file(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} can't be read ({error}): it is truncated or no safetensors file") from error
    if path.suffix not in PICKLES:
        raise ValueError(f"{path} is no file of tensors: give .safetensors, or one of {', '.join(PICKLES)}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # damaged bytes lead to errors of any kind; what is no tensor, to one that says so
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is truncated or holds more than tensors, which isn't read ({reason})") from error
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} holds no state dict (names of tensors): its content is {type(content).__name__}")
    return {str(key): value for key, value in content.items()}
