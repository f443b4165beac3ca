"""`videogen reconstruct`: a real clip through the VAE, what is lost in decibel, and both side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from tqdm import tqdm

from videogen.commands.outputs import check_output, labelled
from videogen.config import build_vae
from videogen.data.excerpt import excerpt
from videogen.data.glimpses import Glimpses
from videogen.data.sheet import contact_sheet, side_by_side
from videogen.data.video import MAX_PIXELS, Size, VideoReader, VideoWriter, open_video
from videogen.metrics.fidelity import WINDOW, Fidelity
from videogen.pipelines.reconstruct import reconstruct_pairs

SEPARATOR = 4  # white pixels between original and reconstruction
MAX_SIDE = 16384  # of a picture that x264 takes
MAX_SECONDS = 10**6  # more than any file lasts


class Reconstruction(NamedTuple):
    """What came of it: frames, their size in pixels, frames per second, decibel, similarity, and the two files."""

    num_frames: int
    size: Size
    fps: float
    psnr: float
    ssim: float
    video: Path
    sheet: Path


def reconstruct(config: Mapping[str, Any], label: str = "") -> Reconstruction:
    """Print PSNR and SSIM of a clip's reconstruction; write original and reconstruction beside each other.

    Reading, scaling, the VAE, the figures and writing go through the clip together, `chunk` frames at a time, so that a
    long film takes no more memory than a short one. A VAE that can't be cut gets the clip whole, as stderr says then.
    An image is a clip of one frame: its contact sheet, a PNG, is then the pair itself, without the loss of the MP4.

    Args:
        config: composed for "reconstruct".
        label: to go into the names of the files.

    Raises:
        ValueError: no input, an input that is no video, a part or a size that can't be had, or a path that can't be
            written; no file is written then.
    """
    source, output = find_paths(config, label)
    with open_video(source) as reader:
        start, max_frames = find_range(config, reader.fps)
        size = find_size(config, reader)
        vae = build_vae(config)
        chunks = excerpt(reader, start=start, max_frames=max_frames, size=size, chunk=config["chunk"])
        if vae.whole_clip_only:
            print(f"videogen: this VAE takes the clip whole, in memory: {vae.whole_clip_only}", file=sys.stderr)
            chunks = within(chunks, MAX_PIXELS)
        fidelity, glimpses = Fidelity(), Glimpses()
        left = [count for count in (max_frames, reader.num_frames and reader.num_frames - start) if count]
        bar = tqdm(total=min(left, default=None), desc="frames", disable=None)
        with bar, VideoWriter(output, reader.fps) as writer:
            for original, rebuilt in reconstruct_pairs(vae, chunks):
                # also refuses what isn't finite, before any figure is made of it
                pair = side_by_side(original, rebuilt, separator=SEPARATOR, start=writer.num_frames)
                fidelity.add(original, rebuilt)
                glimpses.add(pair)
                writer.write(pair)
                bar.update(pair.shape[1])
    sheet = output.with_suffix(".png")
    # a pair is wide
    contact_sheet(glimpses.frames(), sheet, columns=2)
    found = Reconstruction(writer.num_frames, size, reader.fps, fidelity.psnr(), fidelity.ssim(), output, sheet)
    print(f"PSNR {found.psnr:.2f} dB, SSIM {found.ssim:.4f}")
    print(output)
    print(sheet)
    return found


def find_paths(config: Mapping[str, Any], label: str = "") -> tuple[Path, Path]:
    """The clip, and where the pair goes.

    Raises:
        ValueError: no clip is given, the pair or its sheet can't be written, or would take the place of the clip.
    """
    if config["input"] is None:
        raise ValueError("no clip: give a video file, videogen reconstruct input=clip.mp4")
    source = Path(config["input"])
    chosen = config["output"] if config["output"] is not None else f"{source.stem}-reconstructed.mp4"
    output = labelled(chosen, label)
    check_output(output)
    for written in (output, output.with_suffix(".png")):
        if written.exists() and source.exists() and written.samefile(source):
            raise ValueError(f"output={output} would write {written} over the clip itself: give another output=")
    return source, output


def find_range(config: Mapping[str, Any], fps: float) -> tuple[int, int | None]:
    """The first frame, and how many to take at most (None for all), from `start`, `seconds` and `num_frames`.

    Raises:
        ValueError: both lengths are given, or a time is out of range.
    """
    start, seconds, num_frames = config["start"], config["seconds"], config["num_frames"]
    if seconds is not None and num_frames is not None:
        raise ValueError(f"seconds={seconds} and num_frames={num_frames}: give one of the two")
    if not 0 <= start <= MAX_SECONDS:
        raise ValueError(f"start={start} is out of range: from 0 to {MAX_SECONDS} seconds")
    if seconds is None:
        return round(start * fps), num_frames
    if not (0 < seconds <= MAX_SECONDS and round(seconds * fps) >= 1):
        raise ValueError(f"seconds={seconds} is out of range: from a frame, {1 / fps:.3g}, to {MAX_SECONDS}")
    return round(start * fps), round(seconds * fps)


def find_size(config: Mapping[str, Any], reader: VideoReader) -> Size:
    """Height and width to reconstruct at: those given, else those of the file.

    Raises:
        ValueError: one without the other, sides below SSIM's window, or a pair that is too large for H.264.
    """
    height, width = config["height"], config["width"]
    if (height is None) != (width is None):
        given, missing = ("height", "width") if width is None else ("width", "height")
        raise ValueError(f"{given}={config[given]} without {missing}=: give both, or none for the size of the file")
    size = Size(reader.height, reader.width) if height is None else Size(height, width)
    # an odd side gets another row or column when it is written
    most = Size(MAX_SIDE, (MAX_SIDE - SEPARATOR) // 2)
    if min(size) < WINDOW or size.height > most.height or size.width > most.width:
        raise ValueError(
            f"frames of {size.width}x{size.height} are out of range: from {WINDOW}x{WINDOW}, which SSIM needs, to "
            f"{most.width}x{most.height}, of which two fit beside each other in H.264; choose with width= and height="
        )
    return size


def within(chunks: Iterable[Tensor], max_pixels: int) -> Iterator[Tensor]:
    """The chunks (3, t, H, W) themselves, as long as all of them together are no more than so many pixels (T * H * W).

    Raises:
        ValueError: they are more.
    """
    pixels = 0
    for chunk in chunks:
        pixels += chunk[0].numel()
        if pixels > max_pixels:
            raise ValueError(
                f"the clip has more than {max_pixels} pixels (frames x height x width), too many to take whole: "
                "take less of it (seconds=, num_frames=) or smaller frames (width=, height=)"
            )
        yield chunk
