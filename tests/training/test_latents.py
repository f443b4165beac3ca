"""Latents that are encoded once and kept."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Generator

import videogen
from videogen.training.draw import Shape
from videogen.training.latents import LatentCache
from videogen.training.settings import TrainSettings


def test_processes_that_make_the_clips_change_none(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = videogen.build("vae", "wavelet", latent_channels=4, base_channels=4, encoder_flow=4, num_res_blocks=1).eval()
    found = []
    for workers in (0, 2):
        settings = TrainSettings(cached_clips=70, workers=workers, num_frames=[1], sizes=[[16, 16]])
        LatentCache.open(tmp_path / str(workers), vae, videogen.build("data", "shapes"), settings)
        texts = (tmp_path / str(workers) / "texts.json").read_text()
        found.append((load_file(tmp_path / str(workers) / "latents.safetensors")["1x16x16"], texts))
    (alone, said), (together, said_together) = found
    assert len(alone) == 70
    assert torch.equal(alone, together)
    assert said == said_together


def test_latents_are_kept_whichever_way_an_encoder_lays_them_out(tmp_path: Path) -> None:
    """At this size and width the encoder's last convolution gives its channels last, which a file can't hold."""
    torch.manual_seed(0)
    vae = videogen.build(
        "vae", "wavelet", latent_channels=16, base_channels=16, encoder_flow=16, use_attention=False, num_res_blocks=1
    ).eval()
    dataset = videogen.build("data", "shapes")
    settings = TrainSettings(output=str(tmp_path), cached_clips=32, num_frames=[33], sizes=[[64, 64]])
    cache = LatentCache.open(tmp_path / "latents", vae, dataset, settings)
    shape = Shape(33, 64, 64)
    kept = load_file(tmp_path / "latents" / "latents.safetensors")["33x64x64"]
    assert kept.shape == (32, 16, 9, 8, 8)
    with torch.no_grad():
        mode = vae.encode(torch.stack([dataset.clip(index, *shape).video for index in range(32)])).mode()
    assert torch.equal(kept, mode.half())
    drawn, texts = cache.batch(shape, 4, Generator().manual_seed(0))
    places = [dataset.clip(index, *shape).text for index in range(32)]
    for latents, text in zip(drawn, texts, strict=True):
        assert any(torch.equal(latents, kept[i].float()) for i, each in enumerate(places) if each == text)
