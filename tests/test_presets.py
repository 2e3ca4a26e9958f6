"""Presets: written and read back whole, found by method, task and tier, stale where they belong to another version."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import warnings
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from ptybench.cli import main
from ptybench.errors import InvalidData, UnknownName
from ptybench.presets import (
    Preset,
    PresetWarning,
    Sampler,
    TuningBudget,
    list_presets,
    load_preset,
    preset_folder,
    preset_options,
    preset_path,
    read_preset,
    write_preset,
)
from ptybench.registry import load_task, resolve_method
from ptybench.runner.provenance import provenance
from ptybench.runner.summary import changed
from ptybench.scoring.metrics import METRICS
from ptybench.tuning.study import FIRST_SEED

ROOT = Path(__file__).resolve().parents[1]


def preset(method: str = "epie", task: str = "low_dose", **more: Any) -> Preset:
    fields: dict[str, Any] = {
        "task": task,
        "task_version": load_task(task).version,
        "method": method,
        "method_version": "1",
        "options": {"alpha": 0.3},
        "changed": {"alpha": 0.3},
        "budget": TuningBudget(trials=20, seeds=[1000, 1001], epochs=200, tier=more.pop("tier", "small"), point=1e4),
        "sampler": Sampler(name="tpe", version="optuna 5.0.0", seed=7, space={"alpha": {"kind": "float"}}),
        "metric": "frc_truth_area",
        "direction": "higher",
        "default_value": 0.4,
        "value": 0.5,
        "trial": 3,
        "values": [0.4, None, 0.45, 0.5],
        "provenance": provenance(),
        "created": "2026-01-01T00:00:00+00:00",
    }
    return Preset.model_validate(fields | more)


def test_a_preset_is_read_back_whole_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = write_preset(preset(), tmp_path)
    assert path == tmp_path / "low_dose" / "epie.json"
    assert read_preset(path) == preset() == load_preset("epie", "low_dose", folder=tmp_path)
    assert [p.name for p in path.parent.iterdir()] == ["epie.json"]
    document = json.loads(path.read_text())
    assert document["schema"] == "ptybench.preset/1"
    assert len(path.read_text().splitlines()) == len(document) + 2  # one line a field


def test_names_that_no_file_may_have_are_made_safe_and_not_mixed_up(tmp_path: Path) -> None:
    for name in ("epie>rpie", "epie+xcorr", "admm:poisson"):
        write_preset(preset(name), tmp_path)
        found = load_preset(name, "low_dose", folder=tmp_path)
        assert found is not None
        assert found.method == name
    assert load_preset("epie-to-rpie", "low_dose", folder=tmp_path) is None  # the same file, another method
    assert [one.method for one in list_presets("low_dose", folder=tmp_path)] == [
        "admm:poisson", "epie>rpie", "epie+xcorr"
    ]  # fmt: skip


def test_a_tier_has_its_own_or_that_of_small(tmp_path: Path) -> None:
    write_preset(preset(), tmp_path)
    small = load_preset("epie", "low_dose", "paper", folder=tmp_path)
    assert small is not None
    assert small.budget.tier == "small"
    write_preset(preset(tier="paper"), tmp_path)
    paper = load_preset("epie", "low_dose", "paper", folder=tmp_path)
    assert paper is not None
    assert paper.budget.tier == "paper"
    assert load_preset("epie", "low_dose", folder=tmp_path) == preset()
    assert preset_path("epie", "low_dose", "paper", tmp_path).name == "epie.paper.json"


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert load_preset("epie", "low_dose", folder=tmp_path) is None
    assert preset_options("epie", "low_dose", folder=tmp_path) is None
    assert list(list_presets(folder=tmp_path / "nowhere")) == []


def test_options_make_the_method_and_are_a_copy(tmp_path: Path) -> None:
    write_preset(preset(method_version=resolve_method("epie").version), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = preset_options("epie", "low_dose", folder=tmp_path)
    assert options is not None
    assert resolve_method("epie", options).options["alpha"] == 0.3
    options["alpha"] = 9.0
    assert preset_options("epie", "low_dose", folder=tmp_path) == {"alpha": 0.3}


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ({"method_version": "0"}, "version 0 of epie"),
        ({"task_version": 99}, "version 99 of low_dose"),
        ({"method_version": "0", "task_version": 99}, "version 0 of epie and version 99 of low_dose"),
    ],
)
def test_another_version_is_stale_and_said_to_be(tmp_path: Path, then: dict[str, Any], words: str) -> None:
    fields = {"method_version": resolve_method("epie").version} | then
    write_preset(preset(**fields), tmp_path)
    with pytest.warns(PresetWarning, match=words):
        assert preset_options("epie", "low_dose", folder=tmp_path) == {"alpha": 0.3}
    with pytest.warns(PresetWarning, match="ptybench tune --task low_dose --method 'epie'"):
        preset_options("epie", "low_dose", method_version="2", folder=tmp_path)


def test_a_file_that_is_no_preset_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "low_dose" / "epie.json"
    path.parent.mkdir()
    for text in ("{", "[]", '{"schema": "ptybench.record/1"}', '{"schema": "ptybench.preset/1", "task": "x"}'):
        path.write_text(text)
        with pytest.raises(InvalidData, match="run `ptybench tune` again") as caught:
            load_preset("epie", "low_dose", folder=tmp_path)
        assert "\n" not in str(caught.value)
    write_preset(preset("epei"), tmp_path)
    with pytest.raises(UnknownName):
        preset_options("epei", "low_dose", folder=tmp_path)


def test_reading_presets_needs_no_torch() -> None:
    code = "import sys, ptybench.presets as p; list(p.list_presets()); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_presets_are_shipped_with_the_package() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert "presets/**/*.json" in data["ptybench.baselines"]
    assert preset_folder() == Path(str(files("ptybench.baselines"))) / "presets"


def test_the_presets_of_the_project_are_what_they_say() -> None:
    for one in list_presets():
        task = load_task(one.task, "small" if one.budget.tier == "small" else "paper")
        assert (one.metric, one.direction) == (task.primary_metric, METRICS[task.primary_metric].direction)
        assert (one.domain, min(one.budget.seeds) >= FIRST_SEED) == ("dev", True)
        assert len(one.values) == one.budget.trials
        resolved = resolve_method(one.method, one.options)
        if one.stale(resolved.version, task.version) is None:
            assert resolved.options == one.options
            assert one.changed == changed(one.options, resolve_method(one.method).options)
        if one.value is not None and one.default_value is not None:
            assert (one.value >= one.default_value) if one.direction == "higher" else (one.value <= one.default_value)


def test_info_of_a_method_says_which_presets_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr("ptybench.presets.preset_folder", lambda: tmp_path)
    assert main(["info", "epie", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["presets"] == []
    version = resolve_method("epie").version
    write_preset(preset(method_version=version), tmp_path)
    write_preset(preset(task="low_overlap", method_version=version, changed={}, trial=0), tmp_path)
    write_preset(preset(task="noisy_poisson", method_version="0"), tmp_path)
    assert main(["info", "epie"]) == 0
    said = capfd.readouterr().out
    assert "alpha=0.3" in said
    assert "the defaults" in said
    assert "frc_truth_area 0.4000 → 0.5000" in said
    assert "stale" in said
    assert main(["info", "epie", "--json"]) == 0
    assert [one["task"] for one in json.loads(capfd.readouterr().out)["presets"]] == [
        "low_dose", "low_overlap", "noisy_poisson"
    ]  # fmt: skip
