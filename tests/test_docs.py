"""What the documents say is so: commands parse, examples run, links lead somewhere, tables are the records'."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ptybench
from ptybench.cli import EXAMPLES, make_app
from ptybench.cli.options import parse_settings, split_names
from ptybench.cli.run import OnTasks, run
from ptybench.cli.settings import sort_settings
from ptybench.io.layout import parse_manifest
from ptybench.registry import load_task, method_names, task_names
from ptybench.scoring.metrics import METRICS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path: Path, language: str = "") -> list[str]:
    """The fenced blocks of a document in one language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for tongue, text in fenced if tongue == language]


def commands(path: Path) -> list[list[str]]:
    """Every ``ptybench …`` command of a document, in blocks and between backticks, as words."""
    lines = [line for block in blocks(path) for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`(ptybench \w+ [^`]+)`", prose)
    return [shlex.split(line, comments=True)[1:] for line in [*lines, *inline] if line.startswith("ptybench ")]


SCRIPTS = {"benchmarks.md", "cuda.md", "performance.md"}
"""Documents about commands that are scripts."""


def test_there_are_commands_to_look_at() -> None:
    assert all(len(commands(path)) > 1 for path in DOCUMENTS if path.name not in SCRIPTS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_scripts_are_where_documents_say(path: Path) -> None:
    named = re.findall(r"(?:python|bash) ((?:benchmarks|docs|\.ci)/[\w./]+)", path.read_text(encoding="utf-8"))
    assert named or path.name not in SCRIPTS
    assert all((ROOT / script).is_file() for script in named)


def understand(words: list[str]) -> None:
    """Let the command line parse a command, and sort what it sets of registered tasks and methods."""
    command, bound, _ = make_app().parse_args(words, exit_on_error=False, print_error=False)
    if command is not run or "reconstruction" not in bound.arguments:
        return
    asked, tasks = bound.arguments["reconstruction"], bound.arguments.get("on_tasks", OnTasks()).task
    for name in set(split_names(tasks)) & set(task_names()):
        for method in set(split_names(asked.method)) & {*method_names(), "epie>rpie"}:
            sort_settings(parse_settings(asked.set_), load_task(name), method)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_are_understood(path: Path) -> None:
    for words in commands(path):
        understand(words)


def test_examples_of_the_help_are_understood() -> None:
    for line in "\n".join(EXAMPLES.values()).splitlines():
        understand(shlex.split(line)[1:])


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md"], ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_the_two_commands_are_the_first_and_ci_runs_the_second() -> None:
    run, test = (block.strip() for block in blocks(ROOT / "README.md")[:2])
    assert run.count("\n") == test.count("\n") == 0
    assert run.endswith(".venv/bin/ptybench run --task low_overlap --method pine")
    assert test.endswith(".venv/bin/pytest")
    ci = (ROOT / ".ci" / "run").read_text()
    for line, target in ((run, "-e ."), (test, '-e ".[test]"')):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install ")
        assert f"pip install {target} -c constraints.txt" in line
    assert '-e ".[test]" -c constraints.txt' in ci
    assert '"$bin/pytest"' in ci
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().split()


def test_boards_are_those_of_the_published_records() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    script = runpy.run_path(str(ROOT / "docs" / "update_readme.py"))
    assert script["BOARD"].search(text)
    assert script["updated"](text) == text


def test_metrics_in_the_documents_exist() -> None:
    named = re.findall(
        r"`((?:cpcc|nrmse|frc|probe|position|distance|r|deviance)_\w+)`", (ROOT / "docs/scoring.md").read_text()
    )
    assert named
    assert set(named) <= set(METRICS)


def test_manifests_in_the_documents_are_valid() -> None:
    near_field, whole = (parse_manifest(block, "docs") for block in blocks(ROOT / "docs/real-data.md", "toml"))
    assert near_field.geometry.propagation == "near_field"
    assert whole.patterns.key == "patterns"


def test_entry_points_in_the_documents_are_toml() -> None:
    (block,) = blocks(ROOT / "docs/plugins.md", "toml")
    assert set(tomllib.loads(block)["project"]["entry-points"]) == {"ptybench.methods", "ptybench.tasks"}


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    (code,) = blocks(ROOT / "README.md", "python")
    few = code.replace("epochs=20", "epochs=1")
    done = subprocess.run(
        [sys.executable, "-c", few], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout) < 1
    assert list((tmp_path / "runs").rglob("record.json"))


@pytest.mark.slow
def test_the_example_of_a_plugin_is_short_and_keeps_the_contract(tmp_path: Path) -> None:
    (code,) = blocks(ROOT / "docs/plugins.md", "python")
    assert len(code.splitlines()) < 40
    (tmp_path / "descent.py").write_text(code)
    command = [sys.executable, "-P", "-m", "ptybench", "check", str(tmp_path / "descent.py"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    checks = {one["check"]: one["verdict"] for one in json.loads(done.stdout)["checks"]}
    assert "failed" not in checks.values()
    assert done.returncode == 0
    assert checks["beats_the_initial_guess"] == "passed"


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {project['version']}\n" in citation
    assert project["version"] == ptybench.__version__
    assert f"license: {project['license']}\n" in citation
    assert re.search(
        r"^## \[(Unreleased|" + re.escape(project["version"]) + r")\]", (ROOT / "CHANGELOG.md").read_text(), re.M
    )


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    there = {f"ptybench.{path.parent.name}" for path in (ROOT / "ptybench").glob("*/__init__.py")}
    assert there <= set(listed)
