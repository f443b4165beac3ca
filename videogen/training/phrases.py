"""A text encoder before its denoiser: whose colour, shape and path each word tells of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from videogen.text import TextEncoder
from videogen.training.draw import draw_shape
from videogen.training.settings import TrainSettings


@runtime_checkable
class Phrased(Protocol):
    """A dataset that gives sentences without their clips, and knows which of their words belong together."""

    def sentence(self, index: int, num_frames: int) -> str:
        """The caption of a clip of so many frames."""
        ...

    def phrases(self, text: str) -> list[str]:
        """The parts of a caption in their order."""
        ...


@runtime_checkable
class Worded(TextEncoder, Protocol):
    """A text encoder of known words: one token a word."""

    ids: dict[str, int]
    embedding: nn.Embedding


class PhraseLearner:
    """Each word's token is to tell which words stand in its phrase, by its products with all word vectors.

    "A red circle moving left and a blue square": a denoiser has to know that it is the red one that moves, and learns
    so only slowly from noisy videos. Here the encoder is asked directly, by binary cross-entropy, for a minute.

    Args:
        text: has a vector for each word.
        dataset: gives sentences and their phrases.
        settings: of the run.

    Raises:
        ValueError: an encoder without words, or a dataset without phrases.
    """

    def __init__(self, text: Any, dataset: Any, settings: TrainSettings) -> None:
        if not (isinstance(text, nn.Module) and isinstance(text, Worded) and isinstance(dataset, Phrased)):
            raise ValueError(
                "train.part=text needs an encoder with a vector for each word (text=words) and a dataset that knows "
                "the phrases of its sentences (data=shapes)"
            )
        self.text, self.dataset, self.settings = text, dataset, settings
        self.modules, self.critics = nn.ModuleDict({"text": text}), nn.ModuleDict()

    def start(self) -> None:
        """Nothing: an encoder starts from random weights, or from those it was given."""

    def loss(self, step: int, source: Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Cross-entropy of a batch of sentences, and the share of words that tell their whole phrase and no more."""
        size = self.settings.batch_size
        frames = [draw_shape(self.settings, source).num_frames for _ in range(size)]
        sentences = [self.dataset.sentence(step * size + i, frames[i]) for i in range(size)]
        features, vectors = self.text.encode(sentences), self.text.embedding.weight
        logits = (features.tokens @ vectors.T / vectors.shape[1] ** 0.5)[features.mask].float()
        told = torch.cat([self._told(sentence, len(vectors)) for sentence in sentences]).to(logits)
        loss = F.binary_cross_entropy_with_logits(logits, told)
        right = ((logits > 0) == (told > 0)).all(1).float().mean()
        return loss, {"loss": loss.item(), "right": right.item()}

    def _told(self, sentence: str, words: int) -> Tensor:
        """(L, words): a row a word of the sentence, with ones at the words of its phrase."""
        rows = []
        for phrase in self.dataset.phrases(sentence):
            ids = [self.text.ids[word] for word in phrase.split()]
            rows.append(F.one_hot(torch.tensor(ids), words).amax(0).expand(len(ids), -1))
        return torch.cat(rows)
