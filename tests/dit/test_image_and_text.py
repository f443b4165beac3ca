"""Image tokens beside the text, text of one length, the norm before the last layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from videogen.denoiser import Condition
from videogen.dit.blocks import BlockCondition
from videogen.dit.crosses import CROSSES
from videogen.dit.model import DiT
from videogen.dit.parts import choose

MakeDiT, MakeCondition = Callable[..., DiT], Callable[..., Condition]
SIZE = (2, 3, 2, 4, 4)


def decoupled(positions: int) -> dict[str, Any]:
    return {"cross": "decoupled", "image_tokens": {"name": "mlp", "image_dim": 8, "positions": positions}}


@pytest.mark.parametrize("qk_norm", ["rms", "none"])
def test_decoupled_attention_is_the_sum_of_two(randomised: Callable[[nn.Module], nn.Module], qk_norm: str) -> None:
    parts = choose(qk_norm=qk_norm)
    kit = parts.kit(parts.modulation(24, 24, parts.norm), bias=True)
    both = randomised(CROSSES.build("decoupled", 24, 2, kit, norm="none"))
    single = CROSSES.build("attention", 24, 2, kit, norm="none")
    state = both.state_dict()
    of_text = {key: value for key, value in state.items() if "image" not in key}
    of_image = of_text | {key.replace("image_", ""): value for key, value in state.items() if "image" in key}
    tokens, text, image = torch.randn(2, 6, 24), torch.randn(2, 5, 24), torch.randn(2, 4, 24)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    plain = BlockCondition(grid=(1, 2, 3), time=torch.zeros(2, 1, 24), text_mask=mask)
    single.load_state_dict(of_text)
    wanted = single(tokens, text, plain)
    # the numbers of one sum, put together in another order
    assert torch.allclose(both(tokens, text, plain), wanted, atol=1e-6)
    single.load_state_dict(of_image)
    unmasked = dataclasses.replace(plain, text_mask=None)
    wanted = wanted + single(tokens, image, unmasked) - both.out.bias
    assert torch.allclose(both(tokens, text, dataclasses.replace(plain, image=image)), wanted, atol=1e-6)


@pytest.mark.parametrize("positions", [0, 4])
def test_a_model_reads_the_image(make_dit: MakeDiT, make_condition: MakeCondition, positions: int) -> None:
    model = make_dit(parts=decoupled(positions))
    condition = dataclasses.replace(make_condition(2), image=torch.randn(2, 4, 8))
    latents, timestep = torch.randn(SIZE), torch.rand(2)
    out = model(latents, timestep, condition)
    other = dataclasses.replace(condition, image=condition.image.flip(-1))
    assert not torch.allclose(model(latents, timestep, other), out, atol=1e-3)
    assert not torch.allclose(model(latents, timestep, make_condition(2)), out, atol=1e-3)
    moved = model(latents, timestep, dataclasses.replace(condition, image=condition.image.flip(1)))
    assert torch.allclose(moved, out, atol=1e-5) is (positions == 0)
    out.square().sum().backward()
    assert [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []
    # a sampler's steps share what is made of the image alone
    with torch.no_grad():
        first, second = (model(latents, timestep, condition) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.allclose(first, out, atol=1e-6)


def test_images_that_nothing_reads_are_refused(make_dit: MakeDiT, make_condition: MakeCondition) -> None:
    with pytest.raises(ValueError, match=r"no block reads image tokens: use dit\.cross=decoupled"):
        make_dit(parts={"image_tokens": "mlp"})
    with pytest.raises(ValueError, match=r"the blocks read image tokens and dit\.image_tokens=none gives none"):
        make_dit(parts={"cross": "decoupled"})
    latents, timestep, condition = torch.randn(SIZE), torch.rand(2), make_condition(2)
    image = torch.randn(2, 4, 8)
    with pytest.raises(ValueError, match=r"dit would ignore condition\.image"):
        make_dit()(latents, timestep, dataclasses.replace(condition, image=image))
    model = make_dit(parts=decoupled(3))
    with pytest.raises(ValueError, match=r"condition\.image has the shape \(2, 4, 8\): this model takes \(2, 3, 8\)"):
        model(latents, timestep, dataclasses.replace(condition, image=image))
    with pytest.raises(ValueError, match=r"condition\.image is read beside condition\.text"):
        model(latents, timestep, Condition(image=image[:, :3]))


def test_text_of_one_length_is_words_and_zeros(make_dit: MakeDiT, make_condition: MakeCondition) -> None:
    condition, latents, timestep = make_condition(2), torch.randn(SIZE), torch.rand(2)
    filled, plain = make_dit(text_tokens=8), make_dit()
    assert condition.text is not None
    assert condition.text_mask is not None
    zeros = torch.zeros(2, 8, condition.text.shape[-1])
    zeros[:, :5] = condition.text * condition.text_mask[..., None]
    out = filled(latents, timestep, condition)
    wanted = plain(latents, timestep, dataclasses.replace(condition, text=zeros, text_mask=None))
    assert torch.equal(out, wanted)
    assert not torch.allclose(plain(latents, timestep, condition), out, atol=1e-3)
    behind = condition.text.masked_fill(~condition.text_mask[..., None], 7.0)
    assert torch.equal(filled(latents, timestep, dataclasses.replace(condition, text=behind)), out)
    with pytest.raises(ValueError, match="5 text tokens, and this model takes 4: shorten the sentence"):
        make_dit(text_tokens=4)(latents, timestep, condition)


def test_the_last_norm_may_be_another(make_dit: MakeDiT, make_condition: MakeCondition) -> None:
    model = make_dit(parts={"norm": "rms"}, norm_out="layer")
    assert isinstance(model.modulation.norm, nn.LayerNorm)
    assert all(isinstance(norm, nn.RMSNorm) for block in model.blocks for norm in block.modulation.norms)
    out = model(torch.randn(SIZE), torch.rand(2), make_condition(2))
    assert not torch.allclose(out, make_dit(parts={"norm": "rms"})(torch.randn(SIZE), torch.rand(2), make_condition(2)))
    with pytest.raises(ValueError, match="no dit/norm is called 'leyer'"):
        make_dit(norm_out="leyer")
