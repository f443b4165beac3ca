"""Tensors that are laid out otherwise than ours: changed on loading, back on saving, refused where they don't fit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videogen.checkpoints.layout import Layout, LayoutError
from videogen.checkpoints.transforms import HALVES_SWAPPED, rearranged
from videogen.dit.embeddings import patchify, unpatchify

PATCH, CHANNELS, DIM, HEADS = (1, 2, 3), 2, 8, 2
SIZES = dict(zip(("pt", "ph", "pw"), PATCH, strict=True))
TURNED = rearranged("(heads two c) ... -> (heads c two) ...", two=2, heads=HEADS)
LAYOUT = Layout(
    kind="denoiser",
    part="none",
    recognise=lambda config, keys: True,
    knobs=lambda config, keys: {"patch": SIZES},
    renames=lambda knobs: [("^patches", "proj"), ("^qkv", "attention.{q,k,v}")],
    transforms=lambda knobs: {
        r"proj\.weight": rearranged("d c pt ph pw -> d (c pt ph pw)", **knobs["patch"]),
        r"last\..*": rearranged("(pt ph pw c) ... -> (c pt ph pw) ...", **knobs["patch"]),
        r"scale_shift\..*": HALVES_SWAPPED,
        r"attention\.[qk]\..*": TURNED,
    },
)


@pytest.fixture
def part() -> nn.ModuleDict:
    torch.manual_seed(0)
    volume = CHANNELS * PATCH[1] * PATCH[2]
    outputs = {"patches": (volume, DIM), "qkv": (DIM, 3 * DIM), "scale_shift": (DIM, 2 * DIM), "last": (DIM, volume)}
    return nn.ModuleDict({name: nn.Linear(*sizes) for name, sizes in outputs.items()})


@pytest.fixture
def published() -> dict[str, Tensor]:
    torch.manual_seed(1)
    volume = CHANNELS * PATCH[1] * PATCH[2]
    outputs = {"scale_shift": 2 * DIM, "last": volume, **{f"attention.{name}": DIM for name in "qkv"}}
    pairs = [(name, nn.Linear(DIM, width)) for name, width in outputs.items()]
    return {
        **{f"{name}.{key}": value.detach() for name, layer in pairs for key, value in layer.state_dict().items()},
        "proj.weight": torch.randn(DIM, CHANNELS, *PATCH),
        "proj.bias": torch.randn(DIM),
    }


def test_the_layers_do_what_the_published_ones_do(part: nn.ModuleDict, published: dict[str, Tensor]) -> None:
    part.load_state_dict(LAYOUT.to_ours(published, part, LAYOUT.knobs({}, published)))
    latents, tokens = torch.randn(2, CHANNELS, 2, 4, 6), torch.randn(2, 8, DIM)
    # sums of a dozen products in another order
    convolved = F.conv3d(latents, published["proj.weight"], published["proj.bias"], stride=PATCH)
    assert torch.allclose(part["patches"](patchify(latents, PATCH)), convolved.flatten(2).transpose(1, 2), atol=1e-6)
    # channels innermost, a token's pixel after another
    pixels = F.linear(tokens, published["last.weight"], published["last.bias"]).view(2, 2, 2, 2, *PATCH, CHANNELS)
    wanted = torch.stack(
        [pixels[:, t, y // 2, x // 3, 0, y % 2, x % 3] for t in range(2) for y in range(4) for x in range(6)], -1
    ).unflatten(-1, (2, 4, 6))
    assert torch.equal(unpatchify(part["last"](tokens), (2, 2, 2), PATCH), wanted)
    scale, shift = F.linear(tokens, published["scale_shift.weight"], published["scale_shift.bias"]).chunk(2, -1)
    assert torch.equal(part["scale_shift"](tokens), torch.cat([shift, scale], -1))
    # halves of a head become neighbours in queries and keys, values stay
    for mine, name in zip(part["qkv"](tokens).chunk(3, -1), "qkv", strict=True):
        theirs = F.linear(tokens, published[f"attention.{name}.weight"], published[f"attention.{name}.bias"])
        halves = theirs.unflatten(-1, (HEADS, 2, -1))
        assert torch.allclose(mine, theirs if name == "v" else halves.transpose(-1, -2).flatten(2), atol=1e-6)


def test_saving_gives_every_tensor_back(part: nn.ModuleDict, published: dict[str, Tensor]) -> None:
    knobs = LAYOUT.knobs({}, published)
    part.load_state_dict(LAYOUT.to_ours(published, part, knobs))
    again = LAYOUT.to_published(part.state_dict(), knobs)
    assert again.keys() == published.keys()
    assert all(value.is_contiguous() and torch.equal(value, published[key]) for key, value in again.items())


@pytest.mark.parametrize(
    ("key", "shape", "said"),
    [
        ("proj.weight", (DIM, CHANNELS * 6), r"proj\.weight \(8, 12\), not to be laid out as \(8, 12\)"),
        ("last.bias", (13,), r"last\.bias \(13,\), not to be laid out as \(12,\)"),
        ("scale_shift.bias", (15,), r"scale_shift\.bias \(15,\), not to be laid out as \(16,\)"),
        (
            "attention.k.weight",
            (DIM, DIM + 1),
            r"attention\.v\.weight \(8, 8\), \(8, 9\), \(8, 8\), not to be laid out as \(24, 8\)",
        ),
    ],
)
def test_a_shape_that_a_change_does_not_fit_is_named(
    part: nn.ModuleDict, published: dict[str, Tensor], key: str, shape: tuple[int, ...], said: str
) -> None:
    published[key] = torch.zeros(shape)
    with pytest.raises(LayoutError, match=said):
        LAYOUT.to_ours(published, part, LAYOUT.knobs({}, published))
