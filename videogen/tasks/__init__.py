"""Tasks: what a film is made from beside its sentence; the contract that all of them keep.

One idea carries them: some pixels of the film are known (`Known`), and the sampler fills in the rest. A task says
which, asks for as many samples as it takes, and puts the films together. It never sees the network: how the sampler
makes a model keep what is known is the pipeline's business, and so is refusing what the model wasn't trained for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from videogen.vae import VAESpec

#: pixels (B * T * H * W) of films made at once: 32 s of 480p at 16 fps
MAX_PIXELS = 2**28


@dataclasses.dataclass(frozen=True)
class Known:
    """The pixels of films that are known.

    Args:
        film: (B, 3, T, H, W) in [-1, 1]; what it shows where nothing is known doesn't count.
        mask: which pixels of every film are known, (T, H, W) bool.
    """

    film: Float[Tensor, "b 3 t h w"]
    mask: Bool[Tensor, "t h w"]

    @property
    def frames(self) -> Bool[Tensor, " t"]:
        """Which frames are known as a whole, (T,)."""
        return self.mask.flatten(1).all(1)


@dataclasses.dataclass(frozen=True)
class Start:
    """Films to start from in place of noise.

    Args:
        film: (B, 3, T, H, W) in [-1, 1].
        strength: share of the steps that are walked, above 0 to 1: how far the result may go from the film.
        of: what the films show, a sentence each, which guidance leads away from in place of the negative prompt; None
            where nobody says.
    """

    film: Float[Tensor, "b 3 t h w"]
    strength: float
    of: Sequence[str] | None = None


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked for.

    Args:
        prompts: one sentence a film.
        num_frames: length of one sample.
        height, width: in pixels.
        spec: of the model's VAE: how many frames a latent one holds.
        image: known frames, or None.
        video: a film for each sentence (B, 3, T', H, W), or None; its length is its own.
        other: another one, or None.
        mask: what is to be made anew, (H, W) or (T', H, W) bool, or None.
    """

    prompts: Sequence[str]
    num_frames: int
    height: int
    width: int
    spec: VAESpec
    image: Known | None = None
    video: Float[Tensor, "b 3 t h w"] | None = None
    other: Float[Tensor, "b 3 t h w"] | None = None
    mask: Bool[Tensor, "*t h w"] | None = None


def check_pixels(films: int, num_frames: int, height: int, width: int) -> None:
    """Refuse more than fits in memory, before anything is made.

    Raises:
        ValueError: more than `MAX_PIXELS`; both numbers are named.
    """
    pixels = films * num_frames * height * width
    if pixels > MAX_PIXELS:
        raise ValueError(
            f"{films} x {num_frames} frames of {width}x{height} are {pixels} pixels and the limit is {MAX_PIXELS}: ask "
            "for a smaller size, fewer frames or fewer prompts at once"
        )


class Sample(Protocol):
    """Samples films of a request; each call has noise of its own."""

    def __call__(
        self,
        num_frames: int,
        *,
        known: Known | None = None,
        start: Start | None = None,
        prompts: Sequence[str] | None = None,
    ) -> Float[Tensor, "b 3 t h w"]:
        """Films in [-1, 1].

        Args:
            num_frames: their length.
            known: what of them is known.
            start: what to start from.
            prompts: other sentences than the request's, as many.

        Raises:
            ValueError: something that the model can't do, said with what it can.
        """
        ...

    def check(self, num_frames: int, known: Known) -> None:
        """Refuse what a call would refuse, before any other: a task that takes several asks for all of them first.

        Args:
            num_frames, known: as a call has them; of the known film its shape alone counts.

        Raises:
            ValueError: as a call.
        """
        ...


class Task(Protocol):
    """A way to make a film of a request."""

    @property
    def takes(self) -> frozenset[str]:
        """The references that it reads: of "image", "video", "other" and "mask"."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """Those that it can't do without."""
        ...

    def run(self, request: Request, sample: Sample) -> Float[Tensor, "b 3 t h w"]:
        """The films in [-1, 1].

        Raises:
            ValueError: references or lengths that the task can't take.
        """
        ...


TASKS: Registry[Task] = Registry("task", "videogen.tasks")
