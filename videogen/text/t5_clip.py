"""T5's tokens, and the pooled vector of a CLIP text tower beside them: what most MM-DiTs are conditioned on."""

from __future__ import annotations

from typing import Any, Literal, Self

from torch import nn

from videogen.text import TEXT_ENCODERS, EncoderSize, TextFeatures


@TEXT_ENCODERS.register("t5_clip")
class T5WithCLIP(nn.Module):
    """Tokens of one frozen encoder and the vector of another, as in https://arxiv.org/abs/2403.03206, section 4.

    Args:
        folder: a local folder with a T5 encoder, see the encoder `t5`.
        clip_folder: a local folder with a CLIP text tower, see the encoder `clip`.
        max_length: the longest sentence in tokens of T5.
        fill: fill every sentence up to that, and let what fills it count as words.
        clip_max_length: the longest sentence in tokens of CLIP.
        projected: multiply CLIP's vector by its projection to what it shares with images.
        dtype: of the weights and of the features.

    Raises:
        FileNotFoundError, ValueError: as `t5` and `clip`.
    """

    # beside the text tower of CLIP ViT-L/14
    usual = EncoderSize("T5-XXL with CLIP ViT-L/14", 4096, 4_762_310_656 + 123_060_480, pooled_dim=768)

    def __init__(
        self,
        *,
        folder: str = "",
        clip_folder: str = "",
        max_length: int = 512,
        fill: bool = False,
        clip_max_length: int = 77,
        projected: bool = False,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    ) -> None:
        super().__init__()
        # asked from the registry: parts of one kind don't import each other
        self.t5: Any = TEXT_ENCODERS.build("t5", folder=folder, max_length=max_length, fill=fill, dtype=dtype)
        self.clip: Any = TEXT_ENCODERS.build(
            "clip", folder=clip_folder, max_length=clip_max_length, projected=projected, dtype=dtype
        )
        self.eval()

    @property
    def dim(self) -> int:
        """Width of the tokens."""
        return int(self.t5.dim)

    @property
    def pooled_dim(self) -> int:
        """Width of the pooled vector."""
        return int(self.clip.pooled_dim)

    def encode(self, sentences: list[str]) -> TextFeatures:
        """Sentences -> tokens (B, L, D) and mask (B, L) of T5, pooled (B, D_pooled) of CLIP.

        Raises:
            ValueError: no sentence, or one that is too long for one of them.
        """
        tokens, mask, _ = self.t5.encode(sentences)
        return TextFeatures(tokens, mask, self.clip.encode(sentences).pooled)

    def null(self, batch: int) -> TextFeatures:
        """The features of the empty sentence, `batch` times."""
        return self.encode([""] * batch)

    def unknown(self, sentence: str) -> list[str]:
        """Nothing: the pieces of both vocabularies spell any word."""
        return []

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a frozen encoder with dropout would give other features at each call."""
        return super().train(False)
