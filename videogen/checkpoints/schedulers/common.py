"""What several published schedulers set alike: the chain of noising steps, bounds of x0, spaced noise levels."""

from __future__ import annotations

from typing import Any

from videogen.checkpoints.schedulers.fields import Fields

PREDICTIONS = {"epsilon": "epsilon", "sample": "x0", "original_sample": "x0", "v_prediction": "v"}
BETAS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
#: what published solvers leave of alpha^2 where they rescale it to 0
TERMINAL_SIGNAL = 2.0**-24
#: beyond any noise schedule: its limits count
LOWEST, HIGHEST = 1e-9, 1e9
LATENT_BETAS = (0.00085, 0.012, "scaled_linear")
PIXEL_BETAS = (0.0001, 0.02, "linear")
SPACED = {"use_karras_sigmas": "karras", "use_exponential_sigmas": "exponential", "use_beta_sigmas": "beta"}


def chain(
    fields: Fields,
    betas: tuple[float, float, str] = PIXEL_BETAS,
    *,
    terminal_signal: float = 0.0,
    rescales: bool = True,
    names: dict[str, str] = BETAS,
) -> dict[str, Any]:
    """The knobs of a chain, and of its prediction.

    Args:
        betas: start, end and schedule that the class has by default.
        terminal_signal: what it leaves of alpha^2 at the last step if it rescales.
        rescales: whether it knows a zero terminal SNR.
        names: of beta schedules, theirs and ours.
    """
    fields.require("trained_betas", None, "betas come from beta_schedule, beta_start and beta_end")
    zero = rescales and fields.take("rescale_betas_zero_snr", False)
    return {
        "prediction": fields.one_of("prediction_type", "epsilon", PREDICTIONS),
        "num_train_timesteps": fields.take("num_train_timesteps", 1000),
        "beta_start": fields.take("beta_start", betas[0]),
        "beta_end": fields.take("beta_end", betas[1]),
        "beta_schedule": fields.one_of("beta_schedule", betas[2], names),
        "zero_terminal_snr": zero,
        "terminal_signal": terminal_signal if zero else 0.0,
    }


def clipping(fields: Fields, *, clips: bool | None, thresholds: bool, unit: float = 1.0) -> dict[str, Any]:
    """The knobs of `Clipping`.

    Args:
        clips: what clip_sample is by default; None for a class without.
        thresholds: whether the class knows thresholding, which goes first.
        unit: what the network's x0 is multiplied by there.
    """
    fixed = clips is not None and fields.take("clip_sample", clips)
    bound = fields.take("clip_sample_range", 1.0) if clips is not None else 1.0
    dynamic = thresholds and fields.take("thresholding", False)
    share, widest = (
        fields.take("dynamic_thresholding_ratio", 0.995) if thresholds else 0.0,
        fields.take("sample_max_value", 1.0) if thresholds else 0.0,
    )
    if not dynamic:
        return {"clip_x0": float(bound)} if fixed else {}
    if widest < 1 or not share:
        raise fields.error("sample_max_value, dynamic_thresholding_ratio", (widest, share), "at least 1, and above 0")
    return {"clip_x0": 1.0 / unit, "clip_quantile": float(share), "clip_widest": widest / unit}


def offset(fields: Fields, spacing: str) -> int:
    """steps_offset, which other spacings than leading ignore."""
    value = fields.take("steps_offset", 0)
    return int(value) if spacing == "leading" else 0


def levels(fields: Fields) -> str:
    """How noise levels are spaced, "" where the times are; LayoutError where several ways are asked for."""
    asked = [name for key, name in SPACED.items() if fields.take(key, False)]
    if len(asked) > 1:
        raise fields.error("use_*_sigmas", asked, "one of them")
    return asked[0] if asked else ""


def to_data(fields: Fields) -> bool:
    """Whether the walk ends on clean data."""
    return bool(fields.one_of("final_sigmas_type", "zero", {"zero": True, "sigma_min": False}))
