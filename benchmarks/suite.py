"""What benchmarks of operations on a model's tokens share: grids of real models, options, and the loop over them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from harness import RESULTS, Timing, ceilings, compare, facts, markdown_table, plot_bars, write

Row = dict[str, Any]

#: what the row of a Triton kernel says on a CPU
NOT_HERE = "interpreter checks only, see tests/kernels"


@dataclasses.dataclass(frozen=True)
class Grid:
    """The tokens of a real model.

    Args:
        model: whose they are.
        grid: tokens along time, height and width.
        cpu: small enough to be measured on a CPU.
    """

    model: str
    grid: tuple[int, int, int]
    cpu: bool = dataclasses.field(default=True, kw_only=True)

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]


@dataclasses.dataclass(frozen=True)
class Suite:
    """One question and how it is answered.

    Args:
        question: the title of the report.
        stem: of the files with results, behind which the device is put.
        shapes: by name.
        measure: name of a shape, of a dtype, the options and the ceilings of that dtype -> rows, those that passed
            their check with "ms".
        keys: columns that tell rows apart.
        columns: the others, in the order of the table.
        notes: how to read the table.
        bar: a row -> the group of its bar in the plot, its label and its height; None without.
        height: what a bar's height is.
    """

    question: str
    stem: str
    shapes: Mapping[str, Grid]
    measure: Callable[[str, str, argparse.Namespace, Mapping[str, float]], list[Row]]
    keys: Sequence[str]
    columns: Sequence[str]
    notes: Iterable[str]
    bar: Callable[[Row], tuple[str, str, float] | None]
    height: str


def parser(question: str, shapes: Mapping[str, Grid], dtypes: Iterable[str]) -> argparse.ArgumentParser:
    """The options of every suite, to which it may add its own."""
    found = argparse.ArgumentParser(description=question)
    found.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    found.add_argument("--shapes", nargs="+", choices=shapes, help="default: all that suit the device")
    found.add_argument("--dtypes", nargs="+", choices=dtypes, default=["float32", "bfloat16"])
    found.add_argument("--rounds", type=int, default=9, help="samples of each way")
    found.add_argument("--seconds", type=float, default=0.02, help="least CPU time of one sample")
    found.add_argument("--threads", type=int, default=1, help="CPU threads; with one, CPU time is a fair clock")
    found.add_argument("--compare", type=Path, metavar="BASE.JSON", help="an older report: how much faster it is now")
    return found


def timed(found: Timing) -> Row:
    """The columns of a time."""
    return {"ms": found.median, "p20": found.p20, "p80": found.p80, "wall ms": found.wall}


def run(suite: Suite, options: argparse.Namespace) -> None:
    """Measure all shapes in all dtypes, and write the report after each: a run cut short leaves what it has."""
    torch.set_num_threads(options.threads)
    names = options.shapes or [name for name, shape in suite.shapes.items() if options.device == "cuda" or shape.cpu]
    backward = getattr(options, "backward", False)
    stem = f"{suite.stem}_{options.device}{'_backward' if backward else ''}"
    report: dict[str, Any] = {"question": suite.question, "facts": facts(options.device), "backward": backward}
    report |= {"ceilings": {dtype: ceilings(options.device, getattr(torch, dtype)) for dtype in options.dtypes}}
    rows: list[Row] = []
    report["rows"] = rows
    columns = [*suite.keys, "error", "ms", "p20", "p80", "wall ms", *suite.columns]
    columns += [*(["vs base"] if options.compare else []), "status"]
    for dtype in options.dtypes:
        for name in names:
            found = suite.measure(name, dtype, options, report["ceilings"][dtype])
            compare(found, options.compare, suite.keys)
            print(markdown_table(found, columns), flush=True)
            rows += found
            write(stem, report, markdown(suite, report, columns))
    bars: dict[str, dict[str, float]] = {}
    for row in rows:
        if (bar := suite.bar(row)) is not None:
            bars.setdefault(bar[0], {})[bar[1]] = bar[2]
    plot_bars(RESULTS / f"{stem}.png", bars, title=f"{suite.question} ({options.device})", ylabel=suite.height)


def markdown(suite: Suite, report: Mapping[str, Any], columns: Sequence[str]) -> str:
    """The report for reading."""
    known = ", ".join(f"{key} {value}" for key, value in report["facts"].items() if value is not None)
    tops = "; ".join(
        f"{dtype} {top['gemm_gflops']:.3g} GFLOP/s (square matrix product), {top['copy_gbs']:.3g} GB/s (copy)"
        for dtype, top in report["ceilings"].items()
    )
    text = [f"# {suite.question}", markdown_table(report["rows"], columns)]
    text += ["\n".join(f"- {note}" for note in suite.notes), f"Machine: {known}", f"Measured ceilings: {tops}"]
    return "\n\n".join(text)
