"""The command line, thin: flags, help, the choice of a command, and errors in one line."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple

import videogen
from videogen.commands.usage import OVERVIEW, USAGE

SWEEP_FLAGS = ("-m", "--multirun")
# no part of a config: what they run prints parts, and composes nothing
PRINTING = ("list", "show")


class Line(NamedTuple):
    """A command line taken apart.

    Args:
        command: the first word, None without one.
        flags: the options given, as typed.
        arguments: the rest, verbatim.
    """

    command: str | None
    flags: frozenset[str]
    arguments: list[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status: 0, or 2 for an error of the user's, or 130 when interrupted."""
    debug = False
    try:
        line = read_line(sys.argv[1:] if argv is None else argv)
        debug = "--debug" in line.flags
        run(line)
        sys.stdout.flush()
    except (ValueError, OSError, ArithmeticError) as error:
        if isinstance(error, BrokenPipeError):
            # whoever read our output has left, as in `videogen list | head`; nothing more can be said there
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if debug:
            traceback.print_exc()
        print(f"videogen: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("videogen: interrupted", file=sys.stderr)
        return 130
    return 0


def read_line(argv: Sequence[str]) -> Line:
    """Take a command line apart; after `--` nothing is an option.

    Raises:
        ValueError: an option that doesn't exist.
    """
    known = {"-h", "--help", "--version", "--debug", "--markdown", *SWEEP_FLAGS}
    flags: set[str] = set()
    words: list[str] = []
    for index, word in enumerate(argv):
        if word == "--":
            words += argv[index + 1 :]
            break
        if word in known:
            flags.add(word)
        elif word.startswith("-") and not any(letter.isspace() for letter in word):
            raise ValueError(f"no option is called {word}: choose from: {', '.join(sorted(known))}")
        else:
            words.append(word)
    return Line(words[0] if words else None, frozenset(flags), words[1:])


def run(line: Line) -> None:
    """Do what the line says.

    Raises:
        ValueError: an unknown command, or whatever the command finds wrong.
    """
    if "--version" in line.flags:
        print(f"videogen {videogen.__version__}")
    elif line.command is None:
        print(OVERVIEW)
    elif line.command not in USAGE:
        raise ValueError(f"no command is called {line.command!r}: choose from: {', '.join(USAGE)}")
    elif line.flags & {"-h", "--help"}:
        print(USAGE[line.command])
    elif misplaced := line.flags & ({"--markdown"} if line.command != "list" else set(SWEEP_FLAGS)):
        raise ValueError(f"{line.command} doesn't take {min(misplaced)}: {USAGE[line.command].splitlines()[0]}")
    elif line.command in PRINTING:
        print_parts(line.command, line.arguments, markdown="--markdown" in line.flags)
    elif line.command == "ablate":
        from videogen.commands.ablate import ablate

        # several values are what it is for, with -m or without
        ablate(line.arguments)
    else:
        run_jobs(line.command, line.arguments, sweep=bool(line.flags & set(SWEEP_FLAGS)))


def print_parts(command: str, arguments: Sequence[str], *, markdown: bool) -> None:
    """`videogen list` and `videogen show`."""
    from videogen.commands.parts import list_parts, show_part

    if command == "show":
        if len(arguments) != 2:
            raise ValueError(f"show takes a kind and a name, {len(arguments)} words were given: {USAGE['show']}")
        if arguments[0] == "model":
            # a preset is no part of a registry
            from videogen.commands.profile import show_model

            show_model(arguments[1])
        else:
            print(show_part(*arguments))
    else:
        if len(arguments) > 2:
            raise ValueError(f"list takes a kind and a pattern, {len(arguments)} words were given: {USAGE['list']}")
        print(list_parts(*arguments, markdown=markdown))


def run_jobs(command: str, arguments: Sequence[str], *, sweep: bool) -> None:
    """Run a command once, or with a sweep once for every combination; all are composed before the first runs."""
    from videogen.config import compose, expand, label_of

    jobs = expand(arguments) if sweep else [list(arguments)]
    configs = [compose(command, job) for job in jobs]
    for number, (job, config) in enumerate(zip(jobs, configs, strict=True), start=1):
        changed = [argument for argument in job if argument not in arguments]
        if len(jobs) > 1:
            print(f"[{number}/{len(jobs)}] {' '.join(changed)}", flush=True)
        # a sweep's files are told apart by what was swept
        run_command(command, config, label_of(changed), job)


def run_command(command: str, config: dict[str, Any], label: str, job: Sequence[str]) -> None:
    """Run one composed command; `label` goes into the names of what it writes, `job` is what it was composed of."""
    # each loads what it needs, and the others don't wait for it
    if command == "generate":
        from videogen.commands.generate import generate

        generate(config, label)
    elif command == "reconstruct":
        from videogen.commands.reconstruct import reconstruct

        reconstruct(config, label)
    elif command == "train":
        from videogen.commands.train import train

        train(config, label)
    elif command == "profile":
        from videogen.commands.profile import profile
        from videogen.config import chosen

        profile(config, chosen(command, job))
    else:
        from videogen.commands.evaluate import evaluate

        evaluate(config, label)


if __name__ == "__main__":
    sys.exit(main())
