"""A comparison on paper: a Markdown table with what wasn't compared and why, the same as JSON, and a plot."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from videogen.config import ConfigError
from videogen.profiling.tables import markdown_table, plot_panels

#: columns that belong to the one before them, and have no panel of their own
SPREAD = ("p20", "p80")


def said(told: Mapping[str, str]) -> str:
    """A combination in one line."""
    return " ".join(f"{key}={value}" for key, value in told.items())


def check_output(output: str) -> Path:
    """The stem of the files to write.

    Raises:
        ConfigError: it names no file, or its folder is missing or not writable.
    """
    path = Path(output)
    stem = path.with_suffix("") if path.suffix in (".md", ".json", ".png") else path
    if not path.name or not stem.parent.is_dir() or not os.access(stem.parent, os.W_OK):
        raise ConfigError(f"output={output} can't be written: give a name in a folder that exists, as output=ablation")
    return stem


def write(
    stem: Path, command: str, rows: Sequence[Mapping[str, Any]], refused: Mapping[str, str], notes: Sequence[str]
) -> None:
    """`<stem>.md`, `.json` and, where matplotlib is installed, `.png`; prints the table and where they are.

    Args:
        stem: of the files.
        command: that it is the answer to.
        rows: column -> value; texts tell the rows apart, numbers are compared.
        refused: combination -> why it isn't among them.
        notes: on how to read the table.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = markdown_table(rows, columns)
    print(table)
    machine = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}
    machine |= {"cpus": str(os.cpu_count()), "threads": str(torch.get_num_threads())}
    listed = "\n".join(f"- `{name}`: {reason}" for name, reason in refused.items())
    sections = [f"# `{command}`", table, *([f"Not compared:\n\n{listed}"] if refused else [])]
    sections += ["\n".join(f"- {note}" for note in notes), "Machine: " + said(machine)]
    report = {"command": command, "machine": machine, "notes": notes, "rows": rows, "refused": refused}
    # a dot in the stem is no suffix
    markdown, data, plot = (stem.with_name(stem.name + suffix) for suffix in (".md", ".json", ".png"))
    markdown.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    data.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"{markdown}\n{data}")
    told = [key for key in columns if any(isinstance(row.get(key), str) for row in rows)]
    numbers = [key for key in columns if key not in (*told, *SPREAD)]
    labels = [said({key: row[key] for key in told}) or "the model" for row in rows]
    try:
        plot_panels(plot, labels, {name: [row.get(name) for row in rows] for name in numbers}, command)
    except ModuleNotFoundError:
        print("no plot: pip install 'videogen-components[plot]'")
    else:
        print(plot)
