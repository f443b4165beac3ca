"""Overflow in half precision is told by the layer where it happens, in whole clips and in streams."""

from __future__ import annotations

import pytest
import torch

from videogen.pipelines.overflow import watched
from videogen.pipelines.reconstruct import reconstruct
from videogen.vae import VAES


@pytest.fixture
def vae(randomised):
    """A sound VAE in half precision but for one layer, whose results are too large for it."""
    # of clips that make them so
    torch.manual_seed(0)
    vae = randomised(VAES.build("wan", base_channels=4, num_res_blocks=1, latent_channels=4)).half()
    with torch.no_grad():
        vae.decoder.conv_in.weight.fill_(6e4)
    return vae


def test_the_layer_is_named(vae) -> None:
    with pytest.raises(FloatingPointError, match=r"decoder.conv_in .*use bfloat16 or float32"):
        reconstruct(vae, torch.rand(3, 5, 16, 16) * 2 - 1)


def test_a_wider_dtype_goes_on(vae) -> None:
    assert reconstruct(vae.bfloat16(), torch.rand(3, 5, 16, 16) * 2 - 1).isfinite().all()


def test_nothing_is_left_on_the_layers(vae) -> None:
    with pytest.raises(FloatingPointError), watched(vae, "decoding"):
        vae.decode(torch.ones(1, 4, 1, 2, 2).half())
    assert not any(layer._forward_hooks for layer in vae.modules())
