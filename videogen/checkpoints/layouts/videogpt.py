"""VideoGPT's VQ-VAE, as its authors' and Open-Sora-Plan's first training runs saved it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS


def _recognise(config: Config, keys: Collection[str]) -> bool:
    # the causal VQ-VAE of Open-Sora-Plan has such a codebook too, and other convolutions
    return {"codebook.z_avg", "encoder.convs.0.conv.weight", "encoder.conv_last.conv.weight"} <= set(keys)


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    # a training run keeps its arguments beside the weights, Open-Sora-Plan v1.0 in a config of their own
    args = config.get("hyper_parameters", {}).get("args", config)
    time, height, width = args["downsample"]
    if height != width:
        raise ValueError(f"downsample={args['downsample']}: height and width of other strides are not known here")
    return {
        "latent_channels": args["embedding_dim"],
        "codebook_size": args["n_codes"],
        "base_channels": args["n_hiddens"],
        "num_res_blocks": args["n_res_layers"],
        "temporal_stride": time,
        "spatial_stride": height,
    }


LAYOUT = Layout(
    kind="vae",
    part="vqvae",
    recognise=_recognise,
    knobs=_knobs,
    renames=lambda _: [
        (r"^encoder\.downs\.(\d+)\.", r"encoder.convs.\1.conv."),
        (r"^encoder\.conv\.", "encoder.conv_last.conv."),
        (r"^encoder\.out\.", "pre_vq_conv.conv."),
        (r"^decoder\.conv_in\.", "post_vq_conv.conv."),
        (r"^decoder\.ups\.(\d+)\.", r"decoder.convts.\1.convt."),
        (r"^(encoder|decoder)\.blocks\.", r"\1.res_stack."),
        (r"\.block\.([25])\.", r".block.\1.conv."),
        (r"\.along_(.)\.qkv\.", r".attn_\1.{w_qs,w_ks,w_vs}."),
        (r"\.along_(.)\.out\.", r".attn_\1.fc."),
        (r"^codebook\.count$", "codebook.N"),
        (r"^codebook\.total$", "codebook.z_avg"),
    ],
)


@LAYOUTS.register("videogpt")
def _layout() -> Layout:
    return LAYOUT
