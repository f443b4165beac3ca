"""A frozen T5 encoder, read from a local folder: what most published text-to-video models are conditioned on."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Literal, Self

import torch
from torch import nn

from videogen.text import TEXT_ENCODERS, EncoderSize, TextFeatures
from videogen.text._folder import checked, read_tokenizer, read_tower

TOWER = "T5 encoder"
#: what a config.json calls its model -> the class; umT5 has positions of its own in each layer
MODELS = {"t5": "T5EncoderModel", "mt5": "T5EncoderModel", "umt5": "UMT5EncoderModel"}


@TEXT_ENCODERS.register("t5")
class T5Encoder(nn.Module):
    """The last hidden states of T5's encoder (https://arxiv.org/abs/1910.10683), mT5's or umT5's; no pooled vector.

    Nothing is downloaded, no code of the folder is run, and weights are read from safetensors alone.

    Args:
        folder: a local folder with `config.json`, `*.safetensors` and the tokenizer.
        max_length: the longest sentence, in tokens, the closing `</s>` included.
        fill: fill every sentence up to that, and let what fills it count as words, here and for those who read the
            tokens: CogVideoX and Open-Sora 2.0 were trained that way.
        wordless_null: the absence of text is no word at all, as in Mochi, and not the empty sentence's closing `</s>`.
        dtype: of the weights and of the features.

    Raises:
        FileNotFoundError: the folder, its config or its weights are missing.
        ValueError: another kind of model, weights that don't fill the encoder, or a tokenizer that needs a package
            that isn't there.
    """

    usual = EncoderSize("T5-XXL", 4096, 4_762_310_656)

    def __init__(
        self,
        *,
        folder: str = "",
        max_length: int = 300,
        fill: bool = False,
        wordless_null: bool = False,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    ) -> None:
        super().__init__()
        path = _checked(folder)
        self.max_length, self.fill, self.wordless_null = max_length, fill, wordless_null
        self.tokenizer = read_tokenizer(path)
        self.model = read_tower(_model_class(path), path, dtype, TOWER)
        self.eval()

    @property
    def dim(self) -> int:
        """Width of the tokens."""
        return int(self.model.config.d_model)

    @torch.no_grad()
    def encode(self, sentences: list[str]) -> TextFeatures:
        """Sentences -> tokens (B, L, D), mask (B, L), no pooled vector; L the most tokens of a sentence, or max_length.

        Raises:
            ValueError: no sentence, or one with more than `max_length` tokens.
        """
        if not sentences:
            raise ValueError("there is no sentence to encode: pass at least one, [''] for no text")
        device = next(self.model.parameters()).device
        batch = self.tokenizer(sentences, padding=True, return_tensors="pt").to(device)
        length = batch.input_ids.shape[1]
        if length > self.max_length:
            limit = f"the limit is max_length={self.max_length}"
            raise ValueError(f"a sentence of {length} tokens is too long, {limit}: shorten it or raise max_length")
        ids, words = batch.input_ids, batch.attention_mask
        if self.fill:
            missing = self.max_length - length
            ids = nn.functional.pad(ids, (0, missing), value=self.tokenizer.pad_token_id)
            words = torch.ones_like(ids)
        # a caller's autocast would round the activations of a model whose dtype was chosen
        with torch.autocast(device.type, enabled=False):
            tokens = self.model(input_ids=ids, attention_mask=words).last_hidden_state
        return TextFeatures(tokens, words.bool(), None)

    def null(self, batch: int) -> TextFeatures:
        """The features of the empty sentence, `batch` times: `</s>`, alone, filled up, or masked (`wordless_null`)."""
        empty = self.encode([""] * batch)
        return empty._replace(mask=torch.zeros_like(empty.mask)) if self.wordless_null else empty

    def unknown(self, sentence: str) -> list[str]:
        """Nothing: the pieces of T5's vocabulary spell any word."""
        return []

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a frozen encoder with dropout would give other features at each call."""
        return super().train(False)


def _checked(folder: str) -> Path:
    """The folder, once everything that loading needs is there."""
    path = checked("t5", folder, TOWER)
    sentencepiece_only = (path / "spiece.model").is_file() and not (path / "tokenizer.json").is_file()
    if sentencepiece_only and not _installed("google.protobuf"):
        raise ValueError(f"the tokenizer in {folder} is a spiece.model, which needs protobuf: pip install protobuf")
    return path


def _model_class(path: Path) -> str:
    """The name of the class that the folder's config names.

    Raises:
        ValueError: it names none of T5's family.
    """
    kind = json.loads((path / "config.json").read_text()).get("model_type")
    if kind not in MODELS:
        raise ValueError(f"{path} holds a model of type {kind!r}, and text=t5 reads {', '.join(MODELS)}")
    return MODELS[kind]


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
