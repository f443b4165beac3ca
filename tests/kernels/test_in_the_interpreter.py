"""The fused operations and block-sparse attention, run in Triton's interpreter, in a process of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from interpreter import run_interpreted

pytest.importorskip("triton")

from videogen.kernels._triton import INTERPRETED

FILES = (
    "test_qk_norm_rope.py",
    "test_residual_norm.py",
    "test_gated.py",
    "test_fused_models.py",
    "test_block_sparse.py",
)


@pytest.mark.skipif(INTERPRETED, reason="already in the interpreter")
def test_what_needs_the_interpreter() -> None:
    run_interpreted(*(str(Path(__file__).with_name(name)) for name in FILES))
