"""How a model that was given no channels for it keeps what is known of a film: two networks around the network.

`Kept` gives it latent frames without noise, at a time of their own: for a model that was trained to take them. `Pasted`
puts known pixels into what the network believes of the clean film: no training needed, and no frame has to be whole.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from videogen.pipelines.given import Given, within_latents
from videogen.pipelines.latents import decode_film, encode_film
from videogen.pipelines.overflow import finite, watched
from videogen.pipelines.sampling import CleanFrames
from videogen.schedulers import NoiseSchedule
from videogen.tasks import Known
from videogen.vae import VAESpec, VideoVAE

if TYPE_CHECKING:
    from videogen.schedulers import Network


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is known of films, by the way in which a model is told.

    Args:
        given: whole frames for a model that takes known latents or image tokens; None for one that takes none.
        clean: latent frames (T',) that such a model takes without noise, or None.
        pasted: what is left, to be put into the clean film, or None.
    """

    given: Given | None = None
    clean: Bool[Tensor, " t"] | None = None
    pasted: Known | None = None


def plan_known(known: Known | None, takes: frozenset[str], clean_frames: CleanFrames, spec: VAESpec) -> Plan:
    """How a model is told what is known of its films.

    Args:
        takes: the fields of the condition that the model reads.
        clean_frames: which latent frames it was trained to take without noise.

    Raises:
        ValueError: frames of which nothing is known beside known ones, and a model that was trained for no such thing.
    """
    if known is None:
        return Plan()
    frames = known.frames
    if {"known", "image"} & takes:
        places = tuple(frames.nonzero().flatten().tolist())
        given = Given(known.film[:, :, frames].transpose(1, 2), places, len(frames))
        rest = Known(known.film, known.mask & ~frames[:, None, None])
        return Plan(given=given, pasted=rest if rest.mask.any() else None)
    clean = within_latents(frames, spec).all(1)
    if clean_frames != "any":
        clean[1 if clean_frames == "first" else 0 :] = False
    # what is known of each frame leads the rest of it without any training; whole frames don't lead other ones
    if clean_frames == "none" and not known.mask.flatten(1).any(1).all():
        raise ValueError(
            "this model makes films of text alone: it wasn't trained with known frames (clean_frames=none). It can do "
            "task=text_to_video, text_to_image and edit, and inpaint or outpaint within every frame; to give it images "
            "or films to go on from choose another, as model=shapes or model=wan2_1_i2v_14b are"
        )
    whole = _frames_of(clean, spec)
    rest = Known(known.film, known.mask & ~whole[:, None, None])
    return Plan(clean=clean if clean.any() else None, pasted=rest if rest.mask.any() else None)


def _frames_of(latent_frames: Bool[Tensor, " t"], spec: VAESpec) -> Bool[Tensor, " f"]:
    """The frames of video that latent frames hold."""
    held = [spec.frames_of(place) for place in range(len(latent_frames))]
    frames = latent_frames.new_zeros(held[-1].stop)
    for place, whole in zip(held, latent_frames, strict=True):
        # a frame that two latent ones hold is known by either
        frames[place.start : place.stop] |= whole
    return frames


def clean_latents(vae: VideoVAE, known: Known) -> Float[Tensor, "b c t h w"]:
    """Latents of the films with the spec's shift and scale; an unknown frame shows the next that is known.

    A causal encoder looks back: before a known frame it should see something like it, and nothing is more like it.
    """
    frames = known.frames
    numbers = frames.nonzero().flatten()
    following = torch.searchsorted(numbers, torch.arange(len(frames))).clamp(max=len(numbers) - 1)
    with watched(vae, "encoding what is known"):
        return finite(encode_film(vae, known.film[:, :, numbers[following]]), "encoding what is known")


class Kept:
    """A network to which some latent frames are known: it sees them without noise, at a time of their own.

    The walk stays the same for all frames, so that any scheduler serves: for known ones the prediction is the one that
    leads to them.

    Args:
        network: takes times per frame (B, T).
        noise: what its times and predictions mean.
        latents: the films (B, C, T, H, W), as far as they are known.
        known: which frames are, (T,).
    """

    def __init__(
        self, network: Network, noise: NoiseSchedule, latents: Float[Tensor, "b c t h w"], known: Bool[Tensor, " t"]
    ) -> None:
        self.network, self.noise, self.latents = network, noise, latents
        # times stay on the CPU until the network takes them
        self.places, self.known = known, known[:, None, None].to(latents.device)
        one = torch.ones((), dtype=torch.float64)
        self.clean_time = noise.time_of(one, 0 * one)

    def __call__(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """(B, C, T, H, W) at a time () or (B,) -> the prediction, (B, C, T, H, W) or with a variance behind it."""
        times = timestep.reshape(-1, 1).expand(len(sample), sample.shape[2])
        times = times.where(~self.places, self.clean_time.to(times))
        output = self.network(self.keep(sample), times)
        channels = sample.shape[1]
        latents = self.latents.to(sample)
        there = self.noise.join(latents, self.noise.noise_of(latents, sample, timestep), timestep)
        return torch.cat([output[:, :channels].where(~self.known, there), output[:, channels:]], dim=1)

    def keep(self, sample: Tensor) -> Tensor:
        """The sample with the known frames in it."""
        return sample.where(~self.known, self.latents.to(sample))


class Pasted:
    """A network into whose clean film known pixels are put, at every step.

    What they change is added to x0 as latents, encode(film with them) - encode(film), so that where nothing is put in
    the roundings of the autoencoder leave no trace.

    Args:
        network: any.
        noise: what its times and predictions mean.
        vae: decodes and encodes: once and twice a step.
        known: the pixels.
    """

    def __init__(self, network: Network, noise: NoiseSchedule, vae: VideoVAE, known: Known) -> None:
        self.network, self.noise, self.vae, self.known = network, noise, vae, known

    def __call__(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """(B, C, T, H, W) at a time () or (B,) -> the prediction, (B, C, T, H, W) or with a variance behind it."""
        output = self.network(sample, timestep)
        channels = sample.shape[1]
        x0 = self.noise.split(output[:, :channels], sample, timestep)[0]
        x0 = self.put(x0)
        prediction = self.noise.join(x0, self.noise.noise_of(x0, sample, timestep), timestep)
        return torch.cat([prediction, output[:, channels:]], dim=1)

    def put(self, x0: Tensor) -> Tensor:
        """Clean latents in which the known pixels are."""
        film = decode_film(self.vae, x0)
        put = film.where(~self.known.mask.to(film.device), self.known.film.to(film))
        return x0 + encode_film(self.vae, put) - encode_film(self.vae, film)
