"""What every benchmark shares: facts about the machine, results as JSON, Markdown and a plot."""

from __future__ import annotations

import contextlib
import datetime
import json
import multiprocessing
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from videogen.profiling.tables import markdown_table
from videogen.profiling.timing import Timing, interleaved

__all__ = [
    "RESULTS",
    "Timing",
    "ceilings",
    "compare",
    "compile_ahead",
    "facts",
    "interleaved",
    "markdown_table",
    "plot_bars",
    "write",
]

RESULTS = Path(__file__).parent / "results"


def ceilings(device: str, dtype: torch.dtype, *, rounds: int = 5) -> dict[str, float]:
    """What this machine reaches now: a square matrix product in GFLOP/s, a copy in GB/s (bytes read and written)."""
    size = 8192 if device == "cuda" else 768
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    source = torch.randn(2**27 if device == "cuda" else 2**24, device=device)
    target = torch.empty_like(source)
    runs = {"gemm": lambda: a @ b, "copy": lambda: target.copy_(source)}
    timing = interleaved(runs, device=device, rounds=rounds, seconds=0.02)
    found = {
        "gemm_gflops": 2e-6 * size**3 / timing["gemm"].median,
        "copy_gbs": 2e-6 * source.nbytes / timing["copy"].median,
    }
    if device == "cuda":
        del a, b, source, target, runs
        torch.cuda.empty_cache()
    return found


def compile_ahead(calls: Sequence[Callable[[], object]], processes: int | None = None) -> None:
    """Make each call once, in processes beside each other, so that what it compiles lies in the caches on disk.

    What fails there fails here again, where it is told. With CUDA in use already nothing happens: a process that has
    used it has no children who can.
    """
    if torch.cuda.is_initialized():
        return
    count = min(len(calls), processes or os.cpu_count() or 1)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_call_all, args=(calls[i::count],)) for i in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _call_all(calls: Sequence[Callable[[], object]]) -> None:
    for call in calls:
        with contextlib.suppress(Exception):
            call()


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


def write(stem: str, report: Mapping[str, Any], markdown: str) -> list[Path]:
    """Write `results/<stem>.json` and `.md`; gives the paths."""
    RESULTS.mkdir(exist_ok=True)
    paths = [RESULTS / f"{stem}.json", RESULTS / f"{stem}.md"]
    paths[0].write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    paths[1].write_text(markdown.rstrip() + "\n", encoding="utf-8")
    return paths


def compare(rows: Sequence[dict[str, Any]], base: Path | None, keys: Sequence[str]) -> None:
    """Tell each row with a time that an older report has too how many times faster it is than there, as "vs base".

    Args:
        rows: with "ms".
        base: the JSON of the older report; None leaves the rows as they are.
        keys: what tells rows apart.
    """
    if base is None:
        return
    older = json.loads(base.read_text(encoding="utf-8"))["rows"]
    times = {tuple(row.get(key) for key in keys): row["ms"] for row in older if "ms" in row}
    for row in rows:
        before = times.get(tuple(row.get(key) for key in keys))
        if before is not None and "ms" in row:
            row["vs base"] = before / row["ms"]


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
