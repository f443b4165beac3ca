"""What tasks share: pieces of film as known frames of a longer one."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from videogen.tasks import Known, Request
from videogen.vae import VAESpec


@dataclasses.dataclass(kw_only=True, eq=False)
class TaskBase:
    """A task that reads no references unless it says so."""

    @property
    def takes(self) -> frozenset[str]:
        """What it needs, and nothing else."""
        return self.needs

    @property
    def needs(self) -> frozenset[str]:
        """Nothing."""
        return frozenset()


def placed(num_frames: int, pieces: dict[int, Tensor]) -> Known:
    """A film of `num_frames` of which pieces (B, 3, N, H, W) are known, by the number of their first frame."""
    some = next(iter(pieces.values()))
    batch, _, _, height, width = some.shape
    film = some.new_zeros(batch, 3, num_frames, height, width)
    mask = torch.zeros(num_frames, height, width, dtype=torch.bool)
    for first, piece in pieces.items():
        there = slice(first, first + piece.shape[2])
        film[:, :, there], mask[there] = piece, True
    return Known(film, mask)


def overlap_ahead(wanted: int, spec: VAESpec) -> int:
    """At most `wanted` frames that are whole latent ones at a film's start."""
    if wanted < 1:
        return 0
    last = spec.frames_of(spec.latent_place(wanted - 1))
    return wanted if last.stop == wanted else last.start


def overlap_behind(wanted: int, num_frames: int, spec: VAESpec) -> int:
    """At most `wanted` frames that are whole latent ones at the end of a film of `num_frames`."""
    if wanted < 1:
        return 0
    before = max(num_frames - wanted, 0)
    first = spec.frames_of(spec.latent_place(before))
    return num_frames - (before if first.start == before else first.stop)


def check_overlap(name: str, kept: int, wanted: int, request: Request) -> int:
    """The overlap itself.

    Raises:
        ValueError: it holds no frame, or leaves none to be made.
    """
    if not 0 < kept < request.num_frames:
        raise ValueError(
            f"{name}={wanted} keeps {kept} frames of samples of {request.num_frames}: keep at least one latent frame "
            f"({request.spec.temporal_stride} frames), and fewer than num_frames"
        )
    return kept


def check_strength(strength: float) -> None:
    """Raises ValueError for a share of the steps that isn't above 0 and up to 1."""
    if not 0 < strength <= 1:
        raise ValueError(f"strength={strength}: above 0, where the film stays, to 1, where nothing is left of it")


def some_film(request: Request) -> Tensor:
    """The film that is given (B, 3, T, H, W), or a black one of as many frames as a sample has."""
    if request.video is not None:
        return request.video
    return torch.full((len(request.prompts), 3, request.num_frames, request.height, request.width), -1.0)


def pasted(made: Tensor, known: Known) -> Tensor:
    """Films (B, 3, T, H, W) in which what is known is as it was given."""
    return made.where(~known.mask, known.film)


def beginning(request: Request) -> Tensor:
    """The first `num_frames` frames of the film (B, 3, T, H, W).

    Raises:
        ValueError: it has fewer.
    """
    film = request.video
    assert film is not None
    if film.shape[2] < request.num_frames:
        raise ValueError(f"the film has {film.shape[2]} frames and num_frames={request.num_frames}: ask for fewer")
    return film[:, :, : request.num_frames]
