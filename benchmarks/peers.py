"""Diffusers' video transformers as their pipelines call them: for each a config of few layers, inputs and one step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

#: tokens of the prompt; the negative prompt beside it is empty, which is one token
WORDS = 60
Step = Callable[[Tensor, Tensor], Tensor]


class Given(NamedTuple):
    """What a step is conditioned on: text (B, L, D), what of it is words (B, L), pooled text (B, E), guidance (B,)."""

    text: Tensor
    mask: Tensor | None
    pooled: Tensor
    guidance: Tensor


class Peer(NamedTuple):
    """One family.

    Args:
        name: diffusers' class.
        config: beside its defaults: half the published number of heads and few layers, all else as published.
        step: (model, inputs, size) -> one step, latents and time in [0, 1] -> prediction, all as their pipeline has it;
            what that makes once a video is made here.
        size: latent frames, rows and columns.
        text: tokens that the pipeline fills the text up to.
        batch: sequences at once, two where the pipeline takes both prompts of guidance together.
        masked: whether the model is told which tokens are words.
        order: of the axes of their latents.
        whole_times: whether our model of the family counts steps of 0 to 999, as theirs, or fractions.
    """

    name: str
    config: dict[str, Any]
    step: Callable[[Any, Given, tuple[int, int, int]], Step]
    size: tuple[int, int, int]
    text: int
    batch: int = 2
    masked: bool = False
    order: str = "b c t h w"
    whole_times: bool = False


def latte(model: Any, given: Given, size: tuple[int, int, int]) -> Step:
    # behind the prediction it gives a variance
    return lambda latents, time: model(latents, 1000 * time, given.text).sample[:, : latents.shape[1]]


def wan(model: Any, given: Given, size: tuple[int, int, int]) -> Step:
    return lambda latents, time: model(latents, 1000 * time, given.text).sample


def cogvideox(model: Any, given: Given, size: tuple[int, int, int]) -> Step:
    from diffusers import CogVideoXPipeline

    frames, rows, columns = size
    pipeline: Any = SimpleNamespace(vae_scale_factor_spatial=8, transformer=model)
    prepare = CogVideoXPipeline._prepare_rotary_positional_embeddings
    table = prepare(pipeline, 8 * rows, 8 * columns, frames, torch.device("cpu"))
    return lambda latents, time: model(latents, given.text, 1000 * time, image_rotary_emb=table).sample


def ltx(model: Any, given: Given, size: tuple[int, int, int]) -> Step:
    sides = dict(zip(("num_frames", "height", "width"), size, strict=True))
    scale = 8 / 25, 32, 32
    return lambda latents, time: (
        model(latents, given.text, 1000 * time, given.mask, rope_interpolation_scale=scale, **sides).sample
    )


def hunyuan(model: Any, given: Given, size: tuple[int, int, int]) -> Step:
    return lambda latents, time: (
        model(latents, 1000 * time, given.text, given.mask, given.pooled, 1000 * given.guidance).sample
    )


def mochi(model: Any, given: Given, size: tuple[int, int, int]) -> Step:
    # it asks for an autocast to float32, which a CPU has not
    warnings.filterwarnings("ignore", "In CPU autocast", UserWarning)
    return lambda latents, time: model(latents, given.text, 1000 * (1 - time), given.mask).sample


def allegro(model: Any, given: Given, size: tuple[int, int, int]) -> Step:
    from diffusers.models.embeddings import get_3d_rotary_pos_embed_allegro

    config, (frames, rows, columns) = model.config, size
    sides = rows // config.patch_size, columns // config.patch_size
    *tables, t, h, w = get_3d_rotary_pos_embed_allegro(
        embed_dim=config.attention_head_dim,
        crops_coords=((0, 0), sides),
        grid_size=sides,
        temporal_size=frames,
        interpolation_scale=tuple(config[f"interpolation_scale_{axis}"] for axis in "thw"),
        device=torch.device("cpu"),
    )
    places = torch.cartesian_prod(t.round().long(), h.round().long(), w.round().long())
    turns = tuple(tables), tuple(places.T[:, None])
    return lambda latents, time: (
        model(latents, given.text, 1000 * time, encoder_attention_mask=given.mask, image_rotary_emb=turns).sample
    )


LATTE = {
    "in_channels": 4,
    "out_channels": 8,
    "attention_bias": True,
    "sample_size": 64,
    "patch_size": 2,
    "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": 1000,
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "caption_channels": 4096,
    "video_length": 16,
}
PEERS = {
    "latte": Peer(
        "LatteTransformer3DModel",
        {**LATTE, "num_attention_heads": 8, "attention_head_dim": 72, "cross_attention_dim": 576, "num_layers": 2},
        latte,
        (16, 24, 24),
        # its pipeline cuts the padding off
        WORDS,
        whole_times=True,
    ),
    "wan": Peer(
        "WanTransformer3DModel",
        # 2.1, 1.3B
        {"num_attention_heads": 6, "ffn_dim": 4480, "num_layers": 3},
        wan,
        (3, 30, 52),
        512,
        # one prompt after the other
        batch=1,
    ),
    "cogvideox": Peer(
        "CogVideoXTransformer3DModel",
        # 5B
        {"num_attention_heads": 24, "num_layers": 1, "use_rotary_positional_embeddings": True},
        cogvideox,
        (2, 30, 40),
        226,
        order="b t c h w",
        whole_times=True,
    ),
    "ltx": Peer(
        "LTXVideoTransformer3DModel",
        {"num_attention_heads": 16, "cross_attention_dim": 1024, "num_layers": 2},
        ltx,
        (3, 15, 20),
        128,
        masked=True,
        order="b (t h w) c",
    ),
    "hunyuan": Peer(
        "HunyuanVideoTransformer3DModel",
        {"num_attention_heads": 12, "num_layers": 1, "num_single_layers": 1},
        hunyuan,
        (2, 30, 44),
        256,
        batch=1,
        masked=True,
    ),
    "mochi": Peer(
        "MochiTransformer3DModel",
        {"num_attention_heads": 12, "num_layers": 2},
        mochi,
        (2, 24, 30),
        256,
        masked=True,
    ),
    "allegro": Peer(
        "AllegroTransformer3DModel",
        {"num_attention_heads": 12, "cross_attention_dim": 1152, "num_layers": 2},
        allegro,
        (3, 24, 32),
        512,
        masked=True,
        whole_times=True,
    ),
}
