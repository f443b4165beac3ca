"""WF-VAE as Open-Sora-Plan published it: v1.3 with 4x8x8 strides, v1.5 with 8x8x8."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.vae._haar import Haar2D, Haar3D

#: the published 3D filters are rounded to four digits
GAIN = 0.3536
#: the published filters, in the order of our bands
FILTERS_3D = ("h", "g", "hh", "gh", "h_v", "g_v", "hh_v", "gh_v")
FILTERS_2D = ("aa", "ad", "da", "dd")
#: the layers of the first level, as the original's class has them by default; the second level's never change
V1_3 = {
    "l1_dowmsample_block": "Downsample",
    "l1_downsample_wavelet": "HaarWaveletTransform2D",
    "l1_upsample_block": "Upsample",
    "l1_upsample_wavelet": "InverseHaarWaveletTransform2D",
}
V1_5 = {
    "l1_dowmsample_block": "Spatial2xTime2x3DDownsample",
    "l1_downsample_wavelet": "HaarWaveletTransform3D",
    "l1_upsample_block": "Spatial2xTime2x3DUpsample",
    "l1_upsample_wavelet": "InverseHaarWaveletTransform3D",
}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return any(key.startswith("encoder.connect_l1.") for key in keys)


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    first_level = {key: config.get(key, value) for key, value in V1_3.items()}
    if first_level not in (V1_3, V1_5):
        raise ValueError(f"{first_level} are neither the layers of v1.3, {V1_3}, nor those of v1.5, {V1_5}")
    for key, value in (("decoder_num_resblocks", config.get("encoder_num_resblocks")), ("norm_type", "layernorm")):
        if config.get(key, value) != value:
            raise ValueError(f"{key}={config[key]!r}: with this config only {value!r} is known here")
    decoder_flow = config["decoder_energy_flow_hidden_size"]
    # published: (latents - shift) * scale, as here; v1.5 has them among its pipeline's settings
    return {
        "latent_channels": config["latent_dim"],
        "temporal_stride": 4 if first_level == V1_3 else 8,
        "base_channels": config["base_channels"],
        "encoder_flow": config["encoder_energy_flow_hidden_size"],
        # as wide as the convolutions is our default, and all that v1.3 can be
        "decoder_flow": 0 if decoder_flow == config["base_channels"] else decoder_flow,
        "num_res_blocks": config["encoder_num_resblocks"],
        "flow_res_blocks": config["connect_res_layer_num"],
        "use_attention": config["use_attention"],
        "time_interpolation": config["t_interpolation"],
        "haar_gain": GAIN,
        "latent_shift": tuple(float(value) for value in config["shift"]),
        "latent_scale": tuple(float(value) for value in config["scale"]),
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    after_blocks = 1 + knobs["num_res_blocks"]
    return [
        (r"\.(norm\d?)\.(weight|bias)$", r".\1.norm.\2"),
        (r"(encoder|decoder)\.norm\.norm", r"\1.norm_out.norm"),
        (r"(encoder|decoder)\.out\.", r"\1.conv_out."),
        (r"\.middle\.1\.qkv\.", r".middle.1.{q,k,v}.conv."),
        (r"\.middle\.1\.out\.", r".middle.1.proj_out.conv."),
        (r"\.middle\.", r".mid."),
        (r"\.flow(\d)\.", r".connect_l\1."),
        (r"\.shortcut\.", r".nin_shortcut."),
        (r"^encoder\.down(\d)\.", rf"encoder.down\1.{after_blocks}.conv."),
        (r"^encoder\.level(\d)\.", r"encoder.down\1."),
        (r"^decoder\.level1\.", r"decoder.layer."),
    ]


def _constants(knobs: Config) -> dict[str, Tensor]:
    """The wavelets' filters; v1.3 has the outermost ones in no file, and another spelling."""
    flat = {f".{name}": row.view(1, 1, 2, 2) for name, row in zip(FILTERS_2D, Haar2D().matrix, strict=True)}
    rows = {name: row.view(1, 1, 2, 2, 2) for name, row in zip(FILTERS_3D, Haar3D(GAIN).matrix, strict=True)}
    analysis = {f".{name}_conv.conv.weight": row for name, row in rows.items()}
    synthesis = {f".{name}": row for name, row in rows.items()}
    if knobs["temporal_stride"] == 4:
        forward, inverse = "encoder.wavelet_tranform", "decoder.inverse_wavelet_tranform"
        groups = {f"{forward}_l1": flat, f"{forward}_l2": analysis, f"{inverse}_l1": flat, f"{inverse}_l2": synthesis}
    else:
        forward, inverse = "encoder.wavelet_transform", "decoder.inverse_wavelet_transform"
        groups = {f"{forward}_{place}": analysis for place in ("in", "l1", "l2")}
        groups |= {f"{inverse}_{place}": synthesis for place in ("out", "l1", "l2")}
    # copies: one file can't hold two tensors that share their memory
    return {group + name: row.clone() for group, filters in groups.items() for name, row in filters.items()}


LAYOUT = Layout(
    kind="vae",
    part="wavelet",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    constants=_constants,
    ignored=r"loss\..*",
)


@LAYOUTS.register("wfvae")
def _layout() -> Layout:
    return LAYOUT
