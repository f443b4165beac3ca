"""A words encoder learns which words belong together, which makes it tell two objects apart."""

from __future__ import annotations

import pytest
import torch

from videogen.data.shapes import VOCABULARY, Shapes
from videogen.text import TEXT_ENCODERS
from videogen.text.words import split_words
from videogen.training.draw import generator
from videogen.training.phrases import PhraseLearner
from videogen.training.settings import TrainSettings


def learner(**settings) -> PhraseLearner:
    torch.manual_seed(0)
    text = TEXT_ENCODERS.build("words", vocabulary=VOCABULARY, dim=64, num_heads=4)
    return PhraseLearner(text, Shapes(two_objects=1.0), TrainSettings(batch_size=16, **settings))


def test_phrases_are_the_sentence() -> None:
    shapes = Shapes(two_objects=0.5)
    for index in range(100):
        for frames in (1, 17):
            sentence = shapes.sentence(index, frames)
            assert sentence == shapes.clip(index, frames, 16, 16).text
            assert " ".join(shapes.phrases(sentence)) == sentence
    assert shapes.phrases("a red circle moving to the left and a small blue cross on a dark blue background") == [
        "a red circle moving to the left",
        "and",
        "a small blue cross",
        "on a dark blue background",
    ]


def test_each_word_is_asked_for_its_own_phrase() -> None:
    own = learner()
    told = own._told("a red circle and a blue square", len(own.text.embedding.weight)).bool()
    words = split_words("a red circle and a blue square")
    names = {index: word for word, index in own.text.ids.items()}
    meant = [{names[int(i)] for i in row.nonzero()} for row in told]
    assert meant == [{"a", "red", "circle"}] * 3 + [{"and"}] + [{"a", "blue", "square"}] * 3
    assert len(told) == len(words)


@pytest.mark.slow
def test_it_is_learnt_in_a_few_hundred_steps() -> None:
    own = learner()
    optimizer = torch.optim.AdamW(own.modules.parameters(), lr=3e-3)
    shares = []
    for step in range(250):
        loss, numbers = own.loss(step, generator(0, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        shares.append(numbers["right"])
    assert shares[0] < 0.1
    assert sum(shares[-10:]) / 10 > 0.9


def test_what_has_no_words_or_phrases_is_refused() -> None:
    with pytest.raises(ValueError, match="data=shapes"):
        PhraseLearner(learner().text, object(), TrainSettings())
    with pytest.raises(ValueError, match="text=words"):
        PhraseLearner(torch.nn.Linear(2, 2), Shapes(), TrainSettings())
