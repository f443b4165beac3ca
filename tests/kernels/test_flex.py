"""FlexAttention's masks, run as torch's operators: its compiled kernel needs a card."""

from __future__ import annotations

import pytest
import torch
from attention_truth import B, L, N, assert_close, operands
from torch.nn.attention.flex_attention import flex_attention

from videogen.kernels import ATTENTION
from videogen.kernels.flex import attend


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("shape", [None, (B, 1, 1, L), (B, 3, N, L)], ids=str)
def test_masks_mean_what_they_mean_elsewhere(shape: tuple[int, ...] | None) -> None:
    q, k, v = operands(ATTENTION.build("sdpa"), torch.float32, 16)
    mask = None
    if shape is not None:
        mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5
        mask[0, ..., :1, :] = False
    assert_close(attend(flex_attention, q, k, v, mask), q, k, v, mask)


def test_a_cpu_is_refused() -> None:
    q, k, v = operands(ATTENTION.build("sdpa"), torch.float32, 16)
    with pytest.raises(ValueError, match=r"attention 'flex' runs on cuda, not on cpu: use attention="):
        ATTENTION.build("flex")(q, k, v)
