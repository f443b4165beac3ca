"""How fast do our autoencoders decode, and in how much memory, beside diffusers' on the same weights?

    python benchmarks/vae.py --peer diffusers
    python benchmarks/vae.py --peer diffusers --families wan ltx --size 5x128x128 --long 0
    python benchmarks/vae.py --lengths 73 145 289 577

With `--peer`, both hold the same random weights at the published size and take the same latents; each pair meets in
its numbers before it meets the clock, and takes turns in one process. Then both decode 24 seconds of 168x96, narrower
than published so that it takes minutes, each in the way that its documentation gives for little memory: ours hands a
stream on, piece by piece; diffusers' returns the film, made in slices, tiles and windows where it has them. With
`--lengths`, the shipped model decodes clips of 168x96 as a stream: peak memory and time by length, with a plot.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from harness import RESULTS, facts, interleaved, markdown_table, write
from torch import Tensor, nn

import videogen
from videogen.bounded import WindowedVAE
from videogen.vae import VAES, VideoVAE

# largest difference as a share of the largest output: roundings of float32 through some hundred layers
ALLOWED = 1e-4
# height and width of the long clips
SMALL = (96, 168)
# of each length; memory and time are those of the best
PASSES = 2
# of the long clips that are cut into windows, as diffusers' defaults have it: frames, and from one to the next
WINDOWS = {"hunyuan": (16, 12), "ltx": (16, 8)}
SD = {
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
DC = {
    "encoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
    "decoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
}


class Family(NamedTuple):
    """A family that both have.

    Args:
        module, name: diffusers' class.
        config: what its constructor is told beside its defaults, to be as published.
        narrow: and what to be an eighth as wide (`ltx` a quarter).
        images: its decoder takes frames as a batch of images.
    """

    module: str
    name: str
    config: dict[str, Any]
    narrow: dict[str, Any]
    layout: str
    images: bool = False


NARROW = (16, 32, 64, 64)
FAMILIES = {
    "framewise": Family(
        "autoencoder_kl", "AutoencoderKL", SD, {"block_out_channels": NARROW, "norm_num_groups": 16}, "sd", images=True
    ),
    "wan": Family("autoencoder_kl_wan", "AutoencoderKLWan", {}, {"base_dim": 12}, "wan"),
    "cogvideox": Family(
        "autoencoder_kl_cogvideox",
        "AutoencoderKLCogVideoX",
        {},
        {"block_out_channels": (16, 32, 32, 64), "norm_num_groups": 16},
        "cogvideox",
    ),
    "ltx": Family(
        "autoencoder_kl_ltx",
        "AutoencoderKLLTXVideo",
        {},
        {"block_out_channels": (32, 64, 128, 128), "decoder_block_out_channels": (32, 64, 128, 128)},
        "ltx",
    ),
    "hunyuan": Family(
        "autoencoder_kl_hunyuan_video",
        "AutoencoderKLHunyuanVideo",
        {},
        {"block_out_channels": NARROW, "norm_num_groups": 16},
        "hunyuan",
    ),
    "dc": Family(
        "autoencoder_dc",
        "AutoencoderDC",
        DC,
        {f"{half}_block_out_channels": (16, 32, 64, 64, 128, 128) for half in ("encoder", "decoder")},
        "dc",
        images=True,
    ),
}


def pair(family: Family, config: dict[str, Any]) -> tuple[nn.Module, Any]:
    """Diffusers' autoencoder with random weights, and ours with the same."""
    module = importlib.import_module(f"diffusers.models.autoencoders.{family.module}")
    torch.manual_seed(0)
    theirs: Any = getattr(module, family.name)(**config).eval()
    layout = importlib.import_module(f"videogen.checkpoints.layouts.{family.layout}").LAYOUT
    published = theirs.state_dict()
    knobs = layout.knobs(theirs.config, published)
    ours = VAES.build(layout.part, **knobs).eval()
    ours.load_state_dict(layout.to_ours(published, ours, knobs))
    return theirs, ours


def their_decode(theirs: Any, latents: Tensor, images: bool) -> Tensor:
    """(B, C, t, h, w) -> (B, 3, T, H, W); their image autoencoders take the frames as a batch."""
    if not images:
        return theirs.decode(latents).sample
    frames = theirs.decode(latents.transpose(1, 2).flatten(0, 1)).sample
    return frames.unflatten(0, (len(latents), -1)).transpose(1, 2)


def peak_mib(run: Callable[[], object]) -> float:
    """How far the process grows while `run` goes on, in MiB, by the kernel's own mark of the highest resident size."""
    # what earlier calls freed goes back to the system first, or it would hide what this one takes
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    run()
    return (_resident("VmHWM") - before) / 1024


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


@torch.no_grad()
def compare(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One family: agreement, ratio of decoding times, ratio of peak memory."""
    family = FAMILIES[name]
    theirs, ours = pair(family, family.config)
    spec = ours.spec
    side = spec.spatial_stride
    frames, height, width = options.size
    height, width = -(-height // side) * side, -(-width // side) * side
    latents = torch.randn(1, *spec.latent_shape(spec.fitting_length(frames), height, width))
    runs: dict[str, Callable[[], Tensor]] = {
        "diffusers": lambda: their_decode(theirs, latents, family.images),
        "videogen": lambda: ours.decode(latents),
    }
    with torch.inference_mode():
        # some of theirs clamp what they give
        wanted, got = (run().clamp(-1, 1) for run in runs.values())
        error = float((got - wanted).abs().max() / wanted.abs().max())
        row: dict[str, Any] = {"family": name, "latents": "x".join(map(str, latents.shape[1:])), "error": error}
        if not error <= ALLOWED:
            return {**row, "status": f"wrong: error above {ALLOWED:g}, not timed"}
        del wanted, got
        peaks = {label: peak_mib(run) for label, run in runs.items()}
        times = interleaved(runs, device="cpu", rounds=options.rounds, seconds=0.0)
    for label in runs:
        row |= {f"{label} s": times[label].median / 1e3, f"{label} MiB": peaks[label]}
    row["speed-up"] = times["diffusers"].median / times["videogen"].median
    row["by the clock"] = times["diffusers"].wall / times["videogen"].wall
    return {**row, "memory": peaks["videogen"] / peaks["diffusers"], "status": "ok"}


@torch.no_grad()
def compare_long(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One narrow family and a long clip: peak memory and CPU time, each in its own way of saving memory."""
    family = FAMILIES[name]
    theirs, ours = pair(family, {**family.config, **family.narrow})
    # what its documentation recommends: https://huggingface.co/docs/diffusers/optimization/memory
    theirs.enable_slicing()
    theirs.enable_tiling()
    if hasattr(theirs, "use_framewise_decoding"):
        theirs.use_framewise_decoding = True
    if name in WINDOWS:
        window, stride = WINDOWS[name]
        ours = WindowedVAE(ours, window=window, stride=stride)
    frames, side = ours.spec.fitting_length(options.long), ours.spec.spatial_stride
    latents = torch.randn(1, *ours.spec.latent_shape(frames, *(-(-size // side) * side for size in SMALL)))

    def stream() -> int:
        return sum(piece.shape[2] for piece in ours.decode_stream(latents.split(options.chunk, dim=2)))

    runs: dict[str, Callable[[], object]] = {
        "diffusers": lambda: their_decode(theirs, latents, family.images).shape[2],
        "videogen": stream,
    }
    row: dict[str, Any] = {"family": name, "frames": frames}
    with torch.inference_mode():
        # the first run of all pays for code that is loaded once
        ours.decode(latents[:, :, :1])
        for label, run in runs.items():
            start = time.process_time()
            row |= {f"{label} MiB": peak_mib(run), f"{label} CPU s": time.process_time() - start}
    return {**row, "memory": row["videogen MiB"] / row["diffusers MiB"]}


@torch.no_grad()
def by_length(vae: VideoVAE, frames: int, chunk: int, size: tuple[int, int]) -> dict[str, Any]:
    """The shipped model decodes `frames` frames as a stream; nobody keeps them."""
    shape = vae.spec.latent_shape(vae.spec.fitting_length(frames), *size)
    latents = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))

    def run() -> None:
        shown = sum(piece.shape[2] for piece in vae.decode_stream(latents.split(chunk, dim=2)))
        assert shown == vae.spec.fitting_length(frames)

    peaks, seconds = [], []
    with torch.inference_mode():
        for _ in range(PASSES):
            start = time.process_time()
            peaks.append(peak_mib(run))
            seconds.append(time.process_time() - start)
    # the least: what is beyond it is room that the allocator had left over
    return {"frames": frames, "seconds at 24 fps": frames / 24, "peak MiB": min(peaks), "CPU s": min(seconds)}


def plot(path: Path, rows: list[dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for axes, key, label in ((left, "peak MiB", "peak memory, MiB"), (right, "CPU s", "CPU time, s")):
        axes.plot([row["frames"] for row in rows], [row[key] for row in rows], marker="o")
        axes.set_xlabel("frames of 168x96")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("the shipped model decodes a stream", fontsize=10)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def parse_size(text: str) -> tuple[int, int, int]:
    frames, height, width = map(int, text.split("x"))
    return frames, height, width


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    machine = facts("cpu")
    known = "Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items() if value is not None)
    if options.lengths:
        vae = videogen.pipeline("model=shapes").vae
        # the first run of all pays for code that is loaded once
        by_length(vae, 25, options.chunk, (96, 168))
        rows = [by_length(vae, frames, options.chunk, (96, 168)) for frames in options.lengths]
        told = markdown_table(rows, ["frames", "seconds at 24 fps", "peak MiB", "CPU s"])
        ratio = rows[-1]["peak MiB"] / rows[0]["peak MiB"]
        said = f"Peak memory at {rows[-1]['frames']} frames is {ratio:.2f} times that at {rows[0]['frames']}."
        write(
            "vae_lengths",
            {"facts": machine, "rows": rows},
            f"# Memory and time by length\n\n{said}\n\n{told}\n\n{known}",
        )
        plot(RESULTS / "vae_lengths.png", rows)
        print(told, said, sep="\n")
    if options.peer:
        peer(options, machine)


def peer(options: argparse.Namespace, machine: dict[str, Any]) -> None:
    """Both tables: of short clips as wide as published, and of long ones."""
    sides = ("diffusers", "videogen")
    columns = ["family", "latents", "error", *(f"{side} s" for side in sides), "speed-up", "by the clock"]
    columns += [*(f"{side} MiB" for side in sides), "memory", "status"]
    long_columns = ["family", "frames", *(f"{side} {unit}" for unit in ("MiB", "CPU s") for side in sides), "memory"]
    told = (
        "s, speed-up: medians of CPU time and their ratio, diffusers over videogen; by the clock: of time on the wall. "
        "memory: ratio of peaks beside the weights, videogen over diffusers. "
        f"{options.rounds} rounds, float32, {options.threads} threads."
    )
    told_long = (
        f"{SMALL[1]}x{SMALL[0]}, an eighth of the published widths (ltx: a quarter). diffusers: slicing, tiling, "
        "windows in time where it has them; its peak holds the film, which it returns whole. videogen: a stream, whose "
        "pieces are handed on (hunyuan, ltx: of windows like theirs)."
    )
    title = "Decoding beside diffusers, on the same weights"
    if options.rounds:
        _table("vae_diffusers", title, columns, told, (compare(name, options) for name in options.families), machine)
    if options.long:
        rows = (compare_long(name, options) for name in options.families)
        _table("vae_diffusers_long", f"{title}: a long clip", long_columns, told_long, rows, machine)


def _table(
    name: str, title: str, columns: list[str], told: str, rows: Iterable[dict[str, Any]], machine: dict[str, Any]
) -> None:
    """Written anew after each row."""
    known = "Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items() if value is not None)
    done: list[dict[str, Any]] = []
    for row in rows:
        done.append(row)
        text = "\n\n".join([f"# {title}", markdown_table(done, columns), told, known])
        write(name, {"facts": machine, "rows": done}, text)
        print(markdown_table([row], columns), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", choices=["diffusers"], help="compare with this library")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--size", type=parse_size, default=(9, 64, 64), help="frames x height x width, rounded up")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each; 0 leaves out the short clips")
    parser.add_argument("--long", type=int, default=577, help="frames of the long clips of --peer; 0 leaves them out")
    parser.add_argument("--lengths", nargs="+", type=int, default=[], help="frames of the shipped model's clips")
    parser.add_argument("--chunk", type=int, default=1, help="latent frames at a time, of streams")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if not (options.peer or options.lengths):
        parser.error("nothing to do: --peer diffusers, --lengths 73 577, or both")
    return options


if __name__ == "__main__":
    main()
