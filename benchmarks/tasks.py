"""How well does the shipped model do each task?

    python benchmarks/tasks.py
    python benchmarks/tasks.py --tasks extend loop --samples 20 --set steps=15

Each task is `videogen evaluate task=<name>` with `samples=` held-out cases, none of which was trained on. Writes
`results/tasks.json` and `.md` after each task. Tasks that aren't asked for keep the figures that an earlier run of the
same weights and settings has left there, so that several runs fill one table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import harness

from videogen.commands.evaluate import measure_task
from videogen.config import compose
from videogen.config.building import weights_folder


class Figure(NamedTuple):
    """One column of an evaluation, and what it should be: at least `target`, or at most with `most`."""

    column: str
    said: str
    target: float | None = None
    most: bool = False
    share: bool = True


class Job(NamedTuple):
    """One evaluation.

    Args:
        overrides: of `videogen evaluate`.
        figures: what the table shows of it.
        part: how many of `--samples` are taken, fewer for what takes long, more to compare shares; at least 2.
        beside: the job to whose first figure its own is compared.
    """

    overrides: tuple[str, ...]
    figures: tuple[Figure, ...]
    part: float = 1.0
    beside: str = ""


SHOWN = Figure("all", "everything named is right")
NEAR = Figure("all", "everything named is right, beside the square's", 0.9)
JOBS: Mapping[str, Job] = {
    "text_to_video": Job((), (SHOWN,), 2.0),
    "image_to_video": Job(
        ("task=image_to_video",),
        (
            Figure("psnr", "the given frame, dB", 30, share=False),
            Figure("kept", "… at least 30 dB"),
            Figure("right", "everything named is right", 0.9),
        ),
    ),
    "extend": Job(
        ("task=extend", "task.length=25", "guidance=1"),
        (
            Figure("off_px", "new frames off the straight line, px", 1.5, most=True, share=False),
            Figure("off_px_a_frame", "… off its velocity, px a frame", share=False),
            Figure("on", "less than 1.5 px, and 0.25 px a frame", 0.9),
        ),
    ),
    "backward": Job(
        ("task=extend", "task.length=25", "task.direction=backward", "guidance=1"),
        (
            Figure("off_px", "new frames off the straight line, px", 1.5, most=True, share=False),
            Figure("on", "less than 1.5 px, and 0.25 px a frame", 0.9),
        ),
    ),
    "minute": Job(
        ("task=extend", "task.length=481", "guidance=1", "steps=15"),
        (Figure("all", "the right object after 60 s: colour, shape, size", 0.9),),
    ),
    "loop": Job(
        ("task=loop",),
        (
            Figure("all", "last to first is no larger a step than others", 0.9),
            Figure("last_px", "last to first, px", share=False),
            Figure("largest_px", "largest step elsewhere, px", share=False),
        ),
    ),
    "connect": Job(
        ("task=connect",),
        (
            Figure("kept", "both films are kept", 1.0),
            Figure("all", "… and one object becomes the other without a cut", 0.9),
            Figure("largest", "largest step, as a share of the change", share=False),
        ),
    ),
    "edit": Job(
        ("task=edit", "task.strength=0.25", "guidance=6"),
        (
            Figure("all", "the colour is the new one, the motion the old one", 0.85),
            Figure("colour", "the colour"),
            Figure("motion", "the motion"),
        ),
    ),
    "inpaint": Job(
        ("task=inpaint",),
        (Figure("kept", "the rest is kept", 1.0), Figure("right", "everything named is right", 0.9)),
    ),
    "outpaint": Job(
        ("task=outpaint",),
        (Figure("kept", "the rest is kept", 1.0), Figure("all", "… with plain ground around it", 0.9)),
    ),
    "interpolate": Job(
        ("task=interpolate",),
        (
            Figure("kept", "the given frames are kept", 1.0),
            Figure("off_px", "made frames off the straight line, px", 0.5, most=True, share=False),
            Figure("on", "less than 0.5 px", 0.9),
        ),
    ),
    "48x80": Job(("height=48", "width=80"), (NEAR,), 2.0, beside="text_to_video"),
    "80x48": Job(("height=80", "width=48"), (NEAR,), 2.0, beside="text_to_video"),
    "33 frames": Job(("num_frames=33",), (NEAR,), 2.0, beside="text_to_video"),
    "1 frame": Job(("num_frames=1", "task=text_to_image"), (NEAR,), 2.0, beside="text_to_video"),
}


def measure(job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """The means of one job, what was wrong, and how long it took."""
    samples = max(2, round(options.samples * job.part))
    overrides = [*job.overrides, *options.set, f"samples={samples}"]
    start = time.perf_counter()
    result = measure_task(compose("evaluate", overrides))
    wrong = [{"prompt": row["prompt"], "seed": row["seed"]} for row in result["samples"] if not row.get("all", True)]
    command = " ".join(["videogen evaluate", *job.overrides, *options.set])
    seconds = time.perf_counter() - start
    return {"command": command, "samples": samples, "seconds": seconds, "mean": result["mean"], "wrong": wrong}


def rows(measured: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The table: a row for each figure of each job that was measured."""
    table = []
    for name, job in JOBS.items():
        if name not in measured or (job.beside and job.beside not in measured):
            continue
        found = measured[name]
        for number, figure in enumerate(job.figures):
            value = found["mean"][figure.column]
            if job.beside:
                value /= max(measured[job.beside]["mean"][JOBS[job.beside].figures[0].column], 1e-9)
            table.append({**_told(figure, value), "samples": found["samples"] if not number else ""})
            table[-1] = {"task": name if not number else "", **table[-1]}
            table[-1]["command"] = f"`{found['command']}`" if not number else ""
    return table


def _told(figure: Figure, value: float) -> dict[str, Any]:
    """A figure beside its target."""
    said = (lambda number: f"{100 * number:.0f} %") if figure.share else (lambda number: f"{number:.2f}")
    holds, target = "", ""
    if figure.target is not None:
        target = f"{'<=' if figure.most else '>='} {said(figure.target)}"
        holds = "yes" if (value <= figure.target if figure.most else value >= figure.target) else "no"
    return {"what": figure.said, "measured": said(value), "target": target, "holds": holds}


def markdown(report: Mapping[str, Any]) -> str:
    """The report for reading."""
    table = rows(report["jobs"])
    known = {key: value for key, value in report["facts"].items() if value is not None}
    minutes = sum(job["seconds"] for job in report["jobs"].values()) / 60
    parts = [
        f"# {report['question']}",
        harness.markdown_table(table, list(table[0])) if table else "",
        f"Lengths in pixels of 64x64. All of it took {minutes:.0f} minutes. What each figure means is told in "
        "[docs/tasks.md](../../docs/tasks.md).",
        "Machine: " + ", ".join(f"{key} {value}" for key, value in known.items()),
    ]
    return "\n\n".join(part for part in parts if part)


def fingerprint(overrides: Sequence[str]) -> str:
    """What tells one model from another: the first digits of its denoiser's SHA-256, or that it has no weights."""
    config = compose("evaluate", list(overrides))
    if config["weights"] is None:
        return "random weights"
    files = sorted((weights_folder(config["weights"]) / "denoiser").glob("*.safetensors"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def earlier(weights: str, settings: Sequence[str]) -> dict[str, Any]:
    """What an earlier run with the same weights and settings has measured."""
    path = harness.RESULTS / "tasks.json"
    if not path.is_file():
        return {}
    report = json.loads(path.read_text(encoding="utf-8"))
    same = (report["weights"], report["settings"]) == (weights, list(settings))
    found: dict[str, Any] = report["jobs"] if same else {}
    return found


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    weights = fingerprint(options.set)
    report: dict[str, Any] = {
        "question": (__doc__ or "").splitlines()[0],
        "weights": weights,
        "settings": options.set,
        "facts": harness.facts("cpu"),
        "jobs": earlier(weights, options.set),
    }
    for name in options.tasks:
        found = measure(JOBS[name], options)
        # another run may have written what it measured in the meantime
        report["jobs"] = {**earlier(weights, options.set), name: found}
        report["jobs"] = {key: report["jobs"][key] for key in JOBS if key in report["jobs"]}
        harness.write("tasks", report, markdown(report))
    table = rows(report["jobs"])
    if table:
        print(harness.markdown_table(table, list(table[0])))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=100, help="cases of each task; default: 100")
    parser.add_argument("--tasks", nargs="+", choices=JOBS, default=list(JOBS), help="default: all")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of videogen evaluate")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
