"""What kinds of noise with something in common between frames share: how much."""

# annotations stay evaluated here: the knobs' types are read from the subclasses, whose modules needn't import them
import dataclasses
import math


@dataclasses.dataclass(kw_only=True, eq=False)
class Shared:
    """Noise of unit variance that is partly another frame's.

    Args:
        alpha: of the common part over the own; 0 is independent noise. A model is given what it was trained with.

    Raises:
        ValueError: a negative alpha.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha={self.alpha}: at least 0, which is independent noise; 1 shares half the variance")

    @property
    def shares(self) -> tuple[float, float]:
        """What the common and the own noise are multiplied by: their squares sum to 1."""
        whole = math.hypot(1, self.alpha)
        return self.alpha / whole, 1 / whole
