"""What all tests share: shapes checked at run time, a fixed number of threads, a plotting backend without a screen.

And what more than one folder of tests asks for: random weights, the size of an error, diffusers' weights in our parts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jaxtyping
import matplotlib
import pytest
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from videogen.checkpoints.layout import Layout

ROOT = Path(__file__).parent.parent / "videogen"
# the shape annotations of these floors are checked at every call. kernels/ is left out, since Triton compiles the
# source of its functions, and so are the contracts in __init__.py, which hold no code that meets a tensor
CHECKED = [
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for floor in ("vae", "dit", "unet", "schedulers", "text", "vision")
    for path in sorted((ROOT / floor).rglob("*.py"))
    if path.name != "__init__.py"
]
if not jaxtyping.config.jaxtyping_disable:
    jaxtyping.install_import_hook(CHECKED, "shape_check.shapes")

# sums depend on how many threads share them, and there is a process of tests a core
torch.set_num_threads(1)
matplotlib.use("Agg")


@pytest.fixture(scope="session")
def randomised() -> Callable[[nn.Module], nn.Module]:
    def fill(module: nn.Module) -> nn.Module:
        """Every parameter random, at a size that keeps the signal's: norms of one and biases of zero hide faults."""
        source = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, value in module.named_parameters():
                noise = torch.randn(value.shape, generator=source)
                if value.ndim > 1:
                    value.copy_(noise / value[0].numel() ** 0.5)
                else:
                    value.copy_(0.1 * noise + float("norm" in name and name.endswith("weight")))
        return module.eval()

    return fill


@pytest.fixture(scope="session")
def distance() -> Callable[[Tensor, Tensor], float]:
    def largest(got: Tensor, wanted: Tensor) -> float:
        """The largest error, as a part of the largest value wanted."""
        assert got.shape == wanted.shape
        return float((got - wanted).abs().max() / wanted.abs().max())

    return largest


@pytest.fixture(scope="session")
def translated() -> Callable[[Layout, nn.Module], nn.Module]:
    def build(layout: Layout, truth: nn.Module) -> nn.Module:
        """Our part with the weights of diffusers'; they come back as they were."""
        # imported here: the import hook above has to come first
        from videogen.vae import VAES

        published = truth.state_dict()
        knobs = layout.knobs(truth.config, published)
        vae = VAES.build(layout.part, **knobs).to(truth.dtype).eval()
        vae.load_state_dict(layout.to_ours(published, vae, knobs))
        back = layout.to_published(vae.state_dict(), knobs)
        assert back.keys() == published.keys()
        assert all(torch.equal(back[key], value) for key, value in published.items())
        return vae

    return build
