"""From what is passed to a pipeline to the request that a task reads, or why it can't be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from videogen.pipelines.given import given_frames
from videogen.pipelines.sampling import Sampling
from videogen.tasks import Known, Request, Task
from videogen.vae import VAESpec


def make_request(
    task: Task, prompts: Sequence[str], settings: Sampling, spec: VAESpec, references: Mapping[str, Any]
) -> Request:
    """The request, with its references brought to one film a sentence.

    Args:
        references: those of image, video, other and mask that are given, None for the others: `image` as `given_frames`
            takes it, films (3, T, H, W) or (B, 3, T, H, W), a mask (H, W) or (T, H, W), bool.

    Raises:
        ValueError: one that the task would ignore, or needs and doesn't get; one of another size, or more or fewer
            films than sentences.
    """
    there = {name: value for name, value in references.items() if value is not None}
    _check(task, frozenset(there))
    size = settings.height, settings.width
    mask = there.get("mask")
    if mask is not None and (mask.dtype.is_floating_point or tuple(mask.shape[-2:]) != size):
        raise ValueError(f"a mask of {mask.dtype} and shape {tuple(mask.shape)}: give one of bool, (H, W) or (T, H, W)")
    return Request(
        prompts,
        settings.num_frames,
        *size,
        spec,
        image=_image(there.get("image"), len(prompts), settings),
        video=_film("video", there.get("video"), len(prompts), size),
        other=_film("other", there.get("other"), len(prompts), size),
        mask=mask,
    )


def _check(task: Task, there: frozenset[str]) -> None:
    said = type(task).__name__
    if ignored := sorted(there - task.takes):
        takes = f"it takes {', '.join(sorted(task.takes))}" if task.takes else "it takes sentences alone"
        names = ", ".join(f"{name}=" for name in ignored)
        raise ValueError(f"{said} would ignore {names}: {takes}; choose another task=")
    if missing := sorted(task.needs - there):
        raise ValueError(f"{said} needs {' and '.join(f'{name}=' for name in missing)}: give what it starts from")


def _image(image: Tensor | Mapping[int, Tensor] | None, batch: int, settings: Sampling) -> Known | None:
    if image is None:
        return None
    given = given_frames(image, batch, (settings.num_frames, settings.height, settings.width))
    mask = given.mask[:, None, None].expand(-1, settings.height, settings.width)
    return Known(given.film(0.0), mask) if given.places else None


def _film(name: str, film: Tensor | None, batch: int, size: tuple[int, int]) -> Tensor | None:
    """(3, T, H, W) or (B, 3, T, H, W) -> (B, 3, T, H, W), float32."""
    if film is None:
        return None
    films = film[None] if film.ndim == 4 else film
    if films.ndim != 5 or films.shape[1] != 3 or films.shape[0] not in (1, batch) or tuple(films.shape[3:]) != size:
        raise ValueError(
            f"{name}= of shape {tuple(film.shape)} for {batch} films of {size[1]}x{size[0]}: give one (3, T, "
            f"{size[0]}, {size[1]}) for all or one each, resized, or set height= and width="
        )
    if not films.shape[2]:
        raise ValueError(f"{name}= has no frames: give a film of at least one")
    return films.float().expand(batch, -1, -1, -1, -1)
