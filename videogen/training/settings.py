"""What a training run is told; `conf/train/*.yaml` sets these."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TrainSettings:
    """Settings of one training run; those that the part which learns would ignore have to keep their defaults.

    Args:
        part: which part learns: "vae", "vae_decoder" (encoder frozen), "text" (the encoder of words, before its
            denoiser) or "denoiser" (with its text encoder).
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
        sizes: [height, width] pairs to draw from (not of part=text, which sees no clips; nor their weights).
        sizes_weights: how often each size is drawn.
        precision: "float32" or "bfloat16" (autocast).
        text_dropout: share of samples trained without text, for classifier-free guidance (denoiser only).
        known: share of clips some of whose latent frames are known, see `videogen.training.known` (denoiser only).
        cached_clips: encode this many clips once and draw from them (denoiser only); 0 encodes anew at each step.
        workers: processes that make those clips, 0 for none beside this one (denoiser only).
        reconstruction: "l2" or "l1", squared or absolute error of the pixels (this and all below to `export_precision`:
            VAE only).
        kl_weight: weight of the KL term, which part=vae_decoder logs and doesn't learn from.
        commitment_weight: weight of the commitment loss of a VAE whose latents are codes. VideoGPT's 0.25 stands beside
            a squared error divided by 0.24, the variance of its pixels: it is 0.06 here.
        perceptual: weight of the perceptual loss, the distance of a network's features; 0 for none.
        perceptual_model: that network, by its name in timm; a convolutional one, as frames come in any size. Some have
            a least one, such as 32 pixels a side of vgg11, whose coarsest stride that is.
        perceptual_weights: its weights, a local safetensors file with timm's names; nothing is downloaded.
        perceptual_frames: frames of each clip, drawn at random, that the perceptual loss sees.
        discriminator: weight of the adversarial loss, as a share of the reconstruction's gradient at the decoder's last
            layer; 0 for no discriminator.
        discriminator_start: steps before the discriminator and the adversarial loss start; they help once clips are
            reconstructed well.
        discriminator_learning_rate: peak of the discriminator's schedule, which has the shape of the VAE's.
        discriminator_channels: width of the discriminator's first layer.
        export_precision: "float32" or "float16", how the finished model's weights are stored.
        compile: compile each block with torch.compile (denoiser only); takes a minute, then a third faster on CPU.
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
    known: float = 0.0
    cached_clips: int = 0
    workers: int = 0
    reconstruction: str = "l2"
    kl_weight: float = 1e-6
    commitment_weight: float = 0.25
    perceptual: float = 0.0
    perceptual_model: str = "vgg11"
    perceptual_weights: str = ""
    perceptual_frames: int = 4
    discriminator: float = 0.0
    discriminator_start: int = 0
    discriminator_learning_rate: float = 1e-4
    discriminator_channels: int = 64
    export_precision: str = "float32"
    compile: bool = False
    threads: int = 0
