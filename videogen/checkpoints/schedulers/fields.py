"""The settings of a published scheduler, read one by one, so that none is left out unsaid."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videogen.checkpoints.layout import LayoutError
from videogen.kinds import registry

#: diffusers writes settings of a class into the config of another that it was made from, where they mean nothing
FOREIGN = frozenset(
    {
        *("clip_sample", "clip_sample_range", "thresholding", "dynamic_thresholding_ratio", "sample_max_value"),
        *("skip_prk_steps", "set_alpha_to_one", "steps_offset", "timestep_spacing", "variance_type"),
        *("algorithm_type", "solver_order", "solver_type", "lower_order_final", "euler_at_final", "predict_x0"),
        *("disable_corrector", "solver_p", "lambda_min_clipped", "final_sigmas_type", "use_lu_lambdas"),
        *("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas", "flow_shift"),
        *("interpolation_type", "timestep_type", "sigma_min", "sigma_max", "rescale_betas_zero_snr", "snr_shift_scale"),
        *("original_inference_steps", "timestep_scaling", "trained_betas", "prediction_type"),
        *("beta_start", "beta_end", "beta_schedule", "use_dynamic_shifting", "time_shift_type", "shift_terminal"),
    }
)
#: a sampler whose chain another one trains
OWN = {"ddim": "ddpm"}
#: the knobs that say how much noise there is, and what is predicted of it
LEVELS = frozenset(
    {
        *("prediction", "num_train_timesteps", "beta_schedule", "beta_start", "beta_end"),
        *("zero_terminal_snr", "terminal_signal", "snr_shift", "sigma_min", "sigma_max", "sigma_data"),
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedScheduler:
    """A scheduler as a published config describes it.

    Args:
        part: our scheduler's registered name.
        knobs: of that.
        noise: the registered name of the noise schedule that it walks on; "" for one that brings its own.
        noise_knobs: of that.
        remarks: where what is published does otherwise than this, in which cases.
    """

    part: str
    knobs: Mapping[str, Any]
    noise: str = ""
    noise_knobs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def objective(self) -> tuple[str, dict[str, Any]]:
        """The noise schedule that the network was trained on, which must be one that trains, and its knobs."""
        if self.noise:
            return self.noise, dict(self.noise_knobs)
        return OWN.get(self.part, self.part), {key: value for key, value in self.knobs.items() if key in LEVELS}

    def build(self) -> Any:
        """The scheduler, on its noise schedule."""
        schedulers = registry("scheduler")
        wiring = [schedulers.build(self.noise, **self.noise_knobs)] if self.noise else []
        return schedulers.build(self.part, *wiring, **self.knobs)


class Fields:
    """A scheduler's config, of which each setting has to be read, required or known to mean nothing.

    Args:
        config: as the file has it.
        where: it is from, for messages.
    """

    def __init__(self, config: Mapping[str, Any], where: Path) -> None:
        self.config = {key: value for key, value in config.items() if not key.startswith("_")}
        self.name, self.where = config["_class_name"], where
        self._rest = set(self.config)

    def take(self, key: str, default: Any) -> Any:
        """A setting, or what the published class has where an older config lacks it."""
        self._rest.discard(key)
        return self.config.get(key, default)

    def one_of(self, key: str, default: str, choices: Mapping[str, Any]) -> Any:
        """What a setting's value is called here; LayoutError for a value that has no counterpart."""
        value = self.take(key, default)
        if value not in choices:
            raise self.error(key, value, f"there is {', '.join(map(repr, choices))}")
        return choices[value]

    def require(self, key: str, value: Any, remedy: str = "") -> None:
        """LayoutError if a setting has another value than the only one that there is here."""
        found = self.take(key, value)
        if found != value:
            raise self.error(key, found, remedy or f"there is {value!r} alone")

    def idle(self, *keys: str) -> None:
        """Settings that the published class takes and never reads, or doesn't with the others as they are."""
        self._rest.difference_update(keys)

    def error(self, key: str, value: Any, remedy: str) -> LayoutError:
        """What to raise for a value that there is nothing for."""
        return LayoutError(f"{self.where}: {key}={value!r} of {self.name} has no counterpart here: {remedy}")

    def finish(self) -> None:
        """Warn of the settings of other classes, which the published one ignores too.

        Raises:
            LayoutError: a setting that nobody knows.
        """
        unknown = sorted(self._rest - FOREIGN)
        if unknown:
            raise LayoutError(
                f"{self.where}: {', '.join(unknown)}: no settings of {self.name} that are known here; take them out if "
                "they mean nothing"
            )
        if self._rest:
            warnings.warn(
                f"{self.where}: {', '.join(sorted(self._rest))} belong to other schedulers, and {self.name} ignores "
                "them there as here",
                stacklevel=4,
            )
