"""The two attention blocks against their definitions, written out token by token in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from videogen.dit.blocks import BLOCKS, BlockCondition
from videogen.dit.rope import rotary_table
from videogen.kernels import ATTENTION

DIM, HEADS, GRID, THETA = 24, 2, (3, 2, 5), 100.0
HEAD_DIM = DIM // HEADS
SPLIT = (4, 4, 4)  # channels of a head that turn with t, y and x
Randomised = Callable[[nn.Module], nn.Module]
Position = tuple[int, int, int]


def turned(vector: Tensor, position: Position) -> Tensor:
    """RoPE by definition: pair j of an axis is a complex number, multiplied by exp(i * position * frequency)."""
    angles = [
        p * THETA ** (-2 * j / channels)
        for p, channels in zip(position, SPLIT, strict=True)
        for j in range(channels // 2)
    ]
    half = HEAD_DIM // 2
    number = torch.complex(vector[:half], vector[half:]) * torch.polar(
        torch.ones(half, dtype=torch.float64), torch.tensor(angles, dtype=torch.float64)
    )
    return torch.cat([number.real, number.imag])


def rms(vector: Tensor, weight: Tensor) -> Tensor:
    return vector / (vector.square().mean() + 1e-6).sqrt() * weight


def attend(queries: list[Tensor], keys: list[Tensor], values: list[Tensor]) -> list[Tensor]:
    """softmax(q k / sqrt(head_dim)) v of every query in turn."""
    out = []
    for q in queries:
        weights = torch.softmax(torch.stack([q @ k for k in keys]) / math.sqrt(HEAD_DIM), dim=0)
        out.append(
            sum((w * v for w, v in zip(weights, values, strict=True)), torch.zeros(HEAD_DIM, dtype=torch.float64))
        )
    return out


def self_attention(layer: Any, tokens: list[Tensor], positions: list[Position]) -> list[Tensor]:
    """Attention among a few tokens, (D,) each, standing at the positions."""
    out = [torch.zeros(DIM, dtype=torch.float64) for _ in tokens]
    for head in range(HEADS):
        rows = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
        q, k, v = (
            [(layer.qkv.weight @ x + layer.qkv.bias)[part * DIM : (part + 1) * DIM][rows] for x in tokens]
            for part in range(3)
        )
        q = [turned(rms(x, layer.norm_q.weight), p) for x, p in zip(q, positions, strict=True)]
        k = [turned(rms(x, layer.norm_k.weight), p) for x, p in zip(k, positions, strict=True)]
        for x, value in zip(out, attend(q, k, v), strict=True):
            x[rows] = value
    return [layer.out.weight @ x + layer.out.bias for x in out]


def cross_attention(layer: Any, token: Tensor, text: list[Tensor]) -> Tensor:
    out = torch.zeros(DIM, dtype=torch.float64)
    query = (
        layer.q.weight @ nn.functional.layer_norm(token, (DIM,), layer.norm.weight, layer.norm.bias, 1e-6)
        + layer.q.bias
    )
    for head in range(HEADS):
        rows = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
        both = [layer.kv.weight @ x + layer.kv.bias for x in text]
        keys = [rms(x[:DIM][rows], layer.norm_k.weight) for x in both]
        out[rows] = attend([rms(query[rows], layer.norm_q.weight)], keys, [x[DIM:][rows] for x in both])[0]
    return layer.out.weight @ out + layer.out.bias


def enter(token: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    centred = token - token.mean()
    return centred / (centred.square().mean() + 1e-6).sqrt() * (1 + scale) + shift


def definition(
    block: Any, groupings: list[tuple[str, list[list[int]]]], tokens: Tensor, time: Tensor, text: Tensor
) -> Tensor:
    """One sample (N, D): attention layer by layer, each within the groups of token indices given for it, text, MLP."""
    positions = [(t, y, x) for t in range(GRID[0]) for y in range(GRID[1]) for x in range(GRID[2])]
    signals = (block.modulation.linear.weight @ nn.functional.silu(time) + block.modulation.linear.bias).split(DIM)
    h = list(tokens)
    for i, (name, groups) in enumerate(groupings):
        shift, scale, gate = signals[3 * i : 3 * i + 3]
        for group in groups:
            inside = [enter(h[n], shift, scale) for n in group]
            results = self_attention(getattr(block, name), inside, [positions[n] for n in group])
            for n, result in zip(group, results, strict=True):
                h[n] = h[n] + gate * result
    shift, scale, gate = signals[-3:]
    for n in range(len(h)):
        h[n] = h[n] + cross_attention(block.cross, h[n], list(text))
        hidden = block.mlp[0].weight @ enter(h[n], shift, scale) + block.mlp[0].bias
        cubic = math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)
        h[n] = h[n] + gate * (block.mlp[2].weight @ (0.5 * hidden * (1 + torch.tanh(cubic))) + block.mlp[2].bias)
    return torch.stack(h)


def numbered(t: int, s: int) -> int:
    return t * GRID[1] * GRID[2] + s


FRAMES, AREA = range(GRID[0]), range(GRID[1] * GRID[2])
GROUPINGS = {
    "full3d": [("attention", [[numbered(t, s) for t in FRAMES for s in AREA]])],
    "factorized": [
        ("spatial", [[numbered(t, s) for s in AREA] for t in FRAMES]),
        ("temporal", [[numbered(t, s) for t in FRAMES] for s in AREA]),
    ],
}


@pytest.mark.parametrize("name", GROUPINGS)
def test_a_block_equals_its_definition(name: str, randomised: Randomised) -> None:
    block = randomised(BLOCKS.build(name, DIM, HEADS, ATTENTION.build("sdpa")))
    source = torch.Generator().manual_seed(3)
    tokens, time, text = (torch.randn(2, n, DIM, generator=source) for n in (30, 1, 4))
    mask = torch.tensor([[True] * 4, [True, True, True, False]])
    rotary = rotary_table(GRID, HEAD_DIM, THETA, tokens.device)
    with torch.no_grad():
        got = block(tokens, BlockCondition(grid=GRID, time=time, rotary=rotary, text=text, text_mask=mask))
        block.double()
        for i in range(2):
            words = text[i, mask[i]].double()
            wanted = definition(block, GROUPINGS[name], tokens[i].double(), time[i, 0].double(), words)
            # float32 against float64, on values up to about 10
            assert float((got[i] - wanted).abs().max()) < 2e-5


def test_weights_of_one_block_do_not_load_into_another() -> None:
    full, factorized = (BLOCKS.build(name, DIM, HEADS, ATTENTION.build("sdpa")) for name in ("full3d", "factorized"))
    with pytest.raises(
        RuntimeError, match=r"Missing key.*spatial\.qkv\.weight.*\n.*Unexpected key.*attention\.qkv\.weight"
    ):
        factorized.load_state_dict(full.state_dict())


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="dim 24 can't be split over 5 heads"):
        BLOCKS.build("full3d", 24, 5, ATTENTION.build("sdpa"))
