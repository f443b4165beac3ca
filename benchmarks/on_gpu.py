"""All that there is to know of this card: the kernels' tests, then every benchmark of theirs, within a time.

    python benchmarks/on_gpu.py
    python benchmarks/on_gpu.py --seconds 150 --copy found --parts tiles attention tests

Results go to benchmarks/results/*_cuda.{json,md,png}, the log of each part beside them in --copy, and a summary to the
terminal. What the parts compile is compiled beforehand, in processes beside each other, while nothing is timed; a part
that fails or outlasts its time says so, and the next one goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import harness

ROOT = Path(__file__).parent.parent
#: benchmarks that keep the folder of results under a name of their own
WRITERS = ("harness", "attention", "factorized", "suite")
#: characters of the summary
MOST = 9500
#: seconds of a part with --brief
SHORT = {
    "tiles": 20,
    "sweeps": 35,
    "attention": 22,
    "factorized": 20,
    "fused_ops": 12,
    "block_sparse": 16,
    "block": 16,
}


class Part(NamedTuple):
    """A benchmark with its options.

    Args:
        module: of benchmarks/.
        options: of its command line.
        ahead: options of the calls that fill the caches on disk, each in a process of its own.
        report: stem of its report, which is the part's name too.
        seconds: that it may take.
    """

    module: str
    options: Sequence[str]
    ahead: Sequence[Sequence[str]]
    report: str
    seconds: float


def parts(compiled: bool = True, brief: bool = False) -> list[Part]:
    """In the order of their weight; `compiled`: with what torch.compile makes of torch's operators; `brief`: once over.

    Of a benchmark with and without a backward pass only the one with it runs ahead: it compiles both.
    """
    bf16, once, found = ["--device", "cuda", "--dtypes", "bfloat16"], ["--rounds", "1"], list[Part]()
    rounds = ["--rounds", "3" if brief else "5"]
    sweep = ["--rounds", "3"]
    found.append(Part("tiles", [*sweep, "--no-ahead"], [[*sweep, "--compile-only"]], "tiles_cuda", 45))
    found.append(Part("sweeps", [*rounds, "--no-ahead"], [["--compile-only"]], "sweeps_cuda", 45))

    shapes = ["dense-128", "dense-64", "wan-1.3b", "dense-4k", "osp-full", "cogvideox-2b", "wan-1.3b-text"]
    shapes += ["latte-spatial", "latte-temporal", "stdit-text"]
    ours = ["triton", "triton:descriptors"]
    theirs = ["sdpa", "sdpa:flash", "sdpa:cudnn", *["sdpa:efficient"] * (not brief)]
    options = [*bf16, *rounds, "--shapes", *shapes, "--kernels", *theirs, *ours]
    ahead = [[*options, *once, "--backward", "--kernels", *ours, "--shapes", shape] for shape in shapes]
    found += both("attention", options, ahead, "attention_cuda", 30)

    layouts = ["temporal", "spatial", "single skip", "group skip"]
    sizes = {
        "": ["--batch", "2", "--frames", "16", "--positions", "1024", "--width", "1152", "--heads", "16"],
        "_osp": ["--batch", "2", "--frames", "29", "--positions", "1200", "--width", "2304", "--heads", "24"],
    }
    for suffix, size in sizes.items():
        options = [*bf16, *size, "--suffix", suffix, *rounds, "--layouts", *layouts]
        ahead = [[*options, *once, "--backward", "--layouts", layout] for layout in layouts]
        found += both("factorized", options, ahead, f"factorized_cuda{suffix}", 25)

    ways = ["torch", *["compiled"] * compiled, "triton"]
    shapes = ["opensora-1.2", "osp-1.3", "wan-1.3b"]
    options = [*bf16, "--rounds", "7", "--shapes", *shapes, "--ways", *ways]
    ahead = [[*options, *once, "--backward", "--ways", way, "--shapes", shape] for way in ways[1:] for shape in shapes]
    found += both("fused_ops", options, ahead, "fused_ops_cuda", 40)

    shapes = ["wan-1.3b", "osp-1.3"]
    options = [*bf16, "--shapes", *shapes, "--ways", "block_sparse", *rounds]
    options += ["--densities", "0.05", "0.1", "0.2", "0.3", "0.4", "1.0"]
    found.append(Part("block_sparse", options, [[*options, *once]], "block_sparse_cuda", 30))

    names = ["full3d", "factorized", "skiparse", "sliding_tile"]
    options = [*bf16, "--shapes", "latte-256", *["osp-1.3"] * (not brief), "wan-1.3b", *rounds, "--blocks", *names]
    options += [] if compiled else ["--no-compiled"]
    ahead = [[*options, *once, "--backward", "--blocks", name] for name in names]
    found += both("block", options, ahead, "block_cuda", 40)
    return [part._replace(seconds=SHORT[part.module]) for part in found] if brief else found


def both(
    module: str, options: Sequence[str], ahead: Sequence[Sequence[str]], report: str, seconds: float
) -> list[Part]:
    """A benchmark of the forward pass, and of both passes."""
    return [
        Part(module, options, ahead, report, seconds),
        Part(module, [*options, "--backward"], [], f"{report}_backward", seconds),
    ]


def forked(run: Callable[[], None], log: Path) -> multiprocessing.Process:
    """A process whose output goes to a file; this one has imported everything and not touched the card."""

    def inside() -> None:
        os.setpgid(0, 0)
        with log.open("a", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        run()

    process: Any = multiprocessing.get_context("fork").Process(target=inside)
    process.start()
    return process  # type: ignore[no-any-return]


def stop(process: multiprocessing.Process) -> None:
    """End a process with all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.join()


def _look_for_a_card() -> None:
    # elsewhere, since a process that has looked has no children who may use the card
    import torch

    torch.zeros(1, device="cuda")


def run_module(module: str, options: Sequence[str], results: Path) -> None:
    """The command line of a benchmark in this process, its results in a folder."""
    for name in WRITERS:
        vars(importlib.import_module(name))["RESULTS"] = results
    sys.argv = [f"{module}.py", *options]
    importlib.import_module(module).main()


def compile_ahead(chosen: Sequence[Part], seconds: float, logs: Path) -> str:
    """Run all parts once, as many at a time as there are processors, for the caches on disk."""
    start, waiting = time.monotonic(), [(part, options) for part in chosen for options in part.ahead]
    count, running = len(waiting), list[tuple[multiprocessing.Process, str]]()
    failed, room = [], max(2, (os.cpu_count() or 2) - 2)
    scratch = Path(tempfile.mkdtemp())
    while waiting or running:
        late = time.monotonic() - start > seconds
        for process, name in list(running):
            if process.is_alive() and late:
                stop(process)
            if not process.is_alive():
                process.join()
                running.remove((process, name))
                failed += [name] * bool(process.exitcode)
        if late and waiting:
            failed += [part.report for part, _ in waiting]
            waiting = []
        while waiting and len(running) < room:
            part, options = waiting.pop(0)
            folder = scratch / f"{len(waiting)}"
            folder.mkdir()

            def work(part: Part = part, options: Sequence[str] = options, folder: Path = folder) -> None:
                run_module(part.module, options, folder)

            running.append((forked(work, logs / f"ahead_{part.report}.log"), part.report))
        time.sleep(0.05)
    told = f"; failed or late: {', '.join(dict.fromkeys(failed))}" if failed else ""
    return f"{count} runs compiled ahead in {time.monotonic() - start:.0f} s{told}"


def run_part(part: Part, seconds: float, logs: Path) -> str:
    """One part in a process of its own; how it went."""
    start, log = time.monotonic(), logs / f"{part.report}.log"
    process = forked(lambda: run_module(part.module, part.options, harness.RESULTS), log)
    process.join(max(1.0, seconds))
    took = f"{time.monotonic() - start:.0f} s"
    if process.is_alive():
        stop(process)
        return f"{part.report}: cut off after {took}"
    if process.exitcode:
        return f"{part.report}: FAILED after {took}\n{tail(log, 6)}"
    return f"{part.report}: {took}"


def tail(log: Path, lines: int) -> str:
    text = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "\n".join(f"    {line[:180]}" for line in text[-lines:])


def run_tests(seconds: float, logs: Path, keywords: str) -> str:
    """The tests on this card that pytest's -k takes, a process a core."""
    start, log = time.monotonic(), logs / "tests.log"
    files = ["tests/kernels/test_on_gpu.py", "tests/kernels/test_fused_on_gpu.py"]
    # films need the configuration's package
    files += ["tests/test_on_gpu.py"] * (importlib.util.find_spec("hydra") is not None)
    command = [sys.executable, "-m", "pytest", *files, "-m", "gpu", "-p", "no:cacheprovider", "--dist", "worksteal"]
    command += ["-vv", "-W", "ignore", "--tb=short", "--show-capture=no", "--durations=12", "-k", keywords]
    # threads of the compiler would be processes beside as many others; checks of shapes are nothing for a compiler
    settings = {"JAXTYPING_DISABLE": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1", "OMP_NUM_THREADS": "1"}
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, **settings, "PYTHONPATH": paths}
    with log.open("w", encoding="utf-8") as file:
        tests = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file, process_group=0)
        try:
            tests.wait(seconds)
        except subprocess.TimeoutExpired:
            # with the processes that it has spread over
            os.killpg(tests.pid, signal.SIGKILL)
            tests.wait()
            file.write("\ncut off\n")
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    wrong = list(
        dict.fromkeys(line[line.find("tests/") :] for line in text if re.search(r"(FAILED|ERROR) tests/", line))
    )
    said = [line for line in text if line == "cut off" or re.search(r"\d (passed|failed|skipped)", line)]
    said += [f"{sum(' PASSED ' in line for line in text)} passed"] * ("cut off" in said)
    reasons = list(dict.fromkeys(line.strip()[:200] for line in text if line.startswith("E  ")))
    report = [f"tests: {'; '.join(said) or 'nothing said, see tests.log'} ({time.monotonic() - start:.0f} s)"]
    report += [line.replace("tests/kernels/", "")[:170] for line in wrong[:14]]
    report += reasons[:8] or ([] if said else [tail(log, 8)])
    return "\n".join(report)


def main() -> None:
    options, start = parse(), time.monotonic()
    harness.RESULTS.mkdir(exist_ok=True)
    logs = Path(options.copy) if options.copy else Path(tempfile.mkdtemp())
    logs.mkdir(parents=True, exist_ok=True)
    known = parts(not options.eager, options.brief)
    # in the order in which they were asked for
    order = options.parts or ["tests", *dict.fromkeys(part.module for part in known)]
    chosen = [part for name in order for part in known if part.module == name]
    # imported once, for all the processes that follow
    for name in dict.fromkeys((*WRITERS, *(part.module for part in chosen))):
        importlib.import_module(name)
    looking = forked(_look_for_a_card, logs / "card.log")
    looking.join()
    if looking.exitcode:
        raise SystemExit(f"on_gpu.py needs a CUDA device\n{tail(logs / 'card.log', 2)}")
    lines = [f"imports: {time.monotonic() - start:.0f} s"]

    def left() -> float:
        return float(options.seconds) - (time.monotonic() - start) - 4

    def told(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    if not options.no_ahead:
        told(compile_ahead(chosen, min(options.ahead_seconds, left()), logs))
    for name in order:
        if name == "tests" and left() > 3:
            told(run_tests(min(options.tests_seconds, left()), logs, options.keywords))
        for part in (part for part in known if part.module == name):
            told(run_part(part, min(part.seconds, left()), logs) if left() > 3 else f"{part.report}: no time left")
    text = "\n".join([*lines, *summary(chosen)])
    (logs / "summary.txt").write_text(text, encoding="utf-8")
    if options.copy:
        pack(Path(options.copy))
    print("\n=== summary ===\n" + text[:MOST], flush=True)


def pack(folder: Path) -> None:
    """Results and logs as one file each in a folder."""
    with tarfile.open(folder / "results.tar.gz", "w:gz") as archive:
        for path in sorted(harness.RESULTS.glob("*_cuda*")):
            archive.add(path, path.name)
    logs = sorted(folder.glob("*.log"))
    with (folder / "all.txt").open("w", encoding="utf-8") as whole:
        for log in logs:
            whole.write(f"##### {log.name}\n{log.read_text(encoding='utf-8', errors='replace')}\n")
            log.unlink()


def summary(chosen: Sequence[Part]) -> list[str]:
    """A few lines of each report."""
    from summaries import SUMMARIES

    lines: list[str] = []
    for part in chosen:
        path = harness.RESULTS / f"{part.report}.json"
        if path.exists():
            report = json.loads(path.read_text(encoding="utf-8"))
            lines += [f"--- {part.report}", *SUMMARIES[part.module](report)]
    return lines


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1800, help="that all of it may take")
    parser.add_argument("--tests-seconds", type=float, default=300)
    parser.add_argument("--ahead-seconds", type=float, default=300)
    parser.add_argument("--no-ahead", action="store_true", help="compile nothing beforehand")
    parser.add_argument("--eager", action="store_true", help="leave out what torch.compile makes of torch's operators")
    parser.add_argument("--brief", action="store_true", help="fewer samples, and no way that is known to be slow")
    parser.add_argument("--keywords", default="", metavar="K", help="tests to run, as pytest's -k takes them")
    parser.add_argument("--parts", nargs="+", choices=["tests", *dict.fromkeys(part.module for part in parts())])
    parser.add_argument("--copy", metavar="DIR", help="a folder for results.tar.gz, the log and the summary")
    return parser.parse_args()


if __name__ == "__main__":
    main()
