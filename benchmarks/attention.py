"""Which attention kernel is faster at which shape?

    python benchmarks/attention.py --device cpu
    TRITON_INTERPRET=1 python benchmarks/attention.py --device cpu    # also checks the Triton kernel, never times it
    python benchmarks/attention.py --device cuda --dtypes bfloat16 --backward

Every kernel meets float64 before it meets the clock: a row whose error is too large is not timed.
"""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import RESULTS, ceilings, compare, facts, interleaved, markdown_table, plot_bars, write
from torch import Tensor

from videogen.kernels import ATTENTION, Attention
from videogen.registry import RegistryError

BASELINE = "sdpa"
# queries that are compared with float64: each is independent of the others, and all would not fit at real sizes
CHECKED_QUERIES = 64
# largest error as a share of the largest output: some eps of the dtype, far below any mistake in a kernel
ALLOWED = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}
# batch rows and heads that are checked; the interpreter takes about 10 ms a tile
EVERYTHING = (slice(None), slice(None))
INTERPRETED_PART = (slice(1), slice(2))


@dataclasses.dataclass(frozen=True)
class Shape:
    """One attention call of a real model: batch * heads * queries * keys * head_dim."""

    model: str
    batch: int
    heads: int
    queries: int
    keys: int
    head_dim: int
    masked: bool = False
    cpu: bool = True

    @property
    def flops(self) -> float:
        """Two products of (queries, head_dim, keys), a multiply and an add each; padded and masked keys count."""
        return 4.0 * self.batch * self.heads * self.queries * self.keys * self.head_dim

    def __str__(self) -> str:
        mask = " + key mask" if self.masked else ""
        return f"{self.batch}x{self.heads}x{self.queries}x{self.keys}x{self.head_dim}{mask}"


SHAPES = {
    "shapes-17f": Shape("the shipped model, 17 frames, guidance", 2, 4, 80, 80, 64),
    "shapes-33f": Shape("the shipped model, 33 frames, guidance", 2, 4, 144, 144, 64),
    "shapes-text": Shape("the shipped model, words to 33 frames", 2, 4, 144, 12, 64, masked=True),
    "latte-spatial": Shape("Latte-XL/2 256 px, tokens of a frame", 16, 16, 256, 256, 72),
    "latte-temporal": Shape("Latte-XL/2 256 px, frames of a token", 256, 16, 16, 16, 72),
    "stdit-text": Shape("Open-Sora 1.2, T5 tokens to 1024 patches", 1, 16, 1024, 300, 72, masked=True),
    "osp-full": Shape("Open-Sora-Plan 1.2 480p 29 frames", 1, 24, 9600, 9600, 96, cpu=False),
    "cogvideox-2b": Shape("CogVideoX-2B 480p 49 frames, joint with text", 1, 30, 17_776, 17_776, 64, cpu=False),
    "wan-1.3b": Shape("Wan2.1-1.3B 480p 81 frames", 1, 12, 32_760, 32_760, 128, cpu=False),
    "wan-1.3b-text": Shape("Wan2.1-1.3B 480p 81 frames, T5 tokens", 1, 12, 32_760, 512, 128, masked=True, cpu=False),
    "dense-128": Shape("the size at which kernels of head_dim 128 are compared", 4, 24, 8192, 8192, 128, cpu=False),
    "dense-64": Shape("the same of head_dim 64", 4, 24, 8192, 8192, 64, cpu=False),
    "dense-4k": Shape("a shorter one", 4, 16, 4096, 4096, 128, cpu=False),
    "hunyuan-720p": Shape("HunyuanVideo 720p 129 frames, joint with text", 1, 24, 119_056, 119_056, 128, cpu=False),
}


def variants() -> dict[str, Attention | RegistryError]:
    """Every registered kernel, or why it can't be had here, and each backend that torch's own can be held to."""
    kernels: dict[str, Attention | RegistryError] = {}
    for name in ATTENTION.names():
        try:
            kernels[name] = ATTENTION.build(name)
        except RegistryError as missing:
            kernels[name] = missing
    if torch.cuda.is_available():
        kernels["triton:descriptors"] = ATTENTION.build("triton", descriptors=True)
    for knob in ATTENTION.knobs("sdpa"):
        if knob.name == "backend":
            backends = (choice for choice in typing.get_args(knob.type) if choice != knob.default)
            kernels |= {f"sdpa:{choice}": ATTENTION.build("sdpa", backend=choice) for choice in backends}
    return kernels


def operands(shape: Shape, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """q, k, v as a model has them, heads split from (B, N, C), and a mask that leaves a third of the keys out."""
    torch.manual_seed(0)
    q = torch.randn(shape.batch, shape.queries, shape.heads, shape.head_dim, device=device, dtype=dtype)
    k, v = torch.randn(2, shape.batch, shape.keys, shape.heads, shape.head_dim, device=device, dtype=dtype)
    words = shape.keys - shape.keys // 3
    mask = (torch.arange(shape.keys, device=device) < words).expand(shape.batch, -1) if shape.masked else None
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask


def error(kernel: Attention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> float:
    """Largest difference from float64 as a share of the largest output, over some queries up to the last one."""
    with torch.no_grad():
        out = kernel(q, k, v, mask=mask)
        rows = torch.linspace(0, q.shape[2] - 1, min(CHECKED_QUERIES, q.shape[2]), device=q.device).long()
        wide = (q[:, :, rows].double(), k.double(), v.double())
        expected = ATTENTION.build("reference")(*wide, mask=mask)
        return float((out[:, :, rows].double() - expected).abs().max() / expected.abs().max())


def with_backward(kernel: Attention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Callable[[], object]:
    leaves = [tensor.detach().requires_grad_() for tensor in (q, k, v)]
    grad = torch.randn_like(q)
    return lambda: torch.autograd.grad(kernel(*leaves, mask=mask), leaves, grad)


def measure(name: str, dtype_name: str, options: argparse.Namespace, peak: float) -> list[dict[str, Any]]:
    """The rows of one shape and dtype: first every kernel is checked, then all that passed are timed in turns."""
    shape, device = SHAPES[name], options.device
    q, k, v, mask = operands(shape, getattr(torch, dtype_name), device)
    rows, timed = [], {}
    for label, kernel in variants().items():
        if options.kernels and label not in options.kernels:
            continue
        row: dict[str, Any] = {"shape": name, "size": str(shape), "dtype": dtype_name, "kernel": label}
        rows.append(row)
        if isinstance(kernel, RegistryError):
            row["status"] = str(kernel)
            continue
        checked_only = label == "triton" and device == "cpu"
        part = INTERPRETED_PART if checked_only else EVERYTHING
        try:
            row["error"] = error(kernel, q[part], k[part], v[part], mask if mask is None else mask[part[:1]])
        except Exception as refusal:  # what a compiler or a card raises is its own matter; it is told
            row["status"] = f"unsupported here: {first_line(refusal)}"
            continue
        if not row["error"] <= ALLOWED[dtype_name]:
            row["status"] = f"wrong: error above {ALLOWED[dtype_name]:g}, not timed"
        elif checked_only:
            row["status"] = "interpreter check only (a batch row, two heads), not timed"
        elif options.backward and not kernel.support.backward:
            row["status"] = "no backward"
        else:
            run = with_backward(kernel, q, k, v, mask) if options.backward else call(kernel, q, k, v, mask)
            try:
                run()
            except Exception as refusal:  # as above: a backward may need more memory than there is
                row["status"] = f"unsupported here: {first_line(refusal)}"
                continue
            row["status"], timed[label] = "ok", run
    flops = shape.flops * (3.5 if options.backward else 1)
    timings = interleaved(timed, device=device, rounds=options.rounds, seconds=options.seconds)
    for row in rows:
        timing = timings.get(row["kernel"])
        if timing is not None:
            gflops = flops / timing.median / 1e6
            row |= {"ms": timing.median, "p20": timing.p20, "p80": timing.p80, "wall ms": timing.wall}
            row |= {"GFLOP/s": gflops, "% of gemm": 100 * gflops / peak}
            row["speed-up"] = timings[BASELINE].median / timing.median if BASELINE in timings else None
    return rows


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def call(kernel: Attention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return kernel(q, k, v, mask=mask)

    return run


def answer(rows: list[dict[str, Any]]) -> str:
    """One line a shape: the fastest kernel, and those that it can't be told from because p20 to p80 overlap."""
    lines = []
    for name, dtype in dict.fromkeys((row["shape"], row["dtype"]) for row in rows):
        timed = [row for row in rows if (row["shape"], row["dtype"]) == (name, dtype) and row.get("speed-up")]
        if not timed:
            continue
        best, *others = sorted(timed, key=lambda row: row["ms"])
        tied = [row["kernel"] for row in others if row["p20"] <= best["p80"]]
        slower = [f"{row['kernel']} {best['ms'] / row['ms']:.2f}" for row in others if row["kernel"] not in tied]
        same = f", tied with {', '.join(tied)}" if tied else ""
        rest = f"; as a share of its speed: {', '.join(slower)}" if slower else ""
        lines.append(f"- {name}, {dtype}: **{best['kernel']}**{same}{rest}")
    return "\n".join(lines)


def markdown(report: dict[str, Any]) -> str:
    """The report for reading: the answer, the table, then how it was measured."""
    columns = ["shape", "size", "dtype", "kernel", "error", "ms", "p20", "p80", "wall ms"]
    columns += ["GFLOP/s", "% of gemm", "speed-up"]
    columns += ["vs base"] * any("vs base" in row for row in report["rows"]) + ["status"]
    known = {key: value for key, value in report["facts"].items() if value is not None}
    return "\n\n".join(
        [
            f"# {report['question']}",
            answer(report["rows"]),
            markdown_table(report["rows"], columns),
            "\n".join(f"- {line}" for line in report["notes"]),
            "Machine: " + ", ".join(f"{key} {value}" for key, value in known.items()),
            "Measured ceilings: "
            + "; ".join(
                f"{dtype} {top['gemm_gflops']:.3g} GFLOP/s (square matrix product), {top['copy_gbs']:.3g} GB/s (copy)"
                for dtype, top in report["ceilings"].items()
            ),
        ]
    )


def notes(options: argparse.Namespace) -> list[str]:
    """How to read the table."""
    passes = ", 3.5 times that with the backward pass" if options.backward else ""
    clock = "GPU's own events, launched ahead of it and with an empty L2; wall ms is a call with its launches"
    if options.device == "cpu":
        clock = "CPU time of the process; wall ms is what a call took beside the machine's other work"
    return [
        f"size is batch x heads x queries x keys x head_dim; FLOPs are 4 times their product{passes}",
        f"error is the largest difference from float64 over {CHECKED_QUERIES} queries by the largest output; "
        f"checked before any timing, allowed: {', '.join(f'{dtype} {most:g}' for dtype, most in ALLOWED.items())}",
        f"ms, p20, p80: {options.rounds} samples of each kernel, taken in turns, of the {clock}",
        f"speed-up is a ratio of medians, {BASELINE} over this kernel; % of gemm is of the square product below",
        *(["on a CPU sdpa is flash: between the two lie noise and the cost of forcing it"] * (options.device == "cpu")),
        *options.note,
    ]


def plot(stem: str, rows: list[dict[str, Any]], device: str) -> bool:
    bars: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.get("speed-up"):
            bars.setdefault(f"{row['shape']}\n{row['dtype']}", {})[row["kernel"]] = row["speed-up"]
    title = f"attention on {device}: speed relative to {BASELINE} (ratio of medians, higher is faster)"
    return plot_bars(RESULTS / f"{stem}.png", bars, title=title, ylabel=f"speed / {BASELINE}")


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    tops = {dtype: ceilings(options.device, getattr(torch, dtype)) for dtype in options.dtypes}
    report: dict[str, Any] = {
        "question": f"Which attention kernel is faster at which shape? ({options.device})",
        "facts": facts(options.device),
        "ceilings": tops,
        "notes": notes(options),
        "rows": [],
    }
    stem = f"attention_{options.device}" + ("_backward" if options.backward else "")
    for name in options.shapes:
        for dtype in options.dtypes:
            found = measure(name, dtype, options, tops[dtype]["gemm_gflops"])
            print(markdown_table(found, ["shape", "dtype", "kernel", "error", "ms", "status"]), flush=True)
            compare(found, options.compare, ("shape", "dtype", "kernel"))
            report["rows"] += found
            # a run that is cut short leaves what it has measured
            write(stem, report, markdown(report))
    drawn = plot(stem, report["rows"], options.device)
    print(f"results/{stem}.json, .md" + (", .png" if drawn else " (no plot: pip install matplotlib)"))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, help="default: all that suit the device")
    parser.add_argument("--dtypes", nargs="+", choices=ALLOWED, default=["float32", "bfloat16"])
    parser.add_argument("--kernels", nargs="+", help='default: all, as "triton" and "sdpa:flash"')
    parser.add_argument("--rounds", type=int, default=15, help="samples of each kernel")
    parser.add_argument("--seconds", type=float, default=0.02, help="least CPU time of one sample")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; with one, CPU time is a fair clock")
    parser.add_argument("--backward", action="store_true", help="time forward and backward together")
    parser.add_argument("--compare", type=Path, metavar="BASE.JSON", help="an older report: how much faster it is now")
    parser.add_argument("--note", action="append", default=[], help="a line for the report")
    options = parser.parse_args()
    options.shapes = options.shapes or [name for name, shape in SHAPES.items() if shape.cpu or options.device == "cuda"]
    return options


if __name__ == "__main__":
    main()
