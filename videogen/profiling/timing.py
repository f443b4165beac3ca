"""Seconds of several calls, taken in turns, so that a slow minute of the machine falls on all of them."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

# a write of this many bytes between two samples empties the L2 cache of every card sold so far
FLUSH_BYTES = 256 * 2**20


@dataclasses.dataclass(frozen=True)
class Timing:
    """Milliseconds of one call.

    On a CPU the clock is the CPU time of the process: on a machine that others share, it is what the call costs, where
    the clock on the wall mostly tells how long it waited for its turn. On a GPU it is the GPU's own events.

    Args:
        median, p20, p80: of the samples.
        wall: median on the wall clock.
    """

    median: float
    p20: float
    p80: float
    wall: float


def interleaved(
    candidates: Mapping[str, Callable[[], object]], *, device: str, rounds: int, seconds: float
) -> dict[str, Timing]:
    """Time all candidates in turns in one process.

    Args:
        candidates: label to a call without arguments; every one has passed its correctness check before.
        device: "cpu" or "cuda".
        rounds: samples of each candidate; the order turns by one each round.
        seconds: on a CPU, the least length of one sample; short calls are repeated within it, if it isn't 0.
    """
    sample = _cuda_sample if device == "cuda" else _cpu_sample
    repeats = {label: _repeats(run, seconds, device) for label, run in candidates.items()}
    samples: dict[str, list[tuple[float, float]]] = {label: [] for label in candidates}
    labels = list(candidates)
    for i in range(rounds):
        turn = i % max(1, len(labels))
        for label in labels[turn:] + labels[:turn]:
            samples[label].append(sample(candidates[label], repeats[label]))
    return {label: _summary(taken) for label, taken in samples.items()}


def _repeats(run: Callable[[], object], seconds: float, device: str) -> int:
    # the first call compiles, allocates and warms the caches
    run()
    if device == "cuda" or not seconds:
        return 1
    start = time.process_time()
    run()
    return max(1, round(seconds / max(time.process_time() - start, 1e-6)))


def _cpu_sample(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    process, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        run()
    return 1e3 * (time.process_time() - process) / repeats, 1e3 * (time.perf_counter() - wall) / repeats


def _cuda_sample(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda").zero_()
    torch.cuda.synchronize()
    wall = time.perf_counter()
    begin.record()
    for _ in range(repeats):
        run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / repeats, 1e3 * (time.perf_counter() - wall) / repeats


def _summary(samples: Sequence[tuple[float, float]]) -> Timing:
    own = sorted(taken[0] for taken in samples)
    last = len(own) - 1
    wall = statistics.median(taken[1] for taken in samples)
    return Timing(statistics.median(own), own[round(0.2 * last)], own[round(0.8 * last)], wall)
