"""`vae.memory_budget` for any VAE: kept out of what a part is, refused where it means nothing."""

from __future__ import annotations

import pytest
import torch

import videogen
from videogen.bounded import BoundedVAE
from videogen.config import ConfigError, build_parts, build_vae, compose, part_configs

SMALL = ("vae.base_channels=8", "weights=null")


def test_a_budget_wraps_the_vae_and_changes_no_number() -> None:
    plain = videogen.pipeline("model=shapes")
    pipe = videogen.pipeline("model=shapes", "vae.memory_budget=12MB")
    assert isinstance(pipe.vae, BoundedVAE)
    assert pipe.vae.budget == 12_000_000
    latents = torch.randn(1, 16, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(pipe.vae.decode(latents), plain.vae.decode(latents), atol=1e-5)
    assert pipe.vae.plan("decoding", 1, 8, 8).chunk < 8


def test_a_budget_is_no_part_of_what_a_vae_is() -> None:
    config = compose("reconstruct", [*SMALL, "vae.memory_budget=1GiB"])
    assert "memory_budget" not in part_configs(config, {"vae": build_vae(config)})["vae"]


def test_no_budget_no_wrapper() -> None:
    assert not isinstance(build_vae(compose("reconstruct", SMALL)), BoundedVAE)


@pytest.mark.parametrize("budget", ["much", "-1GiB", "0"])
def test_a_budget_that_is_no_size_is_refused(budget: str) -> None:
    with pytest.raises(ValueError, match="write it like 4GiB"):
        build_vae(compose("reconstruct", [*SMALL, f"vae.memory_budget={budget}"]))


def test_training_has_no_use_for_a_budget() -> None:
    config = compose("train", ["train=shapes_vae", "vae.memory_budget=1GiB"])
    with pytest.raises(ConfigError, match="leave it out"):
        build_parts(config)
