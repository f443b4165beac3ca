"""Video autoencoders, one architecture a file: the contract that all of them keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclasses.dataclass(frozen=True)
class VAESpec:
    """The facts about a VAE that its neighbours need.

    Args:
        latent_channels: channels of the latents.
        temporal_stride: frames per latent frame.
        spatial_stride: pixels per latent position, along height and along width.
        first_frame_alone: the first frame has a latent frame of its own, so clips have 1 + k * temporal_stride frames.
        shift: per channel, or one value for all, subtracted from raw latents before the denoiser sees them; zeros when
            empty.
        scale: per channel, or one value for all, multiplied after the shift; ones when empty.

    Raises:
        ValueError: shift or scale has another number of values than there are latent channels.
    """

    latent_channels: int
    temporal_stride: int
    spatial_stride: int
    first_frame_alone: bool
    shift: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        count = self.latent_channels
        for name, values, neutral in (("shift", self.shift, 0.0), ("scale", self.scale, 1.0)):
            given = tuple(values) or (neutral,)
            if len(given) not in (1, count):
                raise ValueError(
                    f"{len(given)} values of {name} for {count} latent channels: give {count}, or none; one is for all"
                )
            # a frozen dataclass is filled in this way
            object.__setattr__(self, name, given * count if len(given) == 1 else given)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(C, T, H, W) of the latents of a clip.

        Raises:
            ValueError: the strides don't divide the size; the nearest valid ones are named.
        """
        alone = int(self.first_frame_alone)
        stride = self.temporal_stride
        if num_frames < 1 or (num_frames - alone) % stride:
            below = max((num_frames - alone) // stride, 1 - alone) * stride + alone
            choices = f"{below} or {below + stride}" if below < num_frames else f"{below}"
            raise ValueError(f"{num_frames} frames do not fit a temporal stride of {stride}: use {choices}")
        for name, pixels in (("height", height), ("width", width)):
            if pixels < 1 or pixels % self.spatial_stride:
                below = pixels // self.spatial_stride * self.spatial_stride
                choices = f"{below} or {below + self.spatial_stride}" if below > 0 else f"{self.spatial_stride}"
                raise ValueError(
                    f"{name} {pixels} does not fit a spatial stride of {self.spatial_stride}: use {choices}"
                )
        frames = (num_frames - alone) // stride + alone
        return self.latent_channels, frames, height // self.spatial_stride, width // self.spatial_stride

    def frames_of(self, latent: int) -> range:
        """The frames that a latent frame holds, all counted from 0."""
        alone, stride = int(self.first_frame_alone), self.temporal_stride
        start = alone + (latent - alone) * stride
        return range(max(start, 0), start + stride)

    def latent_place(self, frame: int) -> int:
        """The latent frame in which a frame is, both counted from 0."""
        return (frame + (self.temporal_stride - 1) * self.first_frame_alone) // self.temporal_stride

    def fitting_length(self, num_frames: int) -> int:
        """The length of the shortest clip that the VAE takes and that has at least so many frames."""
        return num_frames + -(num_frames - int(self.first_frame_alone)) % self.temporal_stride


class Posterior(Protocol):
    """The distribution of latents that an encoder gives."""

    def mode(self) -> Tensor:
        """The most likely latents (B, C, T, H, W)."""
        ...

    def sample(self, generator: Generator | None = None) -> Tensor:
        """Latents drawn from the posterior (B, C, T, H, W)."""
        ...

    def kl(self) -> Tensor:
        """KL divergence from a standard normal, summed over all but the batch (B,)."""
        ...


class VideoVAE(Protocol):
    """An autoencoder of video; latents here are raw, before the spec's shift and scale."""

    #: why a stream may not be cut into chunks and what to do about it; empty where streams equal the whole clip
    whole_clip_only: str

    @property
    def spec(self) -> VAESpec:
        """Channels, strides, and the shift and scale of the latents."""
        ...

    def encode(self, video: Tensor) -> Posterior:
        """Video (B, 3, T, H, W) in [-1, 1] -> posterior over latents (B, C, t, h, w)."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Raw latents (B, C, t, h, w) -> video (B, 3, T, H, W), about [-1, 1]."""
        ...

    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Video in chunks of any number of frames -> modes of the posterior, chunk by chunk, in bounded memory.

        Raises:
            ValueError: a second chunk, where `whole_clip_only` says why there can be none.
        """
        ...

    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Raw latents in chunks along time -> video, chunk by chunk, in bounded memory.

        Raises:
            ValueError: a second chunk, where `whole_clip_only` says why there can be none.
        """
        ...


VAES: Registry[Any] = Registry("vae", "videogen.vae")
