"""Names, plug-ins and their errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from ptybench import registry
from ptybench.errors import DuplicateName, InvalidData, UnknownName

PLUGIN = '''
from ptybench.solver import Solver


class Nothing(Solver):
    """Returns what it was given."""

    name = "NAME"

    def epoch(self):
        return 0.0
'''


@pytest.fixture(autouse=True)
def _no_plugins_stay() -> Iterator[None]:
    kept = [(names, dict(names)) for names in (registry._plugins, registry._task_plugins)]
    yield
    for names, before in kept:
        names.clear()
        names.update(before)


def write(folder: Path, name: str, file: str = "mine.py") -> Path:
    path = folder / file
    path.write_text(PLUGIN.replace("NAME", name))
    return path


def test_the_projects_methods_are_listed_with_a_sentence() -> None:
    listed = {item.name: item.title for item in registry.list_methods()}
    assert {"epie", "rpie", "oracle", "initial_guess"} <= set(listed)
    assert all(listed[name] for name in ("epie", "rpie", "oracle", "initial_guess"))


def test_listings_do_not_import_torch() -> None:
    code = (
        "import sys; from ptybench import registry as r; r.list_methods(); r.list_tasks(); r.list_datasets(); "
        "r.list_metrics(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_plugin_file_brings_a_method(tmp_path: Path) -> None:
    assert registry.add_plugin(write(tmp_path, "nothing")) == ["nothing"]
    assert registry.load_method("nothing").__name__ == "Nothing"
    assert "nothing" in registry.method_names()
    assert registry.plugin_paths() == [tmp_path / "mine.py"]
    registry.add_plugin(tmp_path / "mine.py")  # the same file again is no error


def test_duplicate_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DuplicateName, match=r"'epie' is already defined by ptybench\.baselines\.epie"):
        registry.add_plugin(write(tmp_path, "epie"))
    registry.add_plugin(write(tmp_path, "nothing"))
    with pytest.raises(DuplicateName, match="already defined by"):
        registry.add_plugin(write(tmp_path, "nothing", "other.py"))


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = ", "is not Python"), ("x = 1", "holds no method"), (PLUGIN + "\nraise OSError('no')", "cannot be imported")],
)
def test_bad_plugins_say_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(text.replace("NAME", "bad"))

    def load() -> None:
        for name in registry.add_plugin(path):
            registry.load_method(name)

    with pytest.raises(InvalidData, match=message):
        load()


def test_plugins_bring_tasks(tmp_path: Path) -> None:
    text = (resources.files("ptybench.tasks") / "low_dose.toml").read_text().replace('"low_dose"', '"my_dose"')
    (tmp_path / "dose.toml").write_text(text)
    (tmp_path / "mine.py").write_text('TASKS = ["dose.toml"]\n' + PLUGIN.replace("NAME", "nothing"))
    assert registry.add_plugin(tmp_path / "mine.py") == ["nothing", "my_dose"]
    assert registry.load_task("my_dose").dose == registry.load_task("low_dose").dose
    assert "my_dose" in registry.task_names()
    assert registry.add_plugin(tmp_path / "dose.toml") == ["my_dose"]
    (tmp_path / "again.toml").write_text(text)
    with pytest.raises(DuplicateName, match="'my_dose' is already defined"):
        registry.add_plugin(tmp_path / "again.toml")


def test_missing_plugin(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="cannot read the plug-in"):
        registry.add_plugin(tmp_path / "none.py")


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'low_overlap'"):
        registry.load_task("low_overlp")
    with pytest.raises(UnknownName, match="did you mean 'rpie'"):
        registry.load_method("rpi")
    with pytest.raises(UnknownName, match="unknown tier 'tiny'"):
        registry.load_task("low_overlap", "tiny")  # type: ignore[arg-type]
