"""Seconds of several calls, taken in turns, so that a slow minute of the machine falls on all of them."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch

# a write of this many bytes between two samples empties the L2 cache of every card sold so far
FLUSH_BYTES = 256 * 2**20
# a GPU's clock in Hz; the most seconds that a launch is waited for; most samples of the clock on the wall
CYCLES, LONGEST_WAIT, WALLS = 2e9, 0.05, 3


@dataclasses.dataclass(frozen=True)
class Timing:
    """Milliseconds of one call.

    On a CPU the clock is the CPU time of the process: on a machine that others share, it is what the call costs, where
    the clock on the wall mostly tells how long it waited for its turn. On a GPU it is the GPU's own events, of a call
    launched before the GPU came to it: what its kernels take, without the time that Python takes to launch them.

    Args:
        median, p20, p80: of the samples.
        wall: median on the wall clock, on a GPU with the launches.
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
    if device == "cuda":
        return _on_gpu(candidates, rounds)
    repeats = {label: _repeats(run, seconds) for label, run in candidates.items()}
    samples: dict[str, list[tuple[float, float]]] = {label: [] for label in candidates}
    for label in _turns(candidates, rounds):
        samples[label].append(_cpu_sample(candidates[label], repeats[label]))
    return {label: _summary(taken, [wall for _, wall in taken]) for label, taken in samples.items()}


def _turns(labels: Iterable[str], rounds: int) -> Iterator[str]:
    order = list(labels)
    for i in range(rounds):
        turn = i % max(1, len(order))
        yield from order[turn:] + order[:turn]


def _repeats(run: Callable[[], object], seconds: float) -> int:
    # the first call compiles, allocates and warms the caches
    run()
    if not seconds:
        return 1
    start = time.process_time()
    run()
    return max(1, round(seconds / max(time.process_time() - start, 1e-6)))


def _cpu_sample(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    process, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        run()
    return 1e3 * (time.process_time() - process) / repeats, 1e3 * (time.perf_counter() - wall) / repeats


def _on_gpu(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    waits = {label: _launch_seconds(run) for label, run in candidates.items()}
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    samples: dict[str, list[tuple[float, float]]] = {label: [] for label in candidates}
    walls: dict[str, list[float]] = {label: [] for label in candidates}
    for label in _turns(candidates, rounds):
        samples[label].append((_cuda_sample(candidates[label], waits[label], flush), 0.0))
        if len(walls[label]) < max(1, min(WALLS, rounds // 3)):
            walls[label].append(_wall(candidates[label]))
    return {label: _summary(taken, walls[label]) for label, taken in samples.items()}


def _launch_seconds(run: Callable[[], object]) -> float:
    """How long Python takes to launch all of a call, which has been compiled before."""
    # the first call compiles, allocates and warms the caches
    run()
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    taken = time.perf_counter() - start
    torch.cuda.synchronize()
    return taken


def _cuda_sample(run: Callable[[], object], wait: float, flush: torch.Tensor) -> float:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    # the GPU sleeps until all is launched: short kernels would else tell how fast Python is
    torch.cuda._sleep(round(CYCLES * min(1.5 * wait + 1e-4, LONGEST_WAIT)))
    flush.zero_()
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end))


def _wall(run: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start)


def _summary(samples: Sequence[tuple[float, float]], walls: Sequence[float]) -> Timing:
    own = sorted(taken[0] for taken in samples)
    last = len(own) - 1
    return Timing(statistics.median(own), own[round(0.2 * last)], own[round(0.8 * last)], statistics.median(walls))
