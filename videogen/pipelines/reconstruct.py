"""A video through an autoencoder and back, chunk by chunk: what the latents keep of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from videogen.pipelines.overflow import watched
from videogen.vae import VideoVAE


def reconstruct(vae: VideoVAE, video: Float[Tensor, "3 t h w"], *, chunk: int = 16) -> Float[Tensor, "3 t h w"]:
    """Encode to the most likely latents and decode: a video of the same shape, in [-1, 1], on the same device.

    Any length and size will do: what the strides ask for is added by repeating the edges, and cut off afterwards.

    Args:
        vae: encodes and decodes on its own device and in its own dtype.
        video: in [-1, 1].
        chunk: frames at a time, which bounds the memory beside the two videos themselves; the whole video for a VAE
            that can't be cut (`whole_clip_only`).

    Raises:
        ValueError: no video, or no frames a chunk.
    """
    if video.ndim != 4 or video.shape[0] != 3 or not video.numel():
        raise ValueError(
            f"a video is (3, T, H, W) and this tensor is {tuple(video.shape)}: permute it or pass video[0]"
        )
    if chunk < 1:
        raise ValueError(f"chunk is {chunk} frames: use 1 or more")
    result = torch.empty_like(video)
    done = 0
    for piece in reconstruct_stream(vae, torch.split(video, chunk, dim=1)):
        result[:, done : done + piece.shape[1]] = piece
        done += piece.shape[1]
    assert done == video.shape[1], f"{video.shape[1]} frames went in and {done} came out"
    return result


@torch.no_grad()
def reconstruct_stream(vae: VideoVAE, chunks: Iterable[Float[Tensor, "3 _ h w"]]) -> Iterator[Float[Tensor, "3 _ h w"]]:
    """As `reconstruct`, for a video that never is whole in memory: chunks (3, t, H, W) in, as many frames out.

    Frames come out as soon as they are known, in chunks of other lengths, on the VAE's device. Memory doesn't grow with
    the video's length, except for a VAE that can't be cut (`whole_clip_only`): all chunks are gathered for it first.
    """
    taken, given = 0, 0
    height = width = 0

    def padded() -> Iterator[Tensor]:
        nonlocal taken, height, width
        frames: Tensor | None = None
        for chunk in chunks:
            height, width = chunk.shape[2:]
            frames = _pad_size(_to_vae(vae, chunk[None]), vae.spec.spatial_stride)
            taken += frames.shape[2]
            yield frames
        if frames is not None and (extra := vae.spec.fitting_length(taken) - taken):
            yield frames[:, :, -1:].expand(-1, -1, extra, -1, -1)

    frames = _gathered(padded()) if vae.whole_clip_only else padded()
    with watched(vae, "reconstructing"):
        for piece in vae.decode_stream(vae.encode_stream(frames)):
            # frames beyond those taken can only be decoded once all are, so `taken` is the whole length then
            piece = piece[0, :, : taken - given, :height, :width].clamp(-1.0, 1.0)
            given += piece.shape[1]
            if piece.shape[1]:
                yield piece


def reconstruct_pairs(
    vae: VideoVAE, chunks: Iterable[Float[Tensor, "3 _ h w"]]
) -> Iterator[tuple[Float[Tensor, "3 t h w"], Float[Tensor, "3 t h w"]]]:
    """As `reconstruct_stream`, with the original: chunks (3, t, H, W) in, the same frames before and after out.

    Chunks of the original wait until the VAE gives their frames out, and no longer. The reconstruction is on the
    original's device and in its dtype.
    """
    waiting: deque[Tensor] = deque()

    def remembered() -> Iterator[Tensor]:
        for chunk in chunks:
            waiting.append(chunk)
            yield chunk

    for rebuilt in reconstruct_stream(vae, remembered()):
        original = _take(waiting, rebuilt.shape[1])
        yield original, rebuilt.to(original)
    assert not waiting, f"{sum(chunk.shape[1] for chunk in waiting)} frames went in and never came out"


def _take(waiting: deque[Tensor], count: int) -> Tensor:
    """The first `count` frames (3, count, H, W) of those that wait; they wait no more."""
    taken: list[Tensor] = []
    while count:
        chunk = waiting.popleft()
        taken.append(chunk[:, :count])
        count -= taken[-1].shape[1]
        if taken[-1].shape[1] < chunk.shape[1]:
            waiting.appendleft(chunk[:, taken[-1].shape[1] :])
    return torch.cat(taken, dim=1)


def _gathered(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """All chunks (B, 3, t, H, W) as one, if there are any: what pads the clip's length has to be in it too."""
    if whole := list(chunks):
        yield torch.cat(whole, dim=2)


def _to_vae(vae: VideoVAE, video: Tensor) -> Tensor:
    weight = next(vae.parameters(), None) if isinstance(vae, nn.Module) else None
    return video if weight is None else video.to(weight.device, weight.dtype)


def _pad_size(video: Tensor, stride: int) -> Tensor:
    """(B, 3, T, H, W) -> the same with its last rows and columns repeated up to a multiple of the stride."""
    right, bottom = -video.shape[4] % stride, -video.shape[3] % stride
    return F.pad(video, (0, right, 0, bottom, 0, 0), mode="replicate")
