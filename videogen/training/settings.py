"""What a training run is told; `conf/train/*.yaml` sets these."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TrainSettings:
    """Settings of one training run.

    Args:
        part: which part learns: "vae", "vae_decoder" (encoder frozen) or "denoiser" (with its text encoder).
        output: folder of the run: checkpoints, log, loss plot. A run found there is resumed.
        steps: optimiser steps in all.
        batch_size: clips a step.
        learning_rate: peak of the schedule (linear warm-up, then cosine to a tenth).
        warmup: steps of linear warm-up.
        weight_decay: of AdamW, on matrices only.
        gradient_clip: largest gradient norm.
        ema: decay of the exponential moving average of the weights.
        save_every: steps between checkpoints.
        log_every: steps between log lines.
        seed: of the data order and of all noise.
        num_frames: clip lengths to draw from.
        num_frames_weights: how often each length is drawn.
        sizes: [height, width] pairs to draw from.
        sizes_weights: how often each size is drawn.
        precision: "float32" or "bfloat16" (autocast).
        text_dropout: share of samples trained without text, for classifier-free guidance.
        cached_clips: encode this many clips once and draw from them (denoiser only); 0 encodes anew at each step.
        kl_weight: weight of the KL term (VAE only).
        export_precision: "float32" or "float16", how the finished model's weights are stored.
        compile: compile each block of the denoiser with torch.compile; takes a minute, then a third faster on CPU.
        threads: CPU threads, 0 for all.
    """

    part: str = "denoiser"
    output: str = "runs/train"
    steps: int = 1000
    batch_size: int = 8
    learning_rate: float = 3e-4
    warmup: int = 200
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema: float = 0.999
    save_every: int = 250
    log_every: int = 25
    seed: int = 0
    num_frames: list[int] = field(default_factory=lambda: [17])
    num_frames_weights: list[float] = field(default_factory=lambda: [1.0])
    sizes: list[list[int]] = field(default_factory=lambda: [[64, 64]])
    sizes_weights: list[float] = field(default_factory=lambda: [1.0])
    precision: str = "float32"
    text_dropout: float = 0.1
    cached_clips: int = 0
    kl_weight: float = 1e-6
    export_precision: str = "float32"
    compile: bool = False
    threads: int = 0
