"""A part of a film at another size: which frames, scaled as Pillow scales, whatever the chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from videogen.data.excerpt import cover, excerpt
from videogen.data.video import Size, VideoError, open_video, read_video

CLIP = Path(__file__).parents[1] / "fixtures" / "big_buck_bunny" / "clips" / "018.mp4"


def scaled(video: Tensor, size: Size) -> Tensor:
    """Every channel of every frame by Pillow's bicubic filter, which is antialiased."""
    planes = [Image.fromarray(plane.numpy()) for plane in video.flatten(0, 1)]
    done = [np.array(plane.resize((size.width, size.height), Image.Resampling.BICUBIC)) for plane in planes]
    return torch.from_numpy(np.stack(done)).unflatten(0, video.shape[:2]).clamp(-1, 1)


@pytest.mark.parametrize(
    ("size", "part"),
    [
        # smaller by 3: all of it, left and right cut off, top and bottom cut off
        (Size(12, 20), (slice(0, 36), slice(0, 60))),
        (Size(12, 12), (slice(0, 36), slice(12, 48))),
        (Size(8, 20), (slice(6, 30), slice(0, 60))),
        # larger by 1.5, cut off left and right
        (Size(54, 60), (slice(0, 36), slice(10, 50))),
        # odd: a column more is cut off on the right
        (Size(36, 57), (slice(0, 36), slice(1, 58))),
        (Size(1, 1), (slice(0, 36), slice(12, 48))),
    ],
)
def test_it_is_the_centre_scaled_as_pillow_scales(size: Size, part: tuple[slice, slice]) -> None:
    video = torch.rand(3, 2, 36, 60, generator=torch.Generator().manual_seed(0)) * 2 - 1
    result = cover(video, size)
    assert result.shape == (3, 2, *size)
    assert result.abs().max() <= 1
    # the same filter, whose weights torch makes in float32
    torch.testing.assert_close(result, scaled(video[:, :, part[0], part[1]], size), atol=1e-5, rtol=0)


def test_a_size_that_fits_changes_nothing() -> None:
    video = torch.rand(3, 2, 14, 18) * 2 - 1
    assert torch.equal(cover(video, Size(14, 18)), video)
    with pytest.raises(VideoError, match="a size of 0x5: both sides must be 1 or more"):
        cover(video, Size(5, 0))


def test_no_frequency_folds_back() -> None:
    # stripes one pixel wide are grey at half the size; picking every other pixel would make them black or white
    stripes = torch.ones(3, 1, 32, 64)
    stripes[..., ::2] = -1
    assert cover(stripes, Size(16, 32))[..., 2:-2].abs().max() < 0.05


@pytest.mark.parametrize("chunk", [1, 3, 5, 40])
def test_which_frames_and_at_which_size(chunk: int) -> None:
    whole = read_video(CLIP).frames
    for start, count in ((0, None), (4, None), (0, 7), (4, 7), (15, 7), (16, 1)):
        with open_video(CLIP) as reader:
            chunks = list(excerpt(reader, start=start, max_frames=count, chunk=chunk))
        expected = whole[:, start:][:, :count]
        assert torch.equal(torch.cat(chunks, dim=1), expected)
        assert {piece.shape[1] for piece in chunks[:-1]} <= {chunk}
    with open_video(CLIP) as reader:
        small = torch.cat(list(excerpt(reader, start=3, max_frames=6, size=Size(18, 20), chunk=chunk)), dim=1)
    torch.testing.assert_close(small, cover(whole[:, 3:9], Size(18, 20)), atol=1e-6, rtol=0)


def test_nothing_is_left_after_the_end() -> None:
    for start, seconds in ((17, "1.41667"), (50, "4.16667")):
        told = rf"nothing of .*018.mp4 is left from frame {start} \({seconds} s\) on: it has 17 frames"
        with open_video(CLIP) as reader, pytest.raises(VideoError, match=told):
            list(excerpt(reader, start=start))


def test_what_cannot_be_cut() -> None:
    with open_video(CLIP, max_pixels=2 * 144 * 256) as reader:
        for wrong, told in (
            ({"start": -1}, "start is frame -1: the first is 0"),
            ({"chunk": 0}, "size is 0"),
            ({"max_frames": 0}, "max_frames is 0"),
            ({"chunk": 3}, "3 frames of 256x144 are .* pixels and the limit is 73728"),
            ({"chunk": 2, "size": Size(288, 256)}, "2 frames of 256x288 are 147456 pixels and the limit is 73728"),
        ):
            with pytest.raises(VideoError, match=told):
                next(excerpt(reader, **wrong))
