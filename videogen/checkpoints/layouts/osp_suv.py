"""Open-Sora-Plan 1.5's transformer as its authors published it (SparseUMMDiT)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._dit import require
from videogen.checkpoints.layouts._joint import ATTENTION, two_layers
from videogen.checkpoints.layouts._shapes import count
from videogen.checkpoints.transforms import Transform, rearranged

#: settings of which one value alone is known here
FIXED = {
    "double_ff": True,
    "sparse1d": True,
    "skip_connection": True,
    "skip_connection_zero_init": True,
    "norm_cls": "layer_norm",
    "activation_fn": "gelu-approximate",
    "patch_size_t": 1,
    "interpolation_scale_t": 1.0,
    "interpolation_scale_h": 1.0,
    "interpolation_scale_w": 1.0,
}
#: what no tensor tells: of the release, by its stages
SPARSE: Mapping[tuple[int, ...], tuple[int, ...]] = {(2, 4, 6, 8, 6, 4, 2): (1, 2, 4, 8, 4, 2, 1)}
EPS = 1e-6


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return "transformer_blocks.0.0.attn1.add_q_proj.weight" in keys


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    # the published config holds those of all parts
    config = config.get("predictor", config)
    require(config, FIXED)
    dim, channels, patch, _ = tensors["patch_embed.proj.weight"].shape
    stages = tuple(
        count(tensors, rf"transformer_blocks\.{stage}\.(\d+)\.")
        for stage in range(count(tensors, r"transformer_blocks\.(\d+)\."))
    )
    if any(blocks % 2 for blocks in stages):
        raise ValueError(f"stages with {list(stages)} blocks: an even number each")
    sparse = tuple(config["sparse_n"]) if "sparse_n" in config else SPARSE.get(stages)
    if sparse is None or len(sparse) != len(stages):
        raise ValueError(f"sparse_n={sparse} of stages with {list(stages)} blocks: a config must say one a stage")
    head_dim = tensors["transformer_blocks.0.0.attn1.norm_q.weight"].shape[0]
    time_dim, features = tensors["time_text_embed.timestep_embedder.linear_1.weight"].shape
    return {
        "latent_channels": channels,
        "text_dim": tensors["caption_projection.weight"].shape[1],
        "pooled_dim": tensors["time_text_embed.text_embedder.linear_1.weight"].shape[1],
        "dim": dim,
        "depth": sum(stages),
        "num_heads": dim // head_dim,
        "patch_size": (1, patch, patch),
        "layers": _schedule(stages, sparse),
        "stages": stages,
        "bias": "transformer_blocks.0.0.attn1.to_q.bias" in tensors,
        "final_norm": True,
        "dit": {
            "block": {"name": "double"},
            "position": {
                "name": "rope",
                "split": (head_dim // 16 * 4, head_dim // 16 * 6, head_dim // 16 * 6),
                "pairs": "axis_half",
            },
            # times there run from 0 to 1000
            "time": {"name": "sincos", "dim": time_dim, "features": features, "scale": 1000.0},
            "modulation": {"name": "adaln_zero"},
            "norm": {"name": "layer", "affine": True, "eps": config.get("norm_eps", EPS)},
            "qk_norm": {"name": "rms", "eps": config.get("norm_eps", EPS)},
            "mlp": {"name": "gelu", "ratio": 4.0, "approximate": "tanh", "bias": False},
            "caption": {"name": "linear"},
            "pool": {"name": "mlp"},
        },
    }


def _schedule(stages: tuple[int, ...], sparse: tuple[int, ...]) -> str:
    """Skips of one kind and the other in turn; the last block is the last that reads the text."""
    items = [_stage(blocks, k) for blocks, k in zip(stages[:-1], sparse[:-1], strict=True)]
    blocks, k = stages[-1], sparse[-1]
    if k == 1:
        items += [f"double*{blocks - 1}", "double(last=true, spare=true)"]
    else:
        items += [_stage(blocks - 2, k)] if blocks > 2 else []
        items += [_skip("single", k), f"{_skip('group', k)[:-1]}, last=true, spare=true)"]
    return f"[{', '.join(items)}]"


def _stage(blocks: int, k: int) -> str:
    return f"double*{blocks}" if k == 1 else f"[{_skip('single', k)}, {_skip('group', k)}]*{blocks // 2}"


def _skip(mode: str, k: int) -> str:
    return f"skiparse_double(mode={mode}, k={k}, over_padding=true)"


def _renames(knobs: Config) -> list[tuple[str, str]]:
    dim, places = knobs["dim"], []
    for stage, blocks in enumerate(knobs["stages"]):
        places += [(stage, index) for index in range(blocks)]
    halves = {"modulation": f"[rows 0:{3 * dim}]", "text_modulation": f"[rows {3 * dim}:{6 * dim}]"}
    return [
        *(
            (rf"\.{ours}\.linear\.(\w+)$", rf".{{norm1.linear.\1{rows},norm2.linear.\1{rows}}}")
            for ours, rows in halves.items()
        ),
        (r"\.text_modulation\.norms\.0\.", ".norm1.norm_enc."),
        (r"\.text_modulation\.norms\.1\.", ".norm2.norm_enc."),
        (r"\.modulation\.norms\.0\.", ".norm1.norm."),
        (r"\.modulation\.norms\.1\.", ".norm2.norm."),
        *((pattern, name.replace(".attn.", ".attn1.")) for pattern, name in ATTENTION),
        (r"\.text_mlp\.0\.", ".ff_enc.net.0.proj."),
        (r"\.text_mlp\.2\.", ".ff_enc.net.2."),
        (r"^(blocks\.\d+)\.mlp\.0\.", r"\1.ff.net.0.proj."),
        (r"^(blocks\.\d+)\.mlp\.2\.", r"\1.ff.net.2."),
        *(
            (rf"^blocks\.{layer}\.", f"transformer_blocks.{stage}.{index}.")
            for layer, (stage, index) in enumerate(places)
        ),
        (r"^skips\.tokens\.(\d+)\.", r"skip_norm_linear.\1.1."),
        (r"^skips\.text\.(\d+)\.", r"skip_norm_linear_enc.\1.1."),
        *two_layers(
            r"time\.mlp",
            "time_text_embed.timestep_embedder.linear_1",
            "time_text_embed.timestep_embedder.linear_2",
        ),
        *two_layers("pooled", "time_text_embed.text_embedder.linear_1", "time_text_embed.text_embedder.linear_2"),
        (r"^text\.0\.", "caption_projection."),
        (r"^embed\.", "patch_embed.proj."),
        (r"^modulation\.", "norm_out."),
        (r"^norm\.", "norm_final."),
        (r"^out\.", "proj_out."),
    ]


def _transforms(knobs: Config) -> Mapping[str, Transform]:
    _, h, w = knobs["patch_size"]
    return {
        r"patch_embed\.proj\.weight": rearranged("d c h w -> d (c h w)", h=h, w=w),
        r"proj_out\..*": rearranged("(h w c) ... -> (c h w) ...", h=h, w=w),
    }


LAYOUT = Layout(
    kind="denoiser", part="dit", recognise=_recognise, knobs=_knobs, renames=_renames, transforms=_transforms
)


@LAYOUTS.register("osp_suv")
def _layout() -> Layout:
    return LAYOUT
