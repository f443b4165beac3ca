"""Open-Sora 2.0's MM-DiT: equal to the original implementation on the same weights, in both of its spellings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange
from safetensors.torch import load_file, save_file
from torch import Tensor

from videogen import load
from videogen.checkpoints.layouts.opensora_2_dit import LAYOUT
from videogen.denoiser import Condition

FIXTURES = Path(__file__).parent / "fixtures"
# fixture, case -> its grid; the second fixture is spelled as FLUX is, and has its guidance
CASES = [
    ("hpc_mmdit_v2_0", "a", (3, 4, 6)),
    ("hpc_mmdit_v2_0", "image", (1, 4, 4)),
    ("hpc_mmdit_v2_0_flux", "a", (1, 4, 6)),
]


def read(name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Config, weights, inputs and outputs."""
    folder = FIXTURES / name
    return (
        json.loads((folder / "config.json").read_text()),
        load_file(folder / "weights.safetensors"),
        load_file(folder / "io.safetensors"),
    )


def unpacked(tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Patches of 2x2 in a row, as the original takes them -> (B, C, T, H, W)."""
    t, h, w = grid
    return rearrange(tokens, "b (t h w) (c p q) -> b c t (h p) (w q)", t=t, h=h, w=w, p=2, q=2)


@pytest.mark.parametrize(("name", "case", "grid"), CASES)
@torch.no_grad()
def test_it_equals_the_original(
    tmp_path: Path, distance: Callable[[Tensor, Tensor], float], name: str, case: str, grid: tuple[int, int, int]
) -> None:
    config, weights, numbers = read(name)
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = load(tmp_path / "model.safetensors")
    given = {key.split(".")[2]: value for key, value in numbers.items() if key.startswith(f"in.{case}.")}
    # the published pipeline counts from the first token, and leaves the text at place 0
    places = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float32) for n in grid))
    assert torch.equal(given["img_ids"], places.expand_as(given["img_ids"]))
    assert not given["txt_ids"].any()
    fields = {"text": given["txt"], "pooled": given["y_vec"]}
    if "guidance" in given:
        fields["guidance"] = given["guidance"]
    if "cond" in given:
        # a mask, then the latents of what is known
        channels = unpacked(given["cond"], grid)
        fields |= {"known_mask": channels[:, :1].bool(), "known": channels[:, 1:]}
    got = model(unpacked(given["img"], grid), given["timesteps"], Condition(**fields))
    assert distance(got, unpacked(numbers[f"out.{case}.out"], grid)) < 1e-5


@pytest.mark.parametrize("name", ["hpc_mmdit_v2_0", "hpc_mmdit_v2_0_flux"])
def test_saving_gives_every_tensor_back(tmp_path: Path, name: str) -> None:
    config, weights, _ = read(name)
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    back = LAYOUT.to_published(load(tmp_path / "model.safetensors").state_dict(), LAYOUT.knobs(config, weights))
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key], value) for key, value in weights.items())


def test_a_file_without_a_config_is_the_release_s() -> None:
    config, weights, _ = read("hpc_mmdit_v2_0")
    # 16 channels of a head are none of the release
    with pytest.raises(ValueError, match=r"axes_dim=\[16, 56, 56\] of heads with 16 channels: they must add up"):
        LAYOUT.knobs({}, weights)
    assert LAYOUT.knobs({"axes_dim": config["axes_dim"]}, weights) == LAYOUT.knobs(config, weights)


def test_what_is_not_implemented_is_refused() -> None:
    config, weights, _ = read("hpc_mmdit_v2_0")
    with pytest.raises(ValueError, match="use_liger_rope=False with three layers of qkv is unknown"):
        LAYOUT.knobs({**config, "use_liger_rope": False}, weights)
    with pytest.raises(ValueError, match="fused_qkv=True with three layers of qkv is unknown"):
        LAYOUT.knobs({**config, "fused_qkv": True}, weights)
    del weights["double_blocks.0.img_attn.q_proj.bias"]
    with pytest.raises(ValueError, match="qkv_bias=False is not implemented"):
        LAYOUT.knobs(config, weights)
