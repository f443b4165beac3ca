"""`videogen profile` and `videogen show model`: what a model takes, found on the meta device, whatever its size."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from videogen.config import build_hollow, chosen, compose, within_budget
from videogen.profiling import Cost, Inputs, Study, look_through
from videogen.profiling.groups import GROUPS
from videogen.profiling.measure import decoding_cost
from videogen.profiling.study import DTYPES
from videogen.profiling.units import amount, size

#: how a text encoder's knobs call its longest sentence
LONGEST = ("max_length", "max_words")
ROW = "{:24} {:>12} {:>14} {:>7}"


def profile(config: Mapping[str, Any], groups: Collection[str]) -> None:
    """Print what a model takes.

    Args:
        config: composed for "profile".
        groups: in which the preset or an override chooses a part. A preset of a VAE alone chooses no denoiser, and
            the one that would stand there by default isn't of it.

    Raises:
        ValueError: parts that don't go together, or a size that they refuse.
        FileNotFoundError: an encoder without a folder whose usual size isn't known.
    """
    if "vae" in groups and not any(group == "denoiser" or group.startswith("dit/") for group in groups):
        print(report_vae(config))
    else:
        print(report(study(config), config))


def show_model(name: str) -> None:
    """`videogen show model <name>`: the model at its own size. Raises as `profile`, or for an unknown model."""
    overrides = [f"model={name}"]
    profile(compose("profile", overrides), chosen("profile", overrides))


def study(config: Mapping[str, Any]) -> Study:
    """Look a composed model through; allocates nothing."""
    parts = build_hollow(config)
    length = config["text_tokens"] or next((config["text"][key] for key in LONGEST if key in config["text"]), 77)
    inputs = Inputs(
        batch=config["batch_size"] * (1 if config["guidance"] == 1.0 else 2),
        latents=parts.vae.spec.latent_shape(config["num_frames"], config["height"], config["width"]),
        text_length=length,
        text_dim=parts.text.dim,
        pooled_dim=getattr(parts.text, "pooled_dim", None) or parts.text.dim,
    )
    vae, batch = within_budget(parts.vae, config), config["batch_size"]
    return look_through(vae, parts.denoiser, parts.text, inputs, batch, parts.vision)


def report(found: Study, config: Mapping[str, Any]) -> str:
    """The study as a person reads it: sizes, a table of parts, and a table of memory."""
    flops, total = found.step["float32"].flops, found.step["float32"].flops.total()
    rows: list[tuple[str, int, int | None, str]] = [
        (group, found.groups[group], flops[group], f"{flops[group] / total:.1%}")
        for group in GROUPS
        if found.groups[group] or flops[group]
    ]
    rows += [
        ("denoiser, one step", found.parameters["denoiser"], total, ""),
        ("VAE, decoding once", found.parameters["VAE"], found.decoding["float32"].flops.total(), ""),
        *((part, held, None, "") for part, held in found.parameters.items() if part.endswith("encoder")),
    ]
    inputs, (t, h, w) = found.inputs, found.grid
    guided = f"; guidance {config['guidance']:g} makes it {inputs.batch} sequences a step"
    lines = [
        f"{_clips(config)}{guided if inputs.batch > config['batch_size'] else ''}",
        f"latents {_shape(inputs.latents)}, {t * h * w} tokens ({_shape(found.grid)}), text of {inputs.text_length}",
        "",
        _row("part", "parameters", "FLOPs", "share"),
        *(_row(name, amount(held), "" if done is None else amount(done), share) for name, held, done, share in rows),
    ]
    memory = {
        f"weights of the {part}": {dtype: found.weights(part, dtype) for dtype in DTYPES} for part in found.parameters
    }
    memory["denoising, beside weights"] = _bytes(found.step)
    memory["decoding, beside weights"] = _bytes(found.decoding)
    memory["most at once"] = {dtype: found.bytes(dtype) for dtype in DTYPES}
    return "\n".join([*lines, "", *_memory(memory)])


def report_vae(config: Mapping[str, Any]) -> str:
    """The same of a VAE alone."""
    vae = build_hollow(config).vae
    latents = vae.spec.latent_shape(config["num_frames"], config["height"], config["width"])
    count = sum(value.numel() for value in vae.parameters())
    cost = decoding_cost(within_budget(vae, config), latents, config["batch_size"])
    return "\n".join(
        [
            f"{_clips(config)}; a VAE alone",
            f"latents {_shape(latents)}",
            "",
            _row("part", "parameters", "FLOPs", ""),
            _row("VAE, decoding once", amount(count), amount(cost.flops.total()), ""),
            "",
            f"float32: weights {size(4 * count)}, decoding {size(cost.bytes)} beside them",
        ]
    )


def _row(*cells: str) -> str:
    return ROW.format(*cells).rstrip()


def _memory(rows: Mapping[str, Mapping[str, int]]) -> list[str]:
    head = f"{'memory':27} " + " ".join(f"{dtype:>10}" for dtype in DTYPES)
    return [
        head,
        *(f"{name:27} " + " ".join(f"{size(row[dtype]):>10}" for dtype in DTYPES) for name, row in rows.items()),
    ]


def _bytes(costs: Mapping[str, Cost]) -> dict[str, int]:
    return {dtype: cost.bytes for dtype, cost in costs.items()}


def _clips(config: Mapping[str, Any]) -> str:
    return f"{config['batch_size']} x {config['num_frames']} frames of {config['width']}x{config['height']}"


def _shape(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))
