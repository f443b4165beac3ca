"""Autoencoders in bounded memory: wrappers that are VAEs themselves and cut what is coded in space or in time.

A floor of its own, since these are no architectures: each takes any `VideoVAE`, a plugin's too, and keeps its contract.
"""

from videogen.bounded.budget import BoundedVAE, parse_bytes
from videogen.bounded.memory import Peak, on_meta, receptive_field
from videogen.bounded.tiles import TiledVAE
from videogen.bounded.windows import WindowedVAE

__all__ = ["BoundedVAE", "Peak", "TiledVAE", "WindowedVAE", "on_meta", "parse_bytes", "receptive_field"]
