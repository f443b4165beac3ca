"""A clip in overlapping windows of time, for autoencoders that need to see all that they code."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from videogen.vae import Posterior, VAESpec, VideoVAE


class WindowedVAE(nn.Module):
    """Any VAE, a clip in windows: memory follows the window and not the clip; the result isn't that of the whole clip.

    For VAEs that can't stream (`whole_clip_only`): each window is coded by itself and fades into the next, linearly, as
    the originals of HunyuanVideo (arXiv 2412.03603) and LTX-Video (arXiv 2501.00103) do it. Where the first frame has a
    latent frame of its own, every window begins with such a frame, which all but the first window drop.

    Windows that share nothing (stride = window) are the tiles in time of Open-Sora-Plan's CausalVAE: 64 frames in v1.1,
    in v1.2 32 to encode and 60 to decode.

    Args:
        vae: coded with, window by window.
        window: frames of a window, beside the frame that stands alone.
        stride: frames from one window to the next; the rest is shared and faded over.

    Raises:
        ValueError: the VAE's temporal stride doesn't divide window and stride, or windows would leave a gap.
    """

    #: windows are cut here whatever the VAE within says: a stream is coded as the whole clip is
    whole_clip_only = ""

    def __init__(self, vae: VideoVAE, *, window: int = 16, stride: int = 12) -> None:
        super().__init__()
        ratio = vae.spec.temporal_stride
        for name, value in (("window", window), ("stride", stride)):
            if value < ratio or value % ratio:
                raise ValueError(f"{name} {value} is no multiple of the VAE's temporal stride {ratio}")
        if not stride <= window <= 2 * stride:
            raise ValueError(
                f"windows of {window} frames every {stride}: use a stride from half of the window up to all of it"
            )
        self.vae, self.window, self.stride = vae, window, stride

    @property
    def spec(self) -> VAESpec:
        """That of the VAE within."""
        return self.vae.spec

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Posterior:
        """Video in [-1, 1] -> posterior over raw latents, made of the windows' own."""
        self.spec.latent_shape(*video.shape[2:])
        return WindowedPosterior([self.vae.encode(piece) for piece in self._frames.cut([video])], self._latents)

    def decode(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 t_out h_out w_out"]:
        """Raw latents -> video, about [-1, 1]."""
        pieces = (self.vae.decode(piece) for piece in self._latents.cut([latents]))
        return torch.cat(list(self._frames.join(pieces)), dim=2)

    @torch.no_grad()
    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks of video -> modes of the posterior; raises as the VAE within."""
        yield from self._latents.join(self.vae.encode(piece).mode() for piece in self._frames.cut(chunks))

    @torch.no_grad()
    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks of raw latents -> video; raises as the VAE within."""
        yield from self._frames.join(self.vae.decode(piece) for piece in self._latents.cut(chunks))

    @property
    def _frames(self) -> Windows:
        return Windows(self.window, self.stride, int(self.spec.first_frame_alone))

    @property
    def _latents(self) -> Windows:
        ratio = self.spec.temporal_stride
        return Windows(self.window // ratio, self.stride // ratio, int(self.spec.first_frame_alone))


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows in one unit of time: frames, or latent frames.

    Args:
        size: of a window.
        stride: from one to the next.
        alone: frames in front of each window, which belong to the first window alone: 0 or 1.
    """

    size: int
    stride: int
    alone: int

    def cut(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """The windows of a stream (B, C, T, H, W); the last ones are as short as the clip leaves them."""
        whole, waiting, first = self.size + self.alone, None, True
        for chunk in chunks:
            waiting = chunk if waiting is None else torch.cat([waiting, chunk], dim=2)
            while waiting.shape[2] >= whole:
                yield waiting[:, :, :whole]
                waiting, first = waiting[:, :, self.stride :], False
        while waiting is not None and waiting.shape[2] > (0 if first else self.alone):
            yield waiting[:, :, :whole]
            waiting, first = waiting[:, :, self.stride :], False

    def join(self, pieces: Iterable[Tensor], *, fade: bool = True) -> Iterator[Tensor]:
        """What was made of each window -> one stream, each window faded into the one before, or cut where it begins."""
        before: Tensor | None = None
        for piece in pieces:
            keep = self.stride
            if before is None:
                keep += self.alone
            else:
                piece = piece[:, :, self.alone :]
                if fade:
                    piece = faded(before, piece, self.size - self.stride)
            yield piece[:, :, :keep]
            before = piece[:, :, keep:]


def faded(before: Tensor, piece: Tensor, length: int) -> Tensor:
    """The end of one window over the beginning of the next, `length` frames at most, by a linear ramp from 0."""
    length = min(before.shape[2], piece.shape[2], length)
    if not length:
        return piece
    ramp = (torch.arange(length) / length).view(-1, 1, 1).to(piece)
    mixed = torch.lerp(before[:, :, -length:], piece[:, :, :length], ramp)
    return torch.cat([mixed, piece[:, :, length:]], dim=2)


class WindowedPosterior:
    """The posteriors of a clip's windows as one.

    Args:
        pieces: in order.
        windows: of latent frames.
    """

    def __init__(self, pieces: list[Posterior], windows: Windows) -> None:
        self.pieces, self.windows = pieces, windows

    def mode(self) -> Tensor:
        """The windows' modes, faded into one another (B, C, T, H, W)."""
        return torch.cat(list(self.windows.join(piece.mode() for piece in self.pieces)), dim=2)

    def sample(self, generator: Generator | None = None) -> Tensor:
        """Latents of which each is drawn by one window alone (B, C, T, H, W): a fade would have too little noise."""
        drawn = (piece.sample(generator) for piece in self.pieces)
        return torch.cat(list(self.windows.join(drawn, fade=False)), dim=2)

    def kl(self) -> Tensor:
        """None: windows overlap, so their sum counts some latents twice.

        Raises:
            ValueError: always; train on the VAE within.
        """
        raise ValueError("the divergence of overlapping windows isn't their sum: train on the VAE without windows")
