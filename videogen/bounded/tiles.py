"""A frame in tiles, so that its size doesn't decide the memory: they overlap, and what they share is blended."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from videogen.bounded.cuts import Axis, Crop, blend, crops, cut, own
from videogen.vae import Posterior, VAESpec, VideoVAE


class TiledVAE(nn.Module):
    """Any VAE, a frame in tiles: memory follows the tile and not the frame; each tile has a stream of its own.

    A tile equals the whole frame where no layer sees its border. Convolutions see as far as `receptive_field` says;
    norms over a frame and attention see all of it, so with these tiles come near and not to equality.

    Not the originals' tiles in the shape of Stable Diffusion's, as CausalVAE v1.x has them: those are cut every `tile -
    overlap` pixels, the last as small as is left, and fade linearly over all that they share, the rows next to a cut
    included. Both come near the whole frame; with the shipped VAE, on film of 256x144, tiles of 128 that share 32
    decode to 67 dB of it here and to 62 dB there.

    Args:
        vae: coded with, tile by tile.
        tile: longest side of a tile, in pixels.
        overlap: what neighbours share, in pixels; a quarter of it at each border is dropped, the middle is blended.

    Raises:
        ValueError: the VAE's stride doesn't divide tile and overlap, or neighbours would share more than half.
    """

    def __init__(self, vae: VideoVAE, *, tile: int = 256, overlap: int = 64) -> None:
        super().__init__()
        stride = vae.spec.spatial_stride
        for name, value, least in (("tile", tile, 2 * stride), ("overlap", overlap, stride)):
            if value < least or value % stride:
                raise ValueError(f"{name} {value} is no multiple of the VAE's stride {stride} from {least} pixels up")
        if 2 * overlap > tile:
            raise ValueError(f"an overlap of {overlap} is more than half of a tile of {tile}: use {tile // 2} or less")
        self.vae, self.tile, self.overlap = vae, tile, overlap

    @property
    def spec(self) -> VAESpec:
        """That of the VAE within."""
        return self.vae.spec

    @property
    def whole_clip_only(self) -> str:
        """That of the VAE within: tiles cut space alone."""
        return self.vae.whole_clip_only

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Posterior:
        """Video in [-1, 1] -> posterior over raw latents, made of the tiles' own."""
        self.spec.latent_shape(*video.shape[2:])
        rows, columns = self._cut(video.shape[3] // self._stride, video.shape[4] // self._stride)
        tiles = [
            self.vae.encode(crop(video)) for crop in crops(rows.scaled(self._stride), columns.scaled(self._stride))
        ]
        return TiledPosterior(tiles, rows, columns)

    def decode(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 t_out h_out w_out"]:
        """Raw latents -> video, about [-1, 1]."""
        rows, columns = self._cut(*latents.shape[3:])
        tiles = [self.vae.decode(crop(latents)) for crop in crops(rows, columns)]
        return self._blend_pixels(tiles, rows, columns)

    @torch.no_grad()
    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks of video -> modes of the posterior; raises as the VAE within."""
        stride = self._stride
        first, chunks = _peek(chunks)
        if first is None:
            return
        self.spec.latent_shape(1 if self.spec.first_frame_alone else self.spec.temporal_stride, *first.shape[3:])
        rows, columns = self._cut(first.shape[3] // stride, first.shape[4] // stride)
        places = crops(rows.scaled(stride), columns.scaled(stride))
        for pieces in _side_by_side(self.vae.encode_stream, chunks, places):
            yield blend(pieces, rows, columns)

    @torch.no_grad()
    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks of raw latents -> video; raises as the VAE within."""
        first, chunks = _peek(chunks)
        if first is None:
            return
        rows, columns = self._cut(*first.shape[3:])
        for pieces in _side_by_side(self.vae.decode_stream, chunks, crops(rows, columns)):
            yield self._blend_pixels(pieces, rows, columns)

    @property
    def _stride(self) -> int:
        return self.vae.spec.spatial_stride

    def _cut(self, height: int, width: int) -> tuple[Axis, Axis]:
        """The cuts of a frame of latents."""
        tile, overlap = self.tile // self._stride, self.overlap // self._stride
        return cut(height, tile, overlap), cut(width, tile, overlap)

    def _blend_pixels(self, pieces: Sequence[Tensor], rows: Axis, columns: Axis) -> Tensor:
        rows, columns = rows.scaled(self._stride), columns.scaled(self._stride)
        return blend(pieces, rows, columns)


class TiledPosterior:
    """The posteriors of a frame's tiles as one.

    Args:
        tiles: row by row.
        rows: cuts of the height, in latents.
        columns: cuts of the width, in latents.
    """

    def __init__(self, tiles: Sequence[Posterior], rows: Axis, columns: Axis) -> None:
        self.tiles, self.rows, self.columns = tiles, rows, columns

    def mode(self) -> Tensor:
        """The tiles' modes, blended (B, C, T, H, W)."""
        return blend([tile.mode() for tile in self.tiles], self.rows, self.columns)

    def sample(self, generator: Generator | None = None) -> Tensor:
        """Latents of which each is drawn by one tile alone (B, C, T, H, W): a blend would have too little noise."""
        pieces = iter([tile.sample(generator) for tile in self.tiles])
        bands = []
        for row in range(len(self.rows.starts)):
            band = [own(next(pieces), self.columns, index, -1) for index in range(len(self.columns.starts))]
            bands.append(own(torch.cat(band, dim=-1), self.rows, row, -2))
        return torch.cat(bands, dim=-2)

    def kl(self) -> Tensor:
        """None: tiles overlap, so their sum counts some latents twice.

        Raises:
            ValueError: always; train on the VAE within.
        """
        raise ValueError("the divergence of overlapping tiles isn't their sum: use the VAE without tiles for training")


def _peek(chunks: Iterable[Tensor]) -> tuple[Tensor | None, Iterable[Tensor]]:
    """The first chunk that holds a frame, and a stream that still has it."""
    stream = (chunk for chunk in chunks if chunk.shape[2])
    first = next(stream, None)
    return first, stream if first is None else itertools.chain([first], stream)


def _side_by_side(
    code: Callable[[Iterable[Tensor]], Iterator[Tensor]], chunks: Iterable[Tensor], crops: Sequence[Crop]
) -> Iterator[tuple[Tensor, ...]]:
    """One stream a tile, all in step, so that a chunk is dropped once every tile has had it."""
    copies = itertools.tee(chunks, len(crops))
    streams = [code(map(crop, copy)) for crop, copy in zip(crops, copies, strict=True)]
    # the last one alone must not be left holding its copy of the stream
    del copies
    return zip(*streams, strict=True)
