"""The parts that a DiT is made of, chosen by name."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from videogen.dit.blocks import BLOCKS, Block, Kit
from videogen.dit.captions import CAPTIONS
from videogen.dit.compatibility import refusal
from videogen.dit.crosses import CROSSES
from videogen.dit.defaults import DEFAULTS as DEFAULTS
from videogen.dit.image_tokens import IMAGE_TOKENS, ImageTokens
from videogen.dit.known import KNOWN, Known
from videogen.dit.mlps import MLPS
from videogen.dit.modulations import MODULATIONS, Modulation
from videogen.dit.norms import NORMS
from videogen.dit.pools import POOLS, Pool
from videogen.dit.positions import POSITIONS, Position
from videogen.dit.qk_norms import QK_NORMS
from videogen.dit.schedule import layers
from videogen.dit.times import TIMES, Time
from videogen.kernels import ATTENTION, Attention
from videogen.kernels.fused import FUSED, Fused
from videogen.registry import Registry

REGISTRIES: Mapping[str, Registry[Any]] = {
    "block": BLOCKS,
    "position": POSITIONS,
    "time": TIMES,
    "modulation": MODULATIONS,
    "norm": NORMS,
    "qk_norm": QK_NORMS,
    "mlp": MLPS,
    "cross": CROSSES,
    "caption": CAPTIONS,
    "pool": POOLS,
    "image_tokens": IMAGE_TOKENS,
    "known": KNOWN,
}


@dataclasses.dataclass(frozen=True)
class Parts:
    """Builders of a DiT's parts; each takes what its registry says.

    Args:
        attention: the kernel itself.
        block: of one layer, `block(dim, num_heads, kit)`.
        position: `position(dim, num_heads)`.
        time: `time(width)`.
        modulation: `modulation(dim, time_dim, norm)`.
        norm: `norm(dim)`.
        qk_norm: `qk_norm(num_heads, head_dim)`.
        mlp: `mlp(dim)`.
        cross: `cross(dim, num_heads, kit)`.
        caption: `caption(text_dim, dim)`.
        pool: `pool(text_dim, pooled_dim, dim)`.
        image_tokens: `image_tokens(dim)`.
        known: `known(latent_channels, volume, dim)`.
        names: kind -> the registered name of its part; those that are no registered parts have none.
        fused: the small operations of all layers, plain torch by default.
    """

    attention: Attention
    block: Callable[[int, int, Kit], Block]
    position: Callable[[int, int], Position]
    time: Callable[[int], Time]
    modulation: Callable[[int, int, Any], Modulation]
    norm: Callable[[int], Any]
    qk_norm: Callable[[int, int], Any]
    mlp: Callable[[int], Any]
    cross: Callable[[int, int, Kit], Any]
    caption: Callable[[int, int], Any]
    pool: Callable[[int, int, int], Pool]
    image_tokens: Callable[[int], ImageTokens]
    known: Callable[[int, int, int], Known]
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fused: Fused = dataclasses.field(default_factory=lambda: FUSED.build("torch"))

    def check(self, schedule: str | None, head_dim: int) -> None:
        """Refuse parts that don't go together, by what they declare, see `videogen.dit.compatibility`.

        Args:
            schedule: the layers, as the DiT takes them.
            head_dim: channels of a head.

        Raises:
            ValueError: the reason and the remedy.
        """
        named = {layer.name for layer in layers(schedule)} if schedule is not None else {"block"}
        for block in sorted(named):
            names = dict(self.names) if block == "block" else {**self.names, "block": block}
            if (reason := refusal(REGISTRIES, names, self.attention, head_dim)) is not None:
                raise ValueError(reason)

    def kit(self, modulation: Modulation, bias: bool, text_dim: int | None = None) -> Kit:
        """What each block is made of, once the modulation of the model is known."""
        return Kit(
            attention=self.attention,
            modulation=modulation.layer,
            qk_norm=self.qk_norm,
            mlp=self.mlp,
            cross=self.cross,
            bias=bias,
            text_dim=text_dim,
        )


def choose(attention: Attention | None = None, fused: Fused | None = None, **choices: str | Mapping[str, Any]) -> Parts:
    """Parts by name, or by a node that holds a `name` and knobs; the defaults for all others.

    Example: `choose(block="factorized", mlp={"name": "swiglu", "ratio": 8 / 3})`.

    Args:
        attention: the kernel, sdpa by default.
        fused: the small operations of all layers, plain torch by default.
        choices: kind, as in `DEFAULTS` -> name or node.

    Raises:
        RegistryError: no such kind, name or knob, or a value of another type.
    """
    nodes = {kind: {"name": name} for kind, name in DEFAULTS.items()}
    nodes |= {kind: {"name": said} if isinstance(said, str) else dict(said) for kind, said in choices.items()}
    builders, names = {}, {}
    for kind, node in nodes.items():
        name, knobs = node["name"], {key: value for key, value in node.items() if key != "name"}
        REGISTRIES[kind].check(name, knobs)
        names[kind] = REGISTRIES[kind].describe(name).name
        builders[kind] = functools.partial(REGISTRIES[kind].build, name, **knobs)
    kernel, ops = attention or ATTENTION.build("sdpa"), fused or FUSED.build("torch")
    return Parts(attention=kernel, names=names, fused=ops, **builders)
