"""The DiT around its blocks: patches, positions, time, what it takes and what it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from videogen.denoiser import DENOISERS, Condition
from videogen.dit.codes import centred_code, sincos
from videogen.dit.embeddings import patchify, token_grid, unpatchify
from videogen.dit.model import DiT
from videogen.dit.parts import choose
from videogen.dit.positions import POSITIONS
from videogen.dit.positions.rope import split_head_dim
from videogen.registry import RegistryError

MakeDiT, MakeCondition = Callable[..., DiT], Callable[..., Condition]
CPU = torch.device("cpu")


def test_patches_are_cut_in_order_and_put_back() -> None:
    latents = torch.randn(2, 3, 4, 6, 4)
    tokens = patchify(latents, (2, 3, 2))
    assert token_grid((4, 6, 4), (2, 3, 2)) == (2, 2, 2)
    # token 5 stands at t=1, y=0, x=1
    assert torch.equal(tokens[:, 5], latents[:, :, 2:4, 0:3, 2:4].flatten(1))
    assert torch.equal(unpatchify(tokens, (2, 2, 2), (2, 3, 2)), latents)


@pytest.mark.parametrize("patch_size", [(1, 2, 2), (2, 1, 2), (1, 1, 1)])
def test_a_new_model_predicts_zero(
    make_dit: MakeDiT, make_condition: MakeCondition, patch_size: tuple[int, int, int]
) -> None:
    out = make_dit(random=False, patch_size=patch_size)(torch.randn(2, 3, 2, 4, 6), torch.rand(2), make_condition(2))
    assert torch.equal(out, torch.zeros(2, 3, 2, 4, 6))


def test_every_parameter_learns(make_dit: MakeDiT, make_condition: MakeCondition) -> None:
    model = make_dit()
    model(torch.randn(2, 3, 2, 4, 6), torch.rand(2), make_condition(2)).square().sum().backward()
    assert [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


PAIRS = ("half", "axis_half", "interleaved")


@pytest.mark.parametrize("pairs", PAIRS)
def test_attention_scores_see_only_offsets(pairs: str) -> None:
    table = POSITIONS.build("rope", 16, 1, theta=100.0, pairs=pairs).rotary((4, 5, 6), CPU)
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)
    everywhere = [table.turn(x.expand(1, 120, 1, 16).double())[0, :, 0].view(4, 5, 6, 16) for x in (q, k)]
    moved = [x[1:, 1:, 2:].reshape(-1, 16) for x in everywhere]
    still = [x[:-1, :-1, :-2].reshape(-1, 16) for x in everywhere]
    # the angles are rounded to float32 once: 6e-8 times values of some size 4
    assert torch.allclose(moved[0] @ moved[1].T, still[0] @ still[1].T, atol=2e-6)
    assert not torch.allclose(
        everywhere[0][0, 0, 0] @ everywhere[1][1, 0, 0], q.double().flatten() @ k.double().flatten()
    )


@pytest.mark.parametrize("pairs", PAIRS)
def test_rotation_keeps_lengths_and_dtypes(pairs: str) -> None:
    table = POSITIONS.build("rope", 36, 3, pairs=pairs).rotary((2, 3, 4), CPU)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 1e-2)):
        x = torch.randn(2, 24, 3, 12).to(dtype)
        turned = table.turn(x)
        assert turned.dtype == dtype
        assert torch.allclose(turned.float().norm(dim=-1), x.float().norm(dim=-1), rtol=tolerance)


def test_which_channels_turn_together() -> None:
    # at (t, y, x) = (1, 1, 1), with one pair an axis, every pair turns by one radian
    partner = {"half": [3, 4, 5], "axis_half": [1, 3, 5], "interleaved": [1, 3, 5]}
    first = {"half": [0, 1, 2], "axis_half": [0, 2, 4], "interleaved": [0, 2, 4]}
    for pairs in PAIRS:
        table = POSITIONS.build("rope", 6, 1, pairs=pairs).rotary((2, 2, 2), CPU)
        for a, b in zip(first[pairs], partner[pairs], strict=True):
            unit = torch.zeros(1, 8, 1, 6)
            unit[..., a] = 1.0
            wanted = torch.zeros(6)
            wanted[a], wanted[b] = torch.tensor(1.0).cos(), torch.tensor(1.0).sin()
            assert torch.allclose(table.turn(unit)[0, -1, 0], wanted)


def test_channels_that_are_left_over_do_not_turn_and_scale_divides_places() -> None:
    x = torch.randn(1, 12, 1, 16)
    rope = POSITIONS.build("rope", 16, 1, split=(4, 4, 4), pairs="axis_half")
    assert torch.equal(rope.rotary((1, 3, 4), CPU).turn(x)[..., 12:], x[..., 12:])
    wide = POSITIONS.build("rope", 16, 1, scale=(1.0, 2.0, 1.0)).rotary((1, 5, 1), CPU)
    plain = POSITIONS.build("rope", 16, 1).rotary((1, 3, 1), CPU)
    assert torch.equal(wide.cos[::2], plain.cos)
    with pytest.raises(ValueError, match=r"split \(8, 8, 8\) must be even numbers that fit a head_dim of 16"):
        POSITIONS.build("rope", 16, 1, split=(8, 8, 8))


@pytest.mark.parametrize(
    ("head_dim", "parts"), [(64, (16, 24, 24)), (128, (32, 48, 48)), (72, (20, 26, 26)), (6, (2, 2, 2))]
)
def test_a_head_is_split_evenly(head_dim: int, parts: tuple[int, int, int]) -> None:
    assert split_head_dim(head_dim) == parts
    assert sum(parts) == head_dim


def test_a_table_made_in_inference_mode_serves_training(make_dit: MakeDiT, make_condition: MakeCondition) -> None:
    model, condition = make_dit(), make_condition(1)
    # a grid that no other test uses, so that this call is the one that fills the cache
    latents = torch.randn(1, 3, 7, 2, 22)
    with torch.inference_mode():
        model(latents, torch.rand(1), condition)
    model(latents, torch.rand(1), condition).sum().backward()
    assert torch.isfinite(model.double()(latents.double(), torch.rand(1), Condition())).all()


def test_absolute_positions_are_centred_and_count_time_from_the_start() -> None:
    code = centred_code((2, 3, 4), 24, CPU).view(2, 3, 4, 24)
    time, rows, columns = code.split(8, dim=-1)
    assert torch.equal(time[:, 0, 0], sincos(torch.tensor([0.0, 1.0]), 8))
    assert torch.equal(rows[0, :, 0], sincos(torch.tensor([-1.0, 0.0, 1.0]), 8))
    assert torch.equal(columns[0, 0], sincos(torch.tensor([-1.5, -0.5, 0.5, 1.5]), 8))
    assert torch.equal(code[1, 2, 3], torch.cat([time[1, 0, 0], rows[0, 2, 0], columns[0, 0, 3]]))


@pytest.mark.parametrize(
    ("position", "sees_place"), [("none", False), ("rope", False), ({"name": "rope", "absolute": True}, True)]
)
def test_what_a_position_lets_the_model_see(
    make_dit: MakeDiT, make_condition: MakeCondition, position: object, sees_place: bool
) -> None:
    model = make_dit(parts={"position": position})
    one_patch = torch.randn(1, 3, 1, 2, 2).repeat(1, 1, 1, 2, 2)
    # four equal patches: only an absolute code tells them apart
    out = patchify(model(one_patch, torch.rand(1), make_condition(1)), (1, 2, 2))
    assert torch.allclose(out, out[:, :1].expand_as(out), atol=1e-5) is not sees_place


def test_rope_sees_the_order_of_tokens(make_dit: MakeDiT, make_condition: MakeCondition) -> None:
    latents, timestep, condition = torch.randn(1, 3, 1, 2, 8), torch.rand(1), make_condition(1)
    swapped = latents[..., [0, 1, 4, 5, 2, 3, 6, 7]]
    for position, equal in (("none", True), ("rope", False)):
        model = make_dit(parts={"position": position})
        first, last = model(latents, timestep, condition)[..., :2], model(swapped, timestep, condition)[..., :2]
        assert torch.allclose(first, last, atol=1e-5) is equal


def test_time_and_pooled_text_matter(make_dit: MakeDiT, make_condition: MakeCondition) -> None:
    model, latents, condition = make_dit(), torch.randn(1, 3, 2, 4, 4), make_condition(1)
    out = model(latents, torch.tensor([0.5]), condition)
    assert not torch.allclose(model(latents, torch.tensor([0.51]), condition), out, atol=1e-3)
    assert not torch.allclose(
        model(latents, torch.tensor([0.5]), dataclasses.replace(condition, pooled=None)), out, atol=1e-3
    )
    # 0.5 of [0, 1] and step 500 of 1000 are the same time
    steps = make_dit(parts={"time": {"name": "sincos", "scale": 1.0}})
    assert torch.allclose(steps(latents, torch.tensor([500]), condition), out, atol=1e-5)


def test_it_is_built_by_name_from_plain_knobs() -> None:
    parts = choose(block="factorized", mlp={"name": "gelu", "ratio": 2.0})
    model = DENOISERS.build("dit", 16, 192, parts, depth=1, patch_size=(1, 1, 1))
    assert model.blocks[0].mlp[0].weight.shape == (512, 256)
    assert {knob.name for knob in DENOISERS.knobs("dit")} >= {"dim", "depth", "num_heads", "patch_size", "layers"}


def test_a_choice_that_is_not_there_is_refused_before_anything_is_built() -> None:
    with pytest.raises(RegistryError, match=r"no dit/mlp is called 'swigul': did you mean 'swiglu'"):
        choose(mlp="swigul")
    with pytest.raises(RegistryError, match=r"dit/mlp 'gelu' has no knob 'ration'"):
        choose(mlp={"name": "gelu", "ration": 2.0})


def test_a_schedule_gives_each_layer_its_block(make_dit: MakeDiT, make_condition: MakeCondition) -> None:
    model = make_dit(
        "factorized", depth=6, layers="[full3d, [skiparse(k=2), skiparse(mode=group, k=2)]*2, block]", num_heads=2
    )
    assert [type(block).__name__ for block in model.blocks] == [
        "Full3DBlock", "SkiparseBlock", "SkiparseBlock", "SkiparseBlock", "SkiparseBlock", "FactorizedBlock",
    ]  # fmt: skip
    assert model(torch.randn(2, 3, 2, 4, 6), torch.rand(2), make_condition(2)).shape == (2, 3, 2, 4, 6)
    with pytest.raises(ValueError, match=r"are 2, not depth=3: make them agree"):
        make_dit(depth=3, layers="[full3d*2]")
    with pytest.raises(RegistryError, match=r"no dit/block is called 'ful3d': did you mean 'full3d'"):
        make_dit(depth=1, layers="[ful3d]")
    with pytest.raises(ValueError, match="`block` is the chosen block, whose knobs are set there"):
        make_dit(depth=1, layers="[block(k=2)]")


def test_what_the_text_gives_is_computed_once_a_condition(make_dit: MakeDiT, make_condition: MakeCondition) -> None:
    model, condition, latents = make_dit(), make_condition(2), torch.randn(2, 3, 2, 4, 6)
    asked = []
    for block in model.blocks:
        block.cross.kv.register_forward_hook(lambda *_: asked.append(1))
    with torch.no_grad():
        outs = [model(latents, torch.full((2,), t), condition) for t in (0.2, 0.8)]
        assert len(asked) == 2
        fresh = [model(latents, torch.full((2,), t), make_condition(2)) for t in (0.2, 0.8)]
        assert all(torch.equal(a, b) for a, b in zip(outs, fresh, strict=True))
        # new weights are seen
        model.blocks[0].cross.kv.weight.mul_(2.0)
        assert torch.equal(model(latents, torch.rand(2), condition), model(latents, torch.rand(2), condition)) is False
        moved = model(latents, torch.full((2,), 0.2), condition)
        assert torch.equal(moved, model(latents, torch.full((2,), 0.2), make_condition(2)))
        assert not torch.equal(moved, outs[0])
    # a copy with another text has a memory of its own
    with torch.no_grad():
        other = dataclasses.replace(condition, text=condition.text.flip(1))
        assert not torch.equal(model(latents, torch.full((2,), 0.2), other), moved)


@pytest.mark.parametrize("modulation", ["adaln_zero", "adaln_single"])
@pytest.mark.parametrize("mlp", ["gelu", "geglu", "swiglu"])
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_parts_go_together(
    make_dit: MakeDiT, make_condition: MakeCondition, modulation: str, mlp: str, norm: str
) -> None:
    for qk_norm, caption in (("rms", "mlp"), ("rms_heads", "linear"), ("layer", "normed_mlp"), ("none", "mlp")):
        parts = {"modulation": modulation, "mlp": mlp, "norm": norm, "qk_norm": qk_norm, "caption": caption}
        model = make_dit("factorized", parts=parts, layers="[factorized, full3d]")
        out = model(torch.randn(2, 3, 2, 4, 6), torch.rand(2), make_condition(2))
        out.square().sum().backward()
        assert [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_scalars_are_read_and_a_learned_variance_is_predicted(make_dit: MakeDiT, make_condition: MakeCondition) -> None:
    fps = {"time": {"name": "sincos", "scalars": ("fps",)}}
    model, latents, timestep = make_dit(parts=fps, learned_sigma=True), torch.randn(2, 3, 2, 4, 6), torch.rand(2)
    slow, fast = (dataclasses.replace(make_condition(2), fps=torch.full((2,), fps)) for fps in (8.0, 24.0))
    assert model(latents, timestep, slow).shape == (2, 6, 2, 4, 6)
    assert not torch.allclose(model(latents, timestep, slow), model(latents, timestep, fast), atol=1e-3)


def test_wrong_inputs_are_refused_with_a_remedy(make_dit: MakeDiT, make_condition: MakeCondition) -> None:
    model, latents, timestep, good = make_dit(), torch.randn(2, 3, 2, 4, 6), torch.rand(2), make_condition(2)

    def refused(
        message: str, latents: torch.Tensor = latents, timestep: torch.Tensor = timestep, **fields: object
    ) -> None:
        with pytest.raises(ValueError, match=message):
            model(latents, timestep, dataclasses.replace(good, **fields))

    refused(r"5 latent rows do not fit a patch of 2: use 4 or 6", latents=torch.randn(2, 3, 2, 5, 6))
    refused(r"1 latent columns do not fit a patch of 2: use 2", latents=torch.randn(2, 3, 2, 4, 1))
    refused(r"\(2, 4, 2, 4, 6\) are not \(B, 3, T, H, W\)", latents=torch.randn(2, 4, 2, 4, 6))
    refused(
        r"timesteps of shape \(2, 3\) fit neither \(B,\) = \(2,\) nor \(B, T\) = \(2, 2\)", timestep=torch.rand(2, 3)
    )
    refused(r"text has the shape \(2, 5, 11\): this model takes \(2, any, 10\)", text=torch.randn(2, 5, 11))
    refused(r"text_mask has the shape \(2, 4\)", text_mask=torch.ones(2, 4, dtype=torch.bool))
    refused(r"text_mask is bool.*pass text_mask.bool\(\)", text_mask=torch.ones(2, 5))
    refused(r"text_mask is given without condition.text", text=None)
    refused(r"pooled has the shape \(2, 11\)", pooled=torch.randn(2, 11))
    refused(r"valid has the shape \(2, 2, 4\)", valid=torch.ones(2, 2, 4, dtype=torch.bool))
    refused(r"dit would ignore condition.fps, condition.image", fps=torch.ones(2), image=torch.ones(2, 1, 3))


def test_what_the_knobs_rule_out_is_refused(make_dit: MakeDiT, make_condition: MakeCondition) -> None:
    with pytest.raises(ValueError, match=r"dit would ignore condition.pooled"):
        make_dit(parts={"pool": "none"})(torch.randn(2, 3, 2, 4, 6), torch.rand(2), make_condition(2))
    with pytest.raises(ValueError, match="a timestep a frame needs patches of 1 frame, not 2"):
        make_dit(patch_size=(2, 2, 2))(torch.randn(2, 3, 2, 4, 6), torch.rand(2, 2), make_condition(2))
    with pytest.raises(ValueError, match="dim 24 can't be split over 5 heads"):
        make_dit(num_heads=5)
    with pytest.raises(ValueError, match="head_dim 3 has no three even parts"):
        make_dit(num_heads=8)
    assert make_dit(num_heads=8, parts={"position": "none"}).blocks[0].attention.num_heads == 8
