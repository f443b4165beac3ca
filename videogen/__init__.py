"""Interchangeable parts for text-to-video generation; importing this loads neither torch nor hydra."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from videogen._version import __version__
from videogen.denoiser import Condition
from videogen.kinds import registry

if TYPE_CHECKING:
    from videogen.pipelines.text_to_video import TextToVideo

__all__ = ["Condition", "__version__", "build", "load", "names", "pipeline"]


def names(kind: str, pattern: str = "*") -> list[str]:
    """The names of all parts of a kind that match a shell pattern, e.g. `names("vae", "w*")`."""
    return registry(kind).names(pattern)


def build(kind: str, name: str, *wiring: Any, **knobs: Any) -> Any:
    """One part alone, with random weights, e.g. `build("vae", "wavelet", latent_channels=8)`."""
    return registry(kind).build(name, *wiring, **knobs)


def pipeline(*overrides: str) -> TextToVideo:
    """The pipeline that these overrides choose, the same as on the command line, e.g. `pipeline("model=shapes")`."""
    from videogen.config import build_pipeline, compose

    return build_pipeline(compose("generate", overrides))


def load(path: str | Path, kind: str | None = None) -> Any:
    """The part that a checkpoint of ours or a published one, a folder or a file, holds, with its weights.

    Args:
        kind: of the part, for a file that holds several, e.g. "denoiser".
    """
    from videogen.config import load_part

    return load_part(Path(path), kind)
