"""From an image to a film, with a tiny random model of each published kind: what reaches it, and what it can't take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

import videogen
from videogen.commands.generate import generate
from videogen.config import compose
from videogen.data.sheet import contact_sheet
from videogen.denoiser import Condition
from videogen.dit.parts import choose
from videogen.kernels import ATTENTION
from videogen.pipelines.text_to_video import Sampling, TextToVideo

TOWER: dict[str, Any] = {"image_size": 28, "width": 24, "depth": 2, "num_heads": 2, "hidden": 32}
UNET: dict[str, Any] = {
    "base_channels": 8,
    "channel_multipliers": (1, 2),
    "num_res_blocks": 1,
    "attention_levels": (True, True),
    "head_dim": 4,
    "first_heads": 2,
    "norm_groups": 4,
    "zero_init": False,
}
FRAMES, HEIGHT, WIDTH = 5, 16, 24


def image(seed: int = 0, *films: int) -> Tensor:
    return torch.rand(*films, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def pipeline(
    denoiser: Any, vision: Any = None, guide: Any = None, **settings: Any
) -> tuple[TextToVideo, list[Condition]]:
    """A pipeline, and the conditions that its denoiser is asked with."""
    for parameter in denoiser.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    asked: list[Condition] = []
    denoiser.eval().register_forward_pre_hook(lambda _, given: asked.append(given[2]))
    vae = videogen.build("vae", "wavelet", latent_channels=4, base_channels=8, encoder_flow=8, use_attention=False)
    if hasattr(denoiser, "conv_in"):
        vae = videogen.build("vae", "framewise", base_channels=8, channel_multipliers=(1, 1), norm_groups=4)
    pipe = TextToVideo(
        vae=vae.eval(),
        denoiser=denoiser,
        text=videogen.build("text", "words", vocabulary=("a", "circle", "red"), dim=16, depth=1, num_heads=2),
        vision=vision,
        guide=guide,
        objective=videogen.build("scheduler", "rectified_flow", prediction="x0"),
        scheduler=videogen.build("scheduler", "rectified_flow"),
        sampling=Sampling(num_frames=FRAMES, height=HEIGHT, width=WIDTH, steps=1, guidance=2.0, **settings),
    )
    return pipe, asked


def dit(known: str = "none", mask: int = 0, image_dim: int = 0, positions: int = 0, **knobs: Any) -> Any:
    torch.manual_seed(0)
    nodes: dict[str, Any] = {"known": {"name": known, **({"mask_channels": mask} if mask else {}), **knobs}}
    if image_dim:
        nodes["cross"] = {"name": "decoupled"}
        nodes["image_tokens"] = {"name": "mlp", "image_dim": image_dim, "positions": positions}
    sizes = {"dim": 32, "depth": 1, "num_heads": 2, "patch_size": (1, 1, 1)}
    return videogen.build("denoiser", "dit", 4, 16, choose(**nodes), **sizes)


def unet(**knobs: Any) -> Any:
    torch.manual_seed(0)
    return videogen.build("denoiser", "unet", 4, 16, ATTENTION.build("sdpa"), **UNET, **knobs)


def clip(**knobs: Any) -> Any:
    torch.manual_seed(1)
    return videogen.build("vision", "clip", **TOWER, **knobs).eval()


def resampler(queries: int = 6) -> Any:
    torch.manual_seed(1)
    return videogen.build(
        "vision", "resampler", **TOWER, dim=16, inner_dim=16, inner_depth=1, num_queries=queries
    ).eval()


def moved(pipe: TextToVideo, prompt: Any = "a red circle", **changes: Any) -> Tensor:
    """The film of one image, which has to be another than that of a second image and the same at every call."""
    film = pipe(prompt, image=image(), **changes)
    assert torch.equal(film, pipe(prompt, image=image(), **changes))
    assert (film - pipe(prompt, image=image(1), **changes)).abs().max() > 1e-3
    return film


def test_wan_s_kind_gets_tokens_mask_and_latents_on_both_sides_of_guidance() -> None:
    model = dit("concat", 4, 24)
    pipe, asked = pipeline(model, clip())
    film = moved(pipe, ["a red circle", "a circle"])
    assert film.shape == (2, 3, FRAMES, HEIGHT, WIDTH)
    told = asked[0]
    assert told.image is not None
    assert told.known is not None
    assert told.known_mask is not None
    assert (told.image.shape, told.known.shape, told.known_mask.shape) == (
        (4, 5, 24),
        (4, 4, 2, 2, 3),
        (4, 4, 2, 2, 3),
    )
    assert torch.equal(told.image[:2], told.image[2:])
    assert torch.equal(told.image[:1], pipe.vision.encode(image(0, 1)[None]))
    assert told.known_mask[:, :, 0].all()
    assert not told.known_mask[:, :, 1].any()
    # the last frame too, of which the mask alone tells, and one image a film
    asked.clear()
    pipe(["a red circle", "a circle"], image={0: image(0, 2), -1: image(1)}, guidance=1.0)
    told = asked[0]
    assert told.known_mask is not None
    assert told.image is not None
    assert told.known_mask[:, :, 1].flatten(2).all(-1).tolist() == [[False, False, False, True]] * 2
    assert not torch.equal(told.image[0], told.image[1])


def test_a_model_of_two_images_gets_the_tokens_of_both() -> None:
    pipe, asked = pipeline(dit(known="concat", mask=4, image_dim=24, positions=10), clip(num_images=2))
    pipe("a red circle", image={0: image(), -1: image(1)})
    assert asked[0].image is not None
    assert asked[0].image.shape == (2, 10, 24)
    with pytest.raises(ValueError, match="this model reads 2 images and 1 is given: first and last frame"):
        pipe("a red circle", image=image())


def test_videocrafter_s_kind_reads_tokens_and_leads_away_from_those_of_a_gray_image() -> None:
    pipe, asked = pipeline(unet(image_attention=True, use_fps=True), resampler(), condition_fps=12.0)
    moved(pipe)
    told = asked[0]
    assert told.image is not None
    assert told.fps is not None
    assert torch.equal(told.image[1:], pipe.vision.null(image(0, 1, 1)))
    assert told.fps.tolist() == [12.0, 12.0]
    assert told.known is None
    with pytest.raises(ValueError, match=r"images at frames \(0, 4\): this model reads one"):
        pipe("a circle", image={0: image(), 4: image()})
    with pytest.raises(ValueError, match="this model animates an image: give one"):
        pipe("a circle")
    fast, slow = (pipe("a red circle", image=image(), condition_fps=fps) for fps in (24.0, 4.0))
    assert (fast - slow).abs().max() > 1e-3


def test_dynamicrafter_s_kind_gets_tokens_a_frame_and_the_image_beside_every_frame() -> None:
    model = unet(image_attention=True, image_tokens_per_frame=2, known_latents=True, use_fps=True, default_fps=3.0)
    pipe, asked = pipeline(model, resampler(2 * FRAMES), blank="repeat")
    moved(pipe)
    told = asked[0]
    assert told.image is not None
    assert told.known is not None
    assert told.known_mask is not None
    assert told.image.shape == (2, 2 * FRAMES, 16)
    assert torch.equal(told.known, told.known[:, :, :1].expand_as(told.known))
    assert told.known_mask.all()
    assert told.fps is None


def test_open_sora_s_kinds_may_do_without_an_image() -> None:
    for knobs, blank in (
        (("add", 1), "zeros"),
        (("embed", 4), "black"),
    ):
        pipe, asked = pipeline(dit(*knobs), blank=blank)
        film = moved(pipe)
        asked.clear()
        assert not torch.equal(pipe("a red circle"), film)
        told = asked[0]
        assert told.known_mask is not None
        assert not told.known_mask.any()


def test_guidance_by_text_and_image_leads_away_from_the_image_too() -> None:
    pipe, asked = pipeline(dit("add", 1), blank="zeros", guide=videogen.build("guide", "text_image"))
    pipe("a red circle", image=image())
    told = asked[0]
    assert told.text is not None
    assert told.known is not None
    assert told.known_mask is not None
    # all, all but the text, neither
    assert torch.equal(told.text[1], told.text[2])
    assert not torch.equal(told.text[0], told.text[1])
    assert torch.equal(told.known[0], told.known[1])
    assert told.known_mask.tolist() == [[True, False], [True, False], [False, False]]
    assert not told.known[2].any()
    # of equal scales two predictions do
    asked.clear()
    pipe("a red circle", image=image(), guidance=3.0)
    told = asked[0]
    assert told.known_mask is not None
    assert told.known_mask.tolist() == [[True, False], [False, False]]
    with pytest.raises(ValueError, match="this guide needs a prediction without text, with the image"):
        pipe("a red circle")


@pytest.mark.parametrize(
    ("denoiser", "vision", "settings", "message"),
    [
        (
            dit,
            None,
            {"image": image()},
            r"this model makes films of text alone: it wasn't trained with known frames \(clean_frames=none\)",
        ),
        (lambda: dit("concat"), None, {}, "this model animates an image: give one, image=first.png"),
        (dit, clip, {}, "this model reads no image tokens: leave out the encoder of images, vision=none"),
        (lambda: dit(image_dim=24), None, {"image": image()}, "reads image tokens and vision=none makes none"),
        (dit, None, {"condition_fps": 8.0}, r"condition_fps=8\.0: this model isn't told frames a second"),
        (lambda: unet(use_fps=True), None, {}, "this model has to be told its frames a second: set condition_fps="),
        (lambda: dit("concat"), None, {"image": image()[:, :8]}, r"resize it to \(3, 16, 24\)"),
    ],
)
def test_what_a_model_cannot_take_is_refused_before_sampling(
    denoiser: Any, vision: Any, settings: dict[str, Any], message: str
) -> None:
    pipe, asked = pipeline(denoiser(), vision and vision())
    with pytest.raises(ValueError, match=message):
        pipe("a red circle", **settings)
    assert asked == []


def test_the_shipped_model_says_what_it_can_do(tmp_path: Path) -> None:
    still = torch.zeros(3, 1, 64, 64)
    contact_sheet(still, tmp_path / "first.png", columns=1)
    overrides = ["a red circle", f"image={tmp_path / 'first.png'}", f"output={tmp_path / 'film.mp4'}"]
    with pytest.raises(ValueError, match="this model makes films of text alone"):
        generate(compose("generate", [*overrides, "clean_frames=none"]))
    assert not (tmp_path / "film.mp4").exists()


def test_a_film_of_a_picture_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An encoder with weights of its own from a folder of transformers; a picture of another size, and a last one."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        image_size=28,
        patch_size=14,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_act="gelu",
    )
    CLIPVisionModel(config).save_pretrained(tmp_path / "clip")
    for name, shade in (("first", -0.5), ("last", 0.7)):
        contact_sheet(torch.full((3, 1, 40, 60), shade), tmp_path / f"{name}.png", columns=1)
    overrides = [
        "a red circle",
        *("model=null", "vae=wavelet", "vae.latent_channels=4", "vae.base_channels=8", "vae.encoder_flow=8"),
        *("text=words", "text.vocabulary=[a,red,circle]", "text.dim=16", "text.num_heads=2", "text.depth=1"),
        *("denoiser.dim=32", "denoiser.depth=1", "denoiser.num_heads=2", "dit.known=concat"),
        *("dit.known.mask_channels=4", "dit.image_tokens=mlp", "dit.image_tokens.image_dim=24"),
        "dit.image_tokens.positions=10",
        *("dit.cross=decoupled", "vision=clip", "vision.image_size=28", "vision.width=24", "vision.depth=2"),
        *("vision.num_heads=2", "vision.hidden=32", "vision.num_images=2", f"vision.weights={tmp_path / 'clip'}"),
        *(f"num_frames={FRAMES}", "height=16", "width=32", "steps=1", f"output={tmp_path / 'film.mp4'}"),
        f"image={tmp_path / 'first.png'}",
        f"last_image={tmp_path / 'last.png'}",
    ]
    torch.manual_seed(0)
    generate(compose("generate", overrides))
    assert (tmp_path / "film.mp4").is_file()
    # the sheet's pixels are doubled and more, so that small ones can be seen
    assert "first.png of 240x160 is cut and resized to 32x16" in capsys.readouterr().err
    pipe = videogen.pipeline(*[override for override in overrides[1:] if "image=" not in override])
    theirs = CLIPVisionModel.from_pretrained(tmp_path / "clip")
    wanted = theirs.state_dict()[next(key for key in theirs.state_dict() if key.endswith("class_embedding"))]
    assert torch.equal(pipe.vision.tower.whole, wanted)
    with pytest.raises(ValueError, match="width: 24 there, 48 asked for"):
        videogen.pipeline(*[override.replace("vision.width=24", "vision.width=48") for override in overrides[1:-2]])


@pytest.mark.parametrize("divided", [False, True])
def test_cogvideox_s_kind_gets_latents_of_the_image_and_zeros_behind_them(divided: bool) -> None:
    """In 1.5 the image's latents are divided by what the noisy ones are multiplied with."""
    scale = 0.7
    model = dit("concat", scale=scale**-2) if divided else dit("concat")
    pipe, asked = pipeline(model, blank="zeros")
    knobs = {"latent_channels": 4, "base_channels": 8, "encoder_flow": 8, "use_attention": False}
    pipe.vae = videogen.build("vae", "wavelet", **knobs, latent_scale=(scale,) * 4).eval()
    seen: list[Tensor] = []
    model.embed.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    moved(pipe)
    raw = pipe.vae.encode(image()[None, :, None]).mode()
    # of each token, one latent: the noisy channels, then the known ones; with and without the text
    first, others = seen[0][:, :6, 4:], seen[0][:, 6:, 4:]
    wanted = raw / scale if divided else raw * scale
    assert torch.allclose(first, wanted.flatten(2).transpose(1, 2).expand(2, -1, -1), rtol=1e-5, atol=1e-6)
    assert not others.any()
    assert asked[0].known_mask is None
    with pytest.raises(ValueError, match="this model animates an image: give one"):
        pipe("a red circle")
