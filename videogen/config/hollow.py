"""A model's parts on the meta device, where they have shapes and no numbers: what there is to measure of any size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from videogen.config.building import ALONE, Parts, build_denoiser, build_part, build_schedulers
from videogen.kinds import registry


def build_hollow(config: Mapping[str, Any]) -> Parts:
    """All parts of a composed config without numbers: nothing is allocated, and no weights are read.

    An encoder that is read from a folder is read for its shapes; without a folder the size that it usually has stands
    in for it, see `EncoderSize`.

    Raises:
        ValueError: parts that refuse their knobs or each other.
        FileNotFoundError: an encoder without a folder that has no usual size.
    """
    import torch

    from videogen.profiling.kernel import OnMeta

    with torch.device("meta"):
        vae, text = build_part("vae", config["vae"]), _text(config["text"])
        denoiser = build_denoiser(config, vae, text, OnMeta(build_part("attention", config["attention"])))
        vision = build_part("vision", config["vision"])
    objective, scheduler = build_schedulers(config)
    alone = {kind: build_part(kind, config[kind]) for kind in ALONE}
    return Parts(vae, denoiser, text, vision, objective, scheduler, **alone)


def _text(node: Mapping[str, Any]) -> Any:
    try:
        return build_part("text", node)
    except FileNotFoundError:
        usual = getattr(registry("text").get(node["name"]), "usual", None)
        if usual is None or node.get("folder"):
            raise
        return usual
