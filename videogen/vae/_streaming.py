"""Streaming along time: the cache of causal layers, and the loops that feed a VAE chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from videogen.vae import Posterior, VAESpec
from videogen.vae._lean import joined
from videogen.vae._posterior import DiagonalGaussian


class StreamCache(dict[nn.Module, Tensor]):
    """The last frames that each causal layer saw, so that the next chunk goes on where this one ended.

    Args:
        lookahead: trailing frames of the current chunk that belong to the next one. Layers compute with them but
            don't remember them; a layer that interpolates in time uses them and gives nothing out for them.
    """

    def __init__(self, lookahead: int = 0) -> None:
        super().__init__()
        self.lookahead = lookahead


def with_past(layer: nn.Module, x: Tensor, pad: int, keep: int, cache: StreamCache | None) -> Tensor:
    """Put the past in front of a chunk: `pad` copies of the first frame at the start of a clip, else what was kept.

    (B, C, T, H, W) -> (B, C, T + pad or keep, H, W)
    """
    past = cache.get(layer) if cache is not None else None
    if past is None:
        past = x[:, :, :1].expand(-1, -1, pad, -1, -1)
    extended = joined(past, x)
    if cache is not None:
        end = extended.shape[2] - cache.lookahead
        # a copy: a view would keep the whole chunk in memory, for every layer
        cache[layer] = extended[:, :, end - keep : end].clone()
    return extended


def begins(layer: nn.Module, cache: StreamCache | None) -> bool:
    """Whether a chunk begins a clip, for this layer; a mark in the cache says that it has begun."""
    first = cache is None or layer not in cache
    if cache is not None:
        cache[layer] = torch.empty(0)
    return first


class CausalVAE(nn.Module):
    """A VAE whose every layer looks only backward in time: subclasses give the two halves, this gives the rest."""

    #: latent frames beyond a chunk that the decoder must see, for layers that interpolate in time
    lookahead = 0
    #: why pieces of a clip give other numbers than the whole clip, and what to do about it; empty where they don't
    whole_clip_only = ""
    #: makes the posterior of what the encoder gives
    posterior: Callable[[Tensor], Posterior] = DiagonalGaussian

    @property
    def spec(self) -> VAESpec:
        """Channels, strides, and the shift and scale of the latents."""
        raise NotImplementedError

    def encode_chunk(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        """Video (B, 3, T, H, W) -> what the posterior is made of: mean and log-variance (B, 2C, t, h, w)."""
        raise NotImplementedError

    def decode_chunk(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        """Latents (B, C, t, h, w) -> video (B, 3, T, H, W), without the cache's look-ahead."""
        raise NotImplementedError

    def encode(self, video: Float[Tensor, "b rgb t h w"]) -> Posterior:
        """Video in [-1, 1] -> posterior over raw latents.

        Raises:
            ValueError: the strides don't divide the clip's length or size, or it has not 3 channels.
        """
        check_rgb(video)
        self.spec.latent_shape(*video.shape[2:])
        return self.posterior(self.encode_chunk(video, None))

    def decode(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 t_out h_out w_out"]:
        """Raw latents -> video, about [-1, 1].

        Raises:
            ValueError: the latents have another number of channels than the spec says.
        """
        check_channels(latents, self.spec)
        return self.decode_chunk(latents, None)

    @torch.no_grad()
    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks of video, of any lengths -> modes of the posterior, equal to the whole clip's.

        Raises:
            ValueError: the frames end inside a temporal stride, a frame's size or channels don't fit, or there is a
                second chunk and this VAE needs the whole clip at once.
        """
        if self.whole_clip_only:
            for clip in only_chunk(chunks, self.whole_clip_only):
                yield self.encode(clip).mode()
            return
        cache = StreamCache()
        for chunk in regroup(chunks, _stride_chunks(self.spec), "frames"):
            check_rgb(chunk)
            # the frames were counted by the regrouping, so it is the height and width that are checked here
            self.spec.latent_shape(1 if self.spec.first_frame_alone else self.spec.temporal_stride, *chunk.shape[3:])
            yield self.posterior(self.encode_chunk(chunk, cache)).mode()

    @torch.no_grad()
    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks of raw latents -> video, equal to the whole clip's, each given out as soon as it is known.

        Raises:
            ValueError: the latents have another number of channels than the spec says, or there is a second chunk
                and this VAE needs the whole clip at once.
        """
        if self.whole_clip_only:
            for clip in only_chunk(chunks, self.whole_clip_only):
                yield self.decode(clip)
            return
        cache = StreamCache()
        held: Tensor | None = None
        for chunk in filled(chunks):
            check_channels(chunk, self.spec)
            if self.lookahead == 0:
                yield self.decode_chunk(chunk, cache)
                continue
            if held is not None:
                cache.lookahead = self.lookahead
                yield self.decode_chunk(torch.cat([held, chunk[:, :, : self.lookahead]], dim=2), cache)
            held = chunk
        if held is not None:
            cache.lookahead = 0
            yield self.decode_chunk(held, cache)


def check_rgb(video: Tensor) -> None:
    """Refuse a video (B, C, T, H, W) that has not 3 channels."""
    if video.shape[1] != 3:
        raise ValueError(f"the video has {video.shape[1]} channels: give 3, red, green and blue, in (B, 3, T, H, W)")


def check_channels(latents: Tensor, spec: VAESpec) -> None:
    """Refuse latents (B, C, T, H, W) of another number of channels than the spec says."""
    if latents.shape[1] != spec.latent_channels:
        raise ValueError(f"latents have {latents.shape[1]} channels: this VAE takes {spec.latent_channels}")


def _stride_chunks(spec: VAESpec) -> Callable[[int, bool], int]:
    """How many of the waiting frames can be encoded now: the first alone, then whole strides."""

    def ready(waiting: int, first: bool) -> int:
        if first and spec.first_frame_alone:
            return 1
        return waiting // spec.temporal_stride * spec.temporal_stride

    return ready


def filled(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """The chunks that hold a frame."""
    return (chunk for chunk in chunks if chunk.shape[2])


def only_chunk(chunks: Iterable[Tensor], reason: str) -> Iterator[Tensor]:
    """The one chunk of a stream that can't be cut; none if the stream is empty.

    Raises:
        ValueError: a second chunk follows; `reason` says why that won't do.
    """
    stream = filled(chunks)
    clip = next(stream, None)
    if clip is None:
        return
    if next(stream, None) is not None:
        raise ValueError(f"a clip in several chunks can't come out as the whole clip does: {reason}")
    yield clip


def regroup(chunks: Iterable[Tensor], ready: Callable[[int, bool], int], unit: str) -> Iterator[Tensor]:
    """Cut a stream of (B, C, T, H, W) anew, so that each piece has as many frames as `ready(waiting, first)` says.

    Raises:
        ValueError: frames are left over at the end.
    """
    waiting: Tensor | None = None
    first = True
    for chunk in chunks:
        waiting = chunk if waiting is None else torch.cat([waiting, chunk], dim=2)
        while (count := ready(waiting.shape[2], first)) and count <= waiting.shape[2]:
            yield waiting[:, :, :count]
            waiting, first = waiting[:, :, count:], False
    if waiting is not None and waiting.shape[2]:
        raise ValueError(f"the last {waiting.shape[2]} {unit} don't fill a temporal stride: pad or drop them first")
