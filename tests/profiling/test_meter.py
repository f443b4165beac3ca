"""Operations and memory, counted on the meta device, against a published table and against runs on real numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from allocations import Allocations
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode

from videogen.bounded.memory import Peak, on_meta
from videogen.dit.blocks import BLOCKS
from videogen.dit.model import DiT
from videogen.dit.parts import REGISTRIES, choose
from videogen.kernels import ATTENTION
from videogen.profiling.groups import GROUPS, OTHER, group_of, parameters
from videogen.profiling.kernel import OnMeta
from videogen.profiling.measure import Inputs, decoding_cost, denoising_cost
from videogen.vae import VAES

INPUTS = Inputs(batch=2, latents=(3, 3, 4, 6), text_length=5, text_dim=10, pooled_dim=10)


def hollow_dit(latent_channels: int, text_dim: int, parts: dict[str, Any], **knobs: Any) -> DiT:
    with torch.device("meta"):
        return DiT(latent_channels, text_dim, choose(OnMeta(ATTENTION.build("sdpa")), **parts), **knobs)


@pytest.mark.parametrize(
    ("dim", "depth", "heads", "side", "published"),
    [
        (384, 12, 6, 32, 6.06),
        (768, 12, 12, 32, 23.01),
        (1024, 24, 16, 32, 80.71),
        (1152, 28, 16, 32, 118.64),
        (1152, 28, 16, 64, 524.60),
    ],
)
def test_operations_are_those_of_dit(dim: int, depth: int, heads: int, side: int, published: float) -> None:
    """DiT-S, B, L and XL with patches of 2, https://arxiv.org/abs/2212.09748, tables 1 and 4, in billions of
    multiply-adds; they count labels and a convolution's bias that we don't have, hence the 0.1 %."""
    parts = {"block": {"name": "spatial", "text": False}, "qk_norm": "none", "caption": "linear", "pool": "none"}
    model = hollow_dit(4, 8, parts, dim=dim, depth=depth, num_heads=heads, learned_sigma=True)
    cost = denoising_cost(model, Inputs(1, (4, 1, side, side), 1, 8, 8))
    ours = cost.flops.total() - cost.flops["text"]
    assert ours / 2e9 == pytest.approx(published, rel=1e-3)


@pytest.mark.parametrize("block", BLOCKS.names())
def test_operations_are_those_that_torch_counts_on_numbers(block: str) -> None:
    # torch has no formula for the attention of its CPU kernels; the reference is made of products
    sizes = {"dim": 24, "depth": 2, "num_heads": 2}
    model = DiT(3, 10, choose(ATTENTION.build("reference"), block=block), **sizes).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as truth:
        model(*INPUTS.draw(model))
    hollow = hollow_dit(3, 10, {"block": block}, **sizes)
    assert denoising_cost(hollow, INPUTS).flops.total() == truth.get_total_flops()


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("framewise", {"base_channels": 32, "channel_multipliers": (1, 2), "num_res_blocks": 1}),
        ("wavelet", {"base_channels": 8, "encoder_flow": 8, "num_res_blocks": 1}),
    ],
)
def test_operations_of_a_vae_are_those_that_torch_counts_on_numbers(name: str, knobs: dict[str, Any]) -> None:
    vae = VAES.build(name, **knobs).eval()
    latents = vae.spec.latent_shape(vae.spec.fitting_length(5), 32, 48)
    # with gradients it takes none of the short ways of a CPU
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as truth:
        vae.decode(torch.randn(1, *latents))
    assert decoding_cost(on_meta(vae), latents, 1).flops.total() == truth.get_total_flops()


@pytest.mark.parametrize("block", ["full3d", "factorized", "windowed"])
def test_memory_is_what_a_run_on_numbers_takes(block: str) -> None:
    sizes: dict[str, Any] = {"dim": 48, "depth": 2, "num_heads": 2}
    inputs = INPUTS._replace(latents=(3, 4, 16, 16))
    model = DiT(3, 10, choose(block=block), **sizes).eval()
    # once before, for what is kept between runs
    with torch.no_grad():
        model(*inputs.draw(model))
    with Peak() as truth, torch.no_grad():
        model(*inputs.draw(model))
    # torch's kernel also gives the logarithms that its backward would need
    assert denoising_cost(hollow_dit(3, 10, {"block": block}, **sizes), inputs).bytes == pytest.approx(
        truth.bytes, rel=0.05
    )


def test_half_the_precision_takes_half_the_memory_and_as_many_operations() -> None:
    # queries and keys would be normalised and turned in float32 all the same
    model = hollow_dit(3, 10, {"position": "none", "qk_norm": "none"}, dim=48, depth=2, num_heads=2)
    wide, narrow = (denoising_cost(model.to(dtype), INPUTS, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert narrow.flops == wide.flops
    assert narrow.bytes / wide.bytes == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in REGISTRIES for name in REGISTRIES[kind].names()])
def test_every_part_has_a_group(kind: str, name: str) -> None:
    try:
        model = hollow_dit(3, 24, {kind: name}, dim=24, depth=2, num_heads=2)
    except ValueError as refused:
        pytest.skip(str(refused))
    held, flops = parameters(model), denoising_cost(model, INPUTS._replace(text_dim=24, pooled_dim=24)).flops
    assert set(held) | set(flops) <= set(GROUPS) - {OTHER}
    assert held.total() == sum(value.numel() for value in model.parameters())
    assert {"embed", "attention projections", "attention scores", "MLP", "modulation", "out"} <= set(flops)


@pytest.mark.parametrize(
    ("parts", "knobs"),
    [
        ({}, {"depth": 5}),
        ({"modulation": "adaln_single"}, {"layers": "[[spatial, temporal]*2, temporal(time_code=1)]", "depth": 5}),
        ({"block": "skiparse"}, {"layers": "[skiparse(mode=single), skiparse(mode=group), skiparse*2]", "depth": 4}),
        ({"block": "double", "norm": "rms"}, {"layers": "[double*2, single*3, double(last=true)]", "depth": 6}),
        ({"block": "skiparse_double"}, {"depth": 5, "stages": (2, 1, 2)}),
    ],
)
def test_layers_that_are_alike_take_as_much_as_the_one_that_is_run(
    parts: dict[str, Any], knobs: dict[str, Any]
) -> None:
    model, inputs = hollow_dit(3, 10, parts, dim=24, num_heads=2, **knobs), INPUTS._replace(latents=(3, 3, 16, 18))
    # once before, for what is kept between runs
    denoising_cost(model, inputs)
    for dtype in (torch.float32, torch.bfloat16):
        every = denoising_cost(model.to(dtype), inputs, dtype, every_layer=True)
        assert denoising_cost(model, inputs, dtype) == every
    assert all("forward" not in vars(block) for block in model.blocks)


def test_of_layers_that_are_alike_one_is_run() -> None:
    model = hollow_dit(3, 10, {}, dim=24, depth=6, num_heads=2)
    run: list[int] = []

    def note(module: nn.Module, given: Any) -> None:
        run.extend(index for index, block in enumerate(model.blocks) if block.mlp is module)

    handle = register_module_forward_pre_hook(note)
    try:
        denoising_cost(model, INPUTS)
        assert run == [0]
        run.clear()
        # another width of one of them, and a word in another that no tensor shows
        model.blocks[2].mlp = nn.Sequential(nn.Linear(24, 5, device="meta"), nn.GELU(), nn.Linear(5, 24, device="meta"))
        model.blocks[4].mlp[1] = nn.GELU(approximate="none")
        denoising_cost(model, INPUTS)
        assert run == [0, 2, 4]
    finally:
        handle.remove()


def test_groups_are_told_by_names() -> None:
    assert group_of("blocks.3.attention.qkv") == "attention projections"
    assert group_of("blocks.3.mlp_text.0") == group_of("blocks.0.ffn.inner") == "MLP"
    assert group_of("blocks.3.modulation.linear") == group_of("shared.1") == "modulation"
    assert group_of("something.else") == OTHER


def test_what_a_part_makes_on_the_host_has_no_numbers_either() -> None:
    class Careless(nn.Module):
        conditions = frozenset({"text"})

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(4, 3, device="meta"))
            self.table = torch.ones(3, 2**10)

        def forward(self, latents: Any, timestep: Any, condition: Any) -> Any:
            noise = torch.randn(2**20, device="cpu", generator=torch.Generator())
            table = torch.arange(2**20, device="cpu").double().cumsum(0).to(latents.device)
            return self.weight @ self.table + noise.sum() + table.sum()

    careless = Careless()
    with Allocations() as made:
        assert denoising_cost(careless, INPUTS).flops == {OTHER: 2 * 4 * 3 * 2**10}
    assert made.bytes == 0
