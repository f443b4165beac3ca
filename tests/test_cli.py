"""The command line: what it prints, where it writes, how it fails, and how little it loads to do so."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import videogen
from videogen.cli import main, read_line
from videogen.commands.outputs import name_outputs, slug
from videogen.commands.usage import USAGE
from videogen.config.files import presets
from videogen.config.schema import COMMANDS, settings_of
from videogen.data.video import read_video, write_video
from videogen.kinds import KINDS, registry

TINY = [
    *("vae.base_channels=8", "vae.encoder_flow=8", "vae.num_res_blocks=1", "vae.latent_channels=4"),
    *("vae.latent_shift=[]", "vae.latent_scale=[]"),
    *("denoiser.dim=24", "denoiser.depth=1", "denoiser.num_heads=2", "text.dim=16", "text.depth=1"),
]
SMALL = ["num_frames=5", "height=16", "width=16", "steps=2"]
RUN = ["train.batch_size=1", "train.num_frames=[5]", "train.num_frames_weights=[1.0]", "train.sizes=[[16,16]]"]
RUN += ["train.sizes_weights=[1.0]", "train.log_every=1", "data=shapes", "train.compile=false"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a folder of its own to write to."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, trained by the command itself: first its VAE, then its denoiser on that."""
    folder = tmp_path_factory.mktemp("runs")
    vae = ["train", "train.part=vae", f"train.output={folder}/vae", "train.steps=2", *RUN, *TINY]
    assert main(vae) == 0
    denoiser = ["train", "train=shapes_dit", f"model={folder}/vae/model", f"train.output={folder}/dit", "train.steps=1"]
    assert main([*denoiser, "train.cached_clips=2", "train.save_every=1", *RUN]) == 0
    return folder / "dit" / "model"


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command line that is refused."""
    capsys.readouterr()
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1, printed.err
    assert printed.err.startswith("videogen: ")
    return printed.err.removeprefix("videogen: ").rstrip("\n")


def seconds(*command: str) -> float:
    """Processor time of a command, best of three: what else the machine does doesn't count."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(times)


def test_importing_takes_no_time_and_loads_nothing_heavy() -> None:
    assert seconds("-c", "import videogen") - seconds("-c", "pass") <= 0.1
    script = "import sys, videogen; print({'torch', 'hydra', 'omegaconf', 'numpy'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "set()"


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["--version"], ["list"]])
def test_help_and_list_are_there_at_once(arguments: list[str]) -> None:
    assert seconds("-m", "videogen.cli", *arguments) <= 0.5
    script = "import sys; from videogen.cli import main; main(sys.argv[1:]); "
    script += "assert not {'torch', 'hydra', 'omegaconf', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True)


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["-h"]) == main(["--help"]) == 0
    assert all(f"videogen {command}" in capsys.readouterr().out or command for command in USAGE)
    for command in COMMANDS:
        assert main([command, "--help"]) == 0
        told = capsys.readouterr().out
        sampling = {"generate", "evaluate"}
        skipped = {"num_frames", "height", "width", "steps", "fps", "guidance", "guidance_rescale", "negative_prompt"}
        skipped |= {"embedded_guidance", "condition_fps", "blank", "clean_frames", "window", "window_overlap"}
        skipped |= {"window_of", "free_init", "free_init_filter", "free_init_space", "free_init_time"}
        for key in settings_of(command):
            if not key.startswith("train.") and (command in sampling or key not in skipped):
                assert key in told, f"videogen {command} --help doesn't say {key}"


@pytest.mark.parametrize("command", [[], ["reconstruct"], ["evaluate"]])
def test_help_says_that_weights_may_be_published_ones(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    told = capsys.readouterr().out
    assert "weights=" in told
    assert "published" in told
    # what it shows is a preset that there is
    assert not command or set(re.findall(r"model=(wan\w+)", told)) <= set(presets("model"))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert lines(capsys) == [f"videogen {videogen.__version__}"]


def test_list_names_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for kind in KINDS:
        assert f"\n{kind}\n" in f"\n{printed}"
        for name in registry(kind).names():
            assert re.search(rf"^  {re.escape(name)} +\S", printed, re.MULTILINE)
    assert main(["list", "--markdown"]) == 0
    rows = [line for kind in KINDS for line in [f"| {kind} | `{name}` | " for name in registry(kind).names()]]
    table = lines(capsys)[2:]
    assert all(line.startswith(row) for line, row in zip(table, rows, strict=True))


def test_list_takes_a_kind_and_a_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "dit.block", "fac*"]) == 0
    assert [line.split()[0] for line in lines(capsys)] == ["dit/block", "factorized"]
    assert main(["list", "rect*"]) == 0
    assert [line.split()[0] for line in lines(capsys)] == ["scheduler", "rectified_flow"]
    assert main(["list", "dit", "none"]) == 0
    # of all kinds that a DiT is made of
    kinds = [line for line in lines(capsys) if line and not line.startswith(" ")]
    assert {"dit/position", "dit/qk_norm", "dit/caption"} <= set(kinds)
    assert all(kind.startswith("dit/") for kind in kinds)
    assert "did you mean 'wavelet'" in fails(["list", "vae", "wavelets"], capsys)
    assert "no kind of part is called 'blok': did you mean" in fails(["list", "blok"], capsys)
    assert "3 words were given" in fails(["list", "a", "b", "c"], capsys)


def test_show_says_what_a_part_can_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "block", "factorized"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("dit/block factorized\n  ")
    assert "from videogen.dit.blocks.factorized." in printed
    assert "given by its parent: dim, num_heads, kit" in printed
    assert main(["show", "dit/mlp", "gelu"]) == 0
    assert re.search(r"^    bias +bool +True$", capsys.readouterr().out, re.MULTILINE)
    assert "no vae is called 'wavlet': did you mean 'wavelet'" in fails(["show", "vae", "wavlet"], capsys)
    assert "show takes a kind and a name" in fails(["show", "vae"], capsys)


def test_mistakes_get_one_line_and_a_traceback_only_with_debug(capsys: pytest.CaptureFixture[str]) -> None:
    assert fails(["genrate"], capsys).startswith("no command is called 'genrate': choose from: generate, ")
    assert fails(["--quiet"], capsys).startswith("no option is called --quiet: choose from: --debug, ")
    assert fails(["show", "vae", "wavelet", "--markdown"], capsys).startswith("show doesn't take --markdown: videogen")
    assert fails(["list", "-m"], capsys).startswith("list doesn't take -m: videogen list")
    assert fails(["generate"], capsys).startswith("no prompt: say what the video should show")
    assert fails(["generate", " "], capsys) == "the prompt is empty: say what the video should show"
    assert fails(["generate", "prompt="], capsys) == "the prompt is empty: say what the video should show"
    assert "did you mean 'steps'?" in fails(["generate", "a", "stepz=3"], capsys)
    assert "nothing is interpolated" in fails(["generate", "a", "steps=${oc.env:HOME}"], capsys)
    assert main(["generate", "a", "stepz=3", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_ends_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted(list[str]):
        def __iter__(self) -> Iterator[str]:
            raise KeyboardInterrupt

    assert main(Interrupted()) == 130
    assert capsys.readouterr().err == "videogen: interrupted\n"


def test_a_reader_that_leaves_is_no_error() -> None:
    script = "import sys; from videogen.cli import main; sys.exit(main(['list']))"
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.close()
    assert child.wait() == 0
    assert child.stderr is not None
    assert child.stderr.read() == b""
    child.stderr.close()


def test_options_stand_anywhere_before_two_dashes() -> None:
    line = read_line(["generate", "-m", "a - b", "steps=1,2", "--debug", "--", "-x", "--help"])
    assert line.command == "generate"
    assert line.flags == {"-m", "--debug"}
    assert line.arguments == ["a - b", "steps=1,2", "-x", "--help"]
    # a dash in front of a sentence is no option
    assert read_line(["generate", "- a dash"]).arguments == ["- a dash"]


@pytest.mark.parametrize(
    ("sentence", "name"),
    [
        ("a red circle moving right", "a-red-circle-moving-right"),
        ('It\'s, a "test"/of\\all: punctuation!', "its-a-test-of-all-punctuation"),
        ("../../etc/passwd", "etc-passwd"),
        ("ein grüner Kreis", "ein-grüner-kreis"),
        ("?!", "video"),
        ("word " * 40, "-".join(["word"] * 12)),
        ("x" * 100, "x" * 60),
    ],
)
def test_a_sentence_names_its_file(sentence: str, name: str) -> None:
    assert slug(sentence) == name
    assert name_outputs([sentence], None, 3) == [Path(f"{name}-seed3.mp4")]


def test_several_sentences_get_numbers_and_a_sweep_a_label() -> None:
    names = name_outputs(["a b"] * 10, None, 0, "_steps=2")
    assert [str(names[0]), str(names[9])] == ["01-a-b-seed0_steps=2.mp4", "10-a-b-seed0_steps=2.mp4"]
    assert name_outputs(["a", "b"], "x/y.mp4", 0, "_s") == [Path("x/y_s-1.mp4"), Path("x/y_s-2.mp4")]
    assert name_outputs(["a"], "x/y z.mp4", 0) == [Path("x/y z.mp4")]


def test_generate_writes_a_film_and_a_sheet(model: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = "a red circle, moving 'right' = \"fast\""
    capsys.readouterr()
    assert main(["generate", sentence, f"model={model}", *SMALL, "fps=5"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [f"a-red-circle-moving-right-fast-seed0.{end}" for end in ("mp4", "png")]
    assert "warning: the text encoder never saw: fast; the video won't show it" in printed.err
    film = read_video("a-red-circle-moving-right-fast-seed0.mp4")
    assert (film.frames.shape, film.fps) == ((3, 5, 16, 16), 5)
    assert Path("a-red-circle-moving-right-fast-seed0.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_of_prompts_is_a_batch(model: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("my prompts.txt").write_text("a red circle\n\n  a blue square moving up  \na white cross\n", encoding="utf-8")
    capsys.readouterr()
    arguments = [f"model={model}", "prompts=my prompts.txt", "batch_size=2", "output=a film.mp4", "guidance=1"]
    assert main(["generate", *arguments, *SMALL]) == 0
    assert lines(capsys)[::2] == ["a film-1.mp4", "a film-2.mp4", "a film-3.mp4"]
    assert main(["generate", "a blue square moving up", f"model={model}", "output=one.mp4", "guidance=1", *SMALL]) == 0
    alone, batched = (read_video(path).frames for path in ("one.mp4", "a film-2.mp4"))
    assert torch.equal(alone, batched)


def test_a_sweep_runs_every_combination(model: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    sweep = ["-m", "a, b", f"model={model}", "output=x.mp4", "scheduler=ddim,rectified_flow"]
    assert main(["generate", *sweep, *SMALL]) == 0
    told = lines(capsys)
    assert [line for line in told if line.startswith("[")] == ["[1/2] scheduler=ddim", "[2/2] scheduler=rectified_flow"]
    assert sorted(here.glob("*.mp4")) == [here / f"x_scheduler={name}.mp4" for name in ("ddim", "rectified_flow")]
    # all are composed before the first runs
    assert "no scheduler is called 'nope'" in fails(["generate", "-m", "a", "scheduler=ddim,nope"], capsys)


def test_nothing_is_sampled_that_could_not_be_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # no weights are there, so whatever is said comes before they are asked for
    arguments = ["generate", "a red circle", "weights=nowhere"]
    assert "the folder no doesn't exist" in fails([*arguments, "output=no/film.mp4"], capsys)
    assert "output='' names no file" in fails([*arguments, "output="], capsys)
    assert "doesn't end in .mp4" in fails([*arguments, "output=film.gif"], capsys)
    (here / "taken.png").mkdir()
    assert "taken.png is a folder" in fails([*arguments, "output=taken.mp4"], capsys)
    (here / "empty.txt").write_text("\n \n")
    (here / "latin.txt").write_bytes("grün".encode("latin-1"))
    assert "empty.txt holds no sentence" in fails(["generate", "prompts=empty.txt"], capsys)
    assert "latin.txt is no UTF-8 text (byte 2)" in fails(["generate", "prompts=latin.txt"], capsys)
    assert "No such file" in fails(["generate", "prompts=none.txt"], capsys)
    assert "give one of the two" in fails(["generate", "a", "prompts=empty.txt"], capsys)
    assert "weights=nowhere: no such folder" in fails(arguments, capsys)
    assert not list(here.glob("*.mp4"))


def test_sizes_that_do_not_fit_name_those_that_do(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "a red circle", f"model={model}"]
    assert "use 5 or 9" in fails([*arguments, "num_frames=6"], capsys)
    assert "height 17 does not fit a spatial stride" in fails([*arguments, "num_frames=5", "height=17"], capsys)


def test_reconstruct_says_how_much_is_lost(model: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video("my clip.mp4", torch.rand(3, 7, 20, 24) * 2 - 1, fps=12)
    capsys.readouterr()
    assert main(["reconstruct", "input=my clip.mp4", f"model={model}", "chunk=4"]) == 0
    told = lines(capsys)
    assert re.fullmatch(r"PSNR \d+\.\d\d dB, SSIM -?\d\.\d{4}", told[0])
    assert told[1:] == ["my clip-reconstructed.mp4", "my clip-reconstructed.png"]
    pair = read_video("my clip-reconstructed.mp4")
    assert pair.frames.shape[1:3] == (7, 20)
    assert pair.frames.shape[3] > 2 * 24
    assert "no clip: give a video file" in fails(["reconstruct"], capsys)
    assert "none.mp4" in fails(["reconstruct", "input=none.mp4", f"model={model}"], capsys)
    (here / "fake.mp4").write_text("no video")
    assert "fake.mp4" in fails(["reconstruct", "input=fake.mp4", f"model={model}"], capsys)


def test_evaluate_writes_figures_for_each_sample(model: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", f"model={model}", "samples=3", "batch_size=2", "output=held out.json", *SMALL]
    assert main([*arguments, "height=32", "width=32"]) == 0
    result = json.loads((here / "held out.json").read_text())
    assert len(result["samples"]) == 3
    assert 0 <= result["mean"]["all"] <= 1
    assert {"all", "colour", "shape"} <= set(result["mean"])
    for name in ("b.mp4", "a.mp4"):
        write_video(here / name, torch.rand(3, 5, 16, 16) * 2 - 1, fps=8)
    capsys.readouterr()
    arguments = ["evaluate", "measure=reconstruction", f"input={here}", f"model={model}"]
    assert main([*arguments, "output=clips.json"]) == 0
    result = json.loads((here / "clips.json").read_text())
    assert [row["clip"] for row in result["samples"]] == ["a.mp4", "b.mp4"]
    psnr = sum(row["psnr"] for row in result["samples"]) / 2
    assert result["mean"]["psnr"] == pytest.approx(psnr)
    assert ["psnr", f"{psnr:.4f}"] in [line.split() for line in lines(capsys)]
    assert "no clips: give their folder" in fails(["evaluate", "measure=reconstruction"], capsys)
    assert "can't be written" in fails([*arguments, "output=no/x.json"], capsys)


def test_the_trained_model_says_what_it_is(model: Path) -> None:
    assert sorted(path.name for path in model.iterdir()) == ["denoiser", "model.yaml", "text", "vae"]
    pipeline = videogen.pipeline(f"model={model}")
    assert pipeline.vae.spec.latent_channels == 4
    # measured on the training clips by the VAE's run, and kept through the denoiser's
    assert pipeline.vae.spec.scale != (1.0,) * 4
    assert pipeline("a red circle", num_frames=5, height=16, width=16, steps=1).shape == (1, 3, 5, 16, 16)
