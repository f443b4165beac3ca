"""How fast is a denoising step of our DiT, beside diffusers' transformers on the same weights?

    python benchmarks/denoiser.py --peer diffusers
    python benchmarks/denoiser.py --peer diffusers --families latte wan --dtypes float32 --modes eager --rounds 3

Both hold the same random weights, loaded through the family's table of keys, at half the published width and few
layers, on a grid of tokens of the published kind. They take several steps under one text, as a sampler does, and in
turns in one process. Each pair meets in its numbers before it meets the clock.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import torch
from einops import rearrange
from harness import facts, interleaved, markdown_table, write
from peers import PEERS, WORDS, Given, Peer, Step
from torch import Tensor, nn

from videogen.checkpoints.published import Published, recognise
from videogen.denoiser import Condition

# size of the difference as a share of the size of diffusers' prediction, float32
ALLOWED = 1e-5
# bfloat16: our distance from diffusers' prediction in float32, in units of its own distance in bfloat16
ALLOWED_ROUNDING = 1.5
# of the steps: fractions that are whole numbers when they are multiplied by 1000
MOMENTS = [1 - (index + 1) / 8 for index in range(7)]
# one of each kind: factorised, full 3D with text read, full 3D with text joined. To compile takes longer than to run
COMPILED = ("latte", "wan", "hunyuan")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
COLUMNS = [
    *("family", "layers", "tokens", "dtype", "mode", "error", "diffusers s/step", "videogen s/step"),
    *("speed-up", "by the wall clock", "status"),
]


def pair(peer: Peer) -> tuple[Any, nn.Module]:
    """Diffusers' model with random weights, and ours with the same."""
    torch.manual_seed(0)
    theirs: Any = getattr(diffusers, peer.name)(**peer.config).eval()
    with torch.no_grad():
        # layers that start as zero or one would agree whatever they were given
        for value in theirs.parameters():
            value.add_(0.02 * torch.randn_like(value))
    config, tensors = {**theirs.config, "_class_name": peer.name}, theirs.state_dict()
    layout = recognise(config, tensors, peer.name)
    knobs = layout.knobs(config, tensors)
    nodes = knobs.pop("dit")
    return theirs, Published(Path(peer.name), layout, knobs, tensors, nodes).build()


def inputs(peer: Peer, ours: Any, dtype: torch.dtype) -> tuple[Tensor, Given]:
    """Latents (B, C, T, H, W), and the same text for both models."""
    source = torch.Generator().manual_seed(1)
    latents = torch.randn(peer.batch, ours.latent_channels, *peer.size, generator=source)
    text = torch.randn(peer.batch, peer.text, ours.text_dim, generator=source)
    pooled = torch.randn(peer.batch, ours.pooled_dim, generator=source)
    words = torch.arange(peer.text) < torch.tensor([WORDS, 1])[: peer.batch, None]
    mask = words if peer.masked else None
    return latents.to(dtype), Given(text.to(dtype), mask, pooled.to(dtype), torch.full((peer.batch,), 6.0))


def our_step(ours: Any, given: Given, whole_times: bool) -> Step:
    """One step of ours, under a condition of its own."""
    fields = {"text": given.text, "text_mask": given.mask, "pooled": given.pooled, "guidance": given.guidance}
    taken = {name: value for name, value in fields.items() if name in ours.conditions and value is not None}
    condition, scale = Condition(**taken), 1000 if whole_times else 1
    return lambda latents, time: ours(latents, scale * time, condition)[:, : latents.shape[1]]


def film(start: Callable[[], Step], latents: Tensor, steps: int) -> Tensor:
    """The last prediction of a sampler that starts with these latents."""
    step, prediction = start(), latents
    for index in range(steps):
        prediction = step(latents, latents.new_full((len(latents),), MOMENTS[index], dtype=torch.float32))
        latents = latents - prediction / steps
    return prediction


def distance(got: Tensor, wanted: Tensor) -> float:
    return float((got.float() - wanted).norm() / wanted.norm())


@torch.no_grad()
def compare(family: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One family in all dtypes and modes."""
    peer, models = PEERS[family], pair(PEERS[family])
    truth = None
    for mode in [mode for mode in options.modes if mode == "eager" or family in options.compiled]:
        for name in options.dtypes:
            theirs, ours = (copy.deepcopy(model).to(DTYPES[name]) for model in models)
            if mode == "compiled":
                torch.compiler.reset()
                compile_blocks(theirs)
                compile_blocks(ours)
            runs = films(peer, theirs, ours, DTYPES[name], options.steps)
            wanted, got = (run() for run in runs.values())
            wanted = rearrange(wanted, f"{peer.order} -> b c t h w", **dict(zip("thw", peer.size, strict=True)))
            truth = wanted.float() if truth is None else truth
            tokens = peer.batch * math.prod(peer.size) // math.prod(ours.patch_size)
            row = {"family": family, "layers": len(ours.blocks), "tokens": tokens, "dtype": name, "mode": mode}
            row["error"] = distance(got, truth)
            allowed = ALLOWED if name == "float32" else ALLOWED_ROUNDING * distance(wanted, truth)
            if not row["error"] <= allowed:
                yield {**row, "status": f"wrong: error above {allowed:.3g}, not timed"}
                continue
            times = interleaved(runs, device="cpu", rounds=options.rounds, seconds=0.0)
            for label in runs:
                row[f"{label} s/step"] = times[label].median / 1e3 / options.steps
            row["speed-up"] = times["diffusers"].median / times["videogen"].median
            row["by the wall clock"] = times["diffusers"].wall / times["videogen"].wall
            yield {**row, "status": "ok"}


def films(peer: Peer, theirs: Any, ours: Any, dtype: torch.dtype, steps: int) -> dict[str, Callable[[], Tensor]]:
    """A run of both, theirs on latents as their pipeline has them."""
    latents, given = inputs(peer, ours, dtype)
    native = rearrange(latents, f"b c t h w -> {peer.order}")
    return {
        "diffusers": lambda: film(lambda: peer.step(theirs, given, peer.size), native, steps),
        "videogen": lambda: film(lambda: our_step(ours, given, peer.whole_times), latents, steps),
    }


def compile_blocks(model: nn.Module) -> None:
    """Each block on its own, as both libraries advise; blocks of one kind share what is compiled."""
    for child in model.children():
        if isinstance(child, nn.ModuleList):
            for block in child:
                block.compile()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    machine = {**facts("cpu"), "diffusers": diffusers.__version__}
    known = "Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items() if value is not None)
    told = (
        f"Half the published width, few layers, {options.steps} steps under one text of {WORDS} words; {options.rounds}"
        f" rounds in turns, {options.threads} threads. s/step is CPU time, speed-up the ratio of medians, diffusers "
        "over videogen; beside it the same by the wall clock. error: the size of the difference over the size of "
        f"diffusers' prediction in float32: at most {ALLOWED:g}, in bfloat16 at most {ALLOWED_ROUNDING} times that of "
        "diffusers itself."
    )
    # all of both models is cast alike
    diffusers.utils.logging.set_verbosity_error()
    start, rows = time.monotonic(), list[dict[str, Any]]()
    print(markdown_table([], COLUMNS))
    for row in itertools.chain.from_iterable(compare(family, options) for family in options.families):
        rows.append(row)
        print(markdown_table([row], COLUMNS).splitlines()[-1], flush=True)
        # a table a mode, so that each can be measured again alone
        alike = [each for each in rows if each["mode"] == row["mode"]]
        title = "# Denoising beside diffusers, on the same weights"
        text = "\n\n".join([title, markdown_table(alike, COLUMNS), told, known])
        name = "denoiser_cpu" if row["mode"] == "eager" else f"denoiser_cpu_{row['mode']}"
        write(name, {"facts": machine, "rows": alike}, text)
    print(f"{time.monotonic() - start:.0f} s")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", choices=["diffusers"], required=True, help="compare with this library")
    parser.add_argument("--families", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--modes", nargs="+", choices=["eager", "compiled"], default=["eager", "compiled"])
    parser.add_argument("--compiled", nargs="*", choices=PEERS, default=COMPILED, help="families to compile as well")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each")
    parser.add_argument("--steps", type=int, choices=range(1, 8), default=3, help="of a sampler under one text")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.dtypes[0] != "float32":
        parser.error("bfloat16 is judged by float32: give --dtypes float32 bfloat16")
    return options


if __name__ == "__main__":
    main()
