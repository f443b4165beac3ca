"""Open-Sora-Plan 1.5's U of skip-sparse stages: equal to the original implementation on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from dit_goldens import built, error, load
from torch import Tensor

from videogen.checkpoints.layouts.osp_suv import LAYOUT
from videogen.denoiser import Condition
from videogen.dit.model import DiT
from videogen.dit.schedule import layers
from videogen.dit.skips import LongSkips

FIXTURE = "osp_suv_v1_5"


@pytest.mark.parametrize("case", ["a", "pad"])
@torch.no_grad()
def test_it_equals_the_original(case: str) -> None:
    golden = load(FIXTURE)
    given, wanted = golden.cases[case]
    layout, _, model = built(golden.config, golden.weights)
    assert layout is LAYOUT
    valid = given["attention_mask"].bool()
    condition = Condition(
        text=given["encoder_hidden_states"][:, 0],
        text_mask=given["encoder_attention_mask"][:, 0].bool(),
        pooled=given["pooled_projections"][:, 0],
        valid=None if valid.all() else valid,
    )
    got = model(given["hidden_states"], given["timestep"] / 1000, condition)
    assert error(got, wanted, valid[:, None].expand_as(wanted)) < 1e-5


def test_saving_gives_every_tensor_back() -> None:
    golden = load(FIXTURE)
    layout, told, model = built(golden.config, golden.weights)
    back = layout.to_published(model.state_dict(), told)
    assert back.keys() == golden.weights.keys()
    assert all(torch.equal(back[key], value) for key, value in golden.weights.items())


def test_the_layers_are_those_of_the_stages() -> None:
    golden = load(FIXTURE)
    wanted = layers(LAYOUT.knobs(golden.config, golden.weights)["layers"])
    assert [layer.name for layer in wanted] == ["double"] * 2 + ["skiparse_double"] * 2 + ["double"] * 2
    assert [layer.knobs.get("mode") for layer in wanted[2:4]] == ["single", "group"]
    assert [layer.knobs for layer in wanted[4:]] == [{}, {"last": True, "spare": True}]


def test_what_is_not_implemented_is_refused() -> None:
    golden = load(FIXTURE)
    for setting in ({"double_ff": False}, {"norm_cls": "rms_norm"}, {"skip_connection": False}, {"patch_size_t": 2}):
        with pytest.raises(ValueError, match=f"{next(iter(setting))}=.* is not implemented"):
            LAYOUT.knobs({**golden.config, **setting}, golden.weights)
    with pytest.raises(ValueError, match=r"sparse_n=None of stages with \[2, 2, 2\] blocks: a config must say one"):
        LAYOUT.knobs({}, golden.weights)
    # the published config holds those of all parts
    assert LAYOUT.knobs({"predictor": golden.config}, golden.weights) == LAYOUT.knobs(golden.config, golden.weights)


@torch.no_grad()
def test_long_skips_start_as_none_and_join_mirror_stages(make_dit: Callable[..., DiT], make_condition: Any) -> None:
    latents, time, condition = torch.randn(2, 3, 3, 4, 4), torch.rand(2), make_condition(2)
    plain = make_dit("double", depth=5)
    skipping = make_dit("double", depth=5, stages=(1, 1, 1, 1, 1))
    skipping.load_state_dict({**skipping.state_dict(), **plain.state_dict()})
    fresh = LongSkips((1, 1, 1, 1, 1), 24, 24)
    skipping.skips.load_state_dict(fresh.state_dict())
    assert torch.allclose(skipping(latents, time, condition), plain(latents, time, condition), atol=1e-5)
    # tokens that only count what came: the second stage comes back first
    added = LongSkips((1, 2, 1, 2, 1), 4, 4)
    for layer in [*added.tokens, *added.text]:
        torch.nn.init.zeros_(layer.weight)
        layer.weight.data[:, 4:] = torch.eye(4)
    seen: list[float] = []

    def count(tokens: Tensor, text: Tensor, _: Any) -> tuple[Tensor, Tensor]:
        seen.append(float(tokens[0, 0, 0]))
        return tokens + 1, text + 1

    blocks: Any = [count] * 7
    condition_of_blocks: Any = None
    out, said = added.run(blocks, torch.zeros(1, 1, 4), torch.zeros(1, 1, 4), condition_of_blocks)
    assert seen == [0, 1, 2, 3, 3, 4, 1]
    assert float(out[0, 0, 0]) == float(said[0, 0, 0]) == 2


def test_stages_that_are_no_u_are_refused(make_dit: Callable[..., DiT]) -> None:
    with pytest.raises(ValueError, match=r"stages=\[1, 1\]: an odd number of them"):
        make_dit("double", stages=(1, 1))
    with pytest.raises(ValueError, match=r"stages=\[1, 2, 1\] have 4 blocks, not depth=2: make them agree"):
        make_dit("double", stages=(1, 2, 1))
