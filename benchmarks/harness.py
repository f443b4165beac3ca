"""What every benchmark shares: interleaved timing, facts about the machine, results as JSON, Markdown and a plot."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
# a write of this many bytes between two samples empties the L2 cache of every card sold so far
FLUSH_BYTES = 256 * 2**20


@dataclasses.dataclass(frozen=True)
class Timing:
    """Milliseconds of one call.

    On a CPU the clock is the CPU time of the process: on a machine that others share, it is what the call costs, where
    the clock on the wall mostly tells how long it waited for its turn. On a GPU it is the GPU's own events.

    Args:
        median, p20, p80: of the samples.
        wall: median on the wall clock.
    """

    median: float
    p20: float
    p80: float
    wall: float


def interleaved(
    candidates: Mapping[str, Callable[[], object]], *, device: str, rounds: int, seconds: float
) -> dict[str, Timing]:
    """Time all candidates in turns in one process, so that a slow minute of the machine falls on all of them.

    Args:
        candidates: label to a call without arguments; every one has passed its correctness check before.
        rounds: samples of each candidate; the order turns by one each round.
        seconds: on a CPU, the least length of one sample; short calls are repeated within it, if it isn't 0.
    """
    sample = _cuda_sample if device == "cuda" else _cpu_sample
    repeats = {label: _repeats(run, seconds, device) for label, run in candidates.items()}
    samples: dict[str, list[tuple[float, float]]] = {label: [] for label in candidates}
    labels = list(candidates)
    for i in range(rounds):
        turn = i % max(1, len(labels))
        for label in labels[turn:] + labels[:turn]:
            samples[label].append(sample(candidates[label], repeats[label]))
    return {label: _summary(taken) for label, taken in samples.items()}


def _repeats(run: Callable[[], object], seconds: float, device: str) -> int:
    # the first call compiles, allocates and warms the caches
    run()
    if device == "cuda" or not seconds:
        return 1
    start = time.process_time()
    run()
    return max(1, round(seconds / max(time.process_time() - start, 1e-6)))


def _cpu_sample(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    process, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        run()
    return 1e3 * (time.process_time() - process) / repeats, 1e3 * (time.perf_counter() - wall) / repeats


def _cuda_sample(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda").zero_()
    torch.cuda.synchronize()
    wall = time.perf_counter()
    begin.record()
    for _ in range(repeats):
        run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / repeats, 1e3 * (time.perf_counter() - wall) / repeats


def _summary(samples: Sequence[tuple[float, float]]) -> Timing:
    own = sorted(taken[0] for taken in samples)
    last = len(own) - 1
    wall = statistics.median(taken[1] for taken in samples)
    return Timing(statistics.median(own), own[round(0.2 * last)], own[round(0.8 * last)], wall)


def ceilings(device: str, dtype: torch.dtype, *, rounds: int = 5) -> dict[str, float]:
    """What this machine reaches now: a square matrix product in GFLOP/s, a copy in GB/s (bytes read and written)."""
    size = 8192 if device == "cuda" else 768
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    source = torch.randn(2**28 if device == "cuda" else 2**24, device=device)
    target = torch.empty_like(source)
    runs = {"gemm": lambda: a @ b, "copy": lambda: target.copy_(source)}
    timing = interleaved(runs, device=device, rounds=rounds, seconds=0.02)
    return {
        "gemm_gflops": 2e-6 * size**3 / timing["gemm"].median,
        "copy_gbs": 2e-6 * source.nbytes / timing["copy"].median,
    }


def facts(device: str) -> dict[str, Any]:
    """The machine and the versions, without a name or a path of the host."""
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _output("git", "rev-parse", "--short", "HEAD"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _version("triton"),
        "device": device,
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        driver = _output("nvidia-smi", "--query-gpu=driver_version,clocks.max.sm", "--format=csv,noheader")
        found |= {"gpu": card.name, "gpu_memory_gib": round(card.total_memory / 2**30), "cuda": torch.version.cuda}
        found |= {"driver_and_clock": driver}
    return found


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=RESULTS.parent).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A table of the given columns; a missing value is an empty cell, a float has three digits that count."""

    def cell(value: Any) -> str:
        return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "/")

    lines = [columns, ["---"] * len(columns), *([cell(row.get(column)) for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(stem: str, report: Mapping[str, Any], markdown: str) -> list[Path]:
    """Write `results/<stem>.json` and `.md`; gives the paths."""
    RESULTS.mkdir(exist_ok=True)
    paths = [RESULTS / f"{stem}.json", RESULTS / f"{stem}.md"]
    paths[0].write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    paths[1].write_text(markdown.rstrip() + "\n", encoding="utf-8")
    return paths


def plot_bars(path: Path, groups: Mapping[str, Mapping[str, float]], *, title: str, ylabel: str) -> bool:
    """One group of bars for each key of `groups`, one bar for each label in it; False where matplotlib is missing."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = list(dict.fromkeys(label for bars in groups.values() for label in bars))
    figure, axes = pyplot.subplots(figsize=(max(7.0, 1.5 + 1.2 * len(groups)), 4.2), layout="constrained")
    width = 0.8 / max(1, len(labels))
    for i, label in enumerate(labels):
        at = [j + (i - (len(labels) - 1) / 2) * width for j, bars in enumerate(groups.values()) if label in bars]
        axes.bar(at, [bars[label] for bars in groups.values() if label in bars], width, label=label)
    axes.set_xticks(range(len(groups)), list(groups), rotation=20, ha="right", fontsize=8)
    axes.set_ylabel(ylabel)
    axes.set_title(title, fontsize=10)
    figure.legend(fontsize=8, loc="outside lower center", ncols=len(labels))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return True
