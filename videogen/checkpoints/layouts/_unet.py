"""What the published layouts of the 3D U-Net share: the inside of its blocks, and the numbering of OpenAI's U-Net."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config
from videogen.checkpoints.layouts._shapes import GROUPS, count

#: heads of the first temporal transformer in every release
FIRST_HEADS = 8
#: image tokens of a frame in every release that has some for each
FRAME_TOKENS = 16

#: the inside of transformers, and the layers of convolutions along time, alike in all layouts
INSIDE = [
    (r"\.self_attention\.norm\.", ".transformer_blocks.0.norm1."),
    (r"\.cross_attention\.norm\.", ".transformer_blocks.0.norm2."),
    (r"\.attention([12])\.norm\.", r".transformer_blocks.0.norm\1."),
    (r"\.mlp\.norm\.", ".transformer_blocks.0.norm3."),
    (r"\.mlp\.expand\.", ".transformer_blocks.0.ff.net.0.proj."),
    (r"\.mlp\.out\.", ".transformer_blocks.0.ff.net.2."),
    (r"\.self_attention\.", ".transformer_blocks.0.attn1."),
    (r"\.cross_attention\.", ".transformer_blocks.0.attn2."),
    (r"\.attention([12])\.", r".transformer_blocks.0.attn\1."),
    (r"\.qkv\.", ".{to_q,to_k,to_v}."),
    (r"\.kv\.", ".{to_k,to_v}."),
    (r"\.image_kv\.", ".{to_k_ip,to_v_ip}."),
    (r"\.q\.", ".to_q."),
    (r"(\.attn[12])\.out\.", r"\1.to_out.0."),
    (r"\.image_gate$", ".alpha"),
    (r"\.key_positions$", ".relative_position_k.embeddings_table"),
    (r"\.value_positions$", ".relative_position_v.embeddings_table"),
    (r"(^first|\.space|\.temporal)\.out\.", r"\1.proj_out."),
    # the first of the four has no dropout before its convolution
    (r"\.time_conv\.layers\.0\.3\.", ".time_conv.conv1.2."),
    *((rf"\.time_conv\.layers\.{index}\.", f".time_conv.conv{index + 1}.") for index in range(4)),
]


def numbered_renames(knobs: Config, *, first: str, down: str) -> list[tuple[str, str]]:
    """Our keys -> those with one number a block, from the first convolution on, https://arxiv.org/abs/2105.05233.

    Args:
        first: what the first temporal transformer is called.
        down: what a halving is called behind its block's number.
    """
    blocks, attends = knobs["num_res_blocks"], knobs["attention_levels"]
    places = []
    for level, _ in enumerate(attends):
        begin, top = 1 + level * (blocks + 1), level * (blocks + 1)
        places += [(rf"^down\.{level}\.cells\.{i}\.", f"input_blocks.{begin + i}.") for i in range(blocks)]
        places += [(rf"^up\.{level}\.cells\.{i}\.", f"output_blocks.{top + i}.") for i in range(blocks + 1)]
        # a doubling stands behind the other layers of the last cell
        layers = 3 if attends[-1 - level] else 1
        places += [
            (rf"^down\.{level}\.resample\.", f"input_blocks.{begin + blocks}.{down}."),
            (rf"^up\.{level}\.resample\.", f"output_blocks.{top + blocks}.{layers}.conv."),
        ]
    return [
        *INSIDE,
        (r"\.res\.norm1\.", ".res.in_layers.0."),
        (r"\.res\.conv1\.", ".res.in_layers.2."),
        (r"\.res\.time\.", ".res.emb_layers.1."),
        (r"\.res\.norm2\.", ".res.out_layers.0."),
        (r"\.res\.out\.", ".res.out_layers.3."),
        (r"\.res\.shortcut\.", ".res.skip_connection."),
        (r"\.time_conv\.", ".res.temopral_conv."),
        *places,
        (r"^((in|out)put_blocks\.\d+)\.res\.", r"\1.0."),
        (r"^((in|out)put_blocks\.\d+)\.space\.", r"\1.1."),
        (r"^((in|out)put_blocks\.\d+)\.temporal\.", r"\1.2."),
        (r"^middle\.0\.res\.", "middle_block.0."),
        (r"^middle\.0\.space\.", "middle_block.1."),
        (r"^middle\.0\.temporal\.", "middle_block.2."),
        (r"^middle\.1\.res\.", "middle_block.3."),
        (r"^first\.", f"{first}."),
        (r"^time\.mlp\.", "time_embed."),
        (r"^fps\.mlp\.", "fps_embedding."),
        (r"^conv_in\.", "input_blocks.0.0."),
        (r"^norm_out\.", "out.0."),
        (r"^conv_out\.", "out.2."),
    ]


def numbered_knobs(tensors: Mapping[str, Tensor], *, first: str, down: str, heads: int) -> dict[str, Any]:
    """What names and shapes tell of a U-Net with such keys, and of its wiring.

    Args:
        heads: of the first temporal transformer.

    Raises:
        KeyError: a tensor that tells a size is missing.
    """
    base, channels_in = tensors["input_blocks.0.0.weight"].shape[:2]
    latents = tensors["out.2.weight"].shape[0]
    if channels_in not in (latents, 2 * latents):
        raise ValueError(f"{channels_in} channels in and {latents} out: only as many, or twice as many in, are known")
    halvings = sorted(int(key.split(".")[1]) for key in tensors if key.endswith(f".{down}.weight"))
    cells = (halvings[0] if halvings else count(tensors, r"input_blocks\.(\d+)\.")) - 1
    starts = [1 + level * (cells + 1) for level in range(len(halvings) + 1)]
    widths = [tensors[f"input_blocks.{start}.0.out_layers.3.weight"].shape[0] for start in starts]
    attention = "transformer_blocks.0.attn"
    distances = tensors.get(f"{first}.{attention}1.relative_position_k.embeddings_table")
    image = f"middle_block.1.{attention}2.to_k_ip.weight" in tensors
    return {
        "latent_channels": latents,
        "text_dim": tensors[f"middle_block.1.{attention}2.to_k.weight"].shape[1],
        "base_channels": base,
        "channel_multipliers": tuple(width // base for width in widths),
        "num_res_blocks": cells,
        "attention_levels": tuple(f"input_blocks.{start}.1.norm.weight" in tensors for start in starts),
        "head_dim": tensors[f"{first}.proj_in.weight"].shape[0] // heads,
        "first_heads": heads,
        "norm_groups": GROUPS,
        "time_conv": "middle_block.0.temopral_conv.conv1.0.weight" in tensors,
        "relative_positions": 0 if distances is None else distances.shape[0] // 2,
        "use_fps": "fps_embedding.0.weight" in tensors,
        "image_attention": image,
        "image_gate": f"middle_block.1.{attention}2.alpha" in tensors,
        # what takes latents beside the image's tokens is DynamiCrafter, and its code has the number in it
        "image_tokens_per_frame": FRAME_TOKENS if image and channels_in > latents else 0,
        "known_latents": channels_in > latents,
    }
