"""Slices of a published tensor that are tensors of ours."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from videogen.checkpoints.layout import Layout, LayoutError
from videogen.checkpoints.slices import cut, joined, without_slice

LAYOUT = Layout(
    kind="denoiser",
    part="none",
    recognise=lambda config, keys: True,
    knobs=lambda config, keys: {},
    renames=lambda knobs: [
        (r"^qk\.(\w+)$", r"{q.\1,v_mlp.\1[rows 0:3]}"),
        (r"^mlp\.(\w+)$", r"v_mlp.\1[rows 3:8]"),
        (r"^left\.weight$", "out.weight[columns 0:1]"),
        (r"^right\.weight$", "out.weight[columns 1:4]"),
        (r"^right\.bias$", "out.bias"),
    ],
)


@pytest.fixture
def part() -> nn.ModuleDict:
    layers = {"qk": nn.Linear(4, 6), "mlp": nn.Linear(4, 5), "right": nn.Linear(3, 2)}
    return nn.ModuleDict({**layers, "left": nn.Linear(1, 2, bias=False)})


@pytest.fixture
def published() -> dict[str, Tensor]:
    torch.manual_seed(0)
    shapes = {"q.weight": (3, 4), "q.bias": (3,), "v_mlp.weight": (8, 4), "v_mlp.bias": (8,)}
    shapes |= {"out.weight": (2, 4), "out.bias": (2,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def test_there_and_back(part: nn.ModuleDict, published: dict[str, Tensor]) -> None:
    ours = LAYOUT.to_ours(published, part, {})
    part.load_state_dict(ours)
    assert torch.equal(ours["qk.weight"], torch.cat([published["q.weight"], published["v_mlp.weight"][:3]]))
    assert torch.equal(ours["mlp.bias"], published["v_mlp.bias"][3:])
    assert torch.equal(ours["left.weight"], published["out.weight"][:, :1])
    assert torch.equal(ours["right.weight"], published["out.weight"][:, 1:])
    again = LAYOUT.to_published(part.state_dict(), {})
    assert again.keys() == published.keys()
    assert all(value.is_contiguous() and torch.equal(value, published[key]) for key, value in again.items())


@pytest.mark.parametrize("shape", [(7, 4), (9, 4)])
def test_slices_that_do_not_cover_a_tensor_leave_it_over(
    part: nn.ModuleDict, published: dict[str, Tensor], shape: tuple[int, int]
) -> None:
    published["v_mlp.weight"] = torch.zeros(shape)
    with pytest.raises(LayoutError, match=r"missing: v_mlp\.weight\[rows 0:3\], .*; left over: v_mlp\.weight"):
        LAYOUT.to_ours(published, part, {})


def test_names_and_tensors_without_slices_stay() -> None:
    whole = {"a": torch.ones(2), "b": torch.ones(3, 2)}
    assert cut(whole, ["a", "c[rows 0:2]"]).keys() == whole.keys()
    assert joined(cut(whole, ["b[columns 1:2]", "b[columns 0:1]"])).keys() == whole.keys()
    assert [without_slice(name) for name in ("a", "b[rows 0:2]", "c[0]")] == ["a", "b", "c[0]"]
    # a vector has no columns
    assert cut(whole, ["a[columns 0:2]"]).keys() == whole.keys()
