"""Presets of Latte, Open-Sora-Plan and Open-Sora: each is its release in knobs, tensors and number of parameters."""

from __future__ import annotations

import functools
import inspect
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from diffusers import LatteTransformer3DModel, PixArtTransformer2DModel
from torch import nn

from videogen.checkpoints import Published
from videogen.checkpoints.layout import LayoutError
from videogen.checkpoints.published import families
from videogen.config import build_part, compose
from videogen.config.files import presets
from videogen.dit.parts import Parts

T5_DIM = 4096
PIXART: dict[str, Any] = {
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "num_embeds_ada_norm": 1000,
    "patch_size": 2,
    "caption_channels": T5_DIM,
}
LATTE = PIXART | {
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "num_layers": 28,
    "cross_attention_dim": 1152,
    "in_channels": 4,
    "out_channels": 8,
    "sample_size": 64,
    "video_length": 16,
}
PLAN = PIXART | {
    "num_attention_heads": 24,
    "attention_head_dim": 96,
    "num_layers": 32,
    "cross_attention_dim": 2304,
    **{f"interpolation_scale_{axis}": 1.0 for axis in "thw"},
}
# what the originals' configs say beyond diffusers' classes
PLAN_1_0 = LATTE | {"_class_name": "LatteT2V", "sample_size": [64, 64], "video_length": 17}
PLAN_1_1 = PLAN_1_0 | {"use_rope": False, "compress_kv_factor": 1, "interpolation_scale_1d": None}
PLAN_1_2 = PLAN | {"_class_name": "OpenSoraT2V", "in_channels": 4, "out_channels": 4, "use_rope": True}
PLAN_1_3 = PLAN | {
    "_class_name": "OpenSoraT2V_v1_3",
    "in_channels": 8,
    "out_channels": 8,
    "sparse1d": True,
    "sparse_n": 4,
}


INPAINT = PLAN_1_3 | {"_class_name": "OpenSoraInpaint_v1_3", "vae_scale_factor_t": 4}


class Release(NamedTuple):
    """A release: its family, the config of its denoiser, and a class of diffusers of the same tensors, if any."""

    family: str
    config: dict[str, Any]
    truth: type[nn.Module] | None


OPEN_SORA = {
    "in_channels": 4,
    "caption_channels": T5_DIM,
    "hidden_size": 1152,
    "depth": 28,
    "num_heads": 16,
    "mlp_ratio": 4.0,
    "patch_size": [1, 2, 2],
    "pred_sigma": True,
    "qk_norm": True,
    "input_sq_size": 512,
    "model_max_length": 300,
    "skip_y_embedder": False,
}
OPEN_SORA_1_3 = OPEN_SORA | {
    "in_channels": 16,
    "kernel_size": [8, 8, -1],
    "use_spatial_rope": True,
    "skip_temporal": False,
}
OPEN_SORA_1_1 = {key: OPEN_SORA[key] for key in OPEN_SORA if key != "skip_y_embedder"} | {
    "model_max_length": 200,
    "no_temporal_pos_emb": False,
}
RELEASES = {
    "latte_1": Release("latte", LATTE | {"_class_name": "LatteTransformer3DModel"}, LatteTransformer3DModel),
    "osp_1_0": Release("latte", PLAN_1_0, LatteTransformer3DModel),
    "osp_1_1": Release("latte", PLAN_1_1, LatteTransformer3DModel),
    "osp_1_2": Release("opensora_plan", PLAN_1_2, PixArtTransformer2DModel),
    "osp_1_3": Release("opensora_plan", PLAN_1_3, PixArtTransformer2DModel),
    "osp_1_3_inpaint": Release("opensora_plan", INPAINT, None),
    "opensora_1_0": Release("stdit", {}, None),
    "opensora_1_1": Release("stdit2", OPEN_SORA_1_1, None),
    "opensora_1_2": Release("stdit3", OPEN_SORA, None),
    "opensora_1_3": Release("stdit3_1_3", OPEN_SORA_1_3, None),
}
# as published: 1.06B and 2.77B (11.1 GB) of Open-Sora-Plan, 1.21B (4.84 GB) of Open-Sora
BILLIONS = {
    "latte_1": 1.06,
    "osp_1_0": 1.06,
    "osp_1_1": 1.06,
    "osp_1_2": 2.77,
    "osp_1_3": 2.77,
    "osp_1_3_inpaint": 2.78,
    # which its authors count as 724M, of 2 ** 20 each
    "opensora_1_0": 0.76,
    "opensora_1_1": 0.77,
    "opensora_1_2": 1.21,
    "opensora_1_3": 1.21,
}
# the classes without a twin in diffusers, layer by layer. Open-Sora: a block is a table, attentions of queries, values
# and out, an MLP, in 1.2 norms of heads; around it stand embeddings of time, of text, in 1.2 of frames a second, the
# shared modulation, patches in and out with a table of two rows
DIM, PLAN_DIM = 1152, 2304
ATTENTION, MLP, EMBEDDING = 4 * DIM * (DIM + 1), 8 * DIM * DIM + 5 * DIM, (256 + 1) * DIM + (DIM + 1) * DIM
AROUND = (T5_DIM + 1) * DIM + (DIM + 1) * DIM + (DIM + 1) * 6 * DIM + (16 + 1) * DIM + 2 * DIM + (DIM + 1) * 32
SUMS = {
    "opensora_1_0": 28 * (6 * DIM + 3 * ATTENTION + MLP) + EMBEDDING + AROUND,
    # two tables and shared modulations, norms of heads in both self-attentions; sides and their ratio are embedded to a
    # third of the width, frames and frames a second to all of it
    "opensora_1_1": 28 * (9 * DIM + 3 * ATTENTION + MLP + 4 * DIM // 16)
    + 3 * EMBEDDING
    + 2 * ((256 + 1) * DIM // 3 + (DIM // 3 + 1) * DIM // 3)
    + AROUND
    + (DIM + 1) * 3 * DIM,
    "opensora_1_2": 56 * (6 * DIM + 2 * ATTENTION + MLP + 2 * DIM // 16) + 2 * EMBEDDING + AROUND,
    # as 1.2, with latents of 16 channels, of which three layers make tokens
    "opensora_1_3": 56 * (6 * DIM + 2 * ATTENTION + MLP + 2 * DIM // 16)
    + 2 * EMBEDDING
    + AROUND
    + (3 * (64 + 1) - (16 + 1)) * DIM
    + (DIM + 1) * (128 - 32),
    # v1.3 and, for 8 channels of latents and 4 of mask, embeddings of two layers each
    "osp_1_3_inpaint": 2771981600 + (8 * 4 + 1) * PLAN_DIM + (4 * 4 + 1) * PLAN_DIM + 2 * PLAN_DIM * PLAN_DIM,
}


def build(preset: str) -> tuple[dict[str, Any], nn.Module]:
    """The denoiser's knobs as a checkpoint is compared with them, and the denoiser without memory for its weights."""
    config = compose("generate", [f"model={preset}", "prompt=a cat"])
    with torch.device("meta"):
        latent_channels = build_part("vae", config["vae"]).spec.latent_channels
        builders = {kind: functools.partial(build_part, f"dit/{kind}", node) for kind, node in config["dit"].items()}
        parts = Parts(attention=build_part("attention", config["attention"]), **builders)
        model = build_part("denoiser", config["denoiser"], latent_channels, T5_DIM, parts)
    wiring = {"latent_channels": latent_channels, "text_dim": T5_DIM}
    return {**config["denoiser"], **wiring, "dit": config["dit"]}, model


def places(place: int, half: int) -> torch.Tensor:
    """The first two codes of a table, as far as they tell its scale."""
    table = torch.zeros(1, 2, DIM)
    table[0, place, 0], table[0, place, half] = math.sin(1), math.cos(1)
    return table


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("preset", RELEASES)
def test_it_is_the_release(preset: str) -> None:
    """Every knob that the release's config tells, every tensor by name and shape, and so their number."""
    family, config, truth_class = RELEASES[preset]
    asked, model = build(preset)
    layout = families()[family]
    if truth_class is None:
        published, size = layout.to_published(model.state_dict(), asked), SUMS[preset]
        # in a file of 1.0 the places stand beside the weights
        tables = {"pos_embed": (1, DIM // 4), "pos_embed_temporal": (1, DIM // 2)}
        published |= {key: places(*where) for key, where in tables.items()} if family == "stdit" else {}
    else:
        accepted = inspect.signature(truth_class.__init__).parameters
        told = {key: value for key, value in config.items() if key in accepted}
        with torch.device("meta"):
            truth = truth_class(**(told | {"sample_size": 64}))
        published, size = truth.state_dict(), count(truth)
    # the constants of a rotation are no parameters here
    assert count(model) == size
    assert round(size / 1e9, 2) == BILLIONS[preset]
    assert f"{round(size / 1e6)}M parameters" in presets("model")[preset].read_text().split("defaults:")[0]
    assert layout.recognise(config, published)
    knobs = layout.knobs(config, published)
    nodes = knobs.pop("dit")
    Published(Path(preset), layout, knobs, published, nodes).fill(model, "dit", asked)


@pytest.mark.parametrize("preset", RELEASES)
def test_its_videos_have_sizes_that_the_model_takes(preset: str) -> None:
    config = compose("generate", [f"model={preset}", "prompt=a cat"])
    with torch.device("meta"):
        spec = build_part("vae", config["vae"]).spec
    _, *size = spec.latent_shape(config["num_frames"], config["height"], config["width"])
    fits = all(length % patch == 0 for length, patch in zip(size, config["denoiser"]["patch_size"], strict=True))
    assert fits or config["denoiser"]["fill"]


def test_weights_of_another_schedule_of_layers_are_refused() -> None:
    """The same tensors under other attention are another model."""
    asked, model = build("osp_1_3")
    layout = families()["opensora_plan"]
    published = layout.to_published(model.state_dict(), asked)
    knobs = layout.knobs(PLAN_1_3, published)
    nodes = knobs.pop("dit")
    found = Published(Path("osp_1_3"), layout, knobs, published, nodes)
    with pytest.raises(LayoutError, match=r"layers: .*skiparse.* there, None asked for"):
        found.fill(model, "dit", asked | {"layers": None})
    # what is written otherwise and means the same isn't another one
    skip = "[skiparse(mode=single, over_padding=true, k=4), skiparse(mode=group, over_padding=true, k=4)]"
    found.fill(model, "dit", asked | {"layers": f"[[full3d]*2, {skip}*14, full3d, full3d]"})
