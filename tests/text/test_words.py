"""The encoder over a closed list of words: its words, its null text, and independence of the batch."""

from __future__ import annotations

import pytest
import torch

from videogen.text import TEXT_ENCODERS
from videogen.text.words import WordsEncoder, split_words

VOCABULARY = ("a", "and", "circle", "don't", "left", "moving", "red", "square")


@pytest.fixture
def encoder() -> WordsEncoder:
    torch.manual_seed(0)
    encoder: WordsEncoder = TEXT_ENCODERS.build("words", vocabulary=VOCABULARY, dim=24, num_heads=2, max_words=7)
    return encoder


def test_sentences_are_split_into_lower_case_words() -> None:
    assert split_words("A RED circle, moving-left; don\N{RIGHT SINGLE QUOTATION MARK}t 'stop' 3x!") == (
        "a",
        "red",
        "circle",
        "moving",
        "left",
        "don't",
        "stop",
        "3x",
    )
    assert split_words(" ?!… ") == ()


def test_shapes_mask_and_unknown_words(encoder: WordsEncoder) -> None:
    features = encoder.encode(["a red circle", "A circle, and a zebra!"])
    assert features.tokens.shape == (2, 5, encoder.dim)
    assert features.mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert features.pooled is not None
    assert features.pooled.shape == (2, encoder.dim)
    assert encoder.unknown("A blue circle, a green Zebra and a blue square") == ["blue", "green", "zebra"]
    # all unknown words look alike, and unlike a known one
    tokens = encoder.encode(["a zebra", "a whale", "a circle"]).tokens
    assert torch.equal(tokens[0], tokens[1])
    assert not torch.allclose(tokens[0], tokens[2], atol=1e-3)


def test_a_sentence_does_not_see_its_batch(encoder: WordsEncoder) -> None:
    sentences = ["red", "a red circle and a red square", "", "moving left"]
    together = encoder.encode(sentences)
    for i, sentence in enumerate(sentences):
        alone = encoder.encode([sentence])
        length = alone.tokens.shape[1]
        assert torch.equal(together.mask[i, :length], alone.mask[0])
        assert not together.mask[i, length:].any()
        # tokens are normalised to a size of 1: a few roundings of 1e-7
        assert float((together.tokens[i, :length] - alone.tokens[0]).detach().abs().max()) <= 1e-6
        assert not together.tokens[i, length:].any()
        assert together.pooled is not None
        assert alone.pooled is not None
        assert float((together.pooled[i] - alone.pooled[0]).detach().abs().max()) <= 1e-6


def test_no_words_are_the_null_text(encoder: WordsEncoder) -> None:
    null = encoder.null(3)
    assert null.tokens.shape == (3, 1, encoder.dim)
    assert null.mask.all()
    for sentences in (["", "  ", "?!"], ["", "a red circle", "..."]):
        features = encoder.encode(sentences)
        for i in {0, 2}:
            assert torch.equal(features.tokens[i, :1], null.tokens[i])
            assert features.mask[i].sum() == 1
            assert features.pooled is not None
            assert null.pooled is not None
            assert torch.allclose(features.pooled[i], null.pooled[i], atol=1e-6)


def test_order_matters(encoder: WordsEncoder) -> None:
    features = encoder.encode(["red circle and square", "square circle and red"])
    assert not torch.allclose(features.tokens[0, 1], features.tokens[1, 1], atol=1e-3)


def test_words_and_null_both_learn(encoder: WordsEncoder) -> None:
    features = encoder.encode(["a zebra", ""])
    assert features.pooled is not None
    # a plain sum of a layer norm's output has no gradient: weigh it
    (torch.randn_like(features.tokens) * features.tokens).sum().add(features.pooled.square().sum()).backward()
    silent = [key for key, value in encoder.named_parameters() if value.grad is None or not value.grad.any()]
    assert silent == []
    assert all(torch.isfinite(value.grad).all() for value in encoder.parameters() if value.grad is not None)


def test_one_layer_equals_its_formula(encoder: WordsEncoder) -> None:
    """RoFormer's eq. 16 in complex numbers: a channel pair turns by its place, scores see the difference alone."""
    layer = encoder.layers[0].double()
    tokens, mask = torch.randn(2, 5, 24).double(), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    turn = torch.polar(
        torch.ones(5, 6).double(), torch.outer(torch.arange(5.0), 10000.0 ** (-torch.arange(6.0) / 6)).double()
    )
    q, k, v = layer.qkv(layer.norm1(tokens)).view(2, 5, 3, 2, 12).permute(2, 0, 3, 1, 4)
    q, k = (torch.complex(x[..., :6], x[..., 6:]) * turn for x in (q, k))
    scores = torch.einsum("bhqc,bhkc->bhqk", q, k.conj()).real / 12**0.5
    weights = scores.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)
    attended = tokens + layer.out((weights @ v).transpose(1, 2).flatten(2))
    wanted = attended + layer.mlp(layer.norm2(attended))
    assert torch.allclose(layer(tokens, mask)[mask], wanted[mask], atol=1e-6)


def test_what_cannot_be_encoded_is_refused(encoder: WordsEncoder) -> None:
    with pytest.raises(ValueError, match="a sentence of 8 words is too long, the limit is 7"):
        encoder.encode(["red", "a b c d e f g h"])
    with pytest.raises(ValueError, match="there is no sentence"):
        encoder.encode([])


def test_a_broken_vocabulary_is_refused() -> None:
    for word in ("Red", "two words", "", "dot."):
        with pytest.raises(ValueError, match="is not one lower-case word"):
            WordsEncoder(vocabulary=("a", word))
    with pytest.raises(ValueError, match="has a, b more than once"):
        WordsEncoder(vocabulary=("b", "a", "b", "a"))
    with pytest.raises(ValueError, match="dim 24 can't be split over 5 heads"):
        WordsEncoder(dim=24, num_heads=5)
