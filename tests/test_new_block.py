"""docs/new_block.md is true: its file, put beside the blocks and nothing else edited, does what the document shows."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "new_block.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
SHOWN = dict(re.findall(r"```console\n\$ (.*?)\n(.*?)```", DOCUMENT, re.DOTALL))
# one process for all commands, since each would load torch
RUN = """
import contextlib, io, json, sys
from videogen.cli import main
for command in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        status = main(command)
    print(json.dumps([status, out.getvalue()]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a copy of the package that has the document's file."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "videogen", folder / "videogen", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    (folder / "videogen" / "weights").symlink_to(ROOT / "videogen" / "weights")
    (folder / "videogen" / "dit" / "blocks" / "axial.py").write_text(CODE[0], encoding="utf-8")
    return folder


def python(installed: Path, *arguments: str, stdin: str = "") -> str:
    """What Python prints with that copy."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, *arguments], input=stdin, env=environment, cwd=installed, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def table(text: str) -> list[dict[str, str]]:
    """The rows of the Markdown table in a text."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_it_is_one_short_file() -> None:
    assert len(CODE) == 1
    assert len(CODE[0].splitlines()) <= 80


def test_the_commands_print_what_the_document_shows(installed: Path) -> None:
    commands = [shlex.split(line)[1:] for line in SHOWN]
    assert [command[0] for command in commands] == ["list", "show", "profile", "ablate"]
    answers = [json.loads(line) for line in python(installed, "-c", RUN, stdin=json.dumps(commands)).splitlines()]
    for (command, shown), (status, told) in zip(SHOWN.items(), answers, strict=True):
        assert status == 0
        if "ablate" not in command:
            assert told == shown
        else:
            # seconds are this machine's
            columns = ("dit.block", "parameters (M)", "GFLOPs/step", "GiB")
            got, wanted = ([{key: row[key] for key in columns} for row in table(text)] for text in (told, shown))
            assert got == wanted


def test_the_tests_of_blocks_run_on_it(installed: Path) -> None:
    files = [str(ROOT / "tests" / "dit" / f"test_{name}.py") for name in ("block_contract", "every_combination")]
    told = python(
        installed, "-m", "pytest", "-p", "no:cacheprovider", "-c", f"{ROOT}/pyproject.toml", "-k", "axial", *files
    )
    passed = re.search(r"(\d+) passed", told)
    assert passed, told
    assert int(passed[1]) > 20
