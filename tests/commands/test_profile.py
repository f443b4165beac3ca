"""`videogen profile` and `show model`: a model of any size is told in seconds, and nothing of it is allocated."""

from __future__ import annotations

import re
import time

import pytest
from allocations import Allocations

from videogen.cli import main
from videogen.commands.profile import study
from videogen.config import build_parts, compose
from videogen.config.files import presets, read
from videogen.profiling.groups import OTHER

MODELS = [name for name, path in presets("model").items() if "denoiser" in read(path).choices]
#: one of each kind of network; the others take minutes together
QUICK = {"shapes", "ltx_0_9", "cogvideox_2b", "osp_1_3", "opensora_1_2", "videocrafter2"}
Capture = pytest.CaptureFixture[str]


def row(printed: str, name: str) -> list[str]:
    """The columns of a row, split where there are two spaces or more."""
    line = next(line for line in printed.splitlines() if line.startswith(name))
    return re.split(r"\s{2,}", line.strip())


def test_the_shipped_model_by_part(capsys: Capture) -> None:
    assert main(["profile", "shapes"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1 x 17 frames of 64x64; guidance 3 makes it 2 sequences a step\n")
    assert "latents 16 x 5 x 8 x 8, 80 tokens (5 x 4 x 4), text of 48\n" in printed
    parts = build_parts(compose("generate", []))
    for name, part in (("denoiser, one step", parts.denoiser), ("VAE, decoding once", parts.vae)):
        count = sum(value.numel() for value in part.parameters())
        assert row(printed, name)[1] == f"{count / 1e6:.3g} M"
    # two products of 80 tokens with each other, and two with 48 words, in two sequences and six layers of width 256
    scores = 2 * 6 * 2 * 2 * 80 * (80 + 48) * 256
    assert row(printed, "attention scores")[1:] == ["0", f"{scores / 1e6:.0f} M", "6.1%"]
    assert row(printed, "weights of the denoiser")[1:] == ["35 MiB", "17.5 MiB"]


def test_show_model_is_the_profile_at_the_models_own_size(capsys: Capture) -> None:
    assert main(["show", "model", "shapes"]) == 0
    shown = capsys.readouterr().out
    assert main(["profile", "model=shapes"]) == 0
    assert capsys.readouterr().out == shown
    assert main(["profile", "shapes", "num_frames=33", "height=48", "width=80", "batch_size=3", "guidance=1"]) == 0
    assert capsys.readouterr().out.startswith("3 x 33 frames of 80x48\nlatents 16 x 9 x 6 x 10, 135 tokens (9 x 3 x 5)")


def test_a_vae_alone_has_no_denoiser(capsys: Capture) -> None:
    assert main(["profile", "wan2_1_vae", "num_frames=5"]) == 0
    printed = capsys.readouterr().out
    assert "a VAE alone\nlatents 16 x 2 x 8 x 8\n" in printed
    assert row(printed, "VAE, decoding once")[1] == "127 M"
    assert "denoiser" not in printed


def test_fourteen_billion_parameters_in_seconds_without_allocating(capsys: Capture) -> None:
    before = time.process_time()
    with Allocations() as made:
        assert main(["show", "model", "wan2_1_t2v_14b"]) == 0
    assert time.process_time() - before <= 30
    assert made.bytes < 2**20
    printed = capsys.readouterr().out
    assert "latents 16 x 21 x 90 x 160, 75600 tokens (21 x 45 x 80), text of 512\n" in printed
    assert row(printed, "denoiser, one step")[1] == "14.3 G"
    # T5-XXL, which stands in where no folder is given
    assert row(printed, "text encoder")[1] == "4.76 G"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MODELS]
)
def test_every_model_can_be_looked_through(name: str) -> None:
    # a short clip of the model's own: what depends on its size is arithmetic
    config = compose("profile", [f"model={name}", "batch_size=2"])
    with Allocations() as made:
        size = {} if name in OWN_SIZE else {"num_frames": SHORT.get(name, 17), "height": 256, "width": 256}
        found = study({**config, **size})
    assert made.bytes < 2**20
    assert found.step["float32"].flops == found.step["bfloat16"].flops
    assert found.step["float32"].flops[OTHER] == found.groups[OTHER] == 0
    assert found.bytes("bfloat16") < found.bytes("float32")


#: frames of those whose VAE takes no 17
SHORT = {"allegro": 16, "mochi_1": 19}
#: models that make no films of other sizes
OWN_SIZE = {"cogvideox_5b_i2v"}


def test_sizes_and_parts_that_dont_fit_are_one_line(capsys: Capture) -> None:
    for arguments, message in {
        ("profile", "shapes", "num_frames=6"): "6 frames do not fit a temporal stride of 4: use 5 or 9",
        ("profile", "shape"): "no model preset is called 'shape': did you mean 'shapes'?",
        ("profile", "shapes", "wan2_1_vae"): "'wan2_1_vae' is no key=value, and profile takes no sentence",
        ("profile", "shapes", "dit.caption=none"): "text of width 128 doesn't fit tokens of width 256",
        ("profile", "shapes", "text_tokens=0"): "text_tokens=0 is out of range: at least 1",
    }.items():
        assert main(list(arguments)) == 2
        assert message in capsys.readouterr().err
