"""Films of which something is known: kept without noise by a model that was trained so, put into the film of any."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import videogen
from videogen.dit.parts import choose
from videogen.pipelines.known import Pasted, plan_known
from videogen.pipelines.latents import decode_film, encode_film
from videogen.pipelines.sampling import Sampling
from videogen.pipelines.text_to_video import TextToVideo
from videogen.schedulers import SCHEDULERS
from videogen.tasks import Known
from videogen.vae import VAESpec

FRAMES, HEIGHT, WIDTH = 9, 16, 24


def pipeline(scheduler: str = "rectified_flow", objective: str = "rectified_flow", **sampling: Any) -> TextToVideo:
    torch.manual_seed(0)
    denoiser = videogen.build("denoiser", "dit", 4, 16, choose(), dim=32, depth=2, num_heads=2, patch_size=(1, 1, 1))
    for parameter in denoiser.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    text = videogen.build("text", "words", vocabulary=("a", "circle", "red"), dim=16, depth=1, num_heads=2)
    trained = videogen.build("scheduler", objective, prediction="v")
    solver = SCHEDULERS.describe(scheduler).wiring
    vae = videogen.build(
        "vae", "wavelet", latent_channels=4, base_channels=8, encoder_flow=8, use_attention=False, num_res_blocks=1
    )
    settings = {"num_frames": FRAMES, "height": HEIGHT, "width": WIDTH, "steps": 3, "guidance": 2.0} | sampling
    return TextToVideo(
        vae=vae.eval(),
        denoiser=denoiser,
        text=text,
        objective=trained,
        scheduler=SCHEDULERS.build(scheduler, *([trained] if solver else [])),
        sampling=Sampling(**settings),
    )


def film(batch: int = 1, frames: int = FRAMES) -> Tensor:
    return torch.rand(batch, 3, frames, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("scheduler", SCHEDULERS.names())
def test_known_frames_end_as_they_were_under_every_scheduler(scheduler: str) -> None:
    pipe = pipeline(scheduler, clean_frames="any")
    told: list[tuple[Tensor, Tensor]] = []
    pipe.denoiser.register_forward_pre_hook(lambda _, given: told.append((given[0], given[1])))
    # nine frames are three latent ones: the first frame, and the last four
    given = {0: film()[0, :, 0], **{place: film()[0, :, place] for place in range(5, 9)}}
    ends: list[Tensor] = []
    made = pipe("a red circle", image=given, callback=lambda _, latents: ends.append(latents))
    assert bool(made.isfinite().all())
    known = film()
    known[:, :, 1:5] = known[:, :, 5:6]
    with torch.no_grad():
        latents = encode_film(pipe.vae, known)
    clean = pipe.bridge.objective.time_of(torch.ones(()).double(), torch.zeros(()).double())
    for sample, times in told:
        assert times.shape == (len(sample), 3)
        assert torch.equal(sample[:, :, [0, 2]], latents[:, :, [0, 2]].expand(len(sample), -1, -1, -1, -1))
        assert (times[:, [0, 2]] == clean).all()
        assert (times[:, 1] != clean).all()
    # the walk itself leads to them
    torch.testing.assert_close(ends[-1][:, :, [0, 2]], latents[:, :, [0, 2]], rtol=0, atol=1e-4)
    with torch.no_grad():
        wanted = torch.stack([latents[:, :, 0], ends[-1][:, :, 1], latents[:, :, 2]], 2)
        torch.testing.assert_close(made, decode_film(pipe.vae, wanted).clamp(-1, 1), rtol=0, atol=1e-3)


def test_a_batch_with_known_frames_is_its_films_alone() -> None:
    pipe = pipeline(clean_frames="any")
    prompts, images = ["a red circle", "a circle"], film(2)[:, :, 0]
    together = pipe(prompts, image=images, seed=[3, 4])
    for row in range(2):
        alone = pipe(prompts[row], image=images[row], seed=3 + row)
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=2e-4)


def test_pixels_within_a_frame_are_kept_by_a_model_that_was_never_told() -> None:
    pipe = pipeline(steps=4)
    pipe.task = videogen.build("task", "inpaint", box=(0.0, 0.0, 1.0, 0.5))
    made = pipe("a red circle", video=film())
    assert torch.equal(made[..., 12:], film()[..., 12:])
    assert not torch.allclose(made[..., :12], film()[..., :12], atol=0.1)
    # what is known has to do with what is made
    other = film()
    other[..., 12:] *= -1
    assert not torch.allclose(made[..., :12], pipe("a red circle", video=other)[..., :12], atol=1e-3)


def test_what_changes_nothing_leaves_the_latents_as_they_are() -> None:
    pipe = pipeline()
    latents = torch.randn(1, 4, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    shown = decode_film(pipe.vae, latents)
    mask = torch.ones(FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    noise = pipe.bridge.objective
    same = Pasted(lambda x, _: x, noise, pipe.vae, Known(shown, mask))
    torch.testing.assert_close(same.put(latents), latents, rtol=0, atol=1e-5)
    # and what does is the difference of the films' latents
    brighter = Pasted(lambda x, _: x, noise, pipe.vae, Known(shown + 0.1, mask)).put(latents)
    wanted = latents + encode_film(pipe.vae, shown + 0.1) - encode_film(pipe.vae, shown)
    torch.testing.assert_close(brighter, wanted, rtol=0, atol=1e-5)


def frames_known(*places: int, frames: int = FRAMES) -> Known:
    mask = torch.zeros(frames, HEIGHT, WIDTH, dtype=torch.bool)
    mask[list(places)] = True
    return Known(film(frames=frames), mask)


SPEC = VAESpec(4, 4, 8, True, (), ())
TEXT = frozenset({"text", "text_mask"})


@pytest.mark.parametrize(
    ("places", "clean_frames", "clean", "pasted"),
    [
        ((0,), "any", [0], []),
        ((0, 1, 2, 3, 4), "any", [0, 1], []),
        ((5, 6, 7, 8), "any", [2], []),
        # a frame that fills no latent one is put into the film
        ((0, 8), "any", [0], [8]),
        ((2, 3), "any", None, [2, 3]),
        ((0, 1, 2, 3, 4), "first", [0], [1, 2, 3, 4]),
    ],
)
def test_whole_latent_frames_are_clean_and_the_rest_is_put_in(
    places: tuple[int, ...], clean_frames: Any, clean: list[int] | None, pasted: list[int]
) -> None:
    plan = plan_known(frames_known(*places), TEXT, clean_frames, SPEC)
    assert plan.given is None
    assert (None if plan.clean is None else plan.clean.nonzero().flatten().tolist()) == clean
    assert ([] if plan.pasted is None else plan.pasted.frames.nonzero().flatten().tolist()) == pasted


def test_frames_of_a_vae_without_a_first_one() -> None:
    spec = VAESpec(4, 4, 8, False, (), ())
    plan = plan_known(frames_known(0, 1, 2, 3, 5, frames=8), TEXT, "any", spec)
    assert plan.clean is not None
    assert plan.clean.tolist() == [True, False]
    assert plan.pasted is not None
    assert plan.pasted.frames.nonzero().flatten().tolist() == [5]


@pytest.mark.parametrize("places", [(0,), (5, 6, 7, 8), (3,)])
def test_a_model_of_text_alone_is_refused_known_frames_and_says_what_it_can_do(places: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"It can do task=text_to_video, text_to_image and edit, and inpaint"):
        plan_known(frames_known(*places), TEXT, "none", SPEC)
    # part of every frame is another matter
    some = frames_known(*range(FRAMES))
    some.mask[:, :8] = False
    plan = plan_known(some, TEXT, "none", SPEC)
    assert plan.clean is None
    assert plan.pasted is not None


@pytest.mark.parametrize(
    ("task", "given", "message"),
    [
        ("text_to_video", {"video": film()}, "TextToVideo would ignore video=: it takes image; choose another task="),
        ("text_to_image", {"image": film()[0, :, 0]}, "would ignore image=: it takes sentences alone"),
        ("edit", {}, "Edit needs video=: give what it starts from"),
        ("connect", {"video": film()}, "Connect needs other="),
        ("edit", {"video": film()[..., :8]}, r"give one \(3, T, 16, 24\) for all or one each"),
        ("edit", {"video": film(3)}, "for 1 films of 24x16"),
        ("edit", {"video": film()[:, :, :0]}, "has no frames"),
        ("inpaint", {"video": film(), "mask": torch.zeros(16, 24)}, "give one of bool"),
        ("inpaint", {"video": film(), "mask": torch.zeros(8, 24, dtype=torch.bool)}, "give one of bool"),
        ("loop", {"video": film(), "image": film()[0, :, 0]}, "give one of the two"),
    ],
)
def test_references_that_don_t_fit_are_refused_before_sampling(task: str, given: dict[str, Any], message: str) -> None:
    pipe = pipeline(clean_frames="any")
    pipe.task = videogen.build("task", task)
    with pytest.raises(ValueError, match=message):
        pipe("a red circle", **given, callback=lambda step, latents: pytest.fail("it sampled"))


def test_an_edit_walks_as_many_steps_as_its_strength_says() -> None:
    pipe = pipeline(steps=10)
    steps: list[int] = []
    for strength, wanted in ((0.01, 1), (0.3, 3), (1.0, 10)):
        pipe.task = videogen.build("task", "edit", strength=strength)
        steps.clear()
        made = pipe("a red circle", video=film(), callback=lambda step, _: steps.append(step))
        assert steps == list(range(1, wanted + 1))
        if strength == 0.01:
            weak = made
    rebuilt = decode_film(pipe.vae, encode_film(pipe.vae, film())).clamp(-1, 1)
    assert (weak - rebuilt).abs().mean() < (made - rebuilt).abs().mean()
