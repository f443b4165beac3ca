"""How far the times of a walk are moved towards noise, by a number or by the size of the sample."""

# annotations stay evaluated here: the knobs' types are read from the subclasses, whose modules needn't import them
import dataclasses
import math
from typing import Literal, get_args

from videogen.schedulers import Size
from videogen.schedulers._shared import check_choice

ShiftBy = Literal["fixed", "tokens", "frame_tokens", "size"]
# latents of a frame of 512x512 pixels at strides of 8: where Open-Sora 1.2's shift is 1
BASE_AREA = 64 * 64


@dataclasses.dataclass(kw_only=True, eq=False)
class Shift:
    """What the ratio sigma / alpha of each time of a walk is multiplied by; 1 leaves it, large videos want more.

    On the time s of a rectified flow this is s -> shift * s / (1 + (shift - 1) * s) (arXiv 2403.03206, eq. 23).

    Args:
        shift: the number.
        shift_by: what else it depends on. fixed: nothing. tokens: it is times exp(y), where y goes with the number of
            tokens along the line through the corners of token_range and shift_range (FLUX, LTX-Video). frame_tokens: it
            is times y, the same line over the tokens of one frame, and times the root of the latent frames (Open-Sora
            2.0). size: it is times the root of the area, as a part of that of 64x64 latents (512x512 pixels at
            strides of 8), and times the root of the latent frames (Open-Sora 1.2).
        token_range: two numbers of tokens.
        shift_range: y at these two.
        latents_per_token: latents that make one token: the volume of the denoiser's patch.

    Raises:
        ValueError: a knob out of range.
    """

    shift: float = 1.0
    shift_by: ShiftBy = "fixed"
    token_range: tuple[int, int] = (256, 4096)
    shift_range: tuple[float, float] = (0.5, 1.15)
    latents_per_token: int = 4

    def __post_init__(self) -> None:
        check_choice("shift_by", self.shift_by, get_args(ShiftBy))
        if not self.shift > 0:
            raise ValueError(f"shift={self.shift} must be positive: 1 is neutral")
        if not 0 < self.token_range[0] < self.token_range[1]:
            raise ValueError(f"token_range={self.token_range}: two numbers of tokens, the lower first")
        if self.latents_per_token < 1:
            raise ValueError(f"latents_per_token={self.latents_per_token}: at least 1, 4 for patches of 1x2x2")

    def shift_of(self, size: Size | None) -> float:
        """The shift of a sample of this size in latents; ValueError where it depends on a size that isn't given."""
        if self.shift_by == "fixed":
            return self.shift
        if size is None:
            raise ValueError(f"shift_by={self.shift_by} needs the size: timesteps(steps, (frames, height, width))")
        frames, area = size[0], size[1] * size[2]
        match self.shift_by:
            case "size":
                return self.shift * math.sqrt(area / BASE_AREA * frames)
            case "frame_tokens":
                return self.shift * self._line(area / self.latents_per_token) * math.sqrt(frames)
            case "tokens":
                return self.shift * math.exp(self._line(frames * area / self.latents_per_token))

    def _line(self, tokens: float) -> float:
        (low, high), (first, last) = self.token_range, self.shift_range
        return first + (last - first) * (tokens - low) / (high - low)
