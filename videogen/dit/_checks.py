"""What a DiT refuses before it computes: inputs whose shapes don't belong together."""

from __future__ import annotations

import torch
from torch import Tensor

from videogen.denoiser import Condition


def check_inputs(
    latents: Tensor,
    timestep: Tensor,
    condition: Condition,
    latent_channels: int,
    widths: tuple[int, int],
    patch_frames: int,
) -> None:
    """Raise ValueError, with the shape that was given and the one that fits, unless all inputs belong together."""
    if latents.ndim != 5 or latents.shape[1] != latent_channels:
        raise ValueError(
            f"latents of shape {tuple(latents.shape)} are not (B, {latent_channels}, T, H, W): "
            "use the VAE that this model was built for"
        )
    batch, frames = latents.shape[0], latents.shape[2]
    if timestep.shape not in ((batch,), (batch, frames)):
        fitting = f"(B,) = ({batch},) nor (B, T) = ({batch}, {frames})"
        raise ValueError(f"timesteps of shape {tuple(timestep.shape)} fit neither {fitting}: give one of these")
    if timestep.ndim == 2 and patch_frames != 1:
        raise ValueError(f"a timestep a frame needs patches of 1 frame, not {patch_frames}: give timesteps (B,)")
    if condition.text_mask is not None and condition.text is None:
        raise ValueError("condition.text_mask is given without condition.text: give both or neither")
    text_dim, pooled_dim = widths
    _check_shape("text", condition.text, (batch, None, text_dim))
    _check_shape("text_mask", condition.text_mask, (batch, None if condition.text is None else condition.text.shape[1]))
    _check_shape("pooled", condition.pooled, (batch, pooled_dim))
    _check_shape("fps", condition.fps, (batch,))
    _check_shape("size", condition.size, (batch, 2))
    _check_shape("valid", condition.valid, (batch, *latents.shape[2:]))
    for name, mask in (("text_mask", condition.text_mask), ("valid", condition.valid)):
        if mask is not None and mask.dtype != torch.bool:
            raise ValueError(f"condition.{name} is bool, True for what counts, not {mask.dtype}: pass {name}.bool()")


def _check_shape(name: str, tensor: Tensor | None, wanted: tuple[int | None, ...]) -> None:
    """None in `wanted` stands for any length."""
    if tensor is None:
        return
    if tensor.ndim != len(wanted) or any(w not in (None, s) for w, s in zip(wanted, tensor.shape, strict=True)):
        said = ", ".join("any" if length is None else str(length) for length in wanted)
        raise ValueError(f"condition.{name} has the shape {tuple(tensor.shape)}: this model takes ({said})")
