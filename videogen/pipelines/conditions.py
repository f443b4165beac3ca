"""From a request to the condition that the loaded model takes: text, images and numbers, or why it can't take them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from videogen.denoiser import Condition, Denoiser, text_condition
from videogen.guidance import Branch
from videogen.pipelines.given import Given, check_blank, known_latents, known_mask
from videogen.pipelines.overflow import finite, watched
from videogen.pipelines.sampling import Sampling
from videogen.text import TextFeatures
from videogen.vae import VideoVAE
from videogen.vision import ImageEncoder

#: settings of a request, the field of the condition in which a model is told of each, and what that is
TOLD = (("embedded_guidance", "guidance", "a scale"), ("condition_fps", "fps", "frames a second"))


def check_request(denoiser: Denoiser, vae: VideoVAE, vision: ImageEncoder, given: Given, settings: Sampling) -> None:
    """Refuse, before anything is computed, what the model would ignore or can't do without.

    Raises:
        ValueError: says what the model can do.
    """
    takes = denoiser.conditions
    needs: frozenset[str] = getattr(denoiser, "required", frozenset())
    for name, field, what in TOLD:
        value = getattr(settings, name)
        if value is not None and field not in takes:
            raise ValueError(f"{name}={value}: this model isn't told {what} (it takes {_said(takes)}): leave it out")
    if "fps" in needs and settings.condition_fps is None:
        raise ValueError("this model has to be told its frames a second: set condition_fps=")
    if "image" not in takes and vision.num_images:
        raise ValueError("this model reads no image tokens: leave out the encoder of images, vision=none")
    if not {"image", "known"} & takes:
        return
    if not given.places and {"image", "known"} & needs:
        raise ValueError("this model animates an image: give one, image=first.png")
    if given.places and "image" in takes:
        _check_tokens(vision, given, known="known" in takes)
    if "known" in takes:
        check_blank(given, vae.spec, settings.blank)


def _check_tokens(vision: ImageEncoder, given: Given, *, known: bool) -> None:
    count = vision.num_images
    if not count:
        raise ValueError("this model reads image tokens and vision=none makes none: choose vision=clip or another")
    if len(given.places) < count:
        raise ValueError(f"this model reads {count} images and {len(given.places)} is given: first and last frame")
    if not known and given.places != (0,):
        raise ValueError(f"images at frames {given.places}: this model reads one, image=, for the whole film")


def branch_conditions(
    denoiser: Denoiser,
    vae: VideoVAE,
    vision: ImageEncoder,
    features: Mapping[Branch, TextFeatures],
    given: Given,
    settings: Sampling,
    *,
    both: bool,
) -> dict[Branch, Condition]:
    """The condition of a batch of films under each branch of the guidance.

    Args:
        features: of each branch, as many texts as films.
        given: one entry a film.
        both: whether "none" is without the image as well as without the text, as far as the model can do without it;
            otherwise it is without the image's tokens, if the encoder has others for none, and with its latents.
    """
    size = settings.height, settings.width
    image = _tokens(denoiser, vision, given)
    known = _known(denoiser, vae, given, settings)
    parts: dict[Branch, dict[str, Tensor]] = dict.fromkeys(features, image | known)
    if "none" in features:
        optional = both and "known" not in getattr(denoiser, "required", frozenset())
        nothing = _known(denoiser, vae, given.nothing(), settings) if optional else known
        parts["none"] = (_no_tokens(vision, given) if image else {}) | nothing
    conditions = {}
    for name, texts in features.items():
        condition = text_condition(texts, denoiser.conditions, size, settings.embedded_guidance)
        fps = settings.condition_fps
        told = {} if fps is None else {"fps": texts.tokens.new_full((len(texts.tokens),), fps).float()}
        fields: dict[str, Any] = {**told, **image, **parts[name]}
        conditions[name] = dataclasses.replace(condition, **fields)
    return conditions


def _tokens(denoiser: Denoiser, vision: ImageEncoder, given: Given) -> dict[str, Tensor]:
    if "image" not in denoiser.conditions or not given.places:
        return {}
    return {"image": finite(vision.encode(given.images[:, : vision.num_images]), "encoding the image")}


def _no_tokens(vision: ImageEncoder, given: Given) -> dict[str, Tensor]:
    without = vision.null(given.images[:, : vision.num_images])
    return {} if without is None else {"image": without}


def _known(denoiser: Denoiser, vae: VideoVAE, given: Given, settings: Sampling) -> dict[str, Tensor]:
    fields = {}
    if "known" in denoiser.conditions:
        with watched(vae, "encoding the image"):
            fields["known"] = finite(known_latents(vae, given, settings.blank), "encoding the image")
    if "known_mask" in denoiser.conditions:
        channels = getattr(denoiser, "known_mask_channels", 1)
        fields["known_mask"] = known_mask(given, vae.spec, channels, settings.blank)
    return fields


def _said(takes: frozenset[str]) -> str:
    return ", ".join(sorted(takes))
