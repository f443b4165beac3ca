"""Between films and the latents that a denoiser sees: those of the VAE, with the spec's shift and scale."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from videogen.vae import VideoVAE


def encode_film(vae: VideoVAE, film: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t h w"]:
    """The most likely latents of films, (B, 3, T, H, W) -> (B, C, T', H', W') float32."""
    weight = next(vae.parameters())  # type: ignore[attr-defined]
    latents: Tensor = vae.encode(film.to(weight.device, weight.dtype)).mode().float()
    shift, scale = _statistics(vae, latents)
    return (latents - shift) * scale


def decode_film(vae: VideoVAE, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 t h w"]:
    """The films of latents, (B, C, T', H', W') -> (B, 3, T, H, W), about [-1, 1]."""
    shift, scale = _statistics(vae, latents)
    return vae.decode(latents / scale + shift)


def _statistics(vae: VideoVAE, latents: Tensor) -> tuple[Tensor, Tensor]:
    shift, scale = (latents.new_tensor(values).view(-1, 1, 1, 1) for values in (vae.spec.shift, vae.spec.scale))
    return shift, scale
