"""Guides against their formulas and against diffusers' guiders, and the batched call that they get."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.guiders import AdaptiveProjectedGuidance, ClassifierFreeGuidance
from torch import Generator, Tensor

from videogen.denoiser import Condition
from videogen.guidance import GUIDES, Branch, Moment
from videogen.pipelines.guidance import Guided, rescaled, stack_conditions
from videogen.schedulers.ddpm import DDPM
from videogen.schedulers.rectified_flow import RectifiedFlow

SHAPE = (2, 4, 3, 5, 6)
START = Moment(step=0, steps=10, level=3.0)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or SHAPE, generator=Generator().manual_seed(seed), dtype=torch.float64)


def predictions(seed: int = 0) -> dict[Branch, Tensor]:
    return {"full": draw(seed), "image": draw(seed + 1), "none": draw(seed + 2)}


def needed(guide: Any, scale: float, moment: Moment = START, seed: int = 0) -> dict[Branch, Tensor]:
    return {branch: predictions(seed)[branch] for branch in guide.branches(scale, moment)}


@pytest.mark.parametrize("name", GUIDES.names())
def test_every_guide_needs_what_it_says(name: str) -> None:
    guide = GUIDES.build(name)
    for scale in (0.0, 1.0, 3.0, 7.5):
        walk = guide.start()
        for step in range(20):
            moment = Moment(step, 20, 40.0 * 0.7**step)
            branches = walk.branches(scale, moment)
            assert branches[0] == "full"
            assert set(branches) <= set(guide.branches(scale))
            combined = walk.combine(needed(walk, scale, moment, step), scale, moment)
            assert combined.shape == SHAPE
            # equal predictions leave nothing to guide by
            same = {branch: draw(0) for branch in branches}
            torch.testing.assert_close(guide.start().combine(same, scale, moment), draw(0))


def test_classifier_free_guidance() -> None:
    guide = GUIDES.build("cfg")
    full, none = predictions()["full"], predictions()["none"]
    assert guide.branches(1.0) == ("full",)
    assert torch.equal(guide.combine(needed(guide, 1.0), 1.0, START), full)
    torch.testing.assert_close(guide.combine(needed(guide, 0.0), 0.0, START), none)
    theirs = ClassifierFreeGuidance(guidance_scale=6.0)
    torch.testing.assert_close(guide.combine(needed(guide, 6.0), 6.0, START), theirs.forward(full, none).pred)


@pytest.mark.parametrize("rescale", [0.0, 0.7, 1.0])
def test_rescaling(rescale: float) -> None:
    full, none = predictions()["full"], predictions()["none"]
    theirs = ClassifierFreeGuidance(guidance_scale=6.0, guidance_rescale=rescale)
    found = rescaled(none + 6 * (full - none), full, rescale)
    torch.testing.assert_close(found, theirs.forward(full, none).pred)
    if rescale == 1.0:
        torch.testing.assert_close(found.std((1, 2, 3, 4)), full.std((1, 2, 3, 4)))


@pytest.mark.parametrize("momentum", [0.0, -0.5])
@pytest.mark.parametrize("norm", [0.0, 0.3])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_adaptive_projected_guidance(eta: float, norm: float, momentum: float) -> None:
    scale, values = 6.0, SHAPE[1] * SHAPE[2] * SHAPE[3] * SHAPE[4]
    guide = GUIDES.build("apg", eta=eta, norm=norm, momentum=momentum)
    theirs = AdaptiveProjectedGuidance(
        # the paper's scale is theirs less 1, and its bound is of the norm, not of the root mean square
        guidance_scale=scale - 1,
        adaptive_projected_guidance_momentum=momentum or None,
        adaptive_projected_guidance_rescale=norm * values**0.5,
        eta=eta,
        use_original_formulation=True,
    )
    for _ in range(2):
        walk = guide.start()
        theirs.set_state(step=0, num_inference_steps=3, timestep=torch.tensor(0))
        theirs.prepare_inputs({})
        for step in range(3):
            given = needed(walk, scale, seed=3 * step)
            found = walk.combine(given, scale, START._replace(step=step))
            torch.testing.assert_close(found, theirs.forward(given["full"], given["none"]).pred)
    if eta == 1.0 and not norm and not momentum:
        plain = GUIDES.build("cfg").combine(given, scale, START)
        torch.testing.assert_close(found, plain)


@pytest.mark.parametrize(("first", "last"), [(0.0, 1.0), (0.2, 0.75), (0.33, 0.34)])
def test_an_interval_of_steps(first: float, last: float) -> None:
    guide = GUIDES.build("interval", low=0.0, high=1e9, first=first, last=last)
    theirs = ClassifierFreeGuidance(guidance_scale=6.0, start=first, stop=last)
    for step in range(10):
        theirs.set_state(step=step, num_inference_steps=10, timestep=torch.tensor(0))
        wanted = theirs.forward(predictions()["full"], predictions()["none"]).pred
        moment = START._replace(step=step)
        torch.testing.assert_close(guide.combine(needed(guide, 6.0, moment), 6.0, moment), wanted)
        assert len(guide.branches(6.0, moment)) == theirs.num_conditions


def test_an_interval_of_noise_levels() -> None:
    guide = GUIDES.build("interval", low=0.5, high=4.0)
    guided = [
        level for level in (0.2, 0.5, 0.51, 4.0, 4.1, torch.inf) if len(guide.branches(6.0, Moment(0, 9, level))) == 2
    ]
    assert guided == [0.51, 4.0]
    with pytest.raises(ValueError, match=r"low=4.0, high=0.5: noise levels that ascend"):
        GUIDES.build("interval", low=4.0, high=0.5)


def test_oscillating_guidance() -> None:
    guide = GUIDES.build("oscillating", steady=4)
    scales = [guide.scale_at(7.0, START._replace(step=step)) for step in range(8)]
    assert scales == [7, 7, 7, 7, 7, 1, 7, 1]
    assert GUIDES.build("oscillating", low=2.0).branches(1.0) == ("full", "none")


def test_a_scale_for_each_frame() -> None:
    guide = GUIDES.build("per_frame", first=1.0)
    full, none = predictions()["full"], predictions()["none"]
    found = guide.combine(needed(guide, 5.0), 5.0, START)
    for frame, scale in enumerate((1.0, 3.0, 5.0)):
        torch.testing.assert_close(found[:, :, frame], (none + scale * (full - none))[:, :, frame])


def test_text_and_image() -> None:
    full, image, none = (predictions()[name] for name in ("full", "image", "none"))
    wanted = none + 3 * (image - none) + 7.5 * (full - image)
    guide = GUIDES.build("text_image", image_scale=3.0)
    torch.testing.assert_close(guide.combine(needed(guide, 7.5), 7.5, START), wanted)
    # what has no weight isn't asked for, and the sum stays the same
    assert guide.branches(3.0) == ("full", "none")
    torch.testing.assert_close(guide.combine(needed(guide, 3.0), 3.0, START), none + 3 * (full - none))
    guide = GUIDES.build("text_image", image_scale=1.0)
    assert guide.branches(7.5) == ("full", "image")
    torch.testing.assert_close(guide.combine(needed(guide, 7.5), 7.5, START), image + 7.5 * (full - image))


class Network:
    """A denoiser that tells what it is given: x * the mean of the text, plus its time."""

    conditions = frozenset({"text"})

    def __init__(self) -> None:
        self.calls: list[tuple[int, Tensor]] = []

    def __call__(self, latents: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        assert condition.text is not None
        assert condition.text_mask is not None
        self.calls.append((len(latents), timestep))
        weight = (condition.text * condition.text_mask[..., None]).sum((1, 2))
        return torch.tanh(latents * weight.view(-1, 1, 1, 1, 1)) + timestep.view(-1, 1, 1, 1, 1)


def conditions() -> dict[Branch, Condition]:
    texts: dict[Branch, Tensor] = {"full": draw(5, 2, 4, 3), "image": draw(6, 2, 2, 3), "none": draw(7, 2, 1, 3)}
    masks = {name: torch.ones(text.shape[:2], dtype=torch.bool) for name, text in texts.items()}
    return {name: Condition(text=text, text_mask=masks[name]) for name, text in texts.items()}


@pytest.mark.parametrize("name", GUIDES.names())
def test_the_batched_call_is_that_of_each_branch_alone(name: str) -> None:
    network, guide, objective = Network(), GUIDES.build(name), RectifiedFlow(prediction="x0")
    settings: dict[str, Any] = {"scale": 5.0, "rescale": 0.0, "objective": objective, "levels": [9.0, 3.0, 1.0]}
    guided = Guided(network, guide, conditions=conditions(), **settings)
    time = objective.time_of(torch.tensor(1.0), torch.tensor(3.0))
    found = guided(draw(0), time)
    branches = guide.branches(5.0, Moment(1, 3, 3.0))
    assert [size for size, _ in network.calls] == [2 * len(branches)]
    alone = {branch: network(draw(0), time.expand(2), conditions()[branch]) for branch in branches}
    torch.testing.assert_close(found, guide.start().combine(alone, 5.0, Moment(1, 3, 3.0)))


def test_a_guide_that_wants_clean_latents_gets_them_whatever_is_predicted() -> None:
    ends = []
    for prediction in ("x0", "epsilon", "v"):
        objective = DDPM(prediction=prediction)
        time = torch.tensor(500.0, dtype=torch.float64)

        class Told(Network):
            def __call__(self, latents: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
                x0 = super().__call__(latents, timestep / 1000, condition)
                return objective.join(x0, objective.noise_of(x0, latents, timestep), timestep)  # noqa: B023

        settings: dict[str, Any] = {"scale": 5.0, "rescale": 0.0, "objective": objective, "levels": [9.0]}
        guided = Guided(Told(), GUIDES.build("apg"), conditions=conditions(), **settings)
        ends.append(objective.split(guided(draw(0), time), draw(0), time)[0])
    torch.testing.assert_close(ends[1], ends[0])
    torch.testing.assert_close(ends[2], ends[0])


def test_stacked_conditions_are_padded_and_masked() -> None:
    long = Condition(text=torch.ones(1, 3, 2), text_mask=torch.ones(1, 3, dtype=torch.bool), pooled=torch.ones(1, 2))
    short = Condition(text=torch.ones(1, 1, 2), text_mask=torch.ones(1, 1, dtype=torch.bool), pooled=torch.zeros(1, 2))
    stacked = stack_conditions([long, short])
    assert stacked.text is not None
    assert stacked.text_mask is not None
    assert stacked.pooled is not None
    assert stacked.text_mask.tolist() == [[True, True, True], [True, False, False]]
    assert stacked.text[1, 1:].abs().sum() == 0
    assert stacked.pooled.shape == (2, 2)
    with pytest.raises(ValueError, match=r"condition\.pooled is set in some branches"):
        stack_conditions([long, Condition(text=short.text, text_mask=short.text_mask)])
