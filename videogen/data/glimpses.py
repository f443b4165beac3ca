"""A few frames of a stream, spread evenly over it, though its length is known only when it ends."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from videogen.data._frames import Pixels, VideoError, check_video, to_float, to_pixels


class Glimpses:
    """Keeps at most 2 * `count` frames, as bytes, of however many pass: what a contact sheet of a long film shows.

    Every `step`-th frame is kept, at first each; whenever they are too many, every other one of them is dropped and the
    step doubles. At the end there are more than `count` of a longer stream, so that what is asked for lies at most
    half a step beside a kept frame, which is less than half of the distance to the next one asked for.

    Args:
        count: frames to give in the end, the first and the last of the stream among them; fewer if it has fewer.

    Attributes:
        num_frames: that have passed.

    Raises:
        VideoError: the count is below 1.
    """

    def __init__(self, count: int = 8) -> None:
        if count < 1:
            raise VideoError(f"{count} glimpses: take 1 or more")
        self.count = count
        self.num_frames = 0
        self._step = 1
        self._kept: list[Pixels] = []
        self._last: Pixels | None = None

    def add(self, chunk: Float[Tensor, "3 t h w"]) -> None:
        """Let frames in [-1, 1] pass.

        Raises:
            VideoError: no video, or NaN or infinite values.
        """
        check_video(chunk, self.num_frames)
        for frame in chunk.unbind(1):
            if self.num_frames % self._step == 0:
                if len(self._kept) == 2 * self.count:
                    del self._kept[1::2]
                    self._step *= 2
                # the frame that didn't fit is 2 * count steps from the first: every other step of before
                self._kept.append(to_pixels(frame[:, None])[0])
            self.num_frames += 1
        self._last = to_pixels(chunk[:, -1:])[0]

    def frames(self) -> Float[Tensor, "3 n h w"]:
        """The frames, evenly spread as far as they were kept, in [-1, 1].

        Raises:
            VideoError: none has passed.
        """
        if self._last is None:
            raise VideoError("no frames have passed, so there is nothing to show")
        number = min(self.count, self.num_frames)
        targets = torch.linspace(0, self.num_frames - 1, number, dtype=torch.float64) / self._step
        chosen = [self._kept[int(place)] for place in targets[:-1].round()]
        chosen.append(self._last if number > 1 else self._kept[0])
        pixels = torch.stack([torch.from_numpy(frame) for frame in chosen])
        return to_float(pixels.permute(3, 0, 1, 2))
