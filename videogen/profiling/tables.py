"""Rows of numbers as a Markdown table and as a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A table of the given columns; a missing value is an empty cell, a float has three digits that count."""

    def cell(value: Any) -> str:
        return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "/")

    lines = [columns, ["---"] * len(columns), *([cell(row.get(column)) for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plot_panels(path: Path, labels: Sequence[str], panels: Mapping[str, Sequence[float | None]], title: str) -> None:
    """One panel of horizontal bars a quantity, with the labels once, at the left.

    Args:
        path: of the PNG.
        labels: one a bar, from above.
        panels: quantity -> its value of each label, None where there is none.
        title: above all.

    Raises:
        ModuleNotFoundError: matplotlib isn't installed.
    """
    from matplotlib.figure import Figure

    longest = max(map(len, labels))
    size = 1.5 + 0.075 * longest + 2.2 * len(panels), 1.3 + 0.32 * len(labels)
    figure = Figure(figsize=size, layout="constrained")
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    places = list(range(len(labels)))
    for axes, (name, values) in zip(every, panels.items(), strict=True):
        bars = axes.barh(places, [value or 0.0 for value in values], height=0.7)
        axes.bar_label(bars, ["" if value is None else f"{value:.3g}" for value in values], padding=2, fontsize=7)
        axes.set_title(name, fontsize=8)
        axes.set_xlim(0, 1.25 * max([value for value in values if value is not None], default=1.0) or 1.0)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    every[0].set_yticks(places, labels)
    every[0].invert_yaxis()
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=120)
