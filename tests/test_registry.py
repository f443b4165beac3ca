"""The registry, on home packages written to disk: discovery, names, collisions, and what its errors say."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from videogen.registry import Registry, RegistryError

PART = '''"""The {stem} part, in one line.

More that `summary` leaves out.
"""
{imports}
from {home} import PARTS


@PARTS.register({name!r}, aliases={aliases!r})
class Part:
    """A real part.

    Args:
        gain: of the output.
    """

    def __init__(self, dim: int, *, gain: float = 1.0) -> None:
        self.dim, self.gain = dim, gain
'''
HOME = 'from videogen.registry import Registry\n\nPARTS = Registry("part", __name__)\n'
COUNTER = itertools.count()


class Home:
    """A package on sys.path that holds parts, and the registry in it."""

    def __init__(self, folder: Path) -> None:
        self.name, self.folder = f"home{next(COUNTER)}", folder
        self.write("__init__", HOME)

    def write(self, stem: str, text: str) -> None:
        path = self.folder / self.name / f"{stem}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        importlib.invalidate_caches()

    def part(self, stem: str, name: str = "", aliases: tuple[str, ...] = (), imports: str = "") -> None:
        self.write(stem, PART.format(stem=stem, home=self.name, name=name or stem, aliases=aliases, imports=imports))

    def plugin(self, name: str, value: str, distribution: str = "acme-parts", metadata: str = "") -> None:
        """Declare an installed distribution that adds a part through its entry point."""
        info = self.folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n{metadata}")
        (info / "entry_points.txt").write_text(f"[{self.name}]\n{name} = {value}\n")
        (info / "top_level.txt").write_text(value.split(".")[0].split(":")[0] + "\n")
        importlib.invalidate_caches()

    @property
    def registry(self) -> Registry[Any]:
        registry: Registry[Any] = importlib.import_module(self.name).PARTS
        return registry

    def loaded(self) -> list[str]:
        return sorted(name for name in sys.modules if name.startswith(f"{self.name}."))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.syspath_prepend(str(tmp_path))
    made = Home(tmp_path)
    yield made
    for name in [name for name in sys.modules if name.split(".")[0] == made.name or name.startswith("acme")]:
        del sys.modules[name]


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(RegistryError) as caught:
        call()
    return str(caught.value)


def test_names_are_the_public_module_stems_and_nothing_is_imported(home: Home) -> None:
    for stem in ("wavelet", "causal", "_shared"):
        home.part(stem)
    home.write("broken", "raise RuntimeError('names() must not import this')")
    assert home.registry.names() == ["broken", "causal", "wavelet"]
    assert home.registry.names("w*") == ["wavelet"]
    assert home.loaded() == []


def test_get_imports_only_the_part_that_is_asked_for(home: Home) -> None:
    home.part("wavelet")
    home.write("broken", "raise RuntimeError('only wavelet is asked for')")
    assert home.registry.build("wavelet", 8, gain=2).gain == 2
    assert home.loaded() == [f"{home.name}.wavelet"]


def test_an_alias_finds_its_part(home: Home) -> None:
    home.part("causal", aliases=("causal3d", "magvit"))
    home.part("wavelet")
    assert home.registry.get("magvit") is home.registry.get("causal")
    assert home.registry.describe("magvit").name == "causal"
    assert home.registry.names() == ["causal", "wavelet"]


def test_unknown_name_gives_the_nearest_and_all(home: Home) -> None:
    home.part("wavelet")
    home.part("causal")
    message = "no part is called 'wavlet': did you mean 'wavelet'? choose from: causal, wavelet"
    assert refusal(lambda: home.registry.get("wavlet")) == message


def test_unknown_name_says_which_parts_could_not_be_searched(home: Home) -> None:
    home.part("flash", imports="import package_that_nobody_has")
    home.write("broken", "raise RuntimeError('at import')")
    assert "broken, flash can't be loaded here" in refusal(lambda: home.registry.get("fused"))


def test_a_module_must_register_its_own_name(home: Home) -> None:
    home.part("wavelet", name="wave")
    assert "wavelet must register part 'wavelet' and doesn't" in refusal(lambda: home.registry.get("wavelet"))


def test_a_taken_name_names_its_holder(home: Home) -> None:
    home.part("wavelet")
    holder = home.registry.get("wavelet")
    assert home.registry.register("wavelet")(holder) is holder  # a reloaded module registers again

    def usurp() -> None:
        home.registry.register("wavelet")(lambda: None)

    assert refusal(usurp) == f"part 'wavelet' is already registered by {home.name}.wavelet.Part"
    assert home.registry.get("wavelet") is holder


def test_an_alias_may_not_shadow_a_part_that_is_not_loaded_yet(home: Home) -> None:
    home.part("causal", aliases=("wavelet",))
    home.part("wavelet")
    message = f"part 'causal': the alias 'wavelet' is the name of {home.name}.wavelet"
    assert refusal(lambda: home.registry.get("causal")) == message


def test_a_missing_package_is_said_and_remembered(home: Home) -> None:
    home.part("flash", imports="import package_that_nobody_has")
    home.part("sdpa")
    expected = "part 'flash' needs package_that_nobody_has: pip install package_that_nobody_has"
    assert refusal(lambda: home.registry.get("flash")) == expected
    home.part("flash")
    assert refusal(lambda: home.registry.get("flash")) == expected  # remembered, not tried again
    assert home.registry.names() == ["flash", "sdpa"]
    assert home.registry.get("sdpa") is not None


def test_a_module_of_our_own_that_is_missing_is_a_bug_and_not_an_extra(home: Home) -> None:
    home.part("wavelet", imports=f"import {home.name}._haar")
    with pytest.raises(ModuleNotFoundError, match="_haar"):
        home.registry.get("wavelet")


def test_describe_and_summary(home: Home) -> None:
    home.part("wavelet")
    assert home.registry.summary("wavelet") == "The wavelet part, in one line."
    assert home.loaded() == []
    told = home.registry.describe("wavelet")
    assert (told.kind, told.summary, told.wiring) == ("part", "A real part.", ("dim",))
    assert [(knob.name, knob.type, knob.default) for knob in told.knobs] == [("gain", float, 1.0)]
    assert told.origin == f"{home.name}.wavelet.Part"


def test_summary_survives_a_broken_plugin(home: Home) -> None:
    home.plugin("gone", "acme_gone.blocks:Gone")
    home.write("garbled", "this is no python")
    assert [home.registry.summary(name) for name in home.registry.names()] == ["", ""]


def test_a_part_registered_by_hand_is_listed_and_described(home: Home) -> None:
    @home.registry.register("mine")
    def mine(dim: int, *, gain: float = 1.0) -> float:
        """Mine, from a notebook."""
        return dim * gain

    assert home.registry.names() == ["mine"]
    assert home.registry.summary("mine") == "Mine, from a notebook."
    assert home.registry.build("mine", 3, gain=2.0) == 6.0


def test_explicit_modules_replace_the_walk(home: Home) -> None:
    home.part("wavelet")
    home.write("helpers", "")
    registry: Registry[Any] = Registry("part", home.name, modules={"wavelet": f"{home.name}.wavelet"})
    assert registry.names() == ["wavelet"]


def test_a_plugin_adds_a_part_with_and_without_the_decorator(home: Home) -> None:
    (home.folder / "acme.py").write_text('"""Acme\'s part."""\n\n\ndef build(dim: int) -> int:\n    return dim + 1\n')
    home.plugin("acme", "acme:build")
    home.write("own", "")
    assert home.registry.names() == ["acme", "own"]
    assert home.registry.summary("acme") == "Acme's part."
    assert home.registry.build("acme", 1) == 2
    assert home.registry.describe("acme").origin == "acme.build"


def test_a_plugin_may_not_take_the_name_of_another_part(home: Home) -> None:
    home.part("wavelet")
    home.plugin("wavelet", "acme_wavelet:Part")
    importlib.import_module(f"{home.name}.wavelet")  # being loaded already must not hide the collision
    message = f"'wavelet' is claimed by {home.name}.wavelet and by plugin acme_wavelet:Part"
    assert message in refusal(lambda: home.registry.get("wavelet"))


def test_two_plugins_may_not_share_a_name(home: Home) -> None:
    home.plugin("fast", "acme_one:Part", distribution="acme-one")
    home.plugin("fast", "acme_two:Part", distribution="acme-two")
    assert "plugin acme_one:Part and by plugin acme_two:Part" in refusal(lambda: home.registry.get("fast"))


def test_a_missing_package_names_the_smallest_extra_that_brings_it(home: Home) -> None:
    (home.folder / "acme_lazy.py").write_text("import package_that_nobody_has\n")
    extras = {"dev": ["pytest", "ruff", "package-that-nobody-has>=2"], "fast": ["package-that-nobody-has>=2", "numpy"]}
    lines = [f"Requires-Dist: {need}; extra == {name!r}" for name, needs in extras.items() for need in needs]
    home.plugin("lazy", "acme_lazy", metadata="\n".join(["Requires-Dist: torch", *lines]) + "\n")
    assert refusal(lambda: home.registry.get("lazy")).endswith("pip install 'acme-parts[fast]'")
