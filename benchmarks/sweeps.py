"""Which form of the kernels for lists of blocks, for groups in place and for small operations is the fastest here?

    python benchmarks/sweeps.py
    python benchmarks/sweeps.py --parts groups --rounds 9

Tiles, warps and stages, and rows of a program, around what ships. Every form meets the result of the one that ships,
which tests hold against float64, before it meets the clock. `benchmarks/tiles.py` is the same of dense attention.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
from forms_attention import DEVICE, Form, Sweep, of_groups, of_lists
from forms_operations import of_operations
from harness import ceilings, compile_ahead, facts, interleaved, markdown_table, write
from torch import Tensor

#: size of the difference from what ships by the size of that, all in 16 bits
ALLOWED = 2e-2
#: by part: kernel, input and how its sweep is made
SWEEPS = {"lists": [*of_lists()], "groups": [*of_groups()], "operations": [*of_operations()]}


def share(make: Callable[[], Sweep], first: int, step: int) -> None:
    """Run every `step`-th form of a sweep once."""
    with contextlib.suppress(Exception):
        for form in list(make().forms.values())[first::step]:
            with contextlib.suppress(Exception):
                form()
    # others are at work on the card too
    torch.cuda.empty_cache()


def measure(kernel: str, name: str, sweep: Sweep, rounds: int) -> list[dict[str, Any]]:
    """A row a form, the fastest first."""
    rows: list[dict[str, Any]] = []
    runs: dict[str, Form] = {}
    wanted: list[Tensor] = []
    for label, form in sweep.forms.items():
        row: dict[str, Any] = {"kernel": kernel, "input": name, "form": label}
        rows.append(row)
        try:
            found = form()
        except Exception as refusal:  # what a compiler or a card raises is its own matter; it is told
            row["status"] = f"{type(refusal).__name__}: {(str(refusal).splitlines() or [''])[0]}"
            continue
        # results lie where those of the next form will
        wanted = wanted or [x.clone() for x in found]
        pairs = zip(found, wanted, strict=True)
        row["error"] = max(float((x - y).float().norm() / y.float().norm()) for x, y in pairs)
        row["status"] = "ok" if row["error"] <= ALLOWED else "wrong, not timed"
        if row["status"] == "ok":
            runs[label] = form
        for x in found:
            # what the next form leaves unwritten is told
            x.fill_(float("nan"))
    for label, took in interleaved(runs, device=DEVICE, rounds=rounds, seconds=0.0).items():
        row = next(row for row in rows if row["form"] == label)
        row |= {"ms": took.median, "p20": took.p20, "p80": took.p80, "rate": sweep.work / took.median * 1e3}
        row["unit"] = sweep.unit
    return sorted(rows, key=lambda row: row.get("ms", float("inf")))


def main() -> None:
    options = parse()
    chosen = [sweep for part in options.parts for sweep in SWEEPS[part]]
    if not options.no_ahead:
        compile_ahead([functools.partial(share, make, i, SHARES) for _, _, make in chosen for i in range(SHARES)])
    if options.compile_only:
        return
    report: dict[str, Any] = {"question": (__doc__ or "").splitlines()[0], "facts": facts(DEVICE), "rows": []}
    report["ceilings"] = {"bfloat16": ceilings(DEVICE, torch.bfloat16)}
    columns = ["kernel", "input", "form", "error", "ms", "p20", "p80", "rate", "unit", "status"]
    for kernel, name, make in chosen:
        report["rows"] += measure(kernel, name, make(), options.rounds)
        text = [f"# {report['question']}", NOTES, markdown_table(report["rows"], columns)]
        known = ", ".join(f"{key} {value}" for key, value in report["facts"].items() if value is not None)
        write(f"sweeps_{DEVICE}", report, "\n\n".join([*text, f"Machine: {known}"]))
        torch.cuda.empty_cache()
    print(markdown_table(report["rows"], columns))


#: parts of a sweep that are compiled beside each other
SHARES = 4
NOTES = (
    "bfloat16; a form of attention is block_m block_n warps stages, with the groups that share a tile, or with tma by "
    "tensor descriptors; GB/s count what has to be read and written at the least."
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=SWEEPS, default=list(SWEEPS))
    parser.add_argument("--rounds", type=int, default=5, help="samples of each form")
    parser.add_argument("--no-ahead", action="store_true", help="compile nothing beforehand")
    parser.add_argument("--compile-only", action="store_true", help="fill the caches on disk and time nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
