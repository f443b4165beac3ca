"""A few lines of each report of a card, for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Report = dict[str, Any]
#: tiles of a pass that are told
BEST = 6


def top(report: Report) -> str:
    """The ceilings."""
    found = (
        f"{name} {tops['gemm_gflops'] / 1e3:.0f} TFLOP/s, copy {tops['copy_gbs']:.0f} GB/s"
        for name, tops in report.get("ceilings", {}).items()
    )
    return "ceilings: " + "; ".join(found)


def faults(rows: Iterable[Report], name: Callable[[Report], str]) -> list[str]:
    """What has another status than ok, alike ones together."""
    kinds: dict[str, list[str]] = {}
    for row in rows:
        if row.get("status", "ok") != "ok":
            kinds.setdefault(row["status"][:110], []).append(name(row))
    return [f"! {', '.join(names)[:150]}: {status}" for status, names in kinds.items()][:6]


def of_tiles(report: Report) -> list[str]:
    lines, rows = [top(report)], report["rows"]
    groups: dict[tuple[int, str], list[Report]] = {}
    for row in rows:
        groups.setdefault((row["head_dim"], row["pass"]), []).append(row)
    for (size, name), found in groups.items():
        timed = sorted((row for row in found if "ms" in row), key=lambda row: row["ms"])
        told = timed[:BEST] + [row for row in timed[BEST:] if row.get("ships")]
        text = " | ".join(
            f"{row['tile']}{'*' if row.get('ships') else ''} {row['ms']:.3g}ms {row['TFLOP/s']:.0f}TF" for row in told
        )
        lines.append(f"{size} {name}: {text}")
    return [*lines, *faults(rows, lambda row: f"{row['head_dim']} {row['pass']} {row['tile']}")]


def by(report: Report, groups: tuple[str, ...], label: str, value: Callable[[Report], str]) -> list[str]:
    """A line a group, all labels behind each other."""
    lines: dict[str, list[str]] = {}
    for row in report["rows"]:
        if "ms" in row:
            lines.setdefault(" ".join(str(row[key]) for key in groups), []).append(f"{row[label]} {value(row)}")
    told = [f"{name}: {' | '.join(found)}" for name, found in lines.items()]
    return [*told, *faults(report["rows"], lambda row: " ".join(str(row[key]) for key in (*groups, label)))]


def of_attention(report: Report) -> list[str]:
    return by(report, ("shape",), "kernel", lambda row: f"{row['ms']:.3g}ms {row['GFLOP/s'] / 1e3:.0f}TF")


def of_factorized(report: Report) -> list[str]:
    return by(report, ("layout", "what"), "way", lambda row: f"{row['ms']:.3g}ms x{row['speed-up']:.2f}")


def of_fused_ops(report: Report) -> list[str]:
    return [
        top(report),
        *by(report, ("shape", "operation"), "way", lambda row: f"{row['ms']:.3g}ms {row['% of copy']:.0f}%"),
    ]


def of_block_sparse(report: Report) -> list[str]:
    return by(
        report,
        ("shape", "way"),
        "pattern",
        lambda row: f"{row['density']:.3f} {row['ms']:.3g}ms {row['of dense'] / row['density']:.2f}",
    )


def of_block(report: Report) -> list[str]:
    return by(report, ("shape", "block"), "way", lambda row: f"{row['ms']:.3g}ms x{row['speed-up'] or 0:.2f}")


def of_sweeps(report: Report) -> list[str]:
    lines = [top(report)]
    groups: dict[tuple[str, str], list[Report]] = {}
    for row in report["rows"]:
        groups.setdefault((row["kernel"], row["input"]), []).append(row)
    for (kernel, name), found in groups.items():
        timed = [row for row in found if "ms" in row]
        told = timed[:3] + [row for row in timed[3:] if row["form"].startswith("ships")]
        text = " | ".join(f"{row['form']} {row['ms']:.3g}ms {row['rate']:.4g}" for row in told)
        lines.append(f"{kernel} {name}: {text}")
    return lines


SUMMARIES: dict[str, Callable[[Report], list[str]]] = {
    "tiles": of_tiles,
    "sweeps": of_sweeps,
    "attention": of_attention,
    "factorized": of_factorized,
    "fused_ops": of_fused_ops,
    "block_sparse": of_block_sparse,
    "block": of_block,
}
