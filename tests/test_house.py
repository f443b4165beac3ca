"""The house rules that no linter knows, read from the sources: a new file is held to them without being named."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import videogen
from videogen.kinds import KINDS, registry

ROOT = Path(videogen.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
# what a name stands for is looked up in a registry; only these turn one into a module
IMPORTERS = {"registry.py", "kinds.py"}


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_public(path: Path) -> bool:
    return not any(part.startswith("_") for part in (*path.relative_to(ROOT).parts[:-1], path.stem))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a chain of attributes, "" of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def imported(path: Path) -> Iterator[str]:
    """Every module, and every name of a module, that a file imports anywhere in it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{label(path)}:{node.lineno}: import by the full name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_one_kind_never_import_each_other(kind: str) -> None:
    parts = registry(kind)
    folder = ROOT.parent / parts.home.replace(".", "/")
    modules = {f"{parts.home}.{name}" for name in parts.names() if (folder / f"{name}.py").exists()}
    for module in sorted(modules):
        path = folder / f"{module.rpartition('.')[2]}.py"
        taken = {name for name in imported(path) if {name, name.rpartition(".")[0]} & (modules - {module})}
        assert not taken, f"{label(path)} imports {sorted(taken)}: move what they share to a private module"


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_nothing_is_decided_by_the_environment_or_by_a_dotted_path(path: Path) -> None:
    names = {dotted(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)} | set(imported(path))
    assert not names & {"os.environ", "os.getenv"}, "a setting comes from the config, never from the environment"
    hydra = {name for name in names if name.startswith("hydra.utils")}
    assert not hydra, f"{sorted(hydra)}: a config names registered parts only; use Registry.build"
    for called, node in calls(path):
        banned = {"eval", "exec", "__import__"} | (set() if label(path) in IMPORTERS else {"importlib.import_module"})
        assert called not in banned, f"line {node.lineno}: {called} turns text into code; ask a registry"


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_no_pickle_is_ever_unpacked(path: Path) -> None:
    assert not {"pickle", "dill", "joblib"} & {name.split(".")[0] for name in imported(path)}
    for called, node in calls(path):
        if called == "torch.load":
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            safe = given.get("weights_only")
            assert isinstance(safe, ast.Constant), f"line {node.lineno}: torch.load without weights_only=True"
            assert safe.value is True, f"line {node.lineno}: torch.load with weights_only={safe.value}"


def test_no_config_names_a_target() -> None:
    presets = sorted(ROOT.rglob("*.yaml"))
    assert presets
    assert [label(path) for path in presets if "_target_" in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_a_file_is_short_enough_to_read(path: Path) -> None:
    limit = 600 if label(path).startswith("kernels/") else 400
    length = len(path.read_text(encoding="utf-8").splitlines())
    assert length <= limit, f"{label(path)} has {length} lines, the limit is {limit}: split it"


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_everything_public_says_what_it_is(path: Path) -> None:
    module = tree(path)
    assert ast.get_docstring(module), f"{label(path)} needs a first line: what it is and why"
    defined = [n for n in module.body if isinstance(n, (ast.ClassDef, ast.FunctionDef)) and not n.name.startswith("_")]
    silent = [node.name for node in defined if not ast.get_docstring(node)]
    assert not silent or not is_public(path), f"{label(path)}: {silent} need a docstring"


def test_importing_and_listing_load_nothing_heavy() -> None:
    script = "import sys, videogen; from videogen.kinds import KINDS; [videogen.names(kind) for kind in KINDS]; "
    script += "print(sorted({'torch', 'numpy', 'hydra', 'omegaconf', 'av', 'transformers'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert told.stdout.strip() == "[]"
