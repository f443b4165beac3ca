"""The T5 encoder against transformers itself, on a tiny random T5 with a tokenizer made here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from videogen.text import TEXT_ENCODERS
from videogen.text.t5 import T5Encoder

WORDS = ["a", "red", "blue", "circle", "square", "moving", "left"]
SENTENCES = ["a red circle", "a blue square moving left", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("t5")
    # T5's layout: <pad> 0, </s> 1, <unk> 2, then the pieces; </s> closes every sentence
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -2.0) for word in WORDS)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(path)
    torch.manual_seed(0)
    T5EncoderModel(
        T5Config(vocab_size=16, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu")
    ).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder: Path) -> T5Encoder:
    encoder: T5Encoder = TEXT_ENCODERS.build("t5", folder=str(folder), max_length=6)
    return encoder


def test_it_equals_transformers_and_ignores_padding(encoder: T5Encoder, folder: Path) -> None:
    theirs, tokenizer = T5EncoderModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    features = encoder.encode(SENTENCES)
    assert features.tokens.shape == (3, 6, encoder.dim)
    assert features.mask.sum(1).tolist() == [4, 6, 1]
    assert features.pooled is None
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(features.tokens, theirs(batch.input_ids, batch.attention_mask).last_hidden_state)
        for i, sentence in enumerate(SENTENCES):
            alone = theirs(tokenizer(sentence, return_tensors="pt").input_ids).last_hidden_state[0]
            # float32 sums in another order, on normalised features
            assert torch.allclose(features.tokens[i, features.mask[i]], alone, atol=1e-5)


def test_what_fills_a_sentence_up_may_count_as_words(folder: Path) -> None:
    encoder = TEXT_ENCODERS.build("t5", folder=str(folder), max_length=7, fill=True)
    theirs, tokenizer = T5EncoderModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    features = encoder.encode(SENTENCES)
    batch = tokenizer(SENTENCES, padding="max_length", max_length=7, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(features.tokens, theirs(batch.input_ids).last_hidden_state)
    assert features.mask.shape == (3, 7)
    assert features.mask.all()
    assert torch.equal(encoder.null(1).tokens[0], features.tokens[2])


def test_umt5_has_positions_of_its_own_in_each_layer(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    sizes = {"vocab_size": 16, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
    theirs = UMT5EncoderModel(UMT5Config(**sizes)).eval()
    theirs.save_pretrained(tmp_path)
    features = T5Encoder(folder=str(tmp_path)).encode(SENTENCES)
    batch = AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(features.tokens, theirs(batch.input_ids, batch.attention_mask).last_hidden_state)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(ValueError, match="holds a model of type 'bert', and text=t5 reads t5, mt5, umt5"):
        T5Encoder(folder=str(tmp_path))


def test_null_is_the_empty_sentence(encoder: T5Encoder) -> None:
    null = encoder.null(2)
    assert null.tokens.shape == (2, 1, encoder.dim)
    assert null.mask.all()
    assert torch.equal(null.tokens, encoder.encode(["", ""]).tokens)
    assert encoder.unknown("a zebra") == []


def test_null_may_be_no_word_at_all(encoder: T5Encoder, folder: Path) -> None:
    null = T5Encoder(folder=str(folder), wordless_null=True).null(2)
    assert torch.equal(null.tokens, encoder.null(2).tokens)
    assert not null.mask.any()


def test_it_is_frozen_and_stays_in_evaluation_mode(encoder: T5Encoder) -> None:
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(value.requires_grad for value in encoder.parameters())
    assert torch.equal(encoder.encode(SENTENCES).tokens, encoder.encode(SENTENCES).tokens)


def test_dtype_is_the_one_asked_for_even_under_autocast(encoder: T5Encoder, folder: Path) -> None:
    wanted = encoder.encode(SENTENCES).tokens
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder.encode(SENTENCES).tokens, wanted)
    half = T5Encoder(folder=str(folder), dtype="bfloat16")
    assert half.encode(SENTENCES).tokens.dtype == torch.bfloat16


def test_what_cannot_be_encoded_is_refused(encoder: T5Encoder) -> None:
    with pytest.raises(
        ValueError, match="a sentence of 8 tokens is too long, the limit is max_length=6: shorten it or raise"
    ):
        encoder.encode(["red", "a red circle a blue circle left"])
    with pytest.raises(ValueError, match="there is no sentence"):
        encoder.encode([])


def test_a_folder_that_is_no_t5_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="t5 needs folder="):
        T5Encoder()
    with pytest.raises(FileNotFoundError, match=r"nowhere has no config.json"):
        T5Encoder(folder=str(tmp_path / "nowhere"))
    for file in folder.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(FileNotFoundError, match=r"has no \*.safetensors"):
        T5Encoder(folder=str(tmp_path))
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.final_layer_norm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack encoder.final_layer_norm.weight"):
        T5Encoder(folder=str(tmp_path))


def test_no_code_of_the_folder_runs(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    ran = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Model: pass\n")
    for name, pointer in (
        ("config", {"AutoModel": "evil.Model"}),
        ("tokenizer_config", {"AutoTokenizer": ["evil.Model"] * 2}),
    ):
        config = json.loads((tmp_path / f"{name}.json").read_text())
        (tmp_path / f"{name}.json").write_text(json.dumps({**config, "auto_map": pointer}))
    wanted = T5Encoder(folder=str(folder)).encode(SENTENCES).tokens
    assert torch.equal(T5Encoder(folder=str(tmp_path)).encode(SENTENCES).tokens, wanted)
    assert not ran.exists()
