"""T5 and CLIP side by side: each gives what it gives alone."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from videogen.text import TEXT_ENCODERS
from videogen.text.t5_clip import T5WithCLIP

WORDS = {"<pad>": 0, "</s>": 1, "<unk>": 2, "<start>": 3, "a": 4, "red": 5, "circle": 6}
SENTENCES = ["a red circle", "red"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    torch.manual_seed(0)
    found = {}
    for name, template in (("folder", "$A </s>"), ("clip_folder", "<start> $A </s>")):
        path = tmp_path_factory.mktemp(name)
        tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        ends = [(word, WORDS[word]) for word in ("</s>", "<start>")]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ends)
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")
        fast.save_pretrained(path)
        found[name] = str(path)
    sizes = {"vocab_size": 16, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
    T5EncoderModel(T5Config(**sizes)).save_pretrained(found["folder"])
    config = CLIPTextConfig(
        vocab_size=8,
        hidden_size=12,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=9,
        bos_token_id=3,
        eos_token_id=1,
    )
    CLIPTextModel(config).save_pretrained(found["clip_folder"])
    return found


def test_tokens_of_one_and_the_vector_of_the_other(folders: dict[str, str]) -> None:
    both = TEXT_ENCODERS.build("t5_clip", **folders, max_length=6, clip_max_length=8)
    alone = TEXT_ENCODERS.build("t5", folder=folders["folder"], max_length=6).encode(SENTENCES)
    clip = TEXT_ENCODERS.build("clip", folder=folders["clip_folder"], max_length=8).encode(SENTENCES)
    features = both.encode(SENTENCES)
    assert torch.equal(features.tokens, alone.tokens)
    assert torch.equal(features.mask, alone.mask)
    assert torch.equal(features.pooled, clip.pooled)
    assert (both.dim, both.pooled_dim) == (16, 12)
    assert torch.equal(both.null(2).pooled, both.encode(["", ""]).pooled)
    assert both.unknown("a zebra") == []


def test_it_is_frozen_and_stays_in_evaluation_mode(folders: dict[str, str]) -> None:
    both = T5WithCLIP(**folders, clip_max_length=8).train()
    assert not any(module.training for module in both.modules())
    assert not any(value.requires_grad for value in both.parameters())


def test_a_folder_that_is_missing_is_named(folders: dict[str, str]) -> None:
    with pytest.raises(FileNotFoundError, match="t5 needs folder="):
        T5WithCLIP(clip_folder=folders["clip_folder"])
    with pytest.raises(FileNotFoundError, match="clip needs folder="):
        T5WithCLIP(folder=folders["folder"])
