"""What a run says: a readable line now and then, the same numbers as JSON lines, and a plot of the loss."""

from __future__ import annotations

import json
import time
from pathlib import Path


class RunLog:
    """Averages the numbers of each step and writes them every `every` steps.

    Args:
        folder: gets `log.txt`, `metrics.jsonl` and `loss.png`.
        steps: steps of the whole run, for the estimate of the time left.
        every: steps between lines.
    """

    def __init__(self, folder: Path, steps: int, every: int) -> None:
        self.folder, self.steps, self.every = folder, steps, every
        self.sums: dict[str, float] = {}
        self.count = 0
        self.started = time.perf_counter()

    def say(self, line: str) -> None:
        """Print a line and keep it in `log.txt`."""
        print(line, flush=True)
        with (self.folder / "log.txt").open("a") as file:
            file.write(line + "\n")

    def add(self, step: int, numbers: dict[str, float]) -> None:
        """Take the numbers of a step (counted from 1)."""
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        if step % self.every and step != self.steps:
            return
        seconds = (time.perf_counter() - self.started) / self.count
        means = {name: total / self.count for name, total in self.sums.items()}
        numbers_said = " | ".join(f"{name} {value:.4g}" for name, value in means.items())
        left = (self.steps - step) * seconds / 60
        self.say(f"step {step:>6}/{self.steps} | {numbers_said} | {seconds:.2f} s/step | {left:.0f} min left")
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **means, "seconds": seconds}) + "\n")
        self.sums, self.count, self.started = {}, 0, time.perf_counter()

    def plot(self) -> None:
        """Draw the loss over the steps to `loss.png`, when matplotlib is installed."""
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError:
            self.say("no loss plot: pip install 'videogen-components[plot]'")
            return
        path = self.folder / "metrics.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([row["step"] for row in rows], [row["loss"] for row in rows])
        axes.set(xlabel="step", ylabel="loss", yscale="log")
        axes.grid(alpha=0.3)
        figure.savefig(self.folder / "loss.png", dpi=100)
