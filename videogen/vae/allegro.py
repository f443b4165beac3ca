"""Allegro's autoencoder: an image autoencoder's layers and layers along time by turns, 4x8x8 strides, in tiles.

After "Allegro: Open the Black Box of Commercial-Level Video Generation Model" (arXiv 2410.15458), section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from videogen.vae import VAES, VAESpec
from videogen.vae._allegro_halves import Decoder, Encoder
from videogen.vae._layers import FrameConv
from videogen.vae._levels import GROUPS
from videogen.vae._streaming import CausalVAE, StreamCache, check_channels, check_rgb
from videogen.vae._tiles import Cut, Tiles, stream, tiled

AXES = ("frames", "height", "width")


@VAES.register("allegro")
class AllegroVAE(CausalVAE):
    """Layers on each frame and layers along time by turns, 4 channels, in tiles (Allegro, arXiv 2410.15458).

    It isn't causal and its norms see all frames, so a clip is coded in overlapping tiles of time and space that fade
    into one another linearly, as its authors do it; streams, coded in the same tiles, equal the whole clip. Their code
    takes only clips that the tiles fill; here the last tile along each axis is as short as the clip leaves it.

    Args:
        latent_channels: channels of the latents.
        base_channels: width at full resolution.
        channel_multipliers: width of each level as a multiple of base_channels, finest first; one level more than
            there are halvings of height and width.
        num_res_blocks: residual blocks a level of the encoder, each with a layer along time; the decoder has one more.
        time_downsample: whether each level of the encoder is left by halving the frames, finest first.
        time_upsample: whether each level of the decoder is left by doubling the frames, coarsest first.
        norm_groups: groups of the normalisation.
        tile: frames, height and width of a tile in pixels; 0 doesn't cut that axis.
        overlap: frames, height and width that neighbouring tiles share.
        latent_shift: per channel; zeros when empty.
        latent_scale: per channel; ones when empty.

    Raises:
        ValueError: levels and changes of the frame rate that don't fit together, widths that don't split into the
            groups, or tiles that don't fit the strides or share more than half of them.
    """

    def __init__(
        self,
        *,
        latent_channels: int = 4,
        base_channels: int = 128,
        channel_multipliers: tuple[int, ...] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        time_downsample: tuple[bool, ...] = (True, True, False, False),
        time_upsample: tuple[bool, ...] = (False, True, True, False),
        norm_groups: int = GROUPS,
        tile: tuple[int, int, int] = (24, 320, 320),
        overlap: tuple[int, int, int] = (8, 120, 80),
        latent_shift: tuple[float, ...] = (),
        latent_scale: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        levels = len(channel_multipliers)
        for name, values in (("time_downsample", time_downsample), ("time_upsample", time_upsample)):
            if not 0 < levels == len(values):
                raise ValueError(
                    f"{name} has {len(values)} values for {levels} channel_multipliers: give one for each level"
                )
        if sum(time_downsample) != sum(time_upsample):
            raise ValueError(
                f"time_downsample halves {sum(time_downsample)} times and time_upsample doubles {sum(time_upsample)} "
                "times: the frames must come back"
            )
        self._spec = VAESpec(
            latent_channels=latent_channels,
            temporal_stride=2 ** sum(time_downsample),
            spatial_stride=2 ** (levels - 1),
            first_frame_alone=False,
            shift=latent_shift,
            scale=latent_scale,
        )
        self._cuts = _cuts(tile, overlap, self._spec)
        if not tile[0]:
            self.whole_clip_only = (
                "its norms take mean and variance over all frames. Give it whole (encode, decode, or a stream of one "
                "chunk), or set tile=[24,320,320], which codes 24 frames at a time and streams exactly"
            )
        widths = [base_channels * multiplier for multiplier in channel_multipliers]
        self.encoder = Encoder(latent_channels, widths, num_res_blocks, time_downsample, norm_groups)
        self.decoder = Decoder(latent_channels, widths, num_res_blocks + 1, time_upsample, norm_groups)
        self.quant = FrameConv(2 * latent_channels, 2 * latent_channels, 1)
        self.post_quant = FrameConv(latent_channels, latent_channels, 1)

    @property
    def spec(self) -> VAESpec:
        """Channels, strides, and the shift and scale of the latents."""
        return self._spec

    def encode_chunk(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        """Video (B, 3, T, H, W) -> mean and log-variance (B, 2C, t, h, w), tile by tile."""
        moments: Tensor = self.quant(tiled(self.encoder, video, self._cuts))
        return moments

    def decode_chunk(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        """Latents (B, C, t, h, w) -> video (B, 3, T, H, W), tile by tile."""
        return tiled(self.decoder, self.post_quant(latents), _reversed(self._cuts))

    @torch.no_grad()
    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks of video, of any lengths -> modes of the posterior, as soon as no later tile fades into them.

        Raises:
            ValueError: the frames end inside a temporal stride, a frame's size or channels don't fit, or there is a
                second chunk and time isn't cut into tiles.
        """
        if self.whole_clip_only:
            yield from super().encode_stream(chunks)
            return

        def window(video: Tensor) -> Tensor:
            check_rgb(video)
            self.spec.latent_shape(*video.shape[2:])
            return tiled(self.encoder, video, self._cuts[1:])

        for moments in stream(window, chunks, self._cuts[:1]):
            yield self.posterior(self.quant(moments)).mode()

    @torch.no_grad()
    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks of raw latents -> video, as soon as no later tile fades into it.

        Raises:
            ValueError: the latents have another number of channels than the spec says, or there is a second chunk
                and time isn't cut into tiles.
        """
        if self.whole_clip_only:
            yield from super().decode_stream(chunks)
            return

        def window(latents: Tensor) -> Tensor:
            check_channels(latents, self.spec)
            return tiled(self.decoder, self.post_quant(latents), _reversed(self._cuts[1:]))

        yield from stream(window, chunks, _reversed(self._cuts[:1]))


def _cuts(tile: Sequence[int], overlap: Sequence[int], spec: VAESpec) -> list[Cut]:
    """The tiles of the axes that are cut, of video and of latents."""
    cuts = []
    strides = (spec.temporal_stride, spec.spatial_stride, spec.spatial_stride)
    for index, (name, size, shared, stride) in enumerate(zip(AXES, tile, overlap, strides, strict=True)):
        if size < 0 or size % stride or shared < 0 or shared % stride:
            raise ValueError(f"tiles of {size} {name} that share {shared}: both must be multiples of {stride}, or 0")
        if 2 * shared > size > 0:
            raise ValueError(f"tiles of {size} {name} that share {shared}: use {size // 2 // stride * stride} at most")
        if size:
            axis = index + 2
            cuts.append((Tiles(axis, size, shared), Tiles(axis, size // stride, shared // stride)))
    return cuts


def _reversed(cuts: Sequence[Cut]) -> list[Cut]:
    return [(out, into) for into, out in cuts]
