"""A small text encoder over a closed list of words, trained together with its denoiser."""

from __future__ import annotations

import functools
import re

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from videogen.text import TEXT_ENCODERS, TextFeatures

UNKNOWN = 0
# letters and digits, with apostrophes inside: "don't" is one word
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


# training asks for the words of each sentence many times
@functools.lru_cache(maxsize=2**17)
def split_words(sentence: str) -> tuple[str, ...]:
    """The words of a sentence, in lower case; punctuation is dropped."""
    return tuple(WORD.findall(sentence.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")))


@TEXT_ENCODERS.register("words")
class WordsEncoder(nn.Module):
    """One learned vector a word and a small transformer over them (pre-norm, https://arxiv.org/abs/2002.04745).

    Words know their distance by rotary embedding (https://arxiv.org/abs/2104.09864): which colour goes with which
    noun is a matter of who stands beside whom, and is learnt in a few hundred steps this way.
    A sentence without words stands for "no text" and gets the learned null token.

    Args:
        vocabulary: the known words, in lower case; a word's place is its id, so the order belongs to the weights.
        dim: width of the tokens and of the pooled vector.
        depth: transformer layers.
        num_heads: attention heads.
        max_words: the longest sentence.

    Raises:
        ValueError: a vocabulary entry that is not one lower-case word, or is there twice; num_heads doesn't divide dim
            into heads of an even width.
    """

    def __init__(
        self,
        *,
        vocabulary: tuple[str, ...] = (),
        dim: int = 192,
        depth: int = 2,
        num_heads: int = 4,
        max_words: int = 48,
    ) -> None:
        super().__init__()
        if dim % (2 * num_heads):
            raise ValueError(
                f"dim {dim} can't be split over {num_heads} heads of an even width: use a multiple of both"
            )
        for word in vocabulary:
            if split_words(word) != (word,):
                raise ValueError(f"vocabulary entry {word!r} is not one lower-case word: it would never be found")
        if len(set(vocabulary)) != len(vocabulary):
            twice = sorted({word for word in vocabulary if list(vocabulary).count(word) > 1})
            raise ValueError(f"the vocabulary has {', '.join(twice)} more than once: keep one of each")
        self.dim, self.max_words = dim, max_words
        self.ids = {word: index for index, word in enumerate(vocabulary, start=UNKNOWN + 1)}
        self.embedding = nn.Embedding(len(vocabulary) + 1, dim)
        self.layers = nn.ModuleList([EncoderLayer(dim, num_heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.null_token = nn.Parameter(torch.randn(1, dim))
        self.pool = nn.Linear(dim, dim)

    def encode(self, sentences: list[str]) -> TextFeatures:
        """Sentences -> tokens (B, L, D), mask (B, L), pooled (B, D), L the most words of a sentence.

        Raises:
            ValueError: no sentence, or one with more than `max_words` words.
        """
        if not sentences:
            raise ValueError("there is no sentence to encode: pass at least one, [''] for no text")
        split = [split_words(sentence) for sentence in sentences]
        longest = max(split, key=len)
        if len(longest) > self.max_words:
            raise ValueError(
                f"a sentence of {len(longest)} words is too long, the limit is {self.max_words}: shorten it"
            )
        rows = [[self.ids.get(word, UNKNOWN) for word in words] for words in split]
        length = max(1, len(longest))
        ids = torch.tensor([row + [UNKNOWN] * (length - len(row)) for row in rows])
        mask = torch.arange(length) < torch.tensor([[len(row)] for row in rows])
        features: TextFeatures = self(ids.to(self.null_token.device), mask.to(self.null_token.device))
        return features

    def forward(self, ids: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> TextFeatures:
        """Word ids (B, L) and which of them are words (B, L) -> tokens (B, L, D), mask (B, L), pooled (B, D).

        A row without words comes back as the null token; tokens at padding are zero.
        """
        tokens = self.embedding(ids)
        empty = ~mask.any(1, keepdim=True)
        # an empty row attends to itself, so that no softmax is over nothing; its result is replaced below
        for layer in self.layers:
            tokens = layer(tokens, mask | empty)
        starts = F.pad(empty, (0, ids.shape[1] - 1))
        tokens = torch.where(starts[..., None], self.null_token, self.norm(tokens))
        mask = mask | starts
        return self._pooled(tokens.masked_fill(~mask[..., None], 0.0), mask)

    def null(self, batch: int) -> TextFeatures:
        """The learned features of "no text": tokens (batch, 1, D), mask (batch, 1), pooled (batch, D)."""
        mask = torch.ones(batch, 1, dtype=torch.bool, device=self.null_token.device)
        return self._pooled(self.null_token.expand(batch, 1, self.dim), mask)

    def unknown(self, sentence: str) -> list[str]:
        """The words of a sentence that aren't in the vocabulary, in order, each once."""
        return list(dict.fromkeys(word for word in split_words(sentence) if word not in self.ids))

    def _pooled(self, tokens: Tensor, mask: Tensor) -> TextFeatures:
        mean = tokens.sum(1) / mask.sum(1, keepdim=True)
        return TextFeatures(tokens, mask, self.pool(mean))


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and MLP, both residual."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, tokens: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """(B, L, D) -> (B, L, D); only what the mask holds true is attended to."""
        heads = "b l (three heads c) -> three b heads l c"
        q, k, v = rearrange(self.qkv(self.norm1(tokens)), heads, three=3, heads=self.num_heads).unbind(0)
        attended = F.scaled_dot_product_attention(_turn(q), _turn(k), v, attn_mask=mask[:, None, None])
        tokens = tokens + self.out(rearrange(attended, "b heads l c -> b l (heads c)"))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


def _turn(x: Float[Tensor, "b heads l c"]) -> Float[Tensor, "b heads l c"]:
    """Turn each channel pair (i, i + c / 2) by place * 10000 ** (-2 i / c), arXiv 2104.09864, eq. 15, in float32."""
    length, half = x.shape[-2], x.shape[-1] // 2
    steps = torch.arange(half, device=x.device, dtype=torch.float32) / half
    angles = torch.arange(length, device=x.device, dtype=torch.float32)[:, None] * 10000.0**-steps
    first, second = x.float().chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).to(x.dtype)
