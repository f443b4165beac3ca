"""Open-Sora 1.2's autoencoder: an image autoencoder on each frame, then a causal one in time on its latents.

After "Open-Sora: Democratizing Efficient Video Production for All" (arXiv 2412.20404); the half in time is MAGVIT-v2's
(arXiv 2310.05737).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from videogen.vae import VAES, VAESpec
from videogen.vae._clips import check_clip, pieces
from videogen.vae._framewise import FrameDecoder, FrameEncoder, frame_by_frame
from videogen.vae._levels import GROUPS, make_norm
from videogen.vae._streaming import CausalVAE, StreamCache
from videogen.vae._temporal import TemporalVAE


@dataclasses.dataclass(frozen=True)
class MicroClipSpec(VAESpec):
    """The facts about a VAE that encodes a video in clips, each of which starts with a latent frame of its own.

    Args:
        micro_frames: frames of every clip but the last, which may be shorter.
    """

    micro_frames: int

    def fitting_length(self, num_frames: int) -> int:
        """The length of the shortest video that fits and has at least so many frames: its last clip is filled up."""
        rest = (num_frames - 1) % self.micro_frames
        return num_frames + -rest % self.temporal_stride

    def frames_of(self, latent: int) -> range:
        """The frames that a latent frame holds."""
        clip, place = divmod(latent, self.clip_latents)
        frames = super().frames_of(place)
        return range(clip * self.micro_frames + frames.start, clip * self.micro_frames + frames.stop)

    def latent_place(self, frame: int) -> int:
        """The latent frame in which a frame is."""
        clip, place = divmod(frame, self.micro_frames)
        return clip * self.clip_latents + super().latent_place(place)

    @property
    def clip_latents(self) -> int:
        """Latent frames of a whole clip."""
        return 1 + (self.micro_frames - 1) // self.temporal_stride

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(C, T, H, W) of the latents of a video.

        Raises:
            ValueError: the strides don't divide the size of the last clip; the nearest valid ones are named.
        """
        clips, rest = divmod(num_frames - 1, self.micro_frames)
        if clips > 0 and (excess := rest % self.temporal_stride):
            below = num_frames - excess
            raise ValueError(
                f"{num_frames} frames, in clips of {self.micro_frames}, do not fit a temporal stride of "
                f"{self.temporal_stride}: use {below} or {below + self.temporal_stride}"
            )
        channels, frames, *size = super().latent_shape(rest + 1 if clips > 0 else num_frames, height, width)
        return channels, max(clips, 0) * self.clip_latents + frames, size[0], size[1]


@VAES.register("framewise_temporal", aliases=("opensora",))
class FramewiseTemporalVAE(CausalVAE):
    """A 2D KL autoencoder frame by frame, then a causal one in time, 4x8x8 strides (Open-Sora 1.2, arXiv 2412.20404).

    Encoding takes the most likely latents of each frame, where the published code draws them: equal videos have equal
    posteriors.

    Args:
        latent_channels: channels of the latents.
        frame_channels: channels of the latents of a single frame, between the two halves.
        frame_scale: multiplies a frame's latents before the half in time sees them; 0.18215 is Stable Diffusion's,
            published though the weights of the 2D half are SDXL's, whose factor is another.
        base_channels: width of the 2D half at full resolution.
        channel_multipliers: width of each level of the 2D half as a multiple of base_channels, finest first.
        num_res_blocks: residual blocks a level of the 2D encoder; its decoder has one more.
        temporal_channels: width of the half in time at full frame rate.
        temporal_multipliers: width of each of its levels as a multiple of temporal_channels, finest first.
        temporal_downsample: which of its levels, but the last, are left by halving the frames.
        temporal_res_blocks: its residual blocks a level, and at the coarsest once more.
        norm_groups: groups of the normalisation, over each frame in 2D, over a clip in time.
        micro_frames: a video is cut into clips of so many frames, 1 + k strides, each encoded alone; the last may be
            shorter. 0 takes any length as one clip.
        latent_shift: per channel; zeros when empty.
        latent_scale: per channel; ones when empty.

    Raises:
        ValueError: no levels, levels and downsampling that don't fit together, widths that don't split into the
            groups, or clips that don't fit the stride.
    """

    def __init__(
        self,
        *,
        latent_channels: int = 4,
        frame_channels: int = 4,
        frame_scale: float = 0.18215,
        base_channels: int = 128,
        channel_multipliers: tuple[int, ...] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        temporal_channels: int = 128,
        temporal_multipliers: tuple[int, ...] = (1, 2, 2, 4),
        temporal_downsample: tuple[bool, ...] = (False, True, True),
        temporal_res_blocks: int = 4,
        norm_groups: int = GROUPS,
        micro_frames: int = 17,
        latent_shift: tuple[float, ...] = (),
        latent_scale: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        if not channel_multipliers:
            raise ValueError("channel_multipliers=() has 0 levels: give at least 1")
        if len(temporal_downsample) != len(temporal_multipliers) - 1:
            raise ValueError(
                f"temporal_downsample has {len(temporal_downsample)} values for {len(temporal_multipliers)} "
                f"temporal_multipliers: give {max(len(temporal_multipliers) - 1, 0)}, one for each level but the last"
            )
        stride = 2 ** sum(temporal_downsample)
        check_clip(micro_frames, stride)
        self.micro_frames, self.frame_scale = micro_frames, frame_scale
        facts = VAESpec(
            latent_channels=latent_channels,
            temporal_stride=stride,
            spatial_stride=2 ** (len(channel_multipliers) - 1),
            first_frame_alone=True,
            shift=latent_shift,
            scale=latent_scale,
        )
        self._spec = MicroClipSpec(**vars(facts), micro_frames=micro_frames) if micro_frames else facts
        if not micro_frames:
            self.whole_clip_only = (
                "its norms take mean and variance over all of its frames. Give it whole (encode, decode, or a stream "
                "of one chunk), or set micro_frames=17, which encodes each 17 frames alone and streams exactly"
            )
        widths = [base_channels * multiplier for multiplier in channel_multipliers]
        norm = make_norm("group", norm_groups)
        self.encoder = FrameEncoder(frame_channels, widths, num_res_blocks, norm)
        self.decoder = FrameDecoder(frame_channels, widths, num_res_blocks + 1, norm)
        self.temporal = TemporalVAE(
            frame_channels,
            latent_channels,
            [temporal_channels * multiplier for multiplier in temporal_multipliers],
            temporal_downsample,
            temporal_res_blocks,
            norm_groups,
        )

    @property
    def spec(self) -> VAESpec:
        """Channels, strides, and the shift and scale of the latents; with micro_frames, how long the clips are."""
        return self._spec

    def encode_chunk(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        """Video (B, 3, T, H, W) -> mean and log-variance (B, 2C, t, h, w), clip by clip."""
        clips = torch.split(video, self.micro_frames or video.shape[2], dim=2)
        return torch.cat([self._encode_clip(clip) for clip in clips], dim=2)

    def decode_chunk(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        """Latents (B, C, t, h, w) -> video (B, 3, T, H, W), clip by clip."""
        clips = torch.split(latents, self._micro_latents or latents.shape[2], dim=2)
        return torch.cat([self._decode_clip(clip) for clip in clips], dim=2)

    @torch.no_grad()
    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks of video, of any lengths -> modes of the posterior of each clip, as soon as it is whole.

        Raises:
            ValueError: the frames end inside a temporal stride, a frame's size or channels don't fit, or there is a
                second chunk and there are no micro_frames.
        """
        if not self.micro_frames:
            yield from super().encode_stream(chunks)
            return
        for clip in pieces(chunks, self.micro_frames):
            yield self.encode(clip).mode()

    @torch.no_grad()
    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks of raw latents -> video of each clip, as soon as its latents are whole.

        Raises:
            ValueError: the latents have another number of channels than the spec says, or there is a second chunk
                and there are no micro_frames.
        """
        if not self.micro_frames:
            yield from super().decode_stream(chunks)
            return
        for clip in pieces(chunks, self._micro_latents):
            yield self.decode(clip)

    @property
    def _micro_latents(self) -> int:
        """Latent frames of a whole clip, 0 without micro_frames."""
        return 1 + (self.micro_frames - 1) // self.spec.temporal_stride if self.micro_frames else 0

    def _encode_clip(self, clip: Tensor) -> Tensor:
        mean, _ = frame_by_frame(self.encoder, clip).chunk(2, dim=1)
        return self.temporal.encode(mean * self.frame_scale)

    def _decode_clip(self, latents: Tensor) -> Tensor:
        num_frames = 1 + (latents.shape[2] - 1) * self.spec.temporal_stride
        frames = self.temporal.decode(latents, num_frames) / self.frame_scale
        return frame_by_frame(self.decoder, frames, self.spec.spatial_stride)
