"""The DiT around its blocks: patches, positions, time, what it takes and what it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from videogen.denoiser import DENOISERS, Condition
from videogen.dit.blocks import BLOCKS
from videogen.dit.embeddings import absolute_positions, patchify, sincos, token_grid, unpatchify
from videogen.dit.model import DiT
from videogen.dit.rope import rotary_table, rotate, split_head_dim
from videogen.kernels import ATTENTION

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


def test_attention_scores_see_only_offsets() -> None:
    table = rotary_table((4, 5, 6), 16, 100.0, CPU)
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)
    everywhere = [rotate(x.expand(1, 1, 120, 16).double(), table)[0, 0].view(4, 5, 6, 16) for x in (q, k)]
    moved = [x[1:, 1:, 2:].reshape(-1, 16) for x in everywhere]
    still = [x[:-1, :-1, :-2].reshape(-1, 16) for x in everywhere]
    # the angles are rounded to float32 once: 6e-8 times values of some size 4
    assert torch.allclose(moved[0] @ moved[1].T, still[0] @ still[1].T, atol=2e-6)
    assert not torch.allclose(
        everywhere[0][0, 0, 0] @ everywhere[1][1, 0, 0], q.double().flatten() @ k.double().flatten()
    )


def test_rotation_keeps_lengths_and_dtypes() -> None:
    table = rotary_table((2, 3, 4), 12, 10000.0, CPU)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 1e-2)):
        x = torch.randn(2, 3, 24, 12).to(dtype)
        turned = rotate(x, table)
        assert turned.dtype == dtype
        assert torch.allclose(turned.float().norm(dim=-1), x.float().norm(dim=-1), rtol=tolerance)


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
    code = absolute_positions((2, 3, 4), 24, CPU).view(2, 3, 4, 24)
    time, rows, columns = code.split(8, dim=-1)
    assert torch.equal(time[:, 0, 0], sincos(torch.tensor([0.0, 1.0]), 8))
    assert torch.equal(rows[0, :, 0], sincos(torch.tensor([-1.0, 0.0, 1.0]), 8))
    assert torch.equal(columns[0, 0], sincos(torch.tensor([-1.5, -0.5, 0.5, 1.5]), 8))
    assert torch.equal(code[1, 2, 3], torch.cat([time[1, 0, 0], rows[0, 2, 0], columns[0, 0, 3]]))


@pytest.mark.parametrize(("position", "sees_place"), [("none", False), ("rope", False), ("rope+absolute", True)])
def test_what_a_position_knob_lets_the_model_see(
    make_dit: MakeDiT, make_condition: MakeCondition, position: str, sees_place: bool
) -> None:
    model = make_dit(position=position)
    one_patch = torch.randn(1, 3, 1, 2, 2).repeat(1, 1, 1, 2, 2)
    # four equal patches: only an absolute code tells them apart
    out = patchify(model(one_patch, torch.rand(1), make_condition(1)), (1, 2, 2))
    assert torch.allclose(out, out[:, :1].expand_as(out), atol=1e-5) is not sees_place


def test_rope_sees_the_order_of_tokens(make_dit: MakeDiT, make_condition: MakeCondition) -> None:
    latents, timestep, condition = torch.randn(1, 3, 1, 2, 8), torch.rand(1), make_condition(1)
    swapped = latents[..., [0, 1, 4, 5, 2, 3, 6, 7]]
    for position, equal in (("none", True), ("rope", False)):
        model = make_dit(position=position)
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
    steps = make_dit(timestep_scale=1.0)
    assert torch.allclose(steps(latents, torch.tensor([500]), condition), out, atol=1e-5)


def test_it_is_built_by_name_from_plain_knobs() -> None:
    attention = ATTENTION.build("sdpa")
    layer = lambda dim, heads: BLOCKS.build("factorized", dim, heads, attention, mlp_ratio=2.0)  # noqa: E731
    model = DENOISERS.build("dit", 16, 192, layer, depth=1, patch_size=(1, 1, 1))
    assert model.blocks[0].mlp[0].weight.shape == (512, 256)
    assert {knob.name for knob in DENOISERS.knobs("dit")} >= {"dim", "depth", "num_heads", "patch_size", "position"}


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
        make_dit(text_pooled=False)(torch.randn(2, 3, 2, 4, 6), torch.rand(2), make_condition(2))
    with pytest.raises(ValueError, match="a timestep a frame needs patches of 1 frame, not 2"):
        make_dit(patch_size=(2, 2, 2))(torch.randn(2, 3, 2, 4, 6), torch.rand(2, 2), make_condition(2))
    with pytest.raises(ValueError, match="dim 24 can't be split over 5 heads"):
        make_dit(num_heads=5)
    with pytest.raises(ValueError, match="head_dim 3 has no three even parts"):
        make_dit(num_heads=8)
    assert make_dit(num_heads=8, position="none").head_dim == 3
    with pytest.raises(ValueError, match="position 'learned' is unknown"):
        make_dit(position="learned")
