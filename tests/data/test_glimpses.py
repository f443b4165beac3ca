"""A few frames of a stream of unknown length: how many are kept, and how evenly those given are spread."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from videogen.data.glimpses import Glimpses
from videogen.data.video import VideoError


def numbered(count: int) -> Tensor:
    """Frames (3, count, 1, 2) whose bytes are their number, in base 256: red is the high one, green the low."""
    number = torch.arange(count)
    digits = torch.stack([number // 256, number % 256, torch.zeros(count, dtype=torch.long)])
    return (digits / 127.5 - 1)[:, :, None, None].expand(-1, -1, 1, 2)


def picked(glimpses: Glimpses) -> list[int]:
    red, green, blue = ((glimpses.frames() + 1) * 127.5).round().long()[:, :, 0, 0]
    assert not blue.any()
    return (256 * red + green).tolist()


def passed(length: int, chunk: int, count: int) -> Glimpses:
    glimpses = Glimpses(count)
    for piece in numbered(length).split(chunk, dim=1):
        glimpses.add(piece)
    assert glimpses.num_frames == length
    return glimpses


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("chunk", [1, 5])
def test_frames_are_spread_evenly_whatever_the_length(count: int, chunk: int) -> None:
    for length in [*range(1, 6 * count + 3), 100, 257, 576, 1000]:
        frames = picked(passed(length, chunk, count))
        targets = torch.linspace(0, length - 1, min(count, length), dtype=torch.float64).tolist()
        assert frames[0] == 0
        assert count == 1 or frames[-1] == length - 1
        # each is nearer to where it should be than to where its neighbours should
        assert len(set(frames)) == len(targets)
        gap = (length - 1) / max(1, len(targets) - 1)
        assert all(abs(frame - target) <= gap / 2 for frame, target in zip(frames, targets, strict=True))
        if length <= 2 * count:
            assert frames == [round(target) for target in targets]


def test_few_frames_are_kept() -> None:
    # as many bytes as a stream that is ten times as long
    kept = [len(passed(length, 16, 8)._kept) for length in (64, 640, 1000)]
    assert all(8 < number <= 16 for number in kept)


def test_what_is_given_is_no_view_of_the_stream() -> None:
    glimpses, chunk = Glimpses(2), numbered(4).clone()
    glimpses.add(chunk)
    chunk.fill_(1)
    assert picked(glimpses) == [0, 3]


def test_what_cannot_be_shown() -> None:
    with pytest.raises(VideoError, match="0 glimpses: take 1 or more"):
        Glimpses(0)
    glimpses = Glimpses()
    with pytest.raises(VideoError, match="no frames have passed"):
        glimpses.frames()
    glimpses.add(numbered(3))
    with pytest.raises(VideoError, match="the first in frame 4"):
        glimpses.add(torch.tensor([0.0, torch.nan]).view(1, 2, 1, 1).expand(3, 2, 1, 2))
