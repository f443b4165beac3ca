"""The training loop: one for every learner; killed at any moment, it goes on from its last complete checkpoint."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from videogen.checkpoints import newest, save_part, write_folder
from videogen.data import Dataset
from videogen.training.checks import check_settings
from videogen.training.draw import device_of, generator
from videogen.training.ema import EMA
from videogen.training.learners import DenoiserLearner, Learner, VAELearner
from videogen.training.log import RunLog
from videogen.training.optimizer import Optimizer
from videogen.training.phrases import PhraseLearner
from videogen.training.settings import TrainSettings

KEPT = 2
STATE = "training.safetensors"


def train(parts: Any, dataset: Dataset, settings: TrainSettings, configs: Mapping[str, Mapping[str, Any]]) -> Path:
    """Train one part and return the folder of its last checkpoint.

    Args:
        parts: has `vae`, `denoiser`, `text` and `objective`.
        dataset: gives the clips.
        settings: of the run.
        configs: "vae", "denoiser" and "text" -> the config that each was built from, kept beside its weights.

    Raises:
        ValueError: settings that contradict each other, or a loss that is no number.
    """
    check_settings(settings)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    output = Path(settings.output)
    output.mkdir(parents=True, exist_ok=True)
    log = RunLog(output, settings.steps, settings.log_every)
    run = Run(_learner(parts, dataset, settings), settings, configs)
    start = run.resume(output)
    log.say(f"{settings.part}: {run.parameters / 1e6:.2f} M parameters, steps {start + 1} to {settings.steps}")
    for step in range(start, settings.steps):
        log.add(step + 1, run.step(step))
        if (step + 1) % settings.save_every == 0 or step + 1 == settings.steps:
            run.save(output, step + 1)
            log.plot()
    last = newest(output)
    assert last is not None
    return last


def _learner(parts: Any, dataset: Dataset, settings: TrainSettings) -> Learner:
    if settings.part in ("vae", "vae_decoder"):
        return VAELearner(parts.vae, dataset, settings)
    if settings.part == "denoiser":
        return DenoiserLearner(parts.vae, parts.denoiser, parts.text, parts.objective, dataset, settings)
    return PhraseLearner(parts.text, dataset, settings)


class Run:
    """The state of a run: weights, their average, the optimisers."""

    def __init__(self, learner: Learner, settings: TrainSettings, configs: Mapping[str, Mapping[str, Any]]) -> None:
        self.learner, self.settings, self.configs = learner, settings, configs
        self.modules, self.critics = learner.modules.train(), learner.critics.train()
        common = {"weight_decay": settings.weight_decay, "gradient_clip": settings.gradient_clip}
        self.optimizer = Optimizer(self.modules, betas=(0.9, 0.98), **common)
        # a critic's opponent moves: it remembers less (the betas of VQGAN, arXiv 2012.09841)
        self.critics_optimizer = Optimizer(self.critics, betas=(0.5, 0.9), **common)
        self.device = device_of(self.modules).type
        self.parameters = sum(p.numel() for p in self.optimizer.named.values())
        self.ema = EMA(self.modules, settings.ema)

    def step(self, step: int) -> dict[str, float]:
        """One step of every optimiser; `step` counts from 0."""
        source = generator(self.settings.seed, step)
        # parts that draw from PyTorch's own source, as codebooks do, are to resume as well
        torch.manual_seed(source.initial_seed())
        with torch.autocast(self.device, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            loss, numbers = self.learner.loss(step, source)
        self.optimizer.zero_grad()
        self.critics_optimizer.zero_grad()
        loss.backward()
        rate = learning_rate(step, self.settings, self.settings.learning_rate)
        self.optimizer.step(rate)
        self.critics_optimizer.step(learning_rate(step, self.settings, self.settings.discriminator_learning_rate))
        self.ema.update(self.modules, step)
        # looked at last, since a card is waited for then; what isn't finite ends the run before it is saved
        if not math.isfinite(loss.item()):
            raise ValueError(f"the loss is {loss.item()} at step {step + 1}: lower train.learning_rate")
        return {**{name: float(number) for name, number in numbers.items()}, "lr": rate}

    def save(self, output: Path, step: int) -> None:
        """Write a complete checkpoint `step_N` and drop all but the last few."""
        write_folder(output / f"step_{step:07d}", lambda folder: self._fill(folder, step))
        for old in sorted(output.glob("step_*"))[:-KEPT]:
            for path in sorted(old.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            old.rmdir()

    def _fill(self, folder: Path, step: int) -> None:
        average = self.ema.state_dict()
        for part, module in self.modules.items():
            state = {name: average[f"{part}.{name}"] for name in module.state_dict()}
            save_part(folder / part, self._config(part, state), state)
        states = {prefix: holder.state_dict() for prefix, holder in self._holders().items()}
        tensors = {f"{prefix}.{k}": v.contiguous() for prefix, state in states.items() for k, v in state.items()}
        save_file(tensors, folder / STATE)
        (folder / "run.json").write_text(
            json.dumps({"step": step, **dataclasses.asdict(self.settings)}, indent=2) + "\n"
        )

    def _holders(self) -> dict[str, nn.Module | Optimizer]:
        """Whose state `training.safetensors` keeps, by the first word of its tensors' names."""
        return {
            "weights": self.modules,
            "optimizer": self.optimizer,
            "critics": self.critics,
            "critics_optimizer": self.critics_optimizer,
        }

    def _config(self, part: str, state: dict[str, Tensor]) -> dict[str, Any]:
        config = dict(self.configs[part])
        if isinstance(self.learner, VAELearner) and not self.learner.decoder_only:
            live = {name: value.clone() for name, value in self.modules[part].state_dict().items()}
            self.modules[part].load_state_dict(state)
            config["latent_shift"], config["latent_scale"] = self.learner.latent_statistics()
            self.modules[part].load_state_dict(live)
        return config

    def resume(self, output: Path) -> int:
        """Load the newest complete checkpoint of `output`; the step to go on with, 0 for a new run."""
        folder = newest(output)
        if folder is None:
            self.learner.start()
            self.ema = EMA(self.modules, self.settings.ema)
            return 0
        step = int(json.loads((folder / "run.json").read_text())["step"])
        tensors = load_file(folder / STATE)
        states: dict[str, dict[str, Tensor]] = {prefix: {} for prefix in self._holders()}
        for name, value in tensors.items():
            prefix, _, key = name.partition(".")
            states[prefix][key] = value
        self.modules.load_state_dict(states["weights"])
        self.optimizer.load_state_dict(states["optimizer"])
        # critics may have joined the run, or left it, since the checkpoint
        if self.critics and states["critics"]:
            self.critics.load_state_dict(states["critics"])
            self.critics_optimizer.load_state_dict(states["critics_optimizer"])
        for part in self.modules:
            stored = load_file(folder / part / "model.safetensors")
            self.ema.load_state_dict({f"{part}.{name}": value for name, value in stored.items()})
        return step


def learning_rate(step: int, settings: TrainSettings, peak: float) -> float:
    """Linear warm-up to the peak, then half a cosine down to a tenth of it."""
    warm = min(1.0, (step + 1) / max(settings.warmup, 1))
    progress = max(0.0, (step - settings.warmup) / max(settings.steps - settings.warmup, 1))
    return peak * warm * (0.1 + 0.45 * (1 + math.cos(math.pi * min(progress, 1.0))))
