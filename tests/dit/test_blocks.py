"""The blocks against their definitions, written out token by token in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from videogen.dit.blocks import BLOCKS, BlockCondition
from videogen.dit.parts import choose
from videogen.dit.positions import POSITIONS

DIM, HEADS, GRID, THETA = 24, 2, (3, 2, 5), 100.0
HEAD_DIM = DIM // HEADS
SPLIT = (4, 4, 4)  # channels of a head that turn with t, y and x
Randomised = Callable[[nn.Module], nn.Module]
Position = tuple[int, int, int]
Sees = Callable[[int, int], bool]
POSITION: list[Position] = [(t, y, x) for t in range(GRID[0]) for y in range(GRID[1]) for x in range(GRID[2])]


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


def attend(q: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    """softmax(q k / sqrt(head_dim)) v of one query."""
    weights = torch.softmax(torch.stack([q @ k for k in keys]) / math.sqrt(HEAD_DIM), dim=0)
    return sum((w * v for w, v in zip(weights, values, strict=True)), torch.zeros(HEAD_DIM, dtype=torch.float64))


def self_attention(layer: Any, tokens: list[Tensor], sees: list[list[int]]) -> list[Tensor]:
    """Attention of each token, (D,), to those that it sees."""
    out = [torch.zeros(DIM, dtype=torch.float64) for _ in tokens]
    for head in range(HEADS):
        rows = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
        q, k, v = (
            [(layer.qkv.weight @ x + layer.qkv.bias)[part * DIM : (part + 1) * DIM][rows] for x in tokens]
            for part in range(3)
        )
        q = [turned(rms(x, layer.norm_q.weight), p) for x, p in zip(q, POSITION, strict=True)]
        k = [turned(rms(x, layer.norm_k.weight), p) for x, p in zip(k, POSITION, strict=True)]
        for n, seen in enumerate(sees):
            out[n][rows] = attend(q[n], [k[m] for m in seen], [v[m] for m in seen])
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
        out[rows] = attend(rms(query[rows], layer.norm_q.weight), keys, [x[DIM:][rows] for x in both])
    return layer.out.weight @ out + layer.out.bias


def enter(token: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    centred = token - token.mean()
    return centred / (centred.square().mean() + 1e-6).sqrt() * (1 + scale) + shift


def definition(block: Any, attentions: dict[str, Sees], tokens: Tensor, time: Tensor, text: Tensor) -> Tensor:
    """One sample (N, D): attention layer by layer, each token to those that the layer lets it see, text, MLP."""
    signals = (block.modulation.linear.weight @ nn.functional.silu(time) + block.modulation.linear.bias).split(DIM)
    h = list(tokens)
    for i, (name, sees) in enumerate(attentions.items()):
        shift, scale, gate = signals[3 * i : 3 * i + 3]
        seen = [[m for m in range(len(h)) if sees(n, m)] for n in range(len(h))]
        results = self_attention(getattr(block, name), [enter(x, shift, scale) for x in h], seen)
        h = [x + gate * result for x, result in zip(h, results, strict=True)]
    shift, scale, gate = signals[-3:]
    for n in range(len(h)):
        h[n] = h[n] + cross_attention(block.cross, h[n], list(text))
        hidden = block.mlp[0].weight @ enter(h[n], shift, scale) + block.mlp[0].bias
        cubic = math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)
        h[n] = h[n] + gate * (block.mlp[2].weight @ (0.5 * hidden * (1 + torch.tanh(cubic))) + block.mlp[2].bias)
    return torch.stack(h)


def same_frame(n: int, m: int) -> bool:
    return POSITION[n][0] == POSITION[m][0]


def same_place(n: int, m: int) -> bool:
    return POSITION[n][1:] == POSITION[m][1:]


def window(size: Position, shift: Position = (0, 0, 0)) -> Sees:
    """In the same box."""
    return lambda n, m: all(
        (a + by) // step == (b + by) // step
        for a, b, step, by in zip(POSITION[n], POSITION[m], size, shift, strict=True)
    )


def tiles(tile: Position, reach: Position) -> Sees:
    """In one of the tiles around, in a window that stays inside the grid."""

    def sees(n: int, m: int) -> bool:
        for a, b, step, by, length in zip(POSITION[n], POSITION[m], tile, reach, GRID, strict=True):
            last = (length - 1) // step
            first = max(0, min(a // step - by, last - 2 * by))
            if not first <= b // step <= first + 2 * by:
                return False
        return True

    return sees


# block and knobs -> its attentions, and who sees whom
DEFINITIONS: list[tuple[str, dict[str, Any], dict[str, Sees]]] = [
    ("full3d", {}, {"attention": lambda n, m: True}),
    ("factorized", {}, {"spatial": same_frame, "temporal": same_place}),
    ("spatial", {}, {"attention": same_frame}),
    ("temporal", {}, {"attention": same_place}),
    # 30 tokens, which 4 and 4 * 4 don't divide
    ("skiparse", {"k": 4}, {"attention": lambda n, m: n % 4 == m % 4}),
    ("skiparse", {"k": 4, "mode": "group"}, {"attention": lambda n, m: n // 4 % 4 == m // 4 % 4}),
    ("windowed", {"window": (2, 0, 2)}, {"attention": window((2, 9, 2))}),
    ("windowed", {"window": (2, 2, 4), "shifted": True}, {"attention": window((2, 2, 4), (1, 1, 2))}),
    ("frame_causal", {}, {"attention": lambda n, m: POSITION[m][0] <= POSITION[n][0]}),
    ("frame_causal", {"frames": 2}, {"attention": lambda n, m: POSITION[m][0] // 2 <= POSITION[n][0] // 2}),
    ("sliding_tile", {"tile": (1, 1, 1), "reach": (0, 1, 1)}, {"attention": tiles((1, 1, 1), (0, 1, 1))}),
    ("sliding_tile", {"tile": (2, 1, 2), "reach": (1, 0, 1)}, {"attention": tiles((2, 1, 2), (1, 0, 1))}),
]


def build(name: str, **knobs: Any) -> Any:
    parts = choose()
    return BLOCKS.build(name, DIM, HEADS, parts.kit(parts.modulation(DIM, DIM, parts.norm), bias=True), **knobs)


def test_every_block_is_defined() -> None:
    # tests/dit/test_joint.py has the definitions of those with a stream of text
    joint = {"double", "expert", "single", "skiparse_double"}
    # tests/dit/test_stdit.py and test_stdit2.py compare them with the original implementation
    assert {name for name, _, _ in DEFINITIONS} | joint | {"stdit", "stdit2"} == set(BLOCKS.names())


@pytest.mark.parametrize(("name", "knobs", "attentions"), DEFINITIONS)
def test_a_block_equals_its_definition(
    name: str, knobs: dict[str, Any], attentions: dict[str, Sees], randomised: Randomised
) -> None:
    block = randomised(build(name, **knobs))
    source = torch.Generator().manual_seed(3)
    tokens, time, text = (torch.randn(2, n, DIM, generator=source) for n in (30, 1, 4))
    mask = torch.tensor([[True] * 4, [True, True, True, False]])
    rotary = POSITIONS.build("rope", DIM, HEADS, theta=THETA).rotary(GRID, tokens.device)
    condition = BlockCondition(grid=GRID, time=nn.functional.silu(time), rotary=rotary, text_mask=mask)
    with torch.no_grad():
        got, _ = block(tokens, text, condition)
        block.double()
        for i in range(2):
            words = text[i, mask[i]].double()
            wanted = definition(block, attentions, tokens[i].double(), time[i, 0].double(), words)
            # float32 against float64, on values up to about 10
            assert float((got[i] - wanted).abs().max()) < 2e-5


@pytest.mark.parametrize(
    ("name", "knobs"),
    [("skiparse", {"k": 3, "mode": "group"}), ("windowed", {"window": (2, 2, 2), "shifted": True}),
     ("windowed", {"window": (0, 4, 3)}), ("sliding_tile", {"tile": (1, 1, 1)}), ("frame_causal", {"frames": 2})],
)  # fmt: skip
def test_a_padded_clip_equals_itself_alone(name: str, knobs: dict[str, Any], randomised: Randomised) -> None:
    block = randomised(build(name, **knobs))
    grid, inside = (4, 5, 6), (slice(1, 4), slice(2, 5), slice(1, 6))
    tokens = torch.randn(2, *grid, DIM)
    valid = torch.zeros(2, *grid, dtype=torch.bool)
    valid[0] = True
    valid[1][inside] = True
    time = torch.randn(2, 1, DIM)
    both = BlockCondition(grid=grid, time=time, valid=valid.flatten(1))
    alone = BlockCondition(grid=(3, 3, 5), time=time[1:])
    with torch.no_grad():
        out, _ = block(tokens.flatten(1, 3), None, both)
        wanted, _ = block(tokens[1:, 1:4, 2:5, 1:6].flatten(1, 3), None, alone)
        unpadded, _ = block(tokens[:1].flatten(1, 3), None, BlockCondition(grid=grid, time=time[:1]))
    assert torch.allclose(out[1].unflatten(0, grid)[inside].flatten(0, 2), wanted[0], atol=1e-5)
    assert torch.allclose(out[0], unpadded[0], atol=1e-5)


def test_weights_of_one_block_do_not_load_into_another() -> None:
    full, factorized = (build(name) for name in ("full3d", "factorized"))
    with pytest.raises(
        RuntimeError, match=r"Missing key.*spatial\.qkv\.weight.*\n.*Unexpected key.*attention\.qkv\.weight"
    ):
        factorized.load_state_dict(full.state_dict())


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="dim 24 can't be split over 5 heads"):
        choose().block(24, 5, choose().kit(choose().modulation(24, 24, choose().norm), bias=True))
