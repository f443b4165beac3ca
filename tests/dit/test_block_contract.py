"""What every registered block keeps, on its own and in a DiT: registering a block is writing its tests."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from videogen.denoiser import Condition
from videogen.dit.blocks import BLOCKS, Block, BlockCondition
from videogen.dit.model import DiT
from videogen.dit.parts import choose
from videogen.dit.positions import POSITIONS

DIM, HEADS, GRID = 24, 2, (3, 2, 5)
TOKENS = GRID[0] * GRID[1] * GRID[2]
MakeDiT, MakeCondition = Callable[..., DiT], Callable[..., Condition]

pytestmark = pytest.mark.parametrize("name", BLOCKS.names())


def build(name: str, **parts: str) -> Any:
    torch.manual_seed(0)
    chosen = choose(**parts)
    return BLOCKS.build(name, DIM, HEADS, chosen.kit(chosen.modulation(DIM, DIM, chosen.norm), bias=True))


def inputs(batch: int = 2) -> tuple[Tensor, Tensor, BlockCondition]:
    source = torch.Generator().manual_seed(2)
    tokens, time, text = (torch.randn(batch, n, DIM, generator=source) for n in (TOKENS, 1, 4))
    rotary = POSITIONS.build("rope", DIM, HEADS).rotary(GRID, tokens.device)
    mask = torch.ones(batch, 4, dtype=torch.bool)
    mask[-1, 2:] = False
    return tokens, text, BlockCondition(grid=GRID, time=time, rotary=rotary, text_mask=mask)


def test_the_shape_stays_and_every_parameter_learns(name: str, randomised: Callable[[nn.Module], nn.Module]) -> None:
    block = randomised(build(name))
    tokens, text, condition = inputs()
    tokens.requires_grad_()
    out, said = block(tokens, text, condition)
    assert out.shape == tokens.shape
    assert said.shape == text.shape
    # layers of the text are for the next block
    (out.square().sum() + said.square().sum()).backward()
    silent = [key for key, value in block.named_parameters() if value.grad is None or not value.grad.any()]
    assert silent == []
    assert tokens.grad is not None
    assert tokens.grad.any()


def test_it_starts_as_the_identity(name: str) -> None:
    tokens, text, condition = inputs()
    out, said = build(name)(tokens, text, condition)
    assert torch.equal(out, tokens)
    assert torch.equal(said, text)


def test_the_text_and_only_its_words_are_read(name: str, randomised: Callable[[nn.Module], nn.Module]) -> None:
    block: Block = randomised(build(name))
    tokens, text, condition = inputs()
    out, _ = block(tokens, text, condition)
    assert condition.text_mask is not None
    behind = text.masked_fill(~condition.text_mask[..., None], 7.0)
    assert torch.equal(block(tokens, behind, condition)[0], out)
    assert not torch.allclose(block(tokens, text.flip(-1), condition)[0], out, atol=1e-3)
    # no text at all is allowed, for unconditional models
    without = dataclasses.replace(condition, text_mask=None)
    assert block(tokens, None, without)[0].shape == tokens.shape


def test_it_runs_without_rotary_and_without_qk_norm(name: str) -> None:
    tokens, text, condition = inputs()
    block = build(name, qk_norm="none")
    assert not [key for key, _ in block.named_parameters() if "norm_q" in key]
    assert block(tokens, text, dataclasses.replace(condition, rotary=None))[0].shape == tokens.shape


def test_a_time_a_frame_or_a_token_equals_one_for_all(name: str, randomised: Callable[[nn.Module], nn.Module]) -> None:
    block: Block = randomised(build(name))
    tokens, text, condition = inputs()
    wanted, _ = block(tokens, text, condition)
    for length in (GRID[0], TOKENS):
        time = condition.time.expand(-1, length, -1)
        told = dataclasses.replace(condition, time=time, text_time=condition.time)
        # the products are the same, summed in another order: a few float32 roundings of values near 1
        assert torch.allclose(block(tokens, text, told)[0], wanted, atol=1e-5)


def test_a_sample_does_not_see_its_neighbours(
    name: str, make_dit: MakeDiT, make_condition: MakeCondition, row: Any
) -> None:
    model = make_dit(name)
    latents, timestep, condition = torch.randn(3, 3, 2, 4, 6), torch.rand(3), make_condition(3)
    together = model(latents, timestep, condition)
    alone = torch.cat([model(latents[i, None], timestep[i, None], row(condition, i)) for i in range(3)])
    # float32 sums of a few dozen values near 1 in another order
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_padded_clip_equals_itself_alone(
    name: str, make_dit: MakeDiT, make_condition: MakeCondition, row: Any
) -> None:
    model = make_dit(name)
    cuts = [
        (slice(0, 3), slice(0, 4), slice(0, 6)),
        (slice(0, 2), slice(0, 2), slice(0, 6)),
        (slice(1, 3), slice(2, 4), slice(2, 6)),
    ]
    valid = torch.zeros(3, 3, 4, 6, dtype=torch.bool)
    for mask, cut in zip(valid, cuts, strict=True):
        mask[cut] = True
    latents, timestep = torch.randn(3, 3, 3, 4, 6), torch.rand(3, 3)
    condition = make_condition(3, valid=valid)
    # whatever stands in the padding, even what would spread through a product with zero
    padded = model(latents.masked_fill(~valid[:, None], float("nan")), timestep, condition)
    for i, cut in enumerate(cuts):
        alone = model(latents[i, None][(slice(None), slice(None), *cut)], timestep[i, None, cut[0]], row(condition, i))
        assert torch.allclose(padded[i, None][(slice(None), slice(None), *cut)], alone, atol=1e-5)


def test_a_timestep_a_frame_is_that_frame_s(name: str, make_dit: MakeDiT, make_condition: MakeCondition) -> None:
    model = make_dit(name)
    latents, timestep, condition = torch.randn(2, 3, 3, 4, 4), torch.rand(2), make_condition(2)
    wanted = model(latents, timestep, condition)
    frames = timestep[:, None].expand(2, 3).clone()
    assert torch.allclose(model(latents, frames, condition), wanted, atol=1e-5)
    frames[:, 1] = 0.0
    assert not torch.allclose(model(latents, frames, condition), wanted, atol=1e-3)


def test_autocast_keeps_to_float32_within_its_rounding(
    name: str, make_dit: MakeDiT, make_condition: MakeCondition
) -> None:
    model = make_dit(name)
    latents, timestep, condition = torch.randn(2, 3, 3, 4, 4), torch.rand(2), make_condition(2)
    with torch.no_grad():
        wanted = model(latents, timestep, condition)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        got = model(latents, timestep, condition)
    # bfloat16 keeps 8 bits: 0.4 % a rounding, some ten roundings deep, relative to the size of the whole
    assert float((got.float() - wanted).norm() / wanted.norm()) < 0.05


# the shape checks of this test run are Python that no graph can hold: a process of its own has none
COMPILE = """
import sys, torch
from videogen import Condition
from videogen.dit.model import DiT
from videogen.dit.parts import choose
torch.manual_seed(0)
model = DiT(3, 10, choose(block=sys.argv[1]), dim=24, depth=2, num_heads=2)
for value in model.parameters():
    torch.nn.init.normal_(value, std=0.1)
text, mask = torch.randn(2, 5, 10), torch.tensor([[True] * 5, [True, True, True, False, False]])
given = torch.randn(2, 3, 3, 4, 4), torch.rand(2), Condition(text=text, text_mask=mask, pooled=torch.randn(2, 10))
wanted = model(*given)
wanted.square().sum().backward()
learnt = {name: value.grad for name, value in model.named_parameters()}
model.zero_grad()
got = torch.compile(model, fullgraph=True, backend="aot_eager")(*given)
assert wanted.std() > 0.01 and torch.allclose(got, wanted, atol=1e-6), (got - wanted).abs().max()
got.square().sum().backward()
for name, value in model.named_parameters():
    # nothing reads what the last block makes of the text
    if learnt[name] is None:
        assert value.grad is None or not value.grad.any(), name
    else:
        assert torch.allclose(value.grad, learnt[name], rtol=1e-4, atol=1e-5), name
"""


@pytest.mark.slow
def test_it_compiles_into_one_graph(name: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", COMPILE, name], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
