"""The image autoencoder frame by frame: equal to diffusers' AutoencoderKL on the same weights, each frame alone."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from videogen.vae.framewise import FramewiseVAE

# the same model in our knobs and in theirs
STABLE_DIFFUSION = (
    {"base_channels": 16, "norm_groups": 8},
    {"block_out_channels": (16, 32, 64, 64), "norm_num_groups": 8, "layers_per_block": 2, "latent_channels": 4},
)
# the layout of Stable Diffusion 3 and Flux, and levels of another number and width
NO_QUANT = (
    {
        "base_channels": 32,
        "channel_multipliers": (1, 3, 2),
        "num_res_blocks": 1,
        "latent_channels": 6,
        "use_quant_conv": False,
        "use_attention": False,
    },
    {
        "block_out_channels": (32, 96, 64),
        "norm_num_groups": 32,
        "layers_per_block": 1,
        "latent_channels": 6,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "mid_block_add_attention": False,
    },
)


def stages(levels: int, blocks: int, *, attention: bool) -> dict[str, str]:
    """Their names -> ours, stage by stage in the order of the forward pass."""
    names = {"quant_conv": "encoder.quant", "post_quant_conv": "decoder.quant"}
    for half, side, count in (("encoder", "down", blocks), ("decoder", "up", blocks + 1)):
        index = 0
        for level in range(levels):
            theirs = f"{half}.{side}_blocks.{level}"
            for stage in [*(f"resnets.{i}" for i in range(count)), f"{side}samplers.0"]:
                names[f"{theirs}.{stage}"] = f"{half}.levels.{index}"
                index += 1
        names[f"{half}.conv_in"] = f"{half}.conv_in"
        names[f"{half}.mid_block.resnets.0"] = f"{half}.middle.0"
        names[f"{half}.mid_block.attentions.0"] = f"{half}.middle.1"
        names[f"{half}.mid_block.resnets.1"] = f"{half}.middle.{1 + attention}"
        names[f"{half}.conv_norm_out"] = f"{half}.norm"
        names[f"{half}.conv_out"] = f"{half}.out"
    return names


def state(theirs: nn.Module, names: dict[str, str]) -> dict[str, Tensor]:
    """Their weights under our names."""
    weights: dict[str, Tensor] = {}
    for name, tensor in theirs.state_dict().items():
        stage = next(stage for stage in names if name.startswith(f"{stage}."))
        rest = name.removeprefix(stage).replace("conv_shortcut", "shortcut").replace("group_norm", "norm")
        weights[names[stage] + rest.replace("to_out.0", "out")] = tensor
    for name in [name for name in weights if ".to_q." in name]:
        merged = torch.cat([weights.pop(name.replace("to_q", part)) for part in ("to_q", "to_k", "to_v")])
        weights[name.replace("to_q", "qkv")] = merged
    # linear layers over the channels are convolutions of 1 x 1 x 1 here
    return {n: t[..., None, None, None] if "middle.1" in n and t.ndim == 2 else t for n, t in weights.items()}


@pytest.mark.parametrize(("ours", "theirs"), [STABLE_DIFFUSION, NO_QUANT], ids=["stable-diffusion", "no-quant"])
@pytest.mark.parametrize("size", [(24, 40), (56, 8)])
@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["float32", "float64"]
)
@torch.no_grad()
def test_it_equals_diffusers(randomised, distance, ours, theirs, size: tuple[int, int], dtype, limit: float) -> None:
    levels = len(theirs["block_out_channels"])
    down, up = ("DownEncoderBlock2D",) * levels, ("UpDecoderBlock2D",) * levels
    truth = randomised(AutoencoderKL(down_block_types=down, up_block_types=up, **theirs)).to(dtype)
    vae = FramewiseVAE(**ours).to(dtype).eval()
    names = stages(levels, theirs["layers_per_block"], attention=ours.get("use_attention", True))
    vae.load_state_dict(state(truth, names))

    video = torch.randn(2, 3, 3, *size, dtype=dtype, generator=torch.Generator().manual_seed(1))
    posterior = vae.encode(video)
    wanted = [truth.encode(frame).latent_dist for frame in video.unbind(2)]
    assert distance(posterior.mode(), torch.stack([latents.mean for latents in wanted], 2)) < limit
    assert distance(posterior.logvar, torch.stack([latents.logvar for latents in wanted], 2)) < limit
    frames = [truth.decode(latents).sample for latents in posterior.mode().unbind(2)]
    assert distance(vae.decode(posterior.mode()), torch.stack(frames, 2)) < limit


def test_its_size_is_the_published_one() -> None:
    """83.65M parameters, as the autoencoder of Stable Diffusion has."""
    with torch.device("meta"):
        assert sum(p.numel() for p in FramewiseVAE().parameters()) == 83_653_863


@torch.no_grad()
def test_no_frame_sees_another(randomised) -> None:
    vae = randomised(FramewiseVAE(base_channels=8, norm_groups=4, num_res_blocks=1))
    video = torch.randn(1, 3, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    changed = video.clone()
    changed[:, :, 2] += 1
    latents, moved = vae.encode(video).mode(), vae.encode(changed).mode()
    assert touched(latents, moved) == [2]
    assert touched(vae.decode(latents), vae.decode(moved)) == [2]


def touched(before: Tensor, after: Tensor) -> list[int]:
    return (before - after).abs().amax((0, 1, 3, 4)).gt(1e-5).nonzero().flatten().tolist()


@pytest.mark.parametrize("frames", [1, 2, 5])
@torch.no_grad()
def test_a_stream_equals_the_whole_clip(randomised, streamed, distance, frames: int) -> None:
    vae = randomised(FramewiseVAE(base_channels=8, norm_groups=4, num_res_blocks=1))
    video = torch.randn(2, 3, frames, 16, 24, generator=torch.Generator().manual_seed(1))
    latents = vae.encode(video).mode()
    decoded = vae.decode(latents)
    for size in (1, 2, 4):
        assert distance(streamed(vae.encode_stream, video, size), latents) < 1e-5
        assert distance(streamed(vae.decode_stream, latents, size), decoded) < 1e-5


def test_no_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="give at least 1"):
        FramewiseVAE(channel_multipliers=())
