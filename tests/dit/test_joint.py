"""Two streams in one softmax, against their definition in float64: every query sees its group and all words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from videogen.dit.blocks import BLOCKS, BlockCondition
from videogen.dit.joint import JointAttention
from videogen.dit.model import DiT
from videogen.dit.parts import choose
from videogen.dit.patterns import FrameCausal, Full, Pattern, SkipGroup, SkipSingle, Spatial, Temporal, Window
from videogen.dit.positions import POSITIONS

DIM, HEADS, GRID, WORDS, THETA = 24, 2, (3, 2, 5), 4, 100.0
HEAD_DIM = DIM // HEADS
PLACES = [(t, y, x) for t in range(GRID[0]) for y in range(GRID[1]) for x in range(GRID[2])]
MASK = torch.tensor([[True] * 4, [True, True, True, False]])
Randomised = Callable[[nn.Module], nn.Module]


def kit(text_dim: int | None = None, **parts: Any) -> Any:
    chosen = choose(**parts)
    return chosen.kit(chosen.modulation(DIM, DIM, chosen.norm), True, text_dim)


def inputs(text_dim: int = DIM) -> tuple[Tensor, Tensor, BlockCondition]:
    source = torch.Generator().manual_seed(3)
    tokens, time, text = (torch.randn(2, *size, generator=source) for size in ((30, DIM), (1, DIM), (WORDS, text_dim)))
    rotary = POSITIONS.build("rope", DIM, HEADS, theta=THETA).rotary(GRID, tokens.device)
    return tokens, text, BlockCondition(grid=GRID, time=time, rotary=rotary, text_mask=MASK)


def turned(heads: Tensor) -> Tensor:
    """RoPE by definition, (N, heads, head_dim): pairs are complex numbers that turn by place times frequency."""
    frequencies = THETA ** (-torch.arange(0, 4, 2, dtype=torch.float64) / 4)
    angles = torch.cat([torch.outer(place, frequencies) for place in torch.tensor(PLACES).double().T], dim=-1)
    half = HEAD_DIM // 2
    number = torch.complex(heads[..., :half], heads[..., half:]) * torch.polar(torch.ones(()).double(), angles)[:, None]
    return torch.cat([number.real, number.imag], dim=-1)


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def heads_of(stream: Any, x: Tensor) -> list[Tensor]:
    q, k, v = (part.unflatten(-1, (HEADS, HEAD_DIM)) for part in stream.qkv(x).chunk(3, dim=-1))
    return [rms(q, stream.norm_q.weight), rms(k, stream.norm_k.weight), v]


def definition(layer: Any, tokens: Tensor, text: Tensor, words: Tensor, sees: Tensor) -> tuple[Tensor, Tensor | None]:
    """One sample (N, D) and (L, E). Words stand in every group of tokens, and get the mean of what they get there.

    Args:
        words: (L,), False for padding.
        sees: (groups, N, N), who sees whom in each group; a token is in the one group where it sees itself.
    """
    stream = layer.text or layer
    (q, k, v), (word_q, word_k, word_v) = heads_of(layer, tokens), heads_of(stream, text)
    q, k = turned(q), turned(k)
    out, said = torch.zeros_like(q), torch.zeros_like(word_q)
    for group in sees:
        inside = group.diagonal()
        queries, keys, values = torch.cat([q, word_q]), torch.cat([k, word_k]), torch.cat([v, word_v])
        mask = torch.cat([group, inside.expand(len(text), -1)])
        mask = torch.cat([mask, words.expand(len(mask), -1)], dim=1)
        scores = torch.einsum("qhc,khc->hqk", queries, keys) / math.sqrt(HEAD_DIM)
        got = torch.einsum("hqk,khc->qhc", scores.masked_fill(~mask, -math.inf).softmax(-1), values)
        out = torch.where(inside[:, None, None], got[: len(tokens)], out)
        said = said + got[len(tokens) :] / len(sees)
    return layer.out(out.flatten(1)), None if stream.out is None else stream.out(said.flatten(1))


def groups(key: Callable[[int], int]) -> Tensor:
    """Tokens of one key see each other."""
    own = torch.tensor([key(n) for n in range(30)])
    return torch.stack([(own == one)[:, None] & (own == one) for one in own.unique()])


EVERY = torch.ones(1, 30, 30, dtype=torch.bool)
# frames up to the own one
CAUSAL = torch.tensor([[[PLACES[m][0] <= PLACES[n][0] for m in range(30)] for n in range(30)]])
PATTERNS: list[tuple[Pattern, Tensor]] = [
    (Full(), EVERY),
    (Spatial(), groups(lambda n: PLACES[n][0])),
    (Temporal(), groups(lambda n: n % 10)),
    # 30 tokens, which 4 and 4 * 4 don't divide
    (SkipSingle(4), groups(lambda n: n % 4)),
    (SkipGroup(4), groups(lambda n: n // 4 % 4)),
    (Window((2, 2, 3)), groups(lambda n: PLACES[n][0] // 2 * 10 + PLACES[n][2] // 3)),
    (FrameCausal(), CAUSAL),
]


@pytest.mark.parametrize(("pattern", "sees"), PATTERNS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("text", ["own", "shared", "read"])
@torch.no_grad()
def test_joint_attention_is_its_definition(pattern: Pattern, sees: Tensor, text: Any, randomised: Randomised) -> None:
    width = DIM if text == "shared" else 14
    layer: Any = randomised(JointAttention(DIM, HEADS, kit(width), pattern, text))
    tokens, said, condition = inputs(width)
    got, given = layer(tokens, said, condition)
    assert (given is None) is (text == "read")
    layer.double()
    for i in range(2):
        wanted, wanted_text = definition(layer, tokens[i].double(), said[i].double(), MASK[i], sees)
        # float32 against float64, on values up to about 5
        assert float((got[i] - wanted).abs().max()) < 1e-5
        if given is not None and wanted_text is not None:
            words = MASK[i]
            assert float((given[i] - wanted_text)[words].abs().max()) < 1e-5


def modulated(norm: Tensor, signals: list[Tensor]) -> Tensor:
    centred = norm - norm.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + signals[1]) + signals[0]


def mlp(layer: Any, x: Tensor) -> Tensor:
    inner = layer[0](x)
    return layer[2](0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3))))


def by_three(layer: Any, time: Tensor) -> list[list[Tensor]]:
    """Shift, scale and gate of each branch."""
    parts = layer.linear(time).split(DIM)
    return [list(parts[i : i + 3]) for i in range(0, len(parts), 3)]


def in_series(block: Any, name: str, tokens: Tensor, text: Tensor, time: Tensor, words: Tensor) -> list[Tensor]:
    """The blocks double and expert."""
    if name == "expert":
        attend, attend_text, feed, feed_text = by_three(block.modulation, time)
    else:
        (attend, feed), (attend_text, feed_text) = (
            by_three(layer, time) for layer in (block.modulation, block.text_modulation)
        )
    seen, read = definition(block.attention, modulated(tokens, attend), modulated(text, attend_text), words, EVERY)
    assert read is not None
    tokens, text = tokens + attend[2] * seen, text + attend_text[2] * read
    of_text = block.mlp if name == "expert" else block.text_mlp
    return [
        tokens + feed[2] * mlp(block.mlp, modulated(tokens, feed)),
        text + feed_text[2] * mlp(of_text, modulated(text, feed_text)),
    ]


def in_parallel(block: Any, tokens: Tensor, text: Tensor, time: Tensor, words: Tensor) -> list[Tensor]:
    """The block single."""
    (branch,) = by_three(block.modulation, time)
    entered = [modulated(x, branch) for x in (tokens, text)]
    given = definition(block.attention, *entered, words, EVERY)
    return [
        x + branch[2] * (out + mlp(block.mlp, seen))
        for x, out, seen in zip((tokens, text), given, entered, strict=True)
    ]


@pytest.mark.parametrize("name", ["double", "expert", "single"])
@torch.no_grad()
def test_a_block_equals_its_definition(name: str, randomised: Randomised) -> None:
    block: Any = randomised(BLOCKS.build(name, DIM, HEADS, kit()))
    tokens, text, condition = inputs()
    got = block(tokens, text, condition)
    block.double()
    for i in range(2):
        given = tokens[i].double(), text[i].double(), condition.time[i, 0].double(), MASK[i]
        wanted = in_parallel(block, *given) if name == "single" else in_series(block, name, *given)
        assert float((got[0][i] - wanted[0]).abs().max()) < 2e-5
        assert float((got[1][i] - wanted[1])[MASK[i]].abs().max()) < 2e-5


@torch.no_grad()
def test_the_last_block_leaves_the_text_as_it_is(randomised: Randomised) -> None:
    block: Any = randomised(BLOCKS.build("double", DIM, HEADS, kit(14), last=True))
    tokens, text, condition = inputs(14)
    out, said = block(tokens, text, condition)
    assert said is text
    assert not torch.allclose(block(tokens, text.flip(-1), condition)[0], out, atol=1e-3)
    assert not [key for key, _ in block.named_parameters() if key.startswith(("text_mlp", "attention.text.out"))]


@torch.no_grad()
def test_the_text_is_at_a_time_of_its_own(randomised: Randomised) -> None:
    tokens, text, condition = inputs()
    frames = torch.randn(2, GRID[0], DIM)
    for name in ("double", "expert", "single"):
        block: Any = randomised(BLOCKS.build(name, DIM, HEADS, kit()))
        several = dataclasses.replace(condition, time=frames, text_time=condition.time)
        _, said = block(tokens, text, several)
        other = dataclasses.replace(several, text_time=2 * condition.time)
        assert not torch.allclose(block(tokens, text, other)[1], said, atol=1e-3)
        with pytest.raises(ValueError, match="3 times a sample, and none for the text: give text_time"):
            block(tokens, text, dataclasses.replace(condition, time=frames))


def test_text_of_another_width_needs_layers_of_its_own() -> None:
    for name in ("expert", "single"):
        with pytest.raises(
            ValueError, match="text of width 14 can't go through layers for tokens of 24: use block double"
        ):
            BLOCKS.build(name, DIM, HEADS, kit(14))
    assert BLOCKS.build("double", DIM, HEADS, kit(14)).text_mlp[2].out_features == 14


@torch.no_grad()
def test_a_frame_that_is_known_does_not_change_the_time_of_the_text(
    make_dit: Callable[..., DiT], make_condition: Any
) -> None:
    """Image to video: the first frame at time 0, the text at that of the noisy ones."""
    model, condition = make_dit("double", layers="[double, single]"), make_condition(2)
    seen: list[Tensor] = []
    model.blocks[0].text_modulation.register_forward_pre_hook(lambda _, given: seen.append(given[0].time))
    latents, time = torch.randn(2, 3, 3, 4, 4), torch.tensor([0.7, 0.4])
    model(latents, time, condition)
    model(latents, torch.stack([torch.zeros(2), time, time], dim=1), condition)
    assert torch.equal(seen[0], seen[1])
