"""A package that somebody else wrote and installed adds a block and a layout through entry points, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
VIDEOGEN = ["-c", "from videogen.cli import main; main()"]
Run = Callable[..., str]


def told(command: list[str], environment: dict[str, str] | None = None) -> str:
    """What a command prints; its errors too, should it fail."""
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs Python where the plugin is installed: no other test sees it."""
    # the build leaves files beside the sources, so it gets a copy of them
    source = shutil.copytree(ROOT / "tests" / "plugin", tmp_path_factory.mktemp("source") / "plugin")
    target = tmp_path_factory.mktemp("site")
    told([*PIP, "--no-build-isolation", "--target", str(target), str(source)])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), str(ROOT)])}

    def run(*arguments: str) -> str:
        return told([sys.executable, *arguments], environment)

    return run


def test_without_the_package_there_is_no_such_part() -> None:
    from videogen.checkpoints.layouts import LAYOUTS
    from videogen.dit.blocks import BLOCKS

    assert "parallel" not in BLOCKS.names()
    assert "slashes" not in LAYOUTS.names()


def test_the_command_lists_and_shows_it(python: Run) -> None:
    assert "parallel" in python(*VIDEOGEN, "list", "block")
    shown = python(*VIDEOGEN, "show", "dit/block", "parallel")
    assert "kit" in shown
    assert "videogen_parallel_block" in shown


def test_hydra_chooses_it_and_sets_its_knobs(python: Run) -> None:
    script = """
from videogen.config import build_pipeline, compose
config = compose("generate", ["dit.block=parallel", "dit.mlp.ratio=2", "weights=null"])
print({type(module).__name__ for module in build_pipeline(config).denoiser.modules()})
"""
    assert "ParallelBlock" in python("-c", script)


@pytest.mark.slow
def test_the_contract_tests_of_blocks_run_on_it(python: Run) -> None:
    contract = "tests/dit/test_block_contract.py"
    output = python("-m", "pytest", "-p", "no:cacheprovider", contract, "-k", "parallel")
    passed = re.search(r"(\d+) passed", output)
    assert passed, output
    assert int(passed[1]) > 0


def test_its_layout_reads_and_writes_checkpoints(python: Run, tmp_path: Path) -> None:
    script = f"""
import torch, videogen
from pathlib import Path
from safetensors.torch import load_file
from videogen.checkpoints import save_published
config = {{"trainer": "slashes", "channels": 4, "codes": 8, "width": 8, "depth": 1}}
part = videogen.build("vae", "vqvae", latent_channels=4, codebook_size=8, base_channels=8, num_res_blocks=1)
folder = Path({str(tmp_path)!r}) / "vae"
save_published(part, config, folder)
names = load_file(folder / "diffusion_pytorch_model.safetensors").keys()
again = videogen.load(folder).state_dict()
assert all(torch.equal(again[name], value) for name, value in part.state_dict().items())
print(sorted(names)[0], all(name.startswith("net/") and "." not in name for name in names))
"""
    assert python("-c", script).split() == ["net/codebook/count", "True"]
