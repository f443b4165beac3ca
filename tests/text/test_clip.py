"""The CLIP encoder against transformers itself, on a tiny random tower with a tokenizer made here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, PreTrainedTokenizerFast

from videogen.text import TEXT_ENCODERS
from videogen.text.clip import CLIPEncoder

WORDS = ["a", "red", "circle", "moving", "left"]
START, END, FILL = 6, 7, 3
SENTENCES = ["a red circle", "left", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip")
    ids = {"[UNK]": 0, **{word: i for i, word in enumerate(WORDS, start=1)}, "<start>": START, "<end>": END}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<start>", START), ("<end>", END)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="circle", eos_token="<end>")
    fast.save_pretrained(path)
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=8,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=9,
        bos_token_id=START,
        eos_token_id=END,
        hidden_act="gelu",
    )
    CLIPTextModel(config).save_pretrained(path)
    return path


def ids(fill: int = FILL) -> torch.Tensor:
    """What the sentences are to a tower, 8 tokens each."""
    rows = [[START, 1, 2, 3, END], [START, 5, END], [START, END]]
    return torch.tensor([row + [fill] * (8 - len(row)) for row in rows])


def test_it_equals_transformers(folder: Path) -> None:
    encoder = TEXT_ENCODERS.build("clip", folder=str(folder), max_length=8)
    with torch.no_grad():
        theirs = CLIPTextModel.from_pretrained(folder).eval()(ids())
    features = encoder.encode(SENTENCES)
    assert torch.equal(features.tokens, theirs.last_hidden_state)
    assert torch.equal(features.pooled, theirs.pooler_output)
    assert features.mask.shape == (3, 8)
    assert features.mask.all()
    assert encoder.dim == 16
    assert torch.equal(encoder.null(2).tokens, features.tokens[[2, 2]])
    assert encoder.unknown("a zebra") == []


def test_an_earlier_layer_equals_a_tower_cut_there(folder: Path) -> None:
    """What a release with fewer layers gives, its last norm included; without the norm, the hidden states."""
    whole = CLIPTextModel.from_pretrained(folder).eval()
    cut = CLIPTextModel(CLIPTextConfig(**{**whole.config.to_dict(), "num_hidden_layers": 2})).eval()
    kept = cut.state_dict().keys()
    cut.load_state_dict({key: value for key, value in whole.state_dict().items() if key in kept})
    encoder = CLIPEncoder(folder=str(folder), max_length=8, num_layers=2)
    with torch.no_grad():
        assert torch.equal(encoder.encode(SENTENCES).tokens, cut(ids()).last_hidden_state)
        raw = CLIPEncoder(folder=str(folder), max_length=8, num_layers=2, final_norm=False).encode(SENTENCES).tokens
        assert torch.equal(raw, whole(ids(), output_hidden_states=True).hidden_states[2])
        # the pooled vector is still that of the whole tower
        assert torch.equal(encoder.encode(SENTENCES).pooled, whole(ids()).pooler_output)


def test_what_fills_a_sentence_up_may_be_another_token(folder: Path) -> None:
    encoder = CLIPEncoder(folder=str(folder), max_length=8, pad_id=0)
    with torch.no_grad():
        theirs = CLIPTextModel.from_pretrained(folder).eval()(ids(fill=0))
    assert torch.equal(encoder.encode(SENTENCES).tokens, theirs.last_hidden_state)


def test_the_pooled_vector_may_be_projected(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = CLIPTextConfig.from_pretrained(folder, projection_dim=10)
    theirs = CLIPTextModelWithProjection(config).eval()
    theirs.save_pretrained(tmp_path)
    encoder = CLIPEncoder(folder=str(tmp_path), max_length=8, projected=True)
    features = encoder.encode(SENTENCES)
    with torch.no_grad():
        wanted = theirs(ids())
    assert torch.equal(features.pooled, wanted.text_embeds)
    assert torch.equal(features.tokens, wanted.last_hidden_state)
    assert (encoder.dim, encoder.pooled_dim) == (16, 10)
    assert CLIPEncoder(folder=str(folder), max_length=8).pooled_dim == 16


def test_it_is_frozen_and_keeps_its_dtype_under_autocast(folder: Path) -> None:
    encoder = CLIPEncoder(folder=str(folder), max_length=8).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(value.requires_grad for value in encoder.parameters())
    wanted = encoder.encode(SENTENCES).tokens
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder.encode(SENTENCES).tokens, wanted)
    half = CLIPEncoder(folder=str(folder), max_length=8, dtype="bfloat16")
    assert half.encode(SENTENCES).tokens.dtype == torch.bfloat16


def test_what_cannot_be_encoded_or_built_is_refused(folder: Path, tmp_path: Path) -> None:
    encoder = CLIPEncoder(folder=str(folder), max_length=6)
    with pytest.raises(ValueError, match="a sentence of 7 tokens is too long, the limit is max_length=6: shorten it"):
        encoder.encode(["a red circle moving left"])
    with pytest.raises(ValueError, match="there is no sentence"):
        encoder.encode([])
    with pytest.raises(ValueError, match=r"num_layers=4: the tower in .* has 3"):
        CLIPEncoder(folder=str(folder), max_length=8, num_layers=4)
    with pytest.raises(ValueError, match=r"max_length=77: the tower in .* has positions for 9"):
        CLIPEncoder(folder=str(folder))
    with pytest.raises(FileNotFoundError, match="clip needs folder="):
        CLIPEncoder()
    with pytest.raises(FileNotFoundError, match=r"nowhere has no config.json: give a local folder with a CLIP"):
        CLIPEncoder(folder=str(tmp_path / "nowhere"))
    for file in folder.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    dropped = next(key for key in weights if key.endswith("final_layer_norm.weight"))
    save_file({key: value for key, value in weights.items() if key != dropped}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"lack .*final_layer_norm.weight.* it is no CLIP text encoder"):
        CLIPEncoder(folder=str(tmp_path), max_length=8)
