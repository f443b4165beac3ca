"""A frozen CLIP text encoder, read from a local folder: what most latent diffusion models were trained with."""

from __future__ import annotations

from typing import Literal, Self

import torch
from torch import Tensor, nn

from videogen.text import TEXT_ENCODERS, EncoderSize, TextFeatures
from videogen.text._folder import checked, read_tokenizer, read_tower

TOWER = "CLIP text encoder"


@TEXT_ENCODERS.register("clip")
class CLIPEncoder(nn.Module):
    """Hidden states of the text tower of CLIP or OpenCLIP (https://arxiv.org/abs/2103.00020), as CLIPTextModel has it.

    Every sentence is filled up to max_length, and what fills it counts as words: the models were trained that way.
    Nothing is downloaded, no code of the folder is run, and weights are read from safetensors alone.

    Args:
        folder: a local folder with `config.json`, `*.safetensors` and the tokenizer.
        max_length: tokens of every sentence, start and end included; at most as many as the tower has positions.
        num_layers: layers behind which the tokens are taken; 0 for all. OpenCLIP's ViT-H has 24, and the models that
            take its penultimate one take 23.
        final_norm: apply the last norm to the tokens, whichever layer they come from.
        projected: multiply the pooled vector by the tower's projection to what it shares with images, as models do
            that take it from CLIPTextModelWithProjection.
        pad_id: token that fills a sentence up; None for the tokenizer's own, 0 for models trained with OpenCLIP's.
        dtype: of the weights and of the features.

    Raises:
        FileNotFoundError: the folder, its config or its weights are missing.
        ValueError: the weights don't fill the tower, or it has fewer layers or positions than asked for.
    """

    usual = EncoderSize("OpenCLIP ViT-H", 1024, 352_984_064)

    def __init__(
        self,
        *,
        folder: str = "",
        max_length: int = 77,
        num_layers: int = 0,
        final_norm: bool = True,
        projected: bool = False,
        pad_id: int | None = None,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    ) -> None:
        super().__init__()
        path = checked("clip", folder, TOWER)
        self.max_length, self.num_layers, self.final_norm = max_length, num_layers, final_norm
        self.projected = projected
        self.tokenizer = read_tokenizer(path)
        self.model = read_tower(f"CLIPTextModel{'WithProjection' if projected else ''}", path, dtype, TOWER)
        config = self.model.config
        if not 0 <= num_layers <= config.num_hidden_layers:
            raise ValueError(f"num_layers={num_layers}: the tower in {folder} has {config.num_hidden_layers}")
        if not 2 <= max_length <= config.max_position_embeddings:
            raise ValueError(
                f"max_length={max_length}: the tower in {folder} has positions for {config.max_position_embeddings}"
            )
        self.pad_id = int(self.tokenizer.pad_token_id if pad_id is None else pad_id)
        self.eval()

    @property
    def dim(self) -> int:
        """Width of the tokens."""
        return int(self.model.config.hidden_size)

    @property
    def pooled_dim(self) -> int:
        """Width of the pooled vector."""
        return int(self.model.config.projection_dim) if self.projected else self.dim

    @torch.no_grad()
    def encode(self, sentences: list[str]) -> TextFeatures:
        """Sentences -> tokens (B, max_length, D), mask (B, max_length), True throughout, pooled (B, D).

        The pooled vector is that of the closing token behind all layers and the last norm.

        Raises:
            ValueError: no sentence, or one with more than `max_length` tokens.
        """
        if not sentences:
            raise ValueError("there is no sentence to encode: pass at least one, [''] for no text")
        ids = self._ids(sentences)
        # a caller's autocast would round the activations of a model whose dtype was chosen
        with torch.autocast(ids.device.type, enabled=False):
            told = self.model(input_ids=ids, output_hidden_states=True)
            tokens = told.hidden_states[self.num_layers or -1]
            if self.final_norm:
                tokens = self._norm(tokens)
        pooled = told.text_embeds if self.projected else told.pooler_output
        return TextFeatures(tokens, torch.ones_like(ids, dtype=torch.bool), pooled)

    def null(self, batch: int) -> TextFeatures:
        """The features of the empty sentence, `batch` times."""
        return self.encode([""] * batch)

    def unknown(self, sentence: str) -> list[str]:
        """Nothing: the pieces of CLIP's vocabulary spell any word."""
        return []

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a frozen encoder with dropout would give other features at each call."""
        return super().train(False)

    def _ids(self, sentences: list[str]) -> Tensor:
        """Token ids (B, max_length)."""
        rows = [list(row) for row in self.tokenizer(sentences).input_ids]
        longest = max(len(row) for row in rows)
        if longest > self.max_length:
            limit = f"the limit is max_length={self.max_length}"
            raise ValueError(f"a sentence of {longest} tokens is too long, {limit}: shorten it")
        filled = [row + [self.pad_id] * (self.max_length - len(row)) for row in rows]
        return torch.tensor(filled, device=next(self.model.parameters()).device)

    @property
    def _norm(self) -> nn.Module:
        # transformers 4 has it one level deeper than 5
        tower = getattr(self.model, "text_model", self.model)
        norm: nn.Module = tower.final_layer_norm
        return norm
