"""Latents of known frames beside the noisy ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from videogen.denoiser import Condition
from videogen.dit.known._channels import known_channels
from videogen.dit.model import DiT

MakeDiT, MakeCondition = Callable[..., DiT], Callable[..., Condition]
SIZE = (2, 3, 3, 4, 4)


def taking(name: str, mask_channels: int = 0) -> dict[str, Any]:
    return {"known": {"name": name, "mask_channels": mask_channels}}


def test_channels_stand_in_order() -> None:
    latents, known = torch.randn(SIZE), torch.randn(SIZE)
    frames = torch.tensor([[True, False, False], [True, False, True]])
    assert torch.equal(known_channels(latents, Condition(known=known), 0), known)
    joined = known_channels(latents, Condition(known=known, known_mask=frames), 2)
    assert torch.equal(joined[:, :2], frames[:, None, :, None, None].expand(2, 2, 3, 4, 4).float())
    assert torch.equal(joined[:, 2:], known)
    # a mask of its own for each channel and place, as for the frames of video behind a latent one
    places = torch.rand(2, 2, 3, 4, 4) > 0.5
    assert torch.equal(known_channels(latents, Condition(known=known, known_mask=places), 2)[:, :2], places.float())


@pytest.mark.parametrize("channels", [0, 1, 4])
def test_the_model_sees_what_is_known(make_dit: MakeDiT, make_condition: MakeCondition, channels: int) -> None:
    model = make_dit(parts=taking("concat", channels))
    mask = torch.tensor([[True, False, False], [True, True, False]]) if channels else None
    condition = dataclasses.replace(make_condition(2), known=torch.randn(SIZE), known_mask=mask)
    latents, timestep = torch.randn(SIZE), torch.rand(2)
    out = model(latents, timestep, condition)
    assert out.shape == SIZE
    other = dataclasses.replace(condition, known=torch.randn(SIZE))
    assert not torch.allclose(model(latents, timestep, other), out, atol=1e-3)
    if mask is not None:
        assert not torch.allclose(
            model(latents, timestep, dataclasses.replace(condition, known_mask=~mask)), out, atol=1e-3
        )
    out.square().sum().backward()
    assert all(value.grad is not None and value.grad.any() for value in [model.embed.weight])


def test_padding_may_hold_anything(make_dit: MakeDiT, make_condition: MakeCondition) -> None:
    model = make_dit(parts=taking("concat"))
    valid = torch.ones(2, 3, 4, 4, dtype=torch.bool)
    valid[1, :, 2:] = False
    condition = dataclasses.replace(make_condition(2, valid=valid), known=torch.randn(SIZE))
    holes = dataclasses.replace(condition, known=condition.known.masked_fill(~valid[:, None], float("nan")))
    latents, timestep = torch.randn(SIZE), torch.rand(2)
    assert torch.equal(model(latents, timestep, holes), model(latents, timestep, condition))


def test_what_is_missing_or_would_be_ignored_is_refused(make_dit: MakeDiT, make_condition: MakeCondition) -> None:
    latents, timestep, condition = torch.randn(SIZE), torch.rand(2), make_condition(2)
    known, mask = torch.randn(SIZE), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"dit would ignore condition\.known"):
        make_dit()(latents, timestep, dataclasses.replace(condition, known=known))
    unmasked, masked = make_dit(parts=taking("concat")), make_dit(parts=taking("concat", 4))
    with pytest.raises(ValueError, match=r"condition\.known is missing"):
        unmasked(latents, timestep, condition)
    with pytest.raises(ValueError, match=r"dit would ignore condition\.known_mask"):
        unmasked(latents, timestep, dataclasses.replace(condition, known=known, known_mask=mask))
    with pytest.raises(ValueError, match=r"condition\.known_mask is missing"):
        masked(latents, timestep, dataclasses.replace(condition, known=known))
    with pytest.raises(ValueError, match=r"condition\.known_mask has the shape \(2, 2\): this model takes \(2, 3\)"):
        masked(latents, timestep, dataclasses.replace(condition, known=known, known_mask=mask[:, :2]))
    with pytest.raises(ValueError, match=r"condition\.known has the shape"):
        unmasked(latents, timestep, dataclasses.replace(condition, known=known[:, :2]))
    with pytest.raises(ValueError, match="mask_channels=-1 is below 0: use 0 for no mask"):
        make_dit(parts=taking("concat", -1))


def test_known_latents_through_a_layer_of_their_own_are_added_to_the_tokens(
    make_dit: MakeDiT, make_condition: MakeCondition
) -> None:
    model = make_dit(parts=taking("add", 1))
    latents, timestep, condition = torch.randn(SIZE), torch.rand(2), make_condition(2)
    nothing = {"known": torch.zeros(SIZE), "known_mask": torch.zeros(2, 3, dtype=torch.bool)}
    given = {"known": torch.randn(SIZE), "known_mask": torch.tensor([[True, False, False]] * 2)}
    out = model(latents, timestep, condition)
    assert torch.equal(model(latents, timestep, dataclasses.replace(condition, **nothing)), out)
    seen = model(latents, timestep, dataclasses.replace(condition, **given))
    assert not torch.allclose(seen, out, atol=1e-3)
    # the layer's own product, mask first
    model.known.layer.weight.data.zero_()
    assert torch.equal(
        model(latents, timestep, dataclasses.replace(condition, **given)), model(latents, timestep, condition)
    )
    with pytest.raises(ValueError, match=r"condition\.known_mask is given without condition\.known"):
        model(latents, timestep, dataclasses.replace(condition, known_mask=given["known_mask"]))


@pytest.mark.parametrize("channels", [0, 4])
def test_an_embedding_of_what_is_known_starts_as_nothing(
    make_dit: MakeDiT, make_condition: MakeCondition, channels: int
) -> None:
    model = make_dit(parts=taking("embed", channels))
    mask = torch.tensor([[True, False, False], [True, True, False]]) if channels else None
    condition = dataclasses.replace(make_condition(2), known=torch.randn(SIZE), known_mask=mask)
    latents, timestep = torch.randn(SIZE), torch.rand(2)
    out = model(latents, timestep, condition)
    out.square().sum().backward()
    assert [key for key, value in model.known.named_parameters() if not value.grad.any()] == []
    if mask is not None:
        others = dataclasses.replace(condition, known_mask=~mask)
        assert not torch.allclose(model(latents, timestep, others), out, atol=1e-3)
    with pytest.raises(ValueError, match=r"condition\.known is missing"):
        model(latents, timestep, make_condition(2))
    # as it is before training, it is the model that knows nothing
    new, plain = make_dit(parts=taking("embed", channels), random=False), make_dit()
    weights = plain.state_dict()
    new.load_state_dict({key: weights.get(key, value) for key, value in new.state_dict().items()})
    assert torch.equal(new(latents, timestep, condition), plain(latents, timestep, make_condition(2)))


def test_a_mask_of_pixels_may_be_fractions_and_one_of_frames_may_not(
    make_dit: MakeDiT, make_condition: MakeCondition
) -> None:
    model = make_dit(parts=taking("embed", 2))
    condition = dataclasses.replace(make_condition(2), known=torch.randn(SIZE))
    latents, timestep, places = torch.randn(SIZE), torch.rand(2), torch.rand(2, 2, 3, 4, 4) > 0.5
    out = model(latents, timestep, dataclasses.replace(condition, known_mask=places))
    assert torch.equal(model(latents, timestep, dataclasses.replace(condition, known_mask=places.float())), out)
    half = model(latents, timestep, dataclasses.replace(condition, known_mask=0.5 * places))
    assert not torch.allclose(half, out, atol=1e-3)
    with pytest.raises(ValueError, match=r"condition\.known_mask is bool"):
        model(latents, timestep, dataclasses.replace(condition, known_mask=torch.ones(2, 3)))
