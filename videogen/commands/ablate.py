"""`videogen ablate`: several choices side by side in one table: size, operations, seconds, memory, loss, adherence."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from videogen.commands.comparison import check_output, said, write
from videogen.commands.evaluate import measure_task
from videogen.commands.profile import study
from videogen.commands.train import train
from videogen.config import (
    ConfigError,
    build_denoiser,
    build_hollow,
    build_part,
    compose,
    expand,
    find_device,
    label_of,
)
from videogen.profiling import Study, check_fits, interleaved

#: least CPU seconds of one sample
SECONDS = 0.05
#: what a training run averages its loss over: the last part of its steps
TAIL = 0.2
NOTES = (
    "parameters and GFLOPs are the denoiser's, GFLOPs of one step at this size and guidance, a multiply-add as two",
    "s/step and CPU s/step: wall clock and CPU time of one denoising step, medians of {rounds} samples taken in turns",
    "GiB: weights in float32 and the most that denoising or decoding takes beside them, found on the meta device",
)


class Choice(NamedTuple):
    """One combination.

    Args:
        told: its own arguments: key -> value.
        label: the same in file names.
        config: composed for "ablate".
        study: what it takes.
    """

    told: dict[str, str]
    label: str
    config: dict[str, Any]
    study: Study

    @property
    def name(self) -> str:
        """The arguments in one line."""
        return said(self.told) or "the model"


def ablate(arguments: Sequence[str]) -> Path:
    """Compare all combinations of the values given; prints a table, and writes it as Markdown, as JSON and as a plot.

    A combination whose parts don't go together is listed with the reason, and the others are compared.

    Args:
        arguments: of the command line, several values as `key=a,b`.

    Raises:
        ValueError: no combination can be built, all of them together don't fit into memory, or nothing can be written.
    """
    choices, refused = sort(arguments)
    if not choices:
        raise ConfigError("; ".join(f"{name}: {reason}" if name else reason for name, reason in refused.items()))
    settings = choices[0].config
    for key in ("output", "rounds", "device"):
        if any(choice.config[key] != settings[key] for choice in choices):
            raise ConfigError(f"{key}= says how all are compared: give one value")
    output = check_output(settings["output"])
    for name, reason in refused.items():
        print(f"not compared: {name}: {reason}", flush=True)
    rows = [{**choice.told, **size(choice.study)} for choice in choices]
    for row, seconds in zip(rows, time_steps(choices, settings["rounds"]), strict=True):
        row |= seconds
    for row, choice in zip(rows, choices, strict=True):
        try:
            row |= learn(choice)
        except (ValueError, ArithmeticError) as error:
            refused[choice.name] = str(error)
            print(f"not trained or sampled: {choice.name}: {error}", flush=True)
    notes = [note.format(rounds=settings["rounds"]) for note in NOTES]
    write(output, shlex.join(["videogen", "ablate", *arguments]), rows, refused, notes)
    return output


def sort(arguments: Sequence[str]) -> tuple[list[Choice], dict[str, str]]:
    """The combinations that can be built, and the reasons of the others by their arguments."""
    choices, refused = [], {}
    for job in expand(arguments):
        changed = [argument for argument in job if argument not in arguments]
        told = dict(argument.split("=", 1) for argument in changed)
        try:
            config = compose("ablate", job)
            choices.append(Choice(told, label_of(changed), config, study(config)))
        except ValueError as error:
            refused[said(told)] = " ".join(str(error).split())
    return choices, refused


def size(found: Study) -> dict[str, float]:
    """The columns that nothing has to run for."""
    return {
        "parameters (M)": found.parameters["denoiser"] / 1e6,
        "GFLOPs/step": found.step["float32"].flops.total() / 1e9,
        "GiB": found.bytes("float32") / 2**30,
    }


def time_steps(choices: Sequence[Choice], rounds: int) -> list[dict[str, float]]:
    """Seconds of one denoising step of each, with random weights, taken in turns.

    Raises:
        ValueError: all models together don't fit into memory.
    """
    needed = {
        choice.name: choice.study.weights("denoiser", "float32") + choice.study.step["float32"].bytes
        for choice in choices
    }
    device = find_device(choices[0].config["device"])
    check_fits(needed, "compare fewer at once, or at a smaller size", device)
    steps = {str(index): _step(choice, device) for index, choice in enumerate(choices)}
    timings = interleaved(steps, device=device.type, rounds=rounds, seconds=SECONDS)
    return [
        {
            "s/step": timing.wall / 1e3,
            "CPU s/step": timing.median / 1e3,
            "p20": timing.p20 / 1e3,
            "p80": timing.p80 / 1e3,
        }
        for timing in timings.values()
    ]


def _step(choice: Choice, device: torch.device) -> Callable[[], object]:
    config = choice.config
    # the neighbours count by their sizes, so an encoder of text needs no folder here
    beside = build_hollow(config)
    torch.manual_seed(config["seed"])
    denoiser = build_denoiser(config, beside.vae, beside.text, build_part("attention", config["attention"])).eval()
    denoiser.to(device)
    with device:
        inputs = choice.study.inputs.draw(denoiser)

    def run() -> object:
        with torch.no_grad():
            return denoiser(*inputs)

    return run


def learn(choice: Choice) -> dict[str, float]:
    """Loss of a training run and adherence of samples, as far as the config asks for them.

    What is trained starts from random weights, whatever `weights` says, and the other parts from those; without
    training, samples are made with them.

    Raises:
        ValueError: a run that fails, or weights that don't fit what is sampled.
    """
    config, found = choice.config, {}
    evaluated = {key: value for key, value in config.items() if key not in ("train", "data")} | {"precision": "float32"}
    if config["train"]["steps"]:
        part = config["train"]["part"].removesuffix("_decoder")
        if config["samples"] is not None and part != "denoiser":
            raise ConfigError(f"samples= judges a denoiser, and train.part={part} trains none: leave samples out")
        folder = train(config, choice.label, fresh=[part])
        found = last_loss(folder.parent / "metrics.jsonl", config["train"]["steps"])
        evaluated = compose(
            "evaluate", [f"model={folder}", *(f"{key}={config[key]}" for key in ("seed", "batch_size", "device"))]
        )
    if config["samples"] is not None:
        found["adherence"] = measure_task({**evaluated, "samples": config["samples"]})["mean"]["all"]
    return found


def last_loss(log: Path, steps: int) -> dict[str, float]:
    """The mean loss of the last fifth of a run, and the seconds that a step of training took."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    last = [row for row in rows if row["step"] > (1 - TAIL) * steps]
    return {
        key: sum(row[name] for row in last) / len(last) for key, name in (("loss", "loss"), ("s/train step", "seconds"))
    }
