"""What all tests share: shapes checked at run time, a fixed number of threads, a plotting backend without a screen."""

from __future__ import annotations

from pathlib import Path

import jaxtyping
import matplotlib
import torch

ROOT = Path(__file__).parent.parent / "videogen"
# the shape annotations of these floors are checked at every call. kernels/ is left out, since Triton compiles the
# source of its functions, and so are the contracts in __init__.py, which hold no code that meets a tensor
CHECKED = [
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for floor in ("vae", "dit", "schedulers", "text")
    for path in sorted((ROOT / floor).rglob("*.py"))
    if path.name != "__init__.py"
]
jaxtyping.install_import_hook(CHECKED, "shape_check.shapes")

# sums depend on how many threads share them, and CI has two cores
torch.set_num_threads(2)
matplotlib.use("Agg")
