"""Frames that are given of a film, and the latents and the mask in which a model is told of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from videogen.pipelines.latents import encode_film
from videogen.vae import VAESpec, VideoVAE

Blank = Literal["gray", "black", "zeros", "repeat"]
#: what an unknown frame shows, where the latents are those of a whole film
SHADES: Mapping[str, float] = {"gray": 0.0, "black": -1.0}


@dataclasses.dataclass(frozen=True)
class Given:
    """Frames of a batch of films.

    Args:
        images: (B, N, 3, H, W) in [-1, 1].
        places: numbers of the frames that they are, ascending from 0.
        num_frames: T, of the whole film.
    """

    images: Float[Tensor, "b n 3 h w"]
    places: tuple[int, ...]
    num_frames: int

    def nothing(self) -> Given:
        """The same films, of which no frame is given."""
        return Given(self.images[:, :0], (), self.num_frames)

    @property
    def mask(self) -> Bool[Tensor, " t"]:
        """Which frames are given, (T,)."""
        mask = torch.zeros(self.num_frames, dtype=torch.bool)
        mask[list(self.places)] = True
        return mask

    def film(self, shade: float) -> Float[Tensor, "b 3 t h w"]:
        """The films, (B, 3, T, H, W), of one shade in all frames that aren't given."""
        batch, _, _, height, width = self.images.shape
        film = self.images.new_full((batch, 3, self.num_frames, height, width), shade)
        film[:, :, list(self.places)] = self.images.transpose(1, 2)
        return film


def given_frames(image: Tensor | Mapping[int, Tensor] | None, batch: int, size: tuple[int, int, int]) -> Given:
    """Images as they are passed to a pipeline, put in order.

    Args:
        image: (3, H, W), or one a film (B, 3, H, W), in [-1, 1], that is the first frame; or several by the numbers of
            their frames, -1 for the last; None for none.
        batch: films.
        size: frames, height and width of a film.

    Raises:
        ValueError: an image of another size, no image at all, a frame beyond the film, or the same one twice.
    """
    num_frames, height, width = size
    images = image if isinstance(image, Mapping) else {} if image is None else {0: image}
    placed: dict[int, Tensor] = {}
    for number, picture in images.items():
        place = number + num_frames if number < 0 else number
        if not 0 <= place < num_frames or place in placed:
            raise ValueError(f"image at frame {number}: give each of the {num_frames} frames at most once")
        if tuple(picture.shape) not in ((3, height, width), (batch, 3, height, width)):
            raise ValueError(
                f"an image of shape {tuple(picture.shape)} is no frame of a film of {width}x{height}: resize it to "
                f"(3, {height}, {width}), or set height= and width="
            )
        placed[place] = picture.float().expand(batch, -1, -1, -1)
    places = tuple(sorted(placed))
    none = torch.zeros(batch, 0, 3, height, width)
    return Given(torch.stack([placed[place] for place in places], dim=1) if places else none, places, num_frames)


def check_blank(given: Given, spec: VAESpec, blank: Blank) -> None:
    """Refuse frames that known latents have no place for.

    Raises:
        ValueError: another than the first frame where it is repeated; a frame inside of a latent one where each image
            is encoded alone.
    """
    ends = {0, given.num_frames - 1} if spec.first_frame_alone else set()
    allowed = {"repeat": {0}, "zeros": set(range(given.num_frames)) if spec.temporal_stride == 1 else ends}
    if extra := sorted(set(given.places) - allowed.get(blank, set(given.places))):
        choices = {"repeat": "the first frame alone", "zeros": "the first and the last frame alone"}
        raise ValueError(
            f"image at frame {extra[0]}: this model can be given {choices[blank]} (blank={blank}); to go on from a "
            "film take task=extend task.overlap=1"
        )


def known_latents(vae: VideoVAE, given: Given, blank: Blank) -> Float[Tensor, "b c t h w"]:
    """Latents of the films as far as they are known, with the spec's shift and scale, (B, C, T', H', W').

    They are the most likely ones, so that equal requests give equal films, also where published pipelines draw them.

    Args:
        blank: what stands where nothing is known: the latents of films that are gray (Wan 2.1) or black (Open-Sora-Plan
            v1.3) there, zeros (CogVideoX, Open-Sora 2.0, DynamiCrafter between two frames), or the first frame's
            latents again (DynamiCrafter).
    """
    spec = vae.spec
    if blank in SHADES:
        return encode_film(vae, given.film(SHADES[blank]))
    batch, count, _, *size = given.images.shape
    latents = given.images.new_zeros(batch, *spec.latent_shape(given.num_frames, size[0], size[1]))
    if count:
        alone = encode_film(vae, rearrange(given.images, "b n c h w -> (b n) c 1 h w"))
        each = rearrange(alone, "(b n) c 1 h w -> b c n h w", b=batch)
        if blank == "repeat":
            return each.expand_as(latents).clone()
        latents[:, :, [spec.latent_place(place) for place in given.places]] = each
    return latents


def known_mask(given: Given, spec: VAESpec, channels: int, blank: Blank) -> Tensor:
    """What of the known latents is known: (B, T') with one channel or none, else (B, channels, T', H', W').

    Args:
        channels: the model's; several are the frames of video in a latent one, of which the first stands for all
            where it has a latent frame of its own.

    Raises:
        ValueError: as many channels as are neither one nor the frames in a latent one.
    """
    batch, _, _, height, width = given.images.shape
    stride = spec.temporal_stride
    _, frames, rows, columns = spec.latent_shape(given.num_frames, height, width)
    if channels not in (0, 1, stride):
        raise ValueError(f"a mask of {channels} channels for {stride} frames in a latent one: 1 or {stride} are known")
    if blank in SHADES:
        within = within_latents(given.mask, spec)
    else:
        within = torch.zeros(frames, stride, dtype=torch.bool)
        places = range(frames) if blank == "repeat" else [spec.latent_place(place) for place in given.places]
        within[list(places)] = True
    if channels > 1:
        return within.T[None, :, :, None, None].expand(batch, -1, -1, rows, columns)
    return within.all(1).expand(batch, -1)


def within_latents(frames: Bool[Tensor, " t"], spec: VAESpec) -> Bool[Tensor, "latent stride"]:
    """A mark for each frame (T,) -> (T', stride) by the latent frame that it is in; one that stands alone counts for
    all of its."""
    held = [spec.frames_of(place) for place in range(spec.latent_place(len(frames) - 1) + 1)]
    return torch.stack([frames[places.start : places.stop].expand(spec.temporal_stride) for places in held])
