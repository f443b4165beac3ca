"""Published schedulers on EDM's noise: the knobs that they share, and Euler's method."""

from __future__ import annotations

from typing import Any

from videogen.checkpoints.schedulers.common import to_data
from videogen.checkpoints.schedulers.fields import Fields, PublishedScheduler

#: theirs are signs of the paper's F
SIGNS = {"epsilon": "v_neg", "v_prediction": "v"}


def edm_euler(fields: Fields) -> PublishedScheduler:
    """EDMEulerScheduler."""
    noise, walk = noise_of_edm(fields)
    del walk["sigma_min"], walk["sigma_max"]
    return PublishedScheduler(part="edm", knobs={**noise, **walk, "method": "euler"})


def noise_of_edm(fields: Fields) -> tuple[dict[str, Any], dict[str, Any]]:
    """The knobs of the noise schedule, and of the levels that are visited on it."""
    fields.idle("num_train_timesteps")
    low, high, data = (fields.take(*told) for told in (("sigma_min", 0.002), ("sigma_max", 80.0), ("sigma_data", 0.5)))
    noise = {
        "prediction": fields.one_of("prediction_type", "epsilon", SIGNS),
        **{"sigma_min": low, "sigma_max": high, "sigma_data": data},
    }
    walk = {
        "spacing": fields.one_of("sigma_schedule", "karras", {"karras": "karras", "exponential": "exponential"}),
        **{"sigma_min": low / data, "sigma_max": high / data},
        "rho": fields.take("rho", 7.0),
        "to_data": to_data(fields),
    }
    return noise, walk
