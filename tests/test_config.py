"""Configs: what composes to what, what is refused and how it says so, and the parts that are built from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import hydra
import pytest
from hydra.core.config_store import ConfigStore

from videogen.checkpoints import save_part
from videogen.config import COMMANDS, ConfigError, build_parts, build_pipeline, compose, expand, part_configs
from videogen.config.schema import CHOICES, COMMON, kind_of
from videogen.kinds import KINDS, registry
from videogen.schedulers import SCHEDULERS

GROUPS = [*KINDS, "objective"]
PARTS = {
    group: [
        name
        for name in registry(kind_of(group)).names()
        if group != "objective" or not registry("scheduler").describe(name).wiring
    ]
    for group in CHOICES
}
MOST = max(map(len, PARTS.values()))
TINY = [
    *("vae.latent_shift=[]", "vae.latent_scale=[]"),
    "vae.base_channels=8",
    "vae.encoder_flow=8",
    "vae.num_res_blocks=1",
    "denoiser.dim=24",
    "denoiser.depth=1",
    "denoiser.num_heads=2",
    "text.dim=16",
    "text.depth=1",
    "weights=null",
]
# every mark that some grammar, Hydra's or the shell's or OmegaConf's, would take for its own
SENTENCES = [
    "a red circle, a blue square",
    "it's a circle",
    'a "red" circle',
    "a circle = a ball",
    "${oc.env:HOME} and {braces} [brackets] (parens)",
    "a: b; c | d & e < f > g \\ h # i ! j ? k * l ~ m @ n % o ^ p ` q $r",
    "+plus and ~tilde first",
    "   spaces around   ",
    "ein grüner Kreis, 赤い丸",
    "two\nlines",
    "null",
    "???",
    "",
]


def node(config: dict[str, Any], group: str) -> dict[str, Any]:
    found: Any = config
    for key in group.split("/"):
        found = found[key]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("turn", range(MOST + 1))
def test_every_part_of_every_kind_can_be_chosen(turn: int) -> None:
    chosen = {group: names[turn % len(names)] for group, names in PARTS.items()}
    # one turn more is the U-Net's, which has no parts of a DiT
    chosen["denoiser"] = "dit" if turn < MOST else "unet"
    if turn == MOST:
        chosen = {group: name for group, name in chosen.items() if not group.startswith(("dit/", "fused"))}
    config = compose("train", ["model=null", *(f"{group}={name}" for group, name in chosen.items())])
    for group, name in chosen.items():
        knobs = [*registry(kind_of(group)).knobs(name), *COMMON.get(group, {}).values()]
        assert node(config, group) == {"name": name, **{knob.name: as_yaml(knob.default) for knob in knobs}}, group


def as_yaml(value: Any) -> Any:
    return [as_yaml(item) for item in value] if isinstance(value, (list, tuple)) else value


def test_a_solver_is_no_objective() -> None:
    with pytest.raises(ConfigError, match=r"objective=unipc: a solver has no noise schedule.*take ddpm"):
        compose("train", ["objective=unipc"])


def test_a_solver_walks_on_the_noise_of_the_objective() -> None:
    parts = build_parts(compose("generate", [*TINY, "scheduler=unipc", "scheduler.shift=3", "guide=apg", "guidance=5"]))
    assert parts.scheduler.noise is parts.objective
    assert parts.scheduler.shift == 3.0
    assert type(parts.guide).__name__ == "AdaptiveProjected"
    brings = build_parts(compose("generate", [*TINY, "scheduler=ddim"]))
    assert brings.scheduler.noise is brings.scheduler


def test_windows_noise_and_rounds_of_a_long_film_reach_the_pipeline() -> None:
    told = [
        "window=17",
        "window_overlap=12",
        "window_of=attention",
        "initial_noise=freenoise",
        "initial_noise.shuffle=false",
    ]
    told += ["free_init=2", "free_init_filter=box", "free_init_space=0.5", "free_init_time=1"]
    pipe = build_pipeline(compose("generate", [*TINY, *told]))
    sampling = pipe.sampling
    assert (sampling.window, sampling.window_overlap, vars(pipe.initial_noise)) == (17, 12, {"shuffle": False})
    assert sampling.window_of == "attention"
    assert (sampling.free_init, sampling.free_init_filter) == (2, "box")
    assert (sampling.free_init_space, sampling.free_init_time) == (0.5, 1.0)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_every_kind_of_part_and_only_training_has_data(command: str) -> None:
    config = compose(command, ["model=null"])
    assert {group: node(config, group)["name"] for group in CHOICES if group != "data"} == {
        group: name for group, name in CHOICES.items() if group != "data"
    }
    assert ("data" in config) == (command in ("train", "ablate")) == ("train" in config)


def test_the_shipped_model_is_the_default_and_training_starts_without_its_weights() -> None:
    config = compose("generate", [])
    assert config == compose("generate", ["model=shapes"])
    assert (config["weights"], config["vae"]["name"], config["fps"]) == ("shapes", "wavelet", 8)
    assert {"red", "circle", "on"} <= set(config["text"]["vocabulary"])
    assert compose("train", [])["weights"] is None
    assert compose("train", ["weights=shapes"])["weights"] == "shapes"


@pytest.mark.parametrize("spelling", ["dit.block=factorized", "dit/block=factorized"])
def test_a_dot_and_a_slash_choose_the_same(spelling: str) -> None:
    config = compose("generate", [spelling, "dit.mlp.ratio=2"])
    assert config["dit"]["block"]["name"] == "factorized"
    assert config["dit"]["mlp"]["ratio"] == 2.0


def test_an_alias_is_the_part_that_it_names() -> None:
    assert compose("generate", ["vae=wfvae"]) == compose("generate", ["vae=wavelet"])


def test_a_presets_knobs_stay_with_the_part_that_it_chose() -> None:
    assert compose("generate", [])["vae"]["base_channels"] != 128
    other = compose("generate", ["vae=causal3d"])["vae"]
    assert other == compose("generate", ["model=null", "vae=causal3d"])["vae"]
    with pytest.raises(ConfigError, match=r"unknown key 'vae.encoder_flow': .*choose from: .*vae\.latent_channels"):
        compose("generate", ["vae=causal3d", "vae.encoder_flow=8"])


@pytest.mark.parametrize("sentence", SENTENCES)
def test_sentences_and_paths_are_taken_verbatim(sentence: str) -> None:
    others = {"negative_prompt": sentence, "output": sentence, "prompts": sentence}
    texts = [f"{key}={text}" for key, text in others.items()]
    assert compose("generate", ["seed=1", sentence, *texts]).items() >= {"prompt": sentence, **others}.items()
    assert compose("generate", [f"prompt={sentence}"])["prompt"] == sentence
    assert expand([f"prompt={sentence}", sentence]) == [[f"prompt={sentence}", sentence]]


def test_paths_of_the_other_commands_are_verbatim_too() -> None:
    path = "my runs/a=b, 'c' ${d}"
    assert compose("reconstruct", [f"input={path}"])["input"] == path
    assert compose("train", [f"train.output={path}"])["train"]["output"] == path


@pytest.fixture
def typed_part() -> Iterator[str]:
    """A scheduler whose knobs are of every type that a knob may be."""

    @SCHEDULERS.register("typed")
    def typed(
        *,
        count: int = 1,
        ratio: float = 0.5,
        maybe: float | None = None,
        flag: bool = True,
        word: str = "a",
        choice: Literal["left", "right"] = "left",
        level: Literal[1, 2, None] = None,
        size: tuple[int, int] = (1, 2),
        any_length: tuple[float, ...] = (),
        words: list[str] | None = None,
        pairs: list[tuple[int, int]] = [(1, 2)],  # noqa: B006
        either: int | str = 3,
        table: dict[str, float] | None = None,
    ) -> None:
        """Nothing but knobs."""

    yield "typed"
    del SCHEDULERS._entries["typed"]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("count=3", 3),
        ("ratio=2", 2.0),
        ("ratio=1e-3", 0.001),
        ("maybe=0.5", 0.5),
        ("maybe=null", None),
        ("flag=false", False),
        ("word=b", "b"),
        ("word=12", "12"),
        ("word='b, c'", "b, c"),
        ("choice=right", "right"),
        ("level=2", 2),
        ("size=[3,4]", [3, 4]),
        ("any_length=[1,2.5]", [1.0, 2.5]),
        ("words=[a,b]", ["a", "b"]),
        ("pairs=[[3,4],[5,6]]", [[3, 4], [5, 6]]),
        ("either=x", "x"),
        ("either=4", 4),
        ("table={a:1.5}", {"a": 1.5}),
    ],
)
def test_a_knob_takes_values_of_its_type(typed_part: str, setting: str, value: Any) -> None:
    found = compose("generate", [f"scheduler={typed_part}", f"scheduler.{setting}"])
    assert found["scheduler"][setting.partition("=")[0]] == value


@pytest.mark.parametrize(
    "setting",
    [
        *("count=a", "count=1.5", "count=true", "count=null", "count=[1]", "ratio=a", "ratio=true", "maybe=a"),
        *("flag=1", "flag=maybe", "word=[a]", "word=null", "choice=up", "level=3", "either=1.5", "table=[1]"),
        *("size=[1]", "size=[1,2,3]", "size=[a,b]", "size=4", "any_length=[a]", "words=[1,2]", "words=a"),
        *("pairs=[1,2]", "pairs=[[1]]"),
    ],
)
def test_a_knob_refuses_values_of_another_type(typed_part: str, setting: str) -> None:
    with pytest.raises(ConfigError, match=r"is not of type") as refused:
        compose("generate", [f"scheduler={typed_part}", f"scheduler.{setting}"])
    assert f"scheduler.{setting}" in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stepz=3"], r"unknown key 'stepz': did you mean 'steps'\?"),
        (["vae.latent_chanels=3"], r"did you mean 'vae.latent_channels'\? choose from: vae\.base_channels"),
        (["depth=3"], r"unknown key 'depth': did you mean 'denoiser.depth'\?"),
        (["dit=full3d"], r"unknown key 'dit': did you mean"),
        (["dit.blok=full3d"], r"unknown key 'dit.blok': did you mean 'dit.block'\?"),
        (["vae@foo=wavelet"], r"unknown key 'vae@foo'"),
        (["train.steps=3"], r"unknown key 'train.steps'"),
        (["data=shapes"], r"unknown key 'data'"),
        (["vae=wavlet"], r"vae=wavlet: no vae is called 'wavlet': did you mean 'wavelet'\?"),
        (
            ["objective=rectifiedflow"],
            r"objective=rectifiedflow: no scheduler is called 'rectifiedflow': did you mean 'rectified_flow'\?",
        ),
        (["vae={name:wavelet}"], r"no vae is called '\{name:wavelet\}'"),
        (["vae.name=causal3d"], r"a part is chosen as vae=causal3d"),
        (["model=shape"], r"no model preset is called 'shape': did you mean 'shapes'\?"),
        (["model=no/such/folder"], r"model=no/such/folder is no folder with a model.yaml"),
        (["experiment=none.yaml"], r"none.yaml can't be read: .*No such file"),
        (["vae._target_=os.system"], r"_target_ is refused"),
        (["_target_=os.system"], r"_target_ is refused"),
        (["denoiser._partial_=true"], r"_partial_ is refused"),
        (["denoiser.patch_size={_target_:os.system}"], r"denoiser.patch_size._target_ .*is refused"),
        (["denoiser.patch_size=[{_args_:1}]"], r"_args_ .*is refused"),
        (["hydra.run.dir=x"], r"Hydra itself is not configurable here, remove 'hydra.run.dir'"),
        (["hydra/launcher=x"], r"Hydra itself is not configurable here"),
        (["hydra.callbacks.x._target_=y"], r"is refused"),
        (["steps=${fps}"], r"steps='\$\{fps\}' \(in the overrides\) is refused: nothing is interpolated"),
        (["denoiser.dim=${oc.env:HOME}"], r"nothing is interpolated"),
        (["+steps=3"], r"\+steps=3: keys can't be added or removed"),
        (["++steps=3"], r"keys can't be added or removed"),
        (["+new.key=3"], r"keys can't be added or removed"),
        (["~steps"], r"~steps: keys can't be added or removed"),
        (["~vae=wavelet"], r"keys can't be added or removed"),
        (["scheduler=ddim,ddpm"], r"scheduler=ddim,ddpm: several values are a sweep, which needs -m"),
        (["steps=1,2"], r"steps=1,2: several values are a sweep, which needs -m"),
        (["steps=range(1,3)"], r"which needs -m"),
        (["steps=a;b("], r"steps=a;b\( can't be read"),
        (["steps="], r"steps= is not of type int"),
        (["steps=0"], r"steps=0 is out of range: at least 1"),
        (["fps=-1"], r"fps=-1 is out of range"),
        (["seed=-1"], r"seed=-1 is out of range: from 0 to"),
        (["seed=99999999999999999999"], r"seed=9+ is out of range"),
        (["a red circle", "moving right"], r"two sentences, 'a red circle' and 'moving right': quote the sentence"),
        (["prompt=a red circle", "moving"], r"two sentences"),
        (["moving", "prompt=a red circle"], r"two sentences"),
        (["a=b is a red circle"], r"unknown key 'a': .*for a sentence use prompt='a=b is a red circle'"),
    ],
)
def test_bad_arguments_are_refused_with_a_remedy(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        compose("generate", arguments)
    assert "\n" not in str(refused.value)


def test_only_generate_takes_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"'clip.mp4' is no key=value, and reconstruct takes no sentence"):
        compose("reconstruct", ["clip.mp4"])
    with pytest.raises(ConfigError, match="no command is called 'paint': choose from: generate"):
        compose("paint", [])


def write(folder: Path, text: str, name: str = "model.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


MODEL = """
defaults: [override /vae: wfvae, override /dit/block: factorized, override /dit/mlp: gelu, _self_]
vae: {base_channels: 8}
dit: {mlp: {bias: false}}
guidance: 2
negative_prompt: "blurry, grey"
"""


@pytest.mark.parametrize("command", ["generate", "train"])
def test_a_checkpoints_folder_is_a_model(tmp_path: Path, command: str) -> None:
    folder = write(tmp_path / "my, model", MODEL).parent
    config = compose(command, [f"model={folder}", "dit.mlp.ratio=2"])
    assert config["weights"] == str(folder)
    assert (config["vae"]["name"], config["vae"]["base_channels"]) == ("wavelet", 8)
    assert config["dit"]["block"] == {"name": "factorized"}
    assert config["dit"]["mlp"] == {"name": "gelu", "ratio": 2.0, "hidden": None, "approximate": "tanh", "bias": False}
    assert (config["guidance"], config["negative_prompt"]) == (2.0, "blurry, grey")
    # its knobs were for the block that it chose
    assert compose(command, [f"model={folder}", "dit.mlp=swiglu"])["dit"]["mlp"]["bias"] is True
    assert compose(command, [f"model={folder}", "weights=null"])["weights"] is None


def test_an_experiment_chooses_and_sets_over_the_presets_and_under_the_arguments(tmp_path: Path) -> None:
    text = """
defaults: [override /train: shapes_dit, override /model: shapes, override /data: folder, override /vae: causal3d]
train: {steps: 7, learning_rate: 3e-4}
data: {path: clips}
weights: elsewhere
fps: 12
"""
    config = compose("train", [f"experiment={write(tmp_path, text, 'try.yaml')}", "fps=13"])
    assert (config["train"]["part"], config["train"]["steps"], config["train"]["learning_rate"]) == (
        "denoiser",
        7,
        3e-4,
    )
    assert (config["data"]["name"], config["data"]["path"]) == ("folder", "clips")
    assert (config["vae"]["name"], config["weights"], config["fps"]) == ("causal3d", "elsewhere", 13)
    assert compose("generate", ["experiment=null"]) == compose("generate", [])


@pytest.mark.parametrize("preset", ["shapes_vae", "shapes_dit"])
def test_the_training_presets_compose(preset: str) -> None:
    config = compose("train", [f"train={preset}", "train.steps=5"])
    assert config["train"]["steps"] == 5
    assert config["train"]["part"] == preset.removeprefix("shapes_").replace("dit", "denoiser")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vae: {base_chanels: 3}", r"unknown key 'vae.base_chanels' \(in .*\): did you mean 'vae.base_channels'\?"),
        ("stepz: 3", r"unknown key 'stepz' \(in .*\): did you mean 'steps'\?"),
        ("steps: many", r"steps='many' is not of type int \(in "),
        ("steps: true", r"steps=True is not of type int"),
        ("vae: wavelet", r"vae='wavelet' \(in .*\) is no mapping: a part is named in `defaults`"),
        ("vae: {_target_: os.system}", r"vae._target_ \(in .*\) is refused"),
        ("text: {vocabulary: [{_target_: os.system}]}", r"text.vocabulary\[0\]._target_ .*is refused"),
        ("hydra: {callbacks: {x: {_target_: y}}}", r"hydra \(in .*\) is refused: Hydra itself"),
        ("hydra.callbacks: 3", r"hydra.callbacks \(in .*\) is refused"),
        ("defaults: [override /hydra/launcher: joblib]", r"hydra/launcher \(in the defaults of .*\) is refused"),
        ("defaults: [override /vea: wavelet]", r"unknown key 'vea' \(in the defaults of .*\): did you mean 'vae'\?"),
        ("defaults: [override /vae: wavlet]", r"vae=wavlet \(in .*\): no vae is called 'wavlet': did you mean"),
        ("defaults: [override /vae@x: wavelet]", r"each entry reads `override /kind: name`"),
        ("defaults: [wavelet]", r"each entry reads `override /kind: name`"),
        ("negative_prompt: ${oc.env:HOME}", r"negative_prompt='\$\{oc.env:HOME\}' .*nothing is interpolated"),
        ("steps: ${fps}", r"nothing is interpolated"),
        ("steps: !!python/object/apply:os.system [ls]", r"can't be read: could not determine a constructor"),
        ("steps: 3\nsteps: 4", r"can't be read: .*duplicate key"),
        ("steps: [3", r"can't be read"),
        ("a: &a [1]\nb: *a", r"YAML aliases"),
        ("[1, 2]", r"is no mapping of keys to values"),
        ("weights: 3", r"weights=3 is not of type str \| None"),
    ],
)
@pytest.mark.parametrize("kind", ["model", "experiment"])
def test_bad_files_are_refused_by_name(tmp_path: Path, text: str, message: str, kind: str) -> None:
    path = write(tmp_path, text)
    if kind == "model" and text.startswith("weights"):
        pytest.skip("a folder's own weights are those of the model")
    with pytest.raises(ConfigError, match=message) as refused:
        compose("generate", [f"{kind}={path if kind == 'experiment' else tmp_path}"])
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        *("output: /etc/passwd", "prompt: a", "train: {steps: 3}", "data: {seed: 3}"),
        *("defaults: [override /data: shapes]", "defaults: [override /model: shapes]"),
        "defaults: [override /experiment: x]",
    ],
)
@pytest.mark.parametrize("command", ["generate", "train"])
def test_a_model_cannot_say_what_is_done_with_it(tmp_path: Path, text: str, command: str) -> None:
    write(tmp_path, text)
    with pytest.raises(ConfigError, match="unknown key"):
        compose(command, [f"model={tmp_path}"])


def test_a_sweep_is_every_combination() -> None:
    jobs = expand(["a red, green circle", "scheduler=ddim,rectified_flow", "steps=range(2,4)", "fps=8"])
    assert jobs == [
        ["a red, green circle", f"scheduler={scheduler}", f"steps={steps}", "fps=8"]
        for scheduler in ("ddim", "rectified_flow")
        for steps in (2, 3)
    ]
    assert expand(["dit.block=glob(fa*)"]) == [["dit.block=factorized"]]
    assert expand(["model=glob(shap*)", "train.sizes=[[1,2],[3,4]],[[5,6]]"]) == [
        ["model=shapes", "train.sizes=[[1,2],[3,4]]"],
        ["model=shapes", "train.sizes=[[5,6]]"],
    ]
    assert expand([]) == [[]]


def test_composing_leaves_an_applications_own_hydra_alone() -> None:
    store = ConfigStore.instance()
    outer = store.repo
    store.repo = dict(outer)
    try:
        store.store(group="vae", name="theirs", node={"theirs": 1})
        store.store(name="app", node={"defaults": [{"vae": "theirs"}]})
        with hydra.initialize(config_path=None, version_base="1.3"):
            assert "theirs" not in compose("generate", [])["vae"]
            with pytest.raises(ConfigError):
                compose("generate", ["stepz=3"])
            assert hydra.compose("app") == {"vae": {"theirs": 1}}
    finally:
        store.repo = outer


def test_parts_are_built_with_tuples_where_their_signatures_have_them() -> None:
    parts = build_parts(compose("generate", [*TINY, "vae.latent_channels=4", "vae.latent_shift=[1,2,3,4]"]))
    assert parts.vae.spec.shift == (1.0, 2.0, 3.0, 4.0)
    assert parts.denoiser.patch_size == (1, 2, 2)
    assert parts.objective.prediction == "x0"


def test_the_pipeline_samples_as_the_config_says() -> None:
    settings = ["num_frames=5", "height=16", "width=32", "steps=1"]
    pipeline = build_pipeline(compose("generate", [*TINY, *settings]))
    assert pipeline("a red circle", seed=1).shape == (1, 3, 5, 16, 32)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    config = compose("generate", TINY)
    parts = build_parts(config)
    modules = {"vae": parts.vae, "denoiser": parts.denoiser, "text": parts.text}
    for part, told in part_configs(config, modules).items():
        save_part(tmp_path / part, told, getattr(parts, part).state_dict())
    return tmp_path


def test_weights_load_into_the_model_that_they_were_saved_from(weights: Path) -> None:
    settings = [*TINY[:-1], f"weights={weights}"]
    first, second = (build_parts(compose("generate", settings)) for _ in range(2))
    for part in ("vae", "denoiser", "text"):
        states = [getattr(parts, part).state_dict() for parts in (first, second)]
        assert all(states[0][key].equal(states[1][key]) for key in states[0])
    # kernels, samplers and how to sample are no part of the weights
    build_parts(compose("generate", [*settings, "attention=reference", "scheduler=ddim", "steps=2"]))


def test_weights_of_another_model_are_refused_by_what_differs(weights: Path) -> None:
    settings = [*TINY[:-1], f"weights={weights}"]
    with pytest.raises(ValueError, match=r"dit.block.name: 'full3d' saved, 'factorized' asked for"):
        build_parts(compose("generate", [*settings, "dit.block=factorized"]))
    with pytest.raises(ValueError, match="depth: 1 saved, 2 asked for"):
        build_parts(compose("generate", [*settings, "denoiser.depth=2"]))
    with pytest.raises(ConfigError, match="no such folder, and no weights of that name ship"):
        build_parts(compose("generate", [*TINY[:-1], "weights=nowhere"]))
    with pytest.raises(ConfigError, match="has no folder called vae"):
        build_parts(compose("train", [*TINY[:-1], f"weights={weights / 'vae'}"]))
