"""`videogen reconstruct`: a real clip through the VAE, what is lost in decibel, and both side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videogen.commands.outputs import check_output, labelled
from videogen.config import build_vae
from videogen.data.sheet import contact_sheet, side_by_side
from videogen.data.video import read_video, write_video
from videogen.metrics.fidelity import psnr, ssim
from videogen.pipelines.reconstruct import reconstruct as reconstruct_video


def reconstruct(config: Mapping[str, Any], label: str = "") -> None:
    """Print PSNR and SSIM of a clip's reconstruction; write original and reconstruction beside each other.

    Args:
        config: composed for "reconstruct".
        label: to go into the names of the files.

    Raises:
        ValueError: no input, an input that is no video, or a path that can't be written.
    """
    if config["input"] is None:
        raise ValueError("no clip: give a video file, videogen reconstruct input=clip.mp4")
    source = Path(config["input"])
    chosen = config["output"] if config["output"] is not None else f"{source.stem}-reconstructed.mp4"
    output = labelled(chosen, label)
    check_output(output)
    clip = read_video(source)
    rebuilt = reconstruct_video(build_vae(config), clip.frames, chunk=config["chunk"])
    # also refuses what isn't finite, before any figure is printed
    pair = side_by_side(clip.frames, rebuilt)
    print(f"PSNR {psnr(clip.frames, rebuilt).item():.2f} dB, SSIM {ssim(clip.frames, rebuilt).item():.4f}")
    write_video(output, pair, clip.fps)
    contact_sheet(pair, output.with_suffix(".png"))
    print(output)
    print(output.with_suffix(".png"))
