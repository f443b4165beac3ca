"""What the U-Net refuses before it computes: inputs that are missing or whose shapes don't belong together."""

from __future__ import annotations

from torch import Tensor

from videogen.denoiser import Condition


def check_inputs(
    latents: Tensor,
    timestep: Tensor,
    condition: Condition,
    latent_channels: int,
    text_dim: int,
    required: frozenset[str],
) -> None:
    """Raise ValueError, with the shape that was given and the one that fits, unless all inputs belong together.

    Args:
        required: fields of the condition that the model can't do without.
    """
    if latents.ndim != 5 or latents.shape[1] != latent_channels:
        raise ValueError(
            f"latents of shape {tuple(latents.shape)} are not (B, {latent_channels}, T, H, W): "
            "use the VAE that this model was built for"
        )
    if 0 in latents.shape:
        raise ValueError(f"latents of shape {tuple(latents.shape)} are empty: give at least one frame, row and column")
    batch, frames = latents.shape[0], latents.shape[2]
    if timestep.shape not in ((batch,), (batch, frames)):
        fitting = f"(B,) = ({batch},) nor (B, T) = ({batch}, {frames})"
        raise ValueError(f"timesteps of shape {tuple(timestep.shape)} fit neither {fitting}: give one of these")
    for name, remedy in REMEDIES.items():
        if name in required and getattr(condition, name) is None:
            raise ValueError(f"condition.{name} is missing and this model needs it: {remedy}")
    for mask, masked in (("text_mask", "text"), ("known_mask", "known")):
        if getattr(condition, mask) is not None and getattr(condition, masked) is None:
            raise ValueError(f"condition.{mask} is given without condition.{masked}: give both or neither")
    words = None if condition.text is None else condition.text.shape[1]
    condition.require_shape("text", (batch, None, text_dim))
    condition.require_shape("text_mask", (batch, words))
    condition.require_shape("image", (batch, None, text_dim))
    for name in ("text", "image"):
        tokens = getattr(condition, name)
        if tokens is not None and tokens.shape[1] == 0:
            raise ValueError(f"condition.{name} holds no token: {REMEDIES[name]}")
    condition.require_shape("fps", (batch,))
    condition.require_shape("known", tuple(latents.shape))
    condition.require_shape("known_mask", (batch, frames))


REMEDIES = {
    "text": "give tokens (B, L, D), those of the empty sentence for no text",
    "image": "give image tokens (B, L, D), those of a black image for none",
    "fps": "give frames a second (B,), or build the model with default_fps",
    "known": "give the latents of the known frames (B, C, T, H, W), zeros where none is known",
}
