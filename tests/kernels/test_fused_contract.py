"""The fused operations without a card and without the interpreter: what is registered, chosen and refused."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

from videogen.config import build_denoiser, build_part, compose
from videogen.config.hollow import build_hollow
from videogen.config.schema import ConfigError
from videogen.dit.fusible import Fusible
from videogen.kernels import ATTENTION
from videogen.kernels.fused import FUSED
from videogen.registry import RegistryError

TINY = ["model=null", "denoiser.dim=24", "denoiser.depth=1", "denoiser.num_heads=2", "weights=null", "prompt=a"]


@pytest.mark.parametrize("name", FUSED.names())
def test_a_choice_reaches_every_layer_that_has_such_operations(name: str) -> None:
    config = compose("generate", [*TINY, f"fused={name}", "dit.mlp=swiglu"])
    hollow = build_hollow(config)
    layers = [module for module in hollow.denoiser.modules() if isinstance(module, Fusible)]
    # block, self-attention and MLP
    assert len(layers) == 3
    assert {type(module.ops) for module in layers} == {FUSED.get(name)}


def test_plain_torch_is_the_default() -> None:
    config = compose("generate", TINY)
    assert config["fused"] == {"name": "torch"}
    vae, text = build_part("vae", config["vae"]), build_part("text", config["text"])
    model = build_denoiser(config, vae, text, ATTENTION.build("sdpa"))
    assert {type(module.ops).__name__ for module in model.modules() if isinstance(module, Fusible)} == {"TorchOps"}


def test_a_unet_has_no_place_for_them() -> None:
    with pytest.raises(ConfigError, match=r"fused=triton: denoiser 'unet' has no such part"):
        compose("generate", ["model=null", "denoiser=unet", "fused=triton", "prompt=a"])


def test_the_weights_say_nothing_of_them() -> None:
    # the shipped model was saved with none, and loads with any
    config = compose("generate", ["fused=triton", "fused.gated=false", "prompt=a"])
    assert config["fused"] == {"name": "triton", "qk_norm_rope": True, "residual_norm": True, "gated": False}
    assert config["weights"] is not None


def test_triton_refuses_the_cpu_without_the_interpreter() -> None:
    triton = pytest.importorskip("videogen.kernels._triton")
    if triton.INTERPRETED:
        pytest.skip("the interpreter takes CPU tensors")
    ops, x = FUSED.build("triton"), torch.zeros(1, 4, 2, 8)
    with pytest.raises(
        ValueError, match=r"needs a CUDA device, or TRITON_INTERPRET=1.* on cpu: use fused=torch, or fu"
    ):
        ops.qk_norm_rope(x, x, nn.Identity(), nn.Identity(), None)
    with pytest.raises(ValueError, match=r"gated needs a CUDA device"):
        ops.gated(x, "gelu")


@pytest.mark.parametrize(("name", "package"), [("flash", "flash_attn"), ("sage", "sageattention")])
def test_an_optional_backend_says_what_it_needs(name: str, package: str) -> None:
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(RegistryError, match=rf"attention '{name}' needs .*: pip install"):
        ATTENTION.build(name)
    # its knobs can be listed, and configs that name it checked, without the package
    assert ATTENTION.describe(name).summary
