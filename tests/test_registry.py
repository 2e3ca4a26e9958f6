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


@pytest.mark.parametrize("tasks", ["5", "'mine.toml'", "[name for name in ()]", "[5]"])
def test_tasks_of_a_plugin_that_are_no_plain_list_are_refused(tmp_path: Path, tasks: str) -> None:
    path = write(tmp_path, "nothing")
    path.write_text(f"TASKS = {tasks}\n{path.read_text()}")
    with pytest.raises(InvalidData, match="plain list"):
        registry.add_plugin(path)


def test_a_plugin_that_exits_on_import_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "leaver", "leaver.py")
    path.write_text(f"raise SystemExit(3)\n{path.read_text()}")
    registry.add_plugin(path)
    with pytest.raises(InvalidData, match="cannot be imported"):
        registry.load_method("leaver")


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, **points: str) -> Path:
    """Make a package importable, with the entry points ``group=value`` under the name of the package."""
    (folder / package).mkdir()
    (folder / package / "__init__.py").touch()
    info = folder / f"{package}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
    lines = [f"[ptybench.{group}]\n{package} = {value}\n" for group, value in points.items()]
    (info / "entry_points.txt").write_text("".join(lines))
    monkeypatch.syspath_prepend(folder)
    return folder / package


@pytest.mark.parametrize("value", ["broken_methods.ghost:Ghost", "broken_methods:Nope"])
def test_a_broken_installed_method_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    install(tmp_path, monkeypatch, "broken_methods", methods=value)
    with pytest.raises(InvalidData, match="broken_methods"):
        registry.load_method("broken_methods")


def test_broken_installed_tasks_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "broken_tasks", tasks="broken_tasks.ghost")
    with pytest.raises(InvalidData, match="uninstall"):
        registry.list_tasks()


def test_installed_tasks_that_are_no_toml_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = install(tmp_path, monkeypatch, "odd_tasks", tasks="odd_tasks")
    (folder / "odd.toml").write_text("hello")
    with pytest.raises(InvalidData, match="not TOML"):
        registry.list_tasks()


def test_an_installed_task_cannot_hide_behind_a_name_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = install(tmp_path, monkeypatch, "twin_tasks", tasks="twin_tasks")
    ours = resources.files("ptybench.tasks").joinpath("low_dose.toml").read_text(encoding="utf-8")
    (folder / "low_dose.toml").write_text(ours, encoding="utf-8")
    with pytest.raises(DuplicateName, match="twin_tasks"):
        registry.load_task("low_dose")
