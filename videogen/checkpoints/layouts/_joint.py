"""What the published layouts of DiTs with a stream of text share."""

from __future__ import annotations

from videogen.checkpoints.layout import Config
from videogen.dit.schedule import layers

#: joint attention, as diffusers' Attention with projections for what is added
ATTENTION = [
    (r"\.attention\.text\.qkv\.", ".attn.{add_q_proj,add_k_proj,add_v_proj}."),
    (r"\.attention\.text\.norm_([qk])\.", r".attn.norm_added_\1."),
    (r"\.attention\.text\.out\.", ".attn.to_add_out."),
    (r"\.attention\.qkv\.", ".attn.{to_q,to_k,to_v}."),
    (r"\.attention\.norm_([qk])\.", r".attn.norm_\1."),
    (r"\.attention\.out\.", ".attn.to_out.0."),
]
#: MLPs of two layers, as diffusers' FeedForward
MLP = [
    (r"\.text_mlp\.0\.", ".ff_context.net.0.proj."),
    (r"\.text_mlp\.2\.", ".ff_context.net.2."),
    (r"(blocks\.\d+)\.mlp\.0\.", r"\1.ff.net.0.proj."),
    (r"(blocks\.\d+)\.mlp\.2\.", r"\1.ff.net.2."),
]


def two_layers(ours: str, first: str, second: str) -> list[tuple[str, str]]:
    """The names of two linear layers around an activation."""
    return [(rf"^{ours}\.0\.", f"{first}."), (rf"^{ours}\.2\.", f"{second}.")]


def schedule(**counts: int) -> str:
    """The layers of a model: blocks by name, each so many times in a row."""
    return "[" + ", ".join(f"{name}*{count}" for name, count in counts.items() if count) + "]"


def renumbered(knobs: Config, **names: str) -> list[tuple[str, str]]:
    """Our layers, by the name of their block -> the list that they stand in, each numbered from 0."""
    found: dict[str, int] = dict.fromkeys(names, 0)
    pairs = []
    for index, layer in enumerate(layers(knobs["layers"])):
        pairs.append((rf"^blocks\.{index}\.", f"{names[layer.name]}.{found[layer.name]}."))
        found[layer.name] += 1
    return pairs


def single_out(knobs: Config, block: str, name: str) -> list[tuple[str, str]]:
    """The last layers of attention and MLP of a single block, which are columns of one there, with one bias.

    Args:
        block: a pattern of such a block's name.
        name: of that layer in it.
    """
    dim, width = knobs["dim"], knobs["dit"]["mlp"]["hidden"]
    return [
        (rf"^({block})\.attention\.out\.weight$", rf"\1.{name}.weight[columns 0:{dim}]"),
        (rf"^({block})\.mlp\.2\.weight$", rf"\1.{name}.weight[columns {dim}:{dim + width}]"),
        (rf"^({block})\.mlp\.2\.bias$", rf"\1.{name}.bias"),
    ]


def single_in(knobs: Config, block: str, name: str) -> list[tuple[str, str]]:
    """The first layers of attention and MLP of a single block, which are rows of one there.

    Args:
        block: a pattern of such a block's name.
        name: of that layer in it.
    """
    dim, width = knobs["dim"], knobs["dit"]["mlp"]["hidden"]
    return [
        (rf"^({block})\.attention\.qkv\.(\w+)$", rf"\1.{name}.\2[rows 0:{3 * dim}]"),
        (rf"^({block})\.mlp\.0\.(\w+)$", rf"\1.{name}.\2[rows {3 * dim}:{3 * dim + width}]"),
    ]
