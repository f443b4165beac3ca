"""The README says what is true: its table of parts is what the registries hold, its Python example runs."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
import torch

import videogen
from videogen.commands.parts import list_parts

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_table_of_parts_is_what_the_registries_hold() -> None:
    found = re.search(
        r"<!-- made by `videogen list --markdown`[^\n]*-->\n(.*?)\n<!-- end of parts -->", README, re.DOTALL
    )
    assert found is not None
    assert found[1] == list_parts(markdown=True)


def test_python_example_runs() -> None:
    example = re.search(r"```python\n(import videogen\n.*?)```", README, re.DOTALL)
    assert example is not None
    names: dict[str, object] = {"video": torch.zeros(1, 3, 17, 64, 64)}
    exec(compile(example[1], "README.md", "exec"), names)
    film = names["film"]
    assert isinstance(film, torch.Tensor)
    assert film.shape == (1, 3, 17, 64, 64)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_linked_files_exist(link: str) -> None:
    assert (ROOT / link).exists(), link


def test_installed_version_is_that_of_the_package() -> None:
    assert importlib.metadata.version("videogen-components") == videogen.__version__
