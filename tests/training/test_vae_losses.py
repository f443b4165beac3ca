"""A VAE's losses are what their papers say; VAEs learn from them, and a stopped run goes on as if it never was."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

import videogen
from videogen.checkpoints import newest
from videogen.config import compose
from videogen.training.discriminator import PatchDiscriminator, adaptive_weight, hinge_loss
from videogen.training.draw import draw_shape, generator
from videogen.training.learners import VAELearner
from videogen.training.perceptual import PerceptualDistance, draw_frames
from videogen.training.run import STATE, train
from videogen.training.settings import TrainSettings
from videogen.training.vae_losses import Quantised, VAELoss, last_layer

VAES: dict[str, dict[str, Any]] = {
    "wavelet": {"base_channels": 8, "latent_channels": 4, "encoder_flow": 8, "use_attention": False},
    # no stride in time, so that it takes images too; fewer positions than codes in a batch of these, so that codes
    # begin anew, at random
    "vqvae": {
        "base_channels": 8, "latent_channels": 4, "codebook_size": 32, "num_res_blocks": 1, "temporal_stride": 1
    },
}  # fmt: skip
#: the wavelet one takes four times as long
QUICK_VAES = [name if name == "vqvae" else pytest.param(name, marks=pytest.mark.slow) for name in VAES]
# timm's smallest that takes any size; and a small one whose pixels have other means than 0.5
NETWORK, OTHER_NETWORK = "test_resnet", "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The file of a timm model with random weights, classifier and all, as the published files are."""

    def save(name: str) -> str:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            torch.manual_seed(0)
            save_file(timm.create_model(name).state_dict(), path)
        return str(path)

    folder = tmp_path_factory.mktemp("timm")
    return save


def make_settings(folder: Path, **changes: object) -> TrainSettings:
    small = TrainSettings(
        part="vae",
        output=str(folder),
        steps=4,
        batch_size=2,
        save_every=2,
        log_every=1,
        warmup=1,
        num_frames=[5, 1],
        num_frames_weights=[0.5, 0.5],
        sizes=[[16, 16], [16, 24]],
        sizes_weights=[0.5, 0.5],
        discriminator_channels=4,
        perceptual_model=NETWORK,
        perceptual_frames=2,
    )
    return dataclasses.replace(small, **changes)  # type: ignore[arg-type]


def build(name: str) -> Any:
    torch.manual_seed(0)
    return videogen.build("vae", name, **VAES[name])


def run(folder: Path, name: str = "wavelet", **changes: Any) -> Path:
    config = {"vae": {"name": name, **VAES[name]}}
    parts = SimpleNamespace(vae=build(name))
    return train(parts, videogen.build("data", "shapes"), make_settings(folder, **changes), config)


def numbers(folder: Path, key: str) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row[key] for row in rows if key in row]


def images(count: int = 3, seed: int = 0) -> Iterator[Tensor]:
    source = torch.Generator().manual_seed(seed)
    while True:
        yield torch.rand(count, 3, 33, 40, generator=source) * 2 - 1


@pytest.mark.parametrize(("kind", "error"), [("l1", (0.5 + 0.25) / 2), ("l2", (0.25 + 0.0625) / 2)])
def test_the_error_is_absolute_or_squared_and_psnr_is_always_of_the_squared(kind: str, error: float) -> None:
    losses = VAELoss(build("wavelet"), TrainSettings(reconstruction=kind))
    video = torch.zeros(2, 3, 1, 4, 4)
    decoded = torch.tensor([0.5, -0.25]).view(2, 1, 1, 1, 1).expand_as(video)
    loss, said = losses.reconstruction(video, decoded, torch.Generator())
    assert loss.item() == pytest.approx(error)
    assert said == {"psnr": pytest.approx(10 * torch.log10(torch.tensor(4 / 0.15625)).item())}


def test_by_default_the_loss_is_squared_error_and_kl(tmp_path: Path) -> None:
    chosen = make_settings(tmp_path, kl_weight=0.1)
    data, vae = videogen.build("data", "shapes"), build("wavelet")
    loss, said = VAELearner(vae, data, chosen).loss(3, generator(0, 3))
    source = generator(0, 3)
    shape = draw_shape(chosen, source)
    video = torch.stack([data.clip(index, *shape).video for index in (6, 7)])
    posterior = vae.encode(video)
    kl = posterior.kl().mean() / video[0].numel()
    expected = F.mse_loss(vae.decode(posterior.sample(source)), video) + 0.1 * kl
    assert torch.equal(loss, expected)
    assert said == {"loss": expected.item(), "kl": kl.item(), "psnr": said["psnr"]}


def test_the_perceptual_distance_is_that_of_unit_features(weights: Callable[[str], str]) -> None:
    """Against timm's whole model in float64: squared distances of unit vectors are 2 - 2 cos."""
    a, b = next(images()), next(images(seed=1))
    distance = PerceptualDistance(OTHER_NETWORK, weights(OTHER_NETWORK))
    whole: Any = timm.create_model(OTHER_NETWORK).double().eval()
    whole.load_state_dict(load_file(weights(OTHER_NETWORK)))
    mean, std = (torch.tensor(whole.pretrained_cfg[key]).double().view(3, 1, 1) for key in ("mean", "std"))
    assert mean[0] != 0.5
    with torch.no_grad():
        levels = [
            whole.forward_intermediates(((image.double() + 1) / 2 - mean) / std, intermediates_only=True)
            for image in (a, b)
        ]
        expected = sum((2 - 2 * F.cosine_similarity(x, y, dim=1)).mean() for x, y in zip(*levels, strict=True))
    assert len(levels[0]) == 5
    assert distance(a, b).item() == pytest.approx(float(expected), rel=1e-4)
    assert distance(a, b).item() == pytest.approx(distance(b, a).item(), rel=1e-5)
    # float32 rounding of features that came through one batch
    assert distance(a, a).item() < 1e-9
    a.requires_grad_()
    distance(a, b).backward()
    assert a.grad is not None
    assert a.grad.abs().sum() > 0
    assert all(p.grad is None for p in distance.parameters())


def test_frames_are_drawn_for_each_clip_and_are_the_same_of_both_videos() -> None:
    video = torch.arange(4 * 7.0).view(4, 1, 7, 1, 1).expand(4, 3, 7, 2, 2)
    few, same = draw_frames((video, video + 100), 3, torch.Generator().manual_seed(0))
    assert few.shape == (12, 3, 2, 2)
    assert torch.equal(few + 100, same)
    frames = few[:, 0, 0, 0].view(4, 3)
    assert (frames // 7 == torch.arange(4.0).view(4, 1)).all()
    assert all(len(set(row.tolist())) == 3 for row in frames)
    assert len({tuple(row.tolist()) for row in frames % 7}) > 1
    (all_there_are,) = draw_frames((video[:, :, :2],), 3, torch.Generator())
    assert all_there_are.shape[0] == 8


def test_perceptual_weights_that_are_missing_or_do_not_fit_are_refused(
    weights: Callable[[str], str], tmp_path: Path
) -> None:
    path = weights(NETWORK)
    with pytest.raises(ValueError, match=r"train.perceptual=0.1 needs the weights of 'vgg11'.* give a local"):
        VAELoss(build("wavelet"), TrainSettings(perceptual=0.1))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors is no file: give"):
        PerceptualDistance(NETWORK, "nowhere.safetensors")
    with pytest.raises(ValueError, match="'vgg111' is no model of timm: did you mean 'vgg11'"):
        PerceptualDistance("vgg111", path)
    with pytest.raises(ValueError, match="can't be loaded into 'mobilenetv3_small_050'"):
        PerceptualDistance(OTHER_NETWORK, path)
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(ValueError, match="can't be loaded into 'test_resnet'"):
        PerceptualDistance(NETWORK, str(tmp_path / "text.safetensors"))
    state = load_file(path)
    key = "layer1.0.conv1.weight"
    save_file({name: value for name, value in state.items() if name != key}, tmp_path / "less.safetensors")
    with pytest.raises(ValueError, match=f"lacks 1 tensors of 'test_resnet', such as {key}"):
        PerceptualDistance(NETWORK, str(tmp_path / "less.safetensors"))
    save_file({**state, key: state[key][:1].clone()}, tmp_path / "thin.safetensors")
    with pytest.raises(ValueError, match=f"size mismatch for {key}"):
        PerceptualDistance(NETWORK, str(tmp_path / "thin.safetensors"))


def test_frames_too_small_for_the_perceptual_network_are_refused_before_training(tmp_path: Path) -> None:
    # the classifier, which would be most of the file, isn't asked for
    torch.manual_seed(0)
    extractor = timm.create_model("vgg11", features_only=True, feature_cls="getter").model
    save_file(extractor.state_dict(), tmp_path / "vgg11.safetensors")
    small = {"perceptual": 0.1, "perceptual_model": "vgg11", "perceptual_weights": str(tmp_path / "vgg11.safetensors")}
    message = r"'vgg11' can't take frames of 24x40, and 32 pixels a side are its least: choose larger train\.sizes"
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", sizes=[[32, 40], [24, 40]], **small)
    assert newest(tmp_path / "run") is None
    chosen = make_settings(tmp_path, sizes=[[32, 40]], **small)
    distance = VAELoss(build("wavelet"), chosen).perceptual
    assert distance is not None
    # the least is a size that works
    assert distance(torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)) > 0


@pytest.mark.parametrize(
    ("size", "logits"), [((1, 16, 24), (1, 2, 3)), ((17, 64, 48), (5, 8, 6)), ((5, 19, 3), (2, 3, 1))]
)
def test_the_discriminator_judges_each_patch_of_clips_and_images(
    size: tuple[int, int, int], logits: tuple[int, int, int]
) -> None:
    critic = PatchDiscriminator(channels=4)
    assert critic(torch.zeros(2, 3, *size)).shape == (2, 1, *logits)


def test_the_hinge_loss_asks_for_a_margin_of_one() -> None:
    real, fake = torch.tensor([2.0, 1.0, 0.0, -1.0]), torch.tensor([-2.0, -1.0, 0.0, 1.0])
    assert hinge_loss(real, fake).item() == (0 + 0 + 1 + 2) / 4
    assert hinge_loss(real[:2], fake[:2]).item() == 0


def test_the_adaptive_weight_makes_gradients_equal_and_is_bounded() -> None:
    layer = torch.tensor([1.0, 2.0], requires_grad=True)
    weight = adaptive_weight((layer * torch.tensor([3.0, 4.0])).sum(), (layer * torch.tensor([0.0, 2.0])).sum(), layer)
    assert weight.item() == pytest.approx(5 / 2)
    assert not weight.requires_grad
    assert adaptive_weight(layer.sum(), (0 * layer).sum(), layer).item() == 1e4


@pytest.mark.parametrize("name", ["wavelet", "vqvae"])
def test_the_layer_that_weighs_is_the_last(name: str) -> None:
    """A video is linear in the last layer's weights, and in no earlier ones."""
    vae = build(name).eval()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.copy_(torch.randn(parameter.shape) / parameter[0].numel() ** 0.5)
    latents = torch.randn(1, 4, 2, 2, 3)

    @torch.no_grad()
    def bend(weight: Tensor) -> float:
        """How far the videos of two weights are from twice the video of the one between."""
        middle, change = weight.clone(), 0.3 * torch.randn(weight.shape)
        videos = []
        for factor in (-1, 0, 1):
            weight.copy_(middle + factor * change)
            videos.append(vae.decode(latents))
        return float((videos[0] - 2 * videos[1] + videos[2]).abs().max() / videos[1].abs().max())

    assert bend(last_layer(vae)) < 1e-5
    assert bend(next(p for p in vae.decoder.parameters() if p.ndim > 1)) > 1e-3


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_each_side_learns_from_its_own_loss_in_one_backward_pass(tmp_path: Path, precision: str) -> None:
    def learn(share: float) -> tuple[VAELearner, dict[str, float]]:
        chosen = make_settings(tmp_path, discriminator=share)
        learner = VAELearner(build("wavelet"), videogen.build("data", "shapes"), chosen)
        with autocast():
            loss, said = learner.loss(0, generator(0, 0))
        loss.backward()  # type: ignore[no-untyped-call]
        return learner, said

    def autocast() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")

    def gradient(learner: VAELearner) -> Tensor:
        grad = last_layer(learner.vae).grad
        assert grad is not None
        return grad

    (with_critic, said), (without, _) = learn(0.5), learn(0.0)
    assert said["loss"] == learn(0.0)[1]["loss"]
    alone = gradient(without)
    # bfloat16 has 8 bits
    tolerance = 1e-3 if precision == "float32" else 3e-2
    # equation 7: the adversarial gradient is the given share of the error's
    assert (gradient(with_critic) - alone).norm() == pytest.approx(0.5 * alone.norm().item(), rel=tolerance)

    critic = with_critic.losses.discriminator
    assert critic is not None
    got = [p.grad for p in critic.parameters()]
    critic.zero_grad()
    source = generator(0, 0)
    shape = draw_shape(with_critic.settings, source)
    video = torch.stack([with_critic.dataset.clip(index, *shape).video for index in range(2)])
    with autocast():
        # as in training: without a gradient, layers round otherwise
        decoded = with_critic.vae.decode(with_critic.vae.encode(video).sample(source)).float().detach()
        hinge_loss(critic(video), critic(decoded)).backward()  # type: ignore[no-untyped-call]
    for mine, parameter in zip(got, critic.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-7)


EVERYTHING = {"reconstruction": "l1", "perceptual": 0.1, "discriminator": 0.1, "discriminator_start": 20}


@pytest.mark.parametrize("name", QUICK_VAES)
@pytest.mark.parametrize("part", ["vae", "vae_decoder"])
def test_images_and_clips_are_learnt_from_all_losses_together(
    tmp_path: Path, weights: Callable[[str], str], name: str, part: str
) -> None:
    folder = run(
        tmp_path, name, part=part, steps=40, save_every=40, batch_size=4, learning_rate=3e-3,
        perceptual_weights=weights(NETWORK), **EVERYTHING,
    )  # fmt: skip
    losses = numbers(tmp_path, "loss")
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert len(numbers(tmp_path, "perceptual")) == 40
    assert len(numbers(tmp_path, "discriminator")) == 20
    assert len(numbers(tmp_path, "commitment")) == (40 if name == "vqvae" else 0)
    state, start = load_file(folder / STATE), build(name).state_dict()
    moved = {key for key, value in start.items() if not torch.equal(state[f"weights.vae.{key}"], value)}
    assert any(key.startswith("decoder.") for key in moved)
    if part == "vae_decoder":
        # neither the encoder's weights nor its batch norms nor the codebook: latents keep their meaning
        assert all(key.startswith("decoder.") for key in moved)
    else:
        assert any(key.startswith("encoder.") for key in moved)
    assert any(key.startswith("critics.discriminator.") for key in state)
    # a critic is no part of the model
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["vae"]
    assert load_file(folder / "vae" / "model.safetensors").keys() == start.keys()


def test_the_discriminator_learns(tmp_path: Path) -> None:
    """The VAE hardly moves here, so that to tell its clips from true ones gets easier and easier."""
    run(tmp_path, steps=30, save_every=30, learning_rate=1e-6, discriminator=0.1, discriminator_learning_rate=1e-2)
    losses = numbers(tmp_path, "discriminator")
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", QUICK_VAES)
# at the checkpoint that the run goes on from, the discriminator has moved once, or not yet
@pytest.mark.parametrize("start", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_goes_on_as_if_never_stopped(
    tmp_path: Path, weights: Callable[[str], str], name: str, start: int, precision: str
) -> None:
    changes = {**EVERYTHING, "discriminator_start": start, "perceptual_weights": weights(NETWORK)}
    whole = everything(run(tmp_path, name, precision=precision, **changes))
    last = newest(tmp_path)
    assert last is not None
    shutil.rmtree(last)
    torch.manual_seed(1234)
    again = everything(run(tmp_path, name, precision=precision, **changes))
    assert whole.keys() == again.keys()
    assert any(key.startswith("critics_optimizer.exp_avg_sq.discriminator.") for key in whole)
    for key, value in whole.items():
        torch.testing.assert_close(again[key], value, rtol=1e-6, atol=1e-7, msg=key)


def everything(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / STATE) | load_file(folder / "vae" / "model.safetensors")


def test_a_discriminator_may_join_a_run_and_leave_it(tmp_path: Path) -> None:
    before = load_file(run(tmp_path, steps=2) / STATE)
    # what runs without critics have always written
    assert {key.partition(".")[0] for key in before} == {"weights", "optimizer"}
    assert "optimizer.exp_avg.vae.decoder.out.weight" in before
    joined = load_file(run(tmp_path, steps=4, discriminator=0.1) / STATE)
    assert joined["critics_optimizer.step.discriminator.layers.0.weight"] == 2
    assert joined["optimizer.step.vae.decoder.out.weight"] == 4
    assert load_file(run(tmp_path, steps=6) / STATE).keys() == before.keys()


def test_codes_add_their_commitment_loss_and_are_exported_as_they_are(tmp_path: Path) -> None:
    chosen = make_settings(tmp_path, commitment_weight=0.5, num_frames=[3], num_frames_weights=[1.0])
    learner = VAELearner(build("vqvae").train(), videogen.build("data", "shapes"), chosen)
    loss, said = learner.loss(0, generator(0, 0))
    # squared error from decibels below the peak of 2
    assert loss.item() == pytest.approx(4 * 10 ** (-said["psnr"] / 10) + said["commitment"], rel=1e-4)
    assert said["commitment"] > 0
    assert 1 < said["perplexity"] <= 32
    posterior: Any = learner.vae.encode(torch.rand(1, 3, 2, 16, 16))
    term, _ = learner.losses.latents(posterior, 1)
    assert term.item() == pytest.approx(0.5 * F.mse_loss(posterior.features, posterior.embeddings).item())
    assert isinstance(posterior, Quantised)
    assert not isinstance(build("wavelet").encode(torch.rand(1, 3, 5, 16, 16)), Quantised)

    exported = load_file(run(tmp_path, "vqvae", steps=3) / "vae" / "model.safetensors")
    counts = {value.item() for key, value in exported.items() if key.endswith("num_batches_tracked")}
    assert counts == {3}


def test_codes_are_the_nearest_under_autocast_too() -> None:
    vae = build("vqvae").eval()
    # codes closer to each other than bfloat16 can tell
    vae.codebook.embeddings.copy_(1 + 1e-3 * torch.randn(32, 4))
    features = 1 + 1e-3 * torch.randn(1, 4, 3, 5, 5)
    exact = vae.codebook.quantise(features).codes
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(vae.codebook.quantise(features).codes, exact)
    assert exact.unique().numel() > 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reconstruction": "l3"}, "train.reconstruction='l3' is unknown: choose l1 or l2"),
        ({"perceptual": -0.1}, "train.perceptual=-0.1 is too small: give 0 or more"),
        ({"perceptual_frames": 0}, "train.perceptual_frames=0 is too small: give 1 or more"),
        ({"discriminator_start": -1}, "train.discriminator_start=-1 is too small"),
        ({"perceptual": 0.1}, "train.perceptual_weights names none"),
    ],
)
def test_settings_that_say_nothing_sensible_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **changes)


def test_a_config_sets_the_losses() -> None:
    given = ["train.part=vae", "train.reconstruction=l1", "train.perceptual=0.1", "train.perceptual_weights=a/b"]
    given += ["train.discriminator=0.5", "train.discriminator_start=100"]
    config = compose("train", given)["train"]
    chosen = TrainSettings(**config)
    assert (chosen.reconstruction, chosen.perceptual_weights, chosen.discriminator_start) == ("l1", "a/b", 100)
