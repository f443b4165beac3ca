"""VideoGPT's VQ-VAE: equal to the published one on the same weights; its codebook learns as the paper says."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from videogen.checkpoints.layouts.videogpt import LAYOUT
from videogen.vae._codebook import Codebook, Quantised
from videogen.vae.vqvae import VQVAE, SameConvTranspose

TINY = {"base_channels": 8, "num_res_blocks": 1, "latent_channels": 6, "codebook_size": 16}


@pytest.fixture(scope="module")
def published(golden):
    numbers = golden("osp_vqvae_videogpt")
    knobs = LAYOUT.knobs(numbers.config, numbers.weights)
    vae = VQVAE(**knobs)
    vae.load_state_dict(LAYOUT.to_ours(numbers.weights, vae, knobs))
    return vae.eval(), numbers, knobs


@torch.no_grad()
def test_it_equals_the_published_model(published, distance) -> None:
    vae, (_, _, inputs, outputs), _ = published
    # published pixels are in [-0.5, 0.5]
    video = inputs["video_a"] * 2
    posterior = vae.encode(video)
    # float32 rounding: up to 3e-7 was measured
    assert distance(posterior.features, outputs["pre_vq_a"]) < 1e-5
    assert torch.equal(posterior.codes, outputs["codes_a"])
    assert torch.equal(vae.codes(video), outputs["codes_a"])
    assert distance(posterior.mode(), outputs["embeddings_a"]) < 1e-5
    recon = vae.decode(posterior.mode()) / 2
    assert distance(recon, outputs["recon_a"]) < 1e-5
    assert distance(vae.decode_codes(inputs["codes_a"]) / 2, outputs["dec_a"]) < 1e-5

    # 0.06: the variance of the pixels of the paper's data
    torch.testing.assert_close(F.mse_loss(recon, inputs["video_a"]) / 0.06, outputs["recon_loss_a"])
    torch.testing.assert_close(posterior.commitment_loss(), outputs["commitment_loss_a"])
    torch.testing.assert_close(posterior.perplexity(), outputs["perplexity_a"])


def test_its_tensors_go_back_by_their_published_names(published) -> None:
    vae, (_, weights, _, _), knobs = published
    back = LAYOUT.to_published(vae.state_dict(), knobs)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key], value) for key, value in weights.items())


def test_its_size_is_the_published_one() -> None:
    """21.14M parameters, as the published class has; the codebook is of buffers."""
    with torch.device("meta"):
        assert sum(p.numel() for p in VQVAE().parameters()) == 21_141_619


@pytest.mark.parametrize(("temporal", "spatial"), [(2, 4), (4, 8), (8, 2), (1, 2)])
@torch.no_grad()
def test_strides_may_differ(randomised, temporal: int, spatial: int) -> None:
    vae = randomised(VQVAE(**TINY, temporal_stride=temporal, spatial_stride=spatial))
    video = torch.rand(1, 3, 2 * temporal, 2 * spatial, 3 * spatial, generator=torch.Generator().manual_seed(1))
    latents = vae.encode(video).mode()
    assert latents.shape == (1, 6, 2, 2, 3)
    assert vae.decode(latents).shape == video.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_latents_are_the_nearest_embeddings_and_pass_gradients_on(dtype: torch.dtype) -> None:
    book = Codebook(5, 3, 0.99).to(dtype).eval()
    source = torch.Generator().manual_seed(1)
    features = torch.randn(2, 3, 2, 3, 4, generator=source).to(dtype).requires_grad_()
    posterior = book.quantise(features)
    rows = features.movedim(1, -1).unsqueeze(-2).double()
    nearest = (rows - book.embeddings.double()).square().sum(-1).argmin(-1)
    assert torch.equal(posterior.codes, nearest)
    assert torch.equal(posterior.mode(), book.embeddings[nearest].movedim(-1, 1))
    assert torch.equal(posterior.sample(source), posterior.mode())
    assert torch.equal(posterior.kl(), torch.zeros(2, dtype=dtype))
    weight = torch.randn(features.shape, generator=source).to(dtype)
    (posterior.sample() * weight).sum().backward()
    assert torch.equal(features.grad, weight)


def test_the_commitment_loss_moves_features_alone() -> None:
    features = torch.tensor([1.0, 4.0]).view(1, 1, 2, 1, 1).requires_grad_()
    embeddings = torch.tensor([2.0, 2.0]).view(1, 1, 2, 1, 1)
    posterior = Quantised(features, torch.zeros(1, 2, 1, 1, dtype=torch.int64), embeddings)
    loss = posterior.commitment_loss()
    assert loss == 0.25 * (1 + 4) / 2
    loss.backward()
    assert features.grad.flatten().tolist() == [-0.25, 0.5]


def test_perplexity_counts_the_codes_in_use() -> None:
    for codes, wanted in (([7, 7, 7, 7], 1), ([0, 3, 0, 3], 2), ([0, 1, 2, 3], 4), ([0, 0, 0, 1], 4 / 27**0.25)):
        shape = torch.tensor(codes).view(1, 4, 1, 1)
        zeros = torch.zeros(1, 1, 4, 1, 1)
        assert Quantised(zeros, shape, zeros).perplexity().item() == pytest.approx(wanted)


def test_a_code_in_use_moves_to_the_running_mean_of_its_features() -> None:
    """Appendix A.1 of arXiv 1711.00937, on numbers: decay 0.9, two codes."""
    book = Codebook(2, 1, 0.9).train()
    book.embeddings.copy_(torch.tensor([[0.0], [10.0]]))
    book.total.copy_(torch.tensor([[0.0], [40.0]]))
    book.count.copy_(torch.tensor([4.0, 4.0]))
    features = torch.tensor([1.0, 2.0, 3.0, 12.0]).view(1, 1, 4, 1, 1)
    assert book.quantise(features).codes.flatten().tolist() == [0, 0, 0, 1]
    assert book.count.tolist() == pytest.approx([0.9 * 4 + 0.1 * 3, 0.9 * 4 + 0.1])
    assert book.total.flatten().tolist() == pytest.approx([0.6, 0.9 * 40 + 1.2])
    assert book.embeddings.flatten().tolist() == pytest.approx([0.6 / 3.9, 37.2 / 3.7])
    before = book.embeddings.clone()
    book.eval().quantise(features)
    assert torch.equal(book.embeddings, before)


def test_codes_begin_at_features_and_seldom_used_ones_begin_anew() -> None:
    source = torch.Generator().manual_seed(1)
    features = torch.randn(2, 3, 4, 5, 5, generator=source)
    rows = features.movedim(1, -1).reshape(-1, 3)
    torch.manual_seed(0)
    book = Codebook(8, 3, 0.5).train()
    first = book.quantise(features)
    # every code is one of the features, which so is its own nearest
    assert first.codes.unique().numel() == 8
    assert is_among(first.embeddings.movedim(1, -1).reshape(-1, 3), rows)
    book.count[2], book.embeddings[2] = 0.0, 1e6
    book.quantise(features)
    assert is_among(book.embeddings[2:3], rows)
    # fewer features than codes: they serve again, a little apart
    few = Codebook(8, 3, 0.5).train()
    few.quantise(features[:1, :, :1, :1])
    assert few.embeddings.unique(dim=0).shape[0] == 8
    assert (torch.cdist(few.embeddings, features[0, :, 0, 0].T).amin(1) < 0.1).all()


def is_among(some: torch.Tensor, rows: torch.Tensor) -> bool:
    return bool((torch.cdist(some, rows, compute_mode="donot_use_mm_for_euclid_dist").amin(1) == 0).all())


def test_training_moves_every_parameter_and_the_codebook() -> None:
    torch.manual_seed(0)
    vae = VQVAE(**TINY).train()
    video = torch.rand(2, 3, 8, 8, 16) * 2 - 1
    posterior = vae.encode(video)
    before = vae.codebook.embeddings.clone()
    loss = F.mse_loss(vae.decode(posterior.sample()), video) / 0.24 + posterior.commitment_loss()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in vae.parameters())
    vae.encode(video)
    assert not torch.equal(vae.codebook.embeddings, before)
    assert math.isfinite(posterior.perplexity())


def test_settings_and_codes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="temporal_stride=3 is no power of two"):
        VQVAE(**TINY, temporal_stride=3)
    with pytest.raises(ValueError, match="compress nothing"):
        VQVAE(**TINY, temporal_stride=1, spatial_stride=1)
    with pytest.raises(ValueError, match="base_channels=8 do not split into 3 heads: use 9"):
        VQVAE(**TINY, num_heads=3)
    vae = VQVAE(**TINY)
    for code in (-1, 16):
        with pytest.raises(ValueError, match=f"code {code} is not in the codebook: it has 0 to 15"):
            vae.decode_codes(torch.tensor([0, code]).view(1, 2, 1, 1))
    with pytest.raises(ValueError, match="choose a causal VAE"):
        next(vae.encode_stream(torch.zeros(1, 3, 8, 8, 8).split(4, dim=2)))


@pytest.mark.parametrize("frames", [1, 5])
def test_an_upsampler_gives_the_same_with_and_without_gradients_and_these_are_right_in_half_precision(
    frames: int, distance
) -> None:
    """Of an image, PyTorch 2.14 takes the gradient of a padded transposed convolution from memory that nobody wrote."""
    torch.manual_seed(0)
    layer = SameConvTranspose(8, 3, 4, (1, 2, 2)).bfloat16()
    x, slope = torch.randn(2, 8, frames, 8, 9).bfloat16(), torch.randn(2, 3, frames, 16, 18).bfloat16()
    gradients = []
    for dtype in (torch.bfloat16, torch.float64):
        layer, given = layer.to(dtype), x.to(dtype, copy=True)
        with torch.no_grad():
            plain = layer(given)
        given.requires_grad_()
        # what is freed is what the next tensors are made of
        junk = [torch.full((size,), float("nan")) for size in (100, 1_000, 10_000, 100_000) for _ in range(3)]
        del junk
        out = layer(given)
        assert distance(out.detach(), plain) < 1e-2
        out.backward(slope.to(dtype))
        gradients.append(given.grad.double())
    # rounded once to 8 bits
    assert distance(*gradients) < 1e-2
