"""WF-VAE as Open-Sora-Plan v1.3 published it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return any(key.startswith("encoder.connect_l1.") for key in keys)


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:

    # published: (latents - shift) * scale, as here
    return {
        "latent_channels": config["latent_dim"],
        "base_channels": config["base_channels"],
        "encoder_flow": config["encoder_energy_flow_hidden_size"],
        "num_res_blocks": config["encoder_num_resblocks"],
        "flow_res_blocks": config["connect_res_layer_num"],
        "use_attention": config["use_attention"],
        "time_interpolation": config["t_interpolation"],
        # the published filters are rounded to four digits
        "haar_gain": 0.3536,
        "latent_shift": tuple(float(value) for value in config["shift"]),
        "latent_scale": tuple(float(value) for value in config["scale"]),
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [
        (r"\.(norm\d?)\.(weight|bias)$", r".\1.norm.\2"),
        (r"(encoder|decoder)\.norm\.norm", r"\1.norm_out.norm"),
        (r"(encoder|decoder)\.out\.", r"\1.conv_out."),
        (r"\.middle\.1\.qkv\.", r".middle.1.{q,k,v}.conv."),
        (r"\.middle\.1\.out\.", r".middle.1.proj_out.conv."),
        (r"\.middle\.", r".mid."),
        (r"\.flow(\d)\.", r".connect_l\1."),
        (r"\.shortcut\.", r".nin_shortcut."),
        (r"^encoder\.down(\d)\.", r"encoder.down\1.3.conv."),
        (r"^encoder\.level(\d)\.", r"encoder.down\1."),
        (r"^decoder\.level1\.", r"decoder.layer."),
    ]


LAYOUT = Layout(
    kind="vae",
    part="wavelet",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    ignored=r"(encoder|decoder)\.(inverse_)?wavelet_tranform.*|loss\..*",
)
