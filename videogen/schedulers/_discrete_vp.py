"""Variance-preserving schedules made of discrete training steps: betas, step grids, times between the steps."""

# annotations stay evaluated here: the knobs' types are read from the subclasses, whose modules needn't import them
import dataclasses
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from videogen.schedulers import Size
from videogen.schedulers._betas import BetaSchedule, alpha_bars, without_terminal_signal
from videogen.schedulers._shared import NoiseSchedule, check_choice, check_levels, like, within
from videogen.schedulers._training import TimeDraw, min_snr_weight

Spacing = Literal["leading", "linspace", "trailing"]

DATA_TIME = -1.0


@dataclasses.dataclass(kw_only=True, eq=False)
class DiscreteVP(TimeDraw, NoiseSchedule):
    """A Markov chain of N noising steps (Ho et al., arXiv 2006.11239), alpha^2 + sigma^2 = 1 unless scaled.

    Time t = 0 … N - 1 is what the t-th training step leaves, and time -1 is clean data: alpha 1, sigma 0. Between two
    integers log(alpha / sigma) is linear in time; where it is infinite at one end (data; noise without data) the ratio
    that vanishes there is linear instead.

    VideoCrafter (arXiv 2310.19512) and DynamiCrafter, as their code has it, noise a signal that is scaled first:
    x_t = alpha_t * s_t * x0 + sigma_t * noise, so that its own noise level is higher than the chain's. What the others
    call alpha is alpha_t * s_t then, and v is that of the scaled signal, alpha_t * noise - sigma_t * s_t * x0.

    Args:
        num_train_timesteps: N.
        beta_schedule: how the variance that a step adds grows: linear (arXiv 2006.11239), scaled_linear (its root is
            linear; latent diffusion), cosine (Nichol and Dhariwal, arXiv 2102.09672, eq. 17, betas up to 0.999) or
            sigmoid (of -6 to 6, between the two ends; GeoDiff, arXiv 2203.02923).
        beta_start: variance that the first step adds; cosine has no use for it.
        beta_end: variance that the last step adds; cosine has no use for it.
        zero_terminal_snr: rescale so that the last step leaves nothing but noise (Lin et al., arXiv 2305.08891,
            algorithm 1); epsilon can't be predicted there.
        terminal_signal: what that leaves of alpha^2 in the last step all the same; published solvers have 2^-24 there,
            which an epsilon can be divided by.
        snr_shift: what the signal-to-noise ratio of every step is divided by, before that: above 1, larger videos get
            the noise that they need (Hoogeboom et al., arXiv 2301.11093, section 3.1); CogVideoX 2B has 3.
        signal_scale: s of the noisiest times: s_t falls evenly from 1 to this over the first `signal_scale_steps`
            times, and stays; 1 scales nothing.
        signal_scale_steps: how many times that takes.
        timestep_spacing: which of the N times a sampler visits (arXiv 2305.08891, table 2); only trailing and
            linspace start at the noisiest.
        steps_offset: added to the times of leading.
        overlong: whether leading goes on by N // steps as long as there are training steps, so that a number of steps
            that doesn't divide N gives one more, or several: 31 for 30, as the code of ModelScope and VideoCrafter has
            it.

    How training times are drawn and errors weighed is told by the knobs of `TimeDraw`.

    Raises:
        ValueError: a knob out of range, or an offset that the spacing would ignore.
    """

    num_train_timesteps: int = 1000
    beta_schedule: BetaSchedule = "linear"
    beta_start: float = 0.0001
    beta_end: float = 0.02
    zero_terminal_snr: bool = False
    terminal_signal: float = 0.0
    snr_shift: float = 1.0
    signal_scale: float = 1.0
    signal_scale_steps: int = 400
    timestep_spacing: Spacing = "trailing"
    steps_offset: int = 0
    overlong: bool = False

    def __post_init__(self) -> None:
        TimeDraw.__post_init__(self)
        NoiseSchedule.__post_init__(self)
        check_choice("beta_schedule", self.beta_schedule, get_args(BetaSchedule))
        if self.num_train_timesteps < 3:
            raise ValueError(f"num_train_timesteps={self.num_train_timesteps}: at least 3, usually 1000")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(f"betas from {self.beta_start} to {self.beta_end}: they must ascend within (0, 1)")
        if not self.snr_shift > 0:
            raise ValueError(f"snr_shift={self.snr_shift} divides a ratio: above 0, 1 leaves it")
        if not 0 < self.signal_scale <= 1 or self.signal_scale_steps < 2:
            raise ValueError(
                f"signal_scale={self.signal_scale} over {self.signal_scale_steps} steps: the scale lies in (0, 1], and "
                "is reached in 2 steps or more; 1 scales nothing"
            )
        if self.signal_scale < 1 and self.signal_scale_steps >= self.num_train_timesteps:
            raise ValueError(
                f"signal_scale_steps={self.signal_scale_steps}: fewer than num_train_timesteps="
                f"{self.num_train_timesteps}"
            )
        check_spacing("timestep_spacing", self.timestep_spacing, self.steps_offset)
        if self.overlong and self.timestep_spacing != "leading":
            raise ValueError(f"overlong with timestep_spacing={self.timestep_spacing!r}: it belongs to leading alone")
        if (self.terminal_signal and not self.zero_terminal_snr) or not 0 <= self.terminal_signal < 1e-3:
            raise ValueError(
                f"terminal_signal={self.terminal_signal}: from 0 to 0.001, and 0 without zero_terminal_snr"
            )
        bars = alpha_bars(self.num_train_timesteps, self.beta_schedule, self.beta_start, self.beta_end)
        # alpha^2 / (1 - alpha^2) is divided
        bars = bars / (self.snr_shift + (1 - self.snr_shift) * bars)
        if self.zero_terminal_snr:
            bars = without_terminal_signal(bars, self.terminal_signal)
        # log(alpha / sigma) at times 0 … N - 1, descending; -inf at the last one if no signal is left there
        self._log_ratio = (bars.log() - (-bars).log1p()) / 2
        fallen = torch.arange(self.num_train_timesteps, dtype=torch.float64) / (self.signal_scale_steps - 1)
        # log(s), linear between two times like log(alpha / sigma), and constant at either end
        self._log_scale = (1 + (self.signal_scale - 1) * fallen.clamp(max=1)).log()

    @property
    def last_time(self) -> int:
        """The noisiest time, N - 1."""
        return self.num_train_timesteps - 1

    @property
    def limits(self) -> tuple[float, float]:
        """sigma / alpha of the first training step and of the last, infinite if no signal is left there."""
        low, high = (-(self._log_ratio + self._log_scale)[[0, -1]]).exp().tolist()
        return low, high

    def timesteps(self, steps: int, size: Size | None = None) -> Tensor:
        """The descending times of `steps` steps, (steps + 1,) float64, whole numbers and -1 at the end; any size alike.

        There may be more with `overlong`.

        Raises:
            ValueError: no step, or more than there are training steps.
        """
        times = self.grid(steps, self.timestep_spacing, self.steps_offset)
        if not self.overlong:
            return times
        stride = self.num_train_timesteps // steps
        more = torch.arange(int(times[0]) + stride, self.num_train_timesteps + self.steps_offset, stride).to(times)
        return torch.cat([more.flip(0).clamp(max=self.last_time), times])

    def grid(self, steps: int, spacing: str, offset: int = 0) -> Tensor:
        """As `timesteps`, for any spacing; ValueError as there."""
        number = self.num_train_timesteps
        if not 1 <= steps <= number:
            raise ValueError(f"steps={steps}: from 1 to num_train_timesteps={number}")
        index = torch.arange(steps, dtype=torch.float64)
        match spacing:
            case "leading":
                times = (index * (number // steps) + offset).flip(0)
            case "linspace":
                times = (index * (self.last_time / max(steps - 1, 1))).round().flip(0)
                # a single step starts at the noisiest time too
                times[0] = self.last_time
            case _:
                # halves round by their last bit: in this order of operations as in the published grids, numpy's arange
                times = (number + index * ((number - number / steps) - number)).round() - 1
        if times[0] > self.last_time:
            raise ValueError(
                f"steps={steps} with steps_offset={offset} starts at time {times[0]:g}, beyond the last, "
                f"{self.last_time}: take fewer steps or set steps_offset=0"
            )
        return torch.cat([times, torch.tensor([DATA_TIME], dtype=torch.float64)])

    def alpha_sigma(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at each time, whole or not, float64, of its shape; ValueError outside [-1, N - 1]."""
        alpha, sigma, scale = self._levels(timestep)
        return alpha * scale, sigma

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The time of a ratio alpha / sigma, float64, N - 1 for a lower one than the schedule reaches.

        Raises:
            ValueError: what is no noise level.
        """
        alpha, sigma = check_levels(alpha, sigma)
        log_ratio = alpha.log() - sigma.log()
        table, last = self._table(log_ratio.device)
        table = table + self._log_scale.to(table)
        right = torch.searchsorted(-table, -log_ratio.contiguous()).clamp(1, last)
        inner = right - 1 + (table[right - 1] - log_ratio) / (table[right - 1] - table[right])
        first, end = (table[0] - log_ratio).exp() - 1, last + 1 - (log_ratio - table[last]).exp()
        time = torch.where(log_ratio > table[0], first, torch.where(log_ratio < table[last], end, inner))
        return time.clamp(DATA_TIME, self.last_time)

    def sample_times(self, batch: int, generator: Generator | None = None) -> Tensor:
        """Training times (batch,): whole numbers from 0 to N - 1, float64, on the generator's device."""
        if self.sampling != "uniform":
            return (self.draw_places(batch, generator) * self.num_train_timesteps).floor().clamp(max=self.last_time)
        device = generator.device if generator is not None else None
        times = torch.randint(self.num_train_timesteps, (batch,), generator=generator, device=device)
        return times.double()

    def loss_weight(self, timestep: Tensor) -> Tensor:
        """Weight of the squared error at each time, float64, of its shape: 1, or `min_snr_weight` with its gamma."""
        if self.min_snr_gamma == 0:
            return super().loss_weight(timestep)
        if self.prediction in ("v", "v_neg"):
            # x0 is wrong by sigma / s times as much as v
            alpha, sigma, scale = self._levels(timestep)
            return torch.minimum(alpha.square(), self.min_snr_gamma * (sigma / scale).square())
        return min_snr_weight(self.prediction, *self.alpha_sigma(timestep), self.min_snr_gamma)

    def join(
        self, x0: Float[Tensor, "b c *rest"], noise: Float[Tensor, "b c *rest"], timestep: Tensor
    ) -> Float[Tensor, "b c *rest"]:
        """(x0, noise) -> this schedule's prediction, (B, C, ...) -> (B, C, ...); v is of the scaled signal."""
        if self.prediction not in ("v", "v_neg"):
            return super().join(x0, noise, timestep)
        alpha, sigma, scale = (like(level, x0) for level in self._levels(timestep))
        v = alpha * noise - sigma * scale * x0
        return (v if self.prediction == "v" else -v).to(x0.dtype)

    def _solve(self, prediction: Tensor, sample: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        if self.prediction not in ("v", "v_neg"):
            return super()._solve(prediction, sample, timestep)
        # alpha^2 + sigma^2 = 1
        alpha, sigma, scale = (like(level, sample) for level in self._levels(timestep))
        v = prediction if self.prediction == "v" else -prediction
        return (alpha * sample - sigma * v) / scale, sigma * sample + alpha * v

    def _levels(self, timestep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """alpha and sigma of the chain and the scale of the signal at each time, float64, of the timestep's shape."""
        time = within(timestep, DATA_TIME, self.last_time, "-1 is clean data, the upper end the noisiest training step")
        table, last = self._table(time.device)
        left = time.floor().clamp(0, last - 1)
        inner = torch.lerp(table[left.long()], table[left.long() + 1], time - left)
        first, end = table[0] - (time + 1).log(), table[last] + (last + 1 - time).log()
        log_ratio = torch.where(time < 0, first, torch.where(time > last, end, inner))
        alpha, sigma = torch.sigmoid(2 * log_ratio).sqrt(), torch.sigmoid(-2 * log_ratio).sqrt()
        scales = self._log_scale.to(time.device)
        part = (time - left).clamp(0, 1)
        return alpha, sigma, torch.lerp(scales[left.long()], scales[left.long() + 1], part).exp()

    def _table(self, device: torch.device) -> tuple[Tensor, int]:
        """log(alpha / sigma) at times 0 …, and the last time at which it is finite."""
        return self._log_ratio.to(device), self.last_time - (self.zero_terminal_snr and not self.terminal_signal)

    def _transition(self, timestep: Tensor, next_timestep: Tensor) -> tuple[Tensor, Tensor]:
        """beta of the noising step from `next_timestep` up to `timestep`, and the variance of its exact reversal.

        That is 1 - alpha^2 / alpha'^2, and sigma'^2 / sigma^2 times it (arXiv 2006.11239, eq. 7), float64; the scale of
        the signal is no part of the chain.

        Raises:
            ValueError: a step that doesn't lead towards data.
        """
        (alpha, sigma, _), (next_alpha, next_sigma, _) = self._levels(timestep), self._levels(next_timestep)
        if bool(((next_timestep > timestep) | (next_alpha == 0)).any()):
            raise ValueError(
                f"a random step from time {timestep} to {next_timestep} doesn't lead towards data: "
                "give descending times (only ddim with eta=0 walks towards noise)"
            )
        beta = 1 - (alpha / next_alpha).square()
        # clean frames stay as they are
        return beta, (next_sigma / sigma.where(sigma > 0, 1.0)).square() * beta


def check_spacing(name: str, spacing: str, offset: int) -> None:
    """ValueError for an unknown spacing, or an offset that it would ignore."""
    check_choice(name, spacing, get_args(Spacing))
    if offset < 0 or (offset and spacing != "leading"):
        raise ValueError(
            f"steps_offset={offset} with {name}={spacing!r}: "
            "an offset is at least 0 and belongs to leading; set it to 0"
        )
