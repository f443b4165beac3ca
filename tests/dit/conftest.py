"""What the transformer tests share: tiny models with every tensor random, conditions, clips cut out of a batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from videogen.checkpoints import Published
from videogen.config import build_part, compose
from videogen.config.files import presets
from videogen.denoiser import DENOISERS, Condition
from videogen.dit.model import DiT
from videogen.dit.parts import Parts, choose

if TYPE_CHECKING:
    from videogen.checkpoints.layout import Layout

CHANNELS, TEXT_DIM = 3, 10


def random_weights(module: nn.Module) -> nn.Module:
    """Every parameter random and large enough to be seen: a zero-initialised layer makes any two models equal."""
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in module.named_parameters():
            noise = torch.randn(value.shape, generator=source)
            if value.ndim > 1:
                value.copy_(noise * value[0].numel() ** -0.5)
            else:
                value.copy_(0.2 * noise + float("norm" in name and name.endswith("weight")))
    return module.eval()


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def randomised() -> Callable[[nn.Module], nn.Module]:
    return random_weights


@pytest.fixture(scope="session")
def make_dit() -> Callable[..., DiT]:
    def make(
        block: Any = "full3d", *, parts: Mapping[str, Any] | None = None, random: bool = True, **knobs: Any
    ) -> DiT:
        sizes = {"dim": 24, "depth": 2, "num_heads": 2} | knobs
        # a position of the tokens themselves is the harder case for what must not depend on padding
        chosen = {"block": block, "position": {"name": "rope", "absolute": True}} | dict(parts or {})
        torch.manual_seed(0)
        model = DiT(CHANNELS, TEXT_DIM, choose(**chosen), **sizes)
        return random_weights(model) if random else model

    return make


@pytest.fixture(scope="session")
def translated() -> Callable[[Layout, nn.Module], DiT]:
    def build(layout: Layout, truth: nn.Module) -> DiT:
        """Our model with the weights of diffusers', which become random; they come back as they were."""
        published = random_weights(truth).state_dict()
        knobs = layout.knobs(truth.config, published)
        sizes = {key: value for key, value in knobs.items() if key != "dit"}
        ours: DiT = DENOISERS.build("dit", parts=choose(**knobs["dit"]), **sizes).eval()
        ours.load_state_dict(layout.to_ours(published, ours, knobs))
        back = layout.to_published(ours.state_dict(), knobs)
        assert back.keys() == published.keys()
        assert all(torch.equal(back[key], value) for key, value in published.items())
        return ours

    return build


@pytest.fixture(scope="session")
def is_release() -> Callable[[str, Layout, nn.Module], None]:
    def check(preset: str, layout: Layout, truth: nn.Module) -> None:
        """A preset's model has every knob that the release's config tells, its tensors, and so their number.

        Args:
            truth: the published class with the release's config, on the meta device.
        """
        config = compose("generate", [f"model={preset}", "prompt=a"])
        with torch.device("meta"):
            sizes = {"latent_channels": build_part("vae", config["vae"]).spec.latent_channels}
        published, told = truth.state_dict(), {**truth.config, "_class_name": type(truth).__name__}
        knobs = layout.knobs(told, published)
        widths = {key: knobs[key] for key in ("text_dim", "pooled_dim") if key in knobs}
        asked = {**config["denoiser"], **sizes, **widths, "dit": config["dit"]}
        parts = {f"dit/{kind}": node for kind, node in config["dit"].items()}
        builders = {kind.split("/")[1]: functools.partial(build_part, kind, node) for kind, node in parts.items()}
        with torch.device("meta"):
            model = build_part(
                "denoiser",
                config["denoiser"],
                sizes["latent_channels"],
                knobs["text_dim"],
                Parts(attention=build_part("attention", config["attention"]), **builders),
                knobs.get("pooled_dim"),
            )
        assert layout.recognise(told, published)
        nodes = knobs.pop("dit")
        # the knobs are compared, then the tensors by name and shape
        Published(Path(preset), layout, knobs, published, nodes).fill(model, "dit", asked)
        counts = [sum(value.numel() for value in module.parameters()) for module in (model, truth)]
        assert counts[0] == counts[1]
        assert f"{round(counts[1] / 1e6)}M parameters" in presets("model")[preset].read_text().split("defaults:")[0]

    return check


@pytest.fixture(scope="session")
def make_condition() -> Callable[..., Condition]:
    def make(batch: int, words: int = 5, valid: Tensor | None = None) -> Condition:
        source = torch.Generator().manual_seed(1)
        mask = torch.arange(words) < torch.arange(words, words - batch, -1)[:, None].clamp(min=1)
        text, pooled = (torch.randn(shape, generator=source) for shape in ((batch, words, TEXT_DIM), (batch, TEXT_DIM)))
        return Condition(text=text, text_mask=mask, pooled=pooled, valid=valid)

    return make


@pytest.fixture(scope="session")
def row() -> Callable[[Condition, int], Condition]:
    def cut(condition: Condition, index: int) -> Condition:
        """The condition of one sample alone, without its padding mask."""
        kept = {name: value[index : index + 1] for name, value in condition.given().items() if name != "valid"}
        return Condition(**kept)

    return cut
