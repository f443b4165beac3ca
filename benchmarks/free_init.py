"""Does FreeInit make the shipped model's films better, at lengths that it was trained on and beyond?

    python benchmarks/free_init.py
    python benchmarks/free_init.py --lengths 33 --rounds 0 3 --set free_init_filter=gaussian

Films of the first held-out sentences, with the same seeds whatever is compared: what they show, as `videogen evaluate`
judges it, and how steadily. Writes `results/free_init.json` and `.md` after each row; rows that an earlier run of the
same weights has left there aren't measured again, so that a run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

import harness
import torch
from tasks import fingerprint
from torch import Tensor

from videogen.config import build_pipeline, compose
from videogen.data import DATASETS
from videogen.data.shapes import parse
from videogen.metrics.shapes import adherence
from videogen.metrics.tracks import continued, distances, tracks

LENGTHS, ROUNDS = (17, 33, 65), (0, 1, 2)


def steadiness(film: Tensor, prompt: str) -> dict[str, float]:
    """Of the objects that are named in a film (3, T, H, W): in which share of its frames they are seen, and how many
    pixels of 64x64 they are off their own straight lines while they are; nothing of one that is never seen."""
    found, seen, off = tracks(film), [], []
    for one in parse(prompt).objects:
        path = found.get(one.colour or "")
        there = torch.zeros(film.shape[1], dtype=torch.bool) if path is None else path.isfinite().all(1)
        seen.append(float(there.float().mean()))
        if path is not None and there.any():
            off.append(float(distances(path, continued(path, len(path)))[there].mean()))
    return {"seen": min(seen), **({"off_line": max(off)} if off else {})}


def measure(settings: Sequence[str], frames: int, prompts: Sequence[str]) -> dict[str, float]:
    """Films of one length under these settings: the mean of each figure."""
    pipeline = build_pipeline(compose("generate", [*settings, f"num_frames={frames}"]))
    rows: list[dict[str, float]] = []
    for first in range(0, len(prompts), 4):
        batch = prompts[first : first + 4]
        films = pipeline(batch, seed=range(first, first + len(batch)))
        for film, prompt in zip(films, batch, strict=True):
            rows.append({key: float(right) for key, right in adherence(film, prompt).items()})
            rows[-1] |= steadiness(film, prompt)
    columns = {key: [row[key] for row in rows if key in row] for key in sorted({key for row in rows for key in row})}
    return {key: sum(values) / len(values) for key, values in columns.items()}


def earlier(weights: str, samples: int) -> list[dict[str, Any]]:
    """The rows that a run with the same weights and as many samples has left."""
    path = harness.RESULTS / "free_init.json"
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    same = (report.get("weights"), report.get("samples")) == (weights, samples)
    return list(report["runs"]) if same else []


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=24, help="sentences; default: 24")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="frames")
    parser.add_argument("--rounds", type=int, nargs="+", default=ROUNDS, help="of FreeInit, beside the first")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other settings")
    options = parser.parse_args(argv)
    clips: Any = DATASETS.build("shapes", split="heldout")
    weights = fingerprint(options.set)
    runs = earlier(weights, options.samples)
    for frames in options.lengths:
        prompts = [clips.sentence(index, frames) for index in range(options.samples)]
        for rounds in (None, *options.rounds):
            # without rounds it is the sampler that the model comes with
            told = [] if rounds is None else ["scheduler=ddim", f"free_init={rounds}"]
            settings = ["steps=12", *told, *options.set]
            if any((run["frames"], run["settings"]) == (frames, settings) for run in runs):
                continue
            runs.append({"frames": frames, "settings": settings, "mean": measure(settings, frames, prompts)})
            report: dict[str, Any] = {
                "question": (__doc__ or "").splitlines()[0],
                "weights": weights,
                "samples": options.samples,
                "facts": harness.facts("cpu"),
                "runs": runs,
            }
            harness.write("free_init", report, markdown(report))
            print(markdown(report).splitlines()[len(runs) + 3])


def markdown(report: Mapping[str, Any]) -> str:
    """The report for reading."""
    table = []
    for run in report["runs"]:
        mean = run["mean"]
        shares = {key: f"{100 * mean[key]:.0f} %" for key in ("all", "colour", "shape", "direction", "speed", "count")}
        steady = {"seen in frames": f"{100 * mean['seen']:.0f} %", "off its line, px": f"{mean['off_line']:.2f}"}
        said = f"`{' '.join(run['settings'])}`"
        table.append({"frames": run["frames"], "settings": said, **shares, **steady})
    known = {key: value for key, value in report["facts"].items() if value is not None}
    return "\n\n".join(
        [
            f"# {report['question']}",
            harness.markdown_table(table, list(table[0])),
            f"{report['samples']} films a row, weights {report['weights']}; a film is {100 / report['samples']:.0f} %.",
            "Machine: " + ", ".join(f"{key} {value}" for key, value in known.items()),
        ]
    )


if __name__ == "__main__":
    main()
