"""The denoiser contract: what every network that predicts from noisy latents takes and gives."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from videogen.text import TextFeatures

#: the fields of `Condition` that are masks
MASKS = ("text_mask", "known_mask", "valid")
#: those that a network multiplies with its weights
FEATURES = ("text", "pooled", "image", "known")


@dataclasses.dataclass(frozen=True)
class Condition:
    """All that a denoiser may be conditioned on; a field that a model would ignore is refused by that model.

    Args:
        text: text tokens (B, L, D_text).
        text_mask: which text tokens are words and not padding (B, L), bool.
        pooled: one vector for the whole text (B, D_pooled).
        image: image tokens (B, L_image, D_image).
        fps: frames a second (B,).
        guidance: scale of the guidance that a distilled model has learnt to follow (B,).
        size: height and width in pixels (B, 2).
        known: latents of frames that are given (B, C, T, H, W).
        known_mask: which frames are given (B, T), bool; for a model with M channels of mask also (B, M, T, H, W), where
            channel m of a latent frame is the m-th frame of video in it (the first latent frame holds one M times).
            Such a mask may hold fractions, as of the pixels of a latent that are given.
        valid: which latent positions of a padded batch are real (B, T, H, W), bool.
    """

    text: Tensor | None = None
    text_mask: Tensor | None = None
    pooled: Tensor | None = None
    image: Tensor | None = None
    fps: Tensor | None = None
    guidance: Tensor | None = None
    size: Tensor | None = None
    known: Tensor | None = None
    known_mask: Tensor | None = None
    valid: Tensor | None = None
    # a copy with other fields starts with an empty one
    _memo: dict[Any, Any] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    def memo(self) -> dict[Any, Any] | None:
        """Where layers keep what they make of this condition alone, from step to step; None where they must not.

        Gradients have to flow through everything, and a compiled graph computes its own.
        """
        import torch

        return None if torch.is_grad_enabled() or torch.compiler.is_compiling() else self._memo

    def given(self) -> dict[str, Tensor]:
        """The fields that are set."""
        fields = (f.name for f in dataclasses.fields(self) if f.init)
        return {name: getattr(self, name) for name in fields if getattr(self, name) is not None}

    def to(self, device: Any, dtype: Any = None) -> Condition:
        """The same on a device, with the tokens, vectors and latents in it in another dtype; numbers keep theirs."""
        moved: dict[str, Any] = {
            name: tensor.to(device, dtype if name in FEATURES else None) for name, tensor in self.given().items()
        }
        return dataclasses.replace(self, **moved)

    def require_subset(self, model: str, supported: frozenset[str]) -> None:
        """Raise ValueError naming each field that is set and that `model` would ignore."""
        ignored = sorted(set(self.given()) - supported)
        if ignored:
            raise ValueError(
                f"{model} would ignore condition.{', condition.'.join(ignored)}: it takes {sorted(supported)}"
            )

    def require_shape(self, name: str, wanted: tuple[int | None, ...]) -> None:
        """Raise ValueError unless a field that is set has this shape, None for any length, and a mask is bool."""
        tensor: Tensor | None = getattr(self, name)
        if tensor is None:
            return
        if tensor.ndim != len(wanted) or any(w not in (None, s) for w, s in zip(wanted, tensor.shape, strict=True)):
            said = ", ".join("any" if length is None else str(length) for length in wanted)
            raise ValueError(f"condition.{name} has the shape {tuple(tensor.shape)}: this model takes ({said})")
        # imported here, so that listing the denoisers loads no torch
        import torch

        fractions = name == "known_mask" and tensor.ndim == 5 and tensor.is_floating_point()
        if name in MASKS and tensor.dtype != torch.bool and not fractions:
            raise ValueError(f"condition.{name} is bool, True for what counts, not {tensor.dtype}: pass {name}.bool()")


def text_condition(
    features: TextFeatures, supported: frozenset[str], size: tuple[int, int], guidance: float | None = None
) -> Condition:
    """The condition that encoded text makes, with the pooled vector and the size where the model takes them.

    Args:
        size: height and width of the clips in pixels.
        guidance: the scale that a distilled model is told; None for other models.
    """
    tokens = features.tokens
    pooled = features.pooled if "pooled" in supported else None
    sides = tokens.new_tensor(size).float().expand(len(tokens), -1) if "size" in supported else None
    told = None if guidance is None else tokens.new_full((len(tokens),), guidance).float()
    return Condition(text=tokens, text_mask=features.mask, pooled=pooled, size=sides, guidance=told)


def null_features(denoiser: Denoiser, features: TextFeatures) -> TextFeatures | None:
    """What stands in a model for the absence of text, in place of these tokens and under their mask.

    None for a model that has no such text of its own, to which the encoder's null is given.

    Raises:
        ValueError: the text is longer than the model's own.
    """
    own: Tensor | None = getattr(denoiser, "null_text", None)
    if own is None:
        return None
    batch, length, _ = features.tokens.shape
    if length > len(own):
        raise ValueError(f"a text of {length} tokens is longer than the model's own of {len(own)}: shorten it")
    return features._replace(tokens=own[:length].to(features.tokens).expand(batch, -1, -1))


class Denoiser(Protocol):
    """A network from noisy latents, a timestep and a condition to a prediction of the same shape.

    One that can't do without some of the condition's fields names them in an attribute `required`, and one with several
    channels of mask for known latents says how many in `known_mask_channels`. `learned_sigma` is true of one that
    predicts a variance too, as many channels behind the prediction.
    """

    #: the fields of Condition that this model uses
    conditions: frozenset[str]

    def __call__(self, latents: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """Predict (B, C, T, H, W) -> (B, C_out, T, H, W).

        Args:
            latents: noisy latents (B, C, T, H, W).
            timestep: noise level, (B,) or per frame (B, T), on the scale of the model's objective.
            condition: see `Condition`.
        """
        ...


DENOISERS: Registry[Any] = Registry(
    "denoiser", "videogen.denoiser", modules={"dit": "videogen.dit.model", "unet": "videogen.unet.model"}
)
