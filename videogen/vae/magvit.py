"""Open-Sora 1.3's autoencoder: causal 3D convolutions on clips that overlap by a frame, 4x8x8 strides.

After MAGVIT-v2 (arXiv 2310.05737) with a larger decoder, https://github.com/hpcaitech/Open-Sora, docs/vae_v1_3.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from videogen.vae import VAES, VAESpec
from videogen.vae._clips import check_clip, pieces
from videogen.vae._levels import GROUPS, make_norm
from videogen.vae._magvit import TIME_STEPS, Decoder, Encoder
from videogen.vae._streaming import CausalVAE, StreamCache, check_channels


@dataclasses.dataclass(frozen=True)
class OverlapSpec(VAESpec):
    """The facts about a VAE that encodes a video in clips with a frame in common, which both have latents of.

    Args:
        micro_frames: frames of every clip but the last, which may be shorter.
    """

    micro_frames: int

    def frames_of(self, latent: int) -> range:
        """The frames that a latent frame holds; a clip's first holds the one that the clip before ends with."""
        clip, place = divmod(latent, self.clip_latents)
        frames, start = super().frames_of(place), clip * (self.micro_frames - 1)
        return range(start + frames.start, start + frames.stop)

    def latent_place(self, frame: int) -> int:
        """The latent frame in which a frame is; of the two for a frame in common, the earlier."""
        clip, place = divmod(max(frame - 1, 0), self.micro_frames - 1)
        return clip * self.clip_latents + super().latent_place(place + 1 if frame else 0)

    @property
    def clip_latents(self) -> int:
        """Latent frames of a whole clip."""
        return 1 + (self.micro_frames - 1) // self.temporal_stride

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(C, T, H, W) of the latents of a video.

        Raises:
            ValueError: the strides don't divide the size; the nearest valid ones are named.
        """
        channels, _, *size = super().latent_shape(num_frames, height, width)
        return channels, self.latent_place(num_frames - 1) + 1, size[0], size[1]


@VAES.register("magvit", aliases=("opensora_1_3",))
class MagvitVAE(CausalVAE):
    """Causal 3D convolutions, 4x8x8 strides, 16 channels, clips of 17 frames (Open-Sora 1.3, arXiv 2412.20404).

    Encoding takes the most likely latents, where the published code draws them. Of a frame in common to two clips the
    mean of both versions is decoded.

    Args:
        latent_channels: channels of the latents.
        base_channels: width at full resolution.
        channel_multipliers: width of each level as a multiple of base_channels, finest first; one level more than
            there are halvings of height and width. The last two halvings are of time too, and so are the first two
            doublings.
        num_res_blocks: residual blocks a level of the encoder; the decoder has one more.
        norm_groups: groups of the normalisation over a clip.
        micro_frames: a video is cut into clips of so many frames, 1 + k strides, which have a frame in common; the last
            may be shorter. 0 takes any length as one clip.
        latent_shift: per channel; zeros when empty.
        latent_scale: per channel; ones when empty.

    Raises:
        ValueError: fewer than 3 levels, widths that don't split into the groups, or clips that don't fit the stride.
    """

    def __init__(
        self,
        *,
        latent_channels: int = 16,
        base_channels: int = 128,
        channel_multipliers: tuple[int, ...] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        norm_groups: int = GROUPS,
        micro_frames: int = 17,
        latent_shift: tuple[float, ...] = (),
        latent_scale: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        levels, stride = len(channel_multipliers), 2**TIME_STEPS
        if levels <= TIME_STEPS:
            raise ValueError(
                f"channel_multipliers={tuple(channel_multipliers)} has {levels} levels, but time is halved "
                f"{TIME_STEPS} times: give at least {TIME_STEPS + 1}"
            )
        check_clip(micro_frames, stride)
        if micro_frames == 1:
            raise ValueError("micro_frames=1 is all that a clip has in common with the next: use 5 or more, or 0")
        facts = VAESpec(latent_channels, stride, 2 ** (levels - 1), True, latent_shift, latent_scale)
        self._spec = OverlapSpec(**vars(facts), micro_frames=micro_frames) if micro_frames else facts
        self.micro_frames = micro_frames
        if not micro_frames:
            self.whole_clip_only = (
                "its norms take mean and variance over all of its frames. Give it whole (encode, decode, or a stream "
                "of one chunk), or set micro_frames=17, which encodes each 17 frames alone and streams exactly"
            )
        widths, norm = (
            [base_channels * multiplier for multiplier in channel_multipliers],
            make_norm("group", norm_groups),
        )
        self.encoder = Encoder(latent_channels, widths, num_res_blocks, norm)
        self.decoder = Decoder(latent_channels, widths, num_res_blocks + 1, norm)

    @property
    def spec(self) -> VAESpec:
        """Channels, strides, and the shift and scale of the latents; with micro_frames, how long the clips are."""
        return self._spec

    def encode_chunk(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        """Video (B, 3, T, H, W) -> mean and log-variance (B, 2C, t, h, w), clip by clip."""
        clips = pieces([video], self.micro_frames, common=1) if self.micro_frames else [video]
        return torch.cat([self.encoder(clip) for clip in clips], dim=2)

    def decode_chunk(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        """Latents (B, C, t, h, w) -> video (B, 3, T, H, W), clip by clip.

        Raises:
            ValueError: latents of a last clip that is nothing but the frame in common.
        """
        return torch.cat(list(self._decoded([latents])), dim=2)

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
        for clip in pieces(chunks, self.micro_frames, common=1):
            yield self.encode(clip).mode()

    @torch.no_grad()
    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks of raw latents -> video of each clip, as soon as its latents are whole.

        Raises:
            ValueError: the latents have another number of channels than the spec says, they end with a frame in
                common, or there is a second chunk and there are no micro_frames.
        """
        if not self.micro_frames:
            yield from super().decode_stream(chunks)
            return
        yield from self._decoded(chunks)

    def _decoded(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Frames of all clips in order; a clip's last one waits for the next clip's version of it."""
        last: Tensor | None = None
        clips = pieces(chunks, self._spec.clip_latents) if isinstance(self._spec, OverlapSpec) else chunks
        for latents in clips:
            check_channels(latents, self.spec)
            if last is not None and latents.shape[2] == 1:
                raise ValueError(
                    "the last latent frame is that of a frame in common, of a clip that has no other: leave it out"
                )
            frames: Tensor = self.decoder(latents)
            if last is not None:
                frames = torch.cat([0.5 * (last + frames[:, :, :1]), frames[:, :, 1:]], dim=2)
            yield frames[:, :, :-1]
            last = frames[:, :, -1:]
        if last is not None:
            yield last
