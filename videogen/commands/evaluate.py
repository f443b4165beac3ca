"""`videogen evaluate`: how well a task is done, or how much of real clips survives the VAE."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from videogen.commands.evaluations import Case, World, evaluation_of, with_knobs
from videogen.commands.outputs import labelled
from videogen.config import build_pipeline, build_vae
from videogen.data import DATASETS
from videogen.data.video import read_video
from videogen.metrics.fidelity import psnr, ssim
from videogen.pipelines.reconstruct import reconstruct

if TYPE_CHECKING:
    from videogen.pipelines.text_to_video import TextToVideo

# the columns that say which sample it was
NAMES = ("prompt", "seed", "clip")


def evaluate(config: Mapping[str, Any], label: str = "") -> None:
    """Measure, print a table, and write the numbers as JSON when `output` says where.

    Args:
        config: composed for "evaluate".
        label: to go into the name of the JSON file.

    Raises:
        ValueError: no clips, or a path that can't be written.
    """
    output = None if config["output"] is None else labelled(config["output"], label)
    if output is not None:
        check_json(output)
    measure = measure_reconstruction if config["measure"] == "reconstruction" else measure_task
    result = measure(config)
    print(table({"samples": len(result["samples"]), **result["mean"]}))
    if output is not None:
        text = json.dumps({"measure": config["measure"], "config": config, **result}, indent=2)
        output.write_text(text + "\n", encoding="utf-8")
        print(output)


def measure_task(config: Mapping[str, Any]) -> dict[str, Any]:
    """Cases of the task from held-out clips, one film each: the share that is right in each respect, and figures."""
    evaluation = evaluation_of(config["task"]["name"])
    pipeline = build_pipeline(config)
    task = pipeline.task
    world = World(config["seed"], config["num_frames"], config["height"], config["width"])
    count = samples_of(config)
    cases = ((config["seed"] + index, evaluation(world, index, task)) for index in range(count))
    rows = []
    with tqdm(total=count, desc=config["task"]["name"]) as bar:
        # cases that set knobs of their own go together as long as they set the same
        for knobs, group in itertools.groupby(cases, key=lambda pair: pair[1].knobs):
            pipeline.task = with_knobs(task, knobs)
            while batch := list(itertools.islice(group, config["batch_size"])):
                rows += judged(pipeline, batch)
                bar.update(len(batch))
    return {"mean": means(rows), "samples": rows}


def samples_of(config: Mapping[str, Any]) -> int:
    """How many samples: as many as are asked for, else 200 of sentences alone and of clips, 100 of other tasks."""
    count: int | None = config["samples"]
    if count is None:
        alone = config["measure"] == "reconstruction" or config["task"]["name"] == "text_to_video"
        count = 200 if alone else 100
    return count


def judged(pipeline: TextToVideo, batch: Sequence[tuple[int, Case]]) -> list[dict[str, Any]]:
    """The films of some cases, each with a seed, and what is to be said of them."""
    seeds, cases = [seed for seed, _ in batch], [case for _, case in batch]
    references: dict[str, Any] = {
        name: torch.stack([case.references[name] for case in cases]) for name in cases[0].references
    }
    films = pipeline([case.prompt for case in cases], seed=seeds, **references)
    return [
        {"prompt": case.prompt, "seed": seed, **case.judge(film)}
        for seed, case, film in zip(seeds, cases, films, strict=True)
    ]


def measure_reconstruction(config: Mapping[str, Any]) -> dict[str, Any]:
    """Clips of a folder through the VAE: PSNR and SSIM of each."""
    clips = find_clips(config)[: samples_of(config)]
    vae = build_vae(config)
    rows = []
    for path in tqdm(clips, desc="clips"):
        video = read_video(path).frames
        rebuilt = reconstruct(vae, video)
        rows.append({"clip": path.name, "psnr": psnr(video, rebuilt).item(), "ssim": ssim(video, rebuilt).item()})
    return {"mean": means(rows), "samples": rows}


def find_clips(config: Mapping[str, Any]) -> list[Path]:
    """The clips of a folder: those of the split when it has a metadata.jsonl, else all its MP4 files.

    Raises:
        ValueError: no folder is given, or there is no clip in it.
    """
    if config["input"] is None:
        raise ValueError("no clips: give their folder, videogen evaluate measure=reconstruction input=folder")
    folder = Path(config["input"])
    if (folder / "metadata.jsonl").is_file():
        dataset: Any = DATASETS.build("folder", path=str(folder), split=config["split"])
        return [folder / entry.file_name for entry in dataset.entries]
    clips = sorted(folder.glob("*.mp4"))
    if not clips:
        raise ValueError(f"input={folder} holds no .mp4 and no metadata.jsonl: give a folder of clips")
    return clips


def means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The mean of each column of numbers or truths; rows that don't have a column don't count for it."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            if key not in NAMES:
                values.setdefault(key, []).append(float(value))
    return {key: sum(column) / len(column) for key, column in values.items()}


def table(numbers: Mapping[str, float]) -> str:
    """Names and numbers in two columns."""
    width = max(map(len, numbers))
    texts = {name: f"{number}" if isinstance(number, int) else f"{number:.4f}" for name, number in numbers.items()}
    return "\n".join(f"{name:{width}}  {text:>8}" for name, text in texts.items())


def check_json(path: Path) -> None:
    """Refuse a path that a JSON file can't be written to, before anything long.

    Raises:
        ValueError: it is a folder, or its folder is missing or not writable.
    """
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"output={path} can't be written: give a file in a folder that exists, like result.json")
