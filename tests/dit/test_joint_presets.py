"""Presets of the families with a stream of text: the knobs and tensors of their releases, at true size on meta."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel, HunyuanVideoTransformer3DModel, MochiTransformer3DModel
from torch import Tensor, nn

from videogen.checkpoints.layout import Layout
from videogen.checkpoints.layouts import cogvideox_dit, hunyuan_dit, mochi_dit, opensora_2_dit, osp_suv
from videogen.config import build_part, compose
from videogen.config.files import presets
from videogen.dit.parts import Parts

FIVE_B = {"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True}
NEWER = {"patch_size_t": 2, "patch_bias": False, "sample_height": 300, "sample_width": 300, "sample_frames": 81}
# preset -> layout, class of diffusers, what the release's config says beside that class's defaults
RELEASES: dict[str, tuple[Layout, type[nn.Module], dict[str, Any]]] = {
    "cogvideox_2b": (cogvideox_dit.LAYOUT, CogVideoXTransformer3DModel, {}),
    "cogvideox_5b": (cogvideox_dit.LAYOUT, CogVideoXTransformer3DModel, FIVE_B),
    "cogvideox_1_5_5b": (cogvideox_dit.LAYOUT, CogVideoXTransformer3DModel, {**FIVE_B, **NEWER}),
    "cogvideox_5b_i2v": (
        cogvideox_dit.LAYOUT,
        CogVideoXTransformer3DModel,
        {**FIVE_B, "in_channels": 32, "use_learned_positional_embeddings": True},
    ),
    "cogvideox_1_5_5b_i2v": (
        cogvideox_dit.LAYOUT,
        CogVideoXTransformer3DModel,
        {**FIVE_B, **NEWER, "in_channels": 32, "ofs_embed_dim": 512},
    ),
    "hunyuan_video": (hunyuan_dit.LAYOUT, HunyuanVideoTransformer3DModel, {}),
    "mochi_1": (mochi_dit.LAYOUT, MochiTransformer3DModel, {}),
}


@pytest.mark.parametrize("preset", RELEASES)
def test_a_preset_is_its_release(is_release: Callable[..., None], preset: str) -> None:
    layout, kind, config = RELEASES[preset]
    with torch.device("meta"):
        truth = kind(**config)
    is_release(preset, layout, truth)


def built(preset: str, text_dim: int, pooled_dim: int) -> tuple[nn.Module, dict[str, Any]]:
    """The preset's model on meta, and all that is said of it."""
    config = compose("generate", [f"model={preset}", "prompt=a"])
    builders = {kind: functools.partial(build_part, f"dit/{kind}", node) for kind, node in config["dit"].items()}
    with torch.device("meta"):
        channels = build_part("vae", config["vae"]).spec.latent_channels
        parts = Parts(attention=build_part("attention", config["attention"]), **builders)
        model = build_part("denoiser", config["denoiser"], channels, text_dim, parts, pooled_dim)
    sizes = {"latent_channels": channels, "text_dim": text_dim, "pooled_dim": pooled_dim}
    return model, {**config["denoiser"], **sizes, "dit": config["dit"]}


def check_knobs(layout: Layout, published: dict[str, Tensor], config: dict[str, Any], asked: dict[str, Any]) -> None:
    """What the layout tells of these tensors is what the preset asks for."""
    told = layout.knobs(config, published)
    for kind, node in told.pop("dit").items():
        for key, value in node.items():
            asked_value = asked["dit"][kind][key]
            assert (tuple(asked_value) if isinstance(value, tuple) else asked_value) == value, (kind, key)
    for key, value in told.items():
        assert (tuple(asked[key]) if isinstance(value, tuple) else asked[key]) == value, key


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    return outputs * (inputs + bias)


def two(inputs: int, outputs: int) -> int:
    return linear(inputs, outputs) + linear(outputs, outputs)


def test_opensora_2_0_is_its_release() -> None:
    """The layers that the original constructor makes with the numbers of configs/diffusion/inference/256px.py."""
    dim, head_dim, mlp = 3072, 128, 4 * 3072
    stream = linear(dim, 6 * dim) + 4 * linear(dim, dim) + 2 * head_dim + linear(dim, mlp) + linear(mlp, dim)
    single = 2 * linear(dim, dim) + linear(dim, dim + mlp) + linear(dim + mlp, dim)
    single += 2 * head_dim + linear(dim, 3 * dim)
    inputs = linear(64, dim) + linear(68, dim) + two(256, dim) + two(768, dim) + linear(4096, dim)
    final = linear(dim, 64) + linear(dim, 2 * dim)
    wanted = inputs + 19 * 2 * stream + 38 * single + final

    model, asked = built("opensora_2_0", 4096, 768)
    assert sum(value.numel() for value in model.parameters()) == wanted
    assert f"{round(wanted / 1e6)}M parameters" in presets("model")["opensora_2_0"].read_text()
    published = opensora_2_dit.LAYOUT.to_published(model.state_dict(), asked)
    assert published["single_blocks.37.v_mlp.weight"].shape == (dim + mlp, dim)
    assert published["cond_in.weight"].shape == (dim, 68)
    check_knobs(opensora_2_dit.LAYOUT, published, {}, asked)


def test_open_sora_plan_1_5_is_its_release() -> None:
    """The layers that the original constructor makes with the numbers of inference_t2v_model1_5.json."""
    dim, head_dim, time = 3072, 128, 1024
    norm, mlp = 2 * dim, 2 * 4 * dim * dim
    block = 2 * linear(time, 6 * dim) + 4 * norm + 8 * linear(dim, dim) + 4 * head_dim + 2 * mlp
    # the last one has no way back for the text, and no MLP and no second norm of it
    last = block - linear(dim, dim) - mlp - norm
    skips = 2 * 3 * linear(2 * dim, dim)
    inputs = linear(32 * 4, dim) + two(time, time) + two(1280, time) + linear(2048, dim)
    final = 2 * norm + linear(time, 2 * dim) + linear(dim, 32 * 4)
    wanted = inputs + 31 * block + last + skips + final

    model, asked = built("osp_1_5", 2048, 1280)
    assert sum(value.numel() for value in model.parameters()) == wanted
    assert f"{round(wanted / 1e6)}M parameters" in presets("model")["osp_1_5"].read_text()
    published = osp_suv.LAYOUT.to_published(model.state_dict(), asked)
    assert published["transformer_blocks.6.1.norm2.linear.weight"].shape == (6 * dim, time)
    assert published["skip_norm_linear_enc.2.1.weight"].shape == (dim, 2 * dim)
    check_knobs(osp_suv.LAYOUT, published, {}, asked)
