"""Tuning: what is tried, that it is kept, that failures stop nothing, and that the outcome is the search's alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptybench import registry
from ptybench.cli import main
from ptybench.cli.grids import grid_points, parse_grid
from ptybench.cli.studies import StudyLine
from ptybench.errors import InvalidOption, UnknownName, UsageError
from ptybench.presets import load_preset, preset_path
from ptybench.records import Store
from ptybench.runner.provenance import provenance
from ptybench.runner.run import run
from ptybench.specs import Tunable
from ptybench.tuning.journal import Journal
from ptybench.tuning.search import EVEN_TRIALS, suggest
from ptybench.tuning.space import Dimension, space_of
from ptybench.tuning.study import Study, Trial, make_study
from ptybench.tuning.tune import Tuned, _standing, make_preset, tune

METHODS = Path(__file__).with_name("tunable_methods.py")
TASK = """
name = "tiny"
title = "A tiny task for tests"
asks = "?"
source = "none"
primary_metric = "{metric}"
specimen = {{ kind = "particles", diameter_m = [1e-7, 1e-6], coverage = 0.8 }}
probe = {{ kind = "aperture", numerical_aperture = 9e-4, softness = 0.3, defocus_m = 3.67e-4 }}
scan = {{ kind = "jittered_raster", overlap = 0.5, field_of_view_px = [36, 36] }}
geometry = {{ distance_m = 1.0, shape = [64, 64], oversampling = 1 }}
dose = {{ photons = 1e6 }}
budget = {{ epochs = 2 }}

[ladder]
name = "photons"
field = "dose.photons"
values = [1e3, 1e6]
"""


@pytest.fixture(autouse=True)
def _plugins() -> Iterator[None]:
    before = dict(registry._plugins)
    registry.add_plugin(METHODS)
    yield
    registry._plugins.clear()
    registry._plugins.update(before)


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A tiny task whose metric is the error of the positions, which are exact from the start."""
    path = tmp_path / "tiny.toml"
    path.write_text(TASK.format(metric="position_error_median_px"))
    return path


def study(task: Path, method: str = "dial", **more: Any) -> Study:
    return make_study(task, method, **({"seeds": [1000], "device": "cpu", "epochs": 1, "trials": 3} | more))


def tuned(found: Study, tmp_path: Path, **more: Any) -> Tuned:
    (one,) = tune([found], results=tmp_path / "runs", out=tmp_path / "presets", **more)
    return one


def same(a: Any, b: Any) -> bool:
    """Whether two presets differ in nothing but when and by what they were made."""
    made = {"created", "provenance", "other_code"}
    return bool(a.model_dump(exclude=made) == b.model_dump(exclude=made))


# --- the search ------------------------------------------------------------------------------------------------------

SPACE = {
    "a": Dimension("float", 0.01, 1.0, log=True),
    "b": Dimension("float", 0.0, 2.0),
    "n": Dimension("int", 1, 4),
    "c": Dimension("choice", choices=("x", "y")),
}


def search(space: dict[str, Dimension], value: Any, trials: int, seed: int, direction: Any = "higher") -> list[Any]:
    tried: list[Any] = []
    for _ in range(trials):
        settings = suggest(space, tried, direction, seed)
        tried.append((settings, value(settings)))
    return tried


def bowl(settings: dict[str, Any]) -> float:
    """Best, 0, at a = 0.1, b = 1.5, n = 3, c = y."""
    distance = (np.log10(settings["a"]) + 1) ** 2 + (settings["b"] - 1.5) ** 2
    return float(-distance - 0.3 * abs(settings["n"] - 3) - 0.3 * (settings["c"] == "x"))


def test_the_search_finds_a_maximum_and_beats_chance() -> None:
    chance = np.random.default_rng(0)
    for seed in range(3):
        best = max(value for _, value in search(SPACE, bowl, 40, seed))
        drawn = [bowl({key: one.at(chance.random()) for key, one in SPACE.items()}) for _ in range(400)]
        assert best > np.quantile(drawn, 0.99)  # the best of 40 draws reaches that in one of three searches


def test_the_direction_turns_the_search_round() -> None:
    up = search(SPACE, bowl, 14, 1)
    down = search(SPACE, lambda settings: -bowl(settings), 14, 1, "lower")
    assert [settings for settings, _ in up] == [settings for settings, _ in down]


def test_the_next_trial_depends_on_what_was_tried_and_nothing_else() -> None:
    whole = search(SPACE, bowl, 14, 7)
    for number in (1, EVEN_TRIALS, 13):
        assert suggest(SPACE, whole[:number], "higher", 7) == whole[number][0]
    assert suggest(SPACE, whole[:13], "higher", 8) != whole[13][0]
    worse = [(settings, None if number % 2 else value) for number, (settings, value) in enumerate(whole)]
    assert suggest(SPACE, worse, "higher", 7) != suggest(SPACE, whole, "higher", 7)


def test_failures_count_as_the_worst_value() -> None:
    failing = [(s, None if s["b"] > 1 else 1.0) for s, _ in search(SPACE, bowl, 20, 3)]
    valued = [(s, -1e9 if value is None else value) for s, value in failing]
    drawn = [suggest(SPACE, failing, "higher", seed)["b"] for seed in range(12)]
    assert np.mean([b > 1 for b in drawn]) < 0.5 < np.mean([s["b"] < 1.2 for s, _ in failing]) + 0.2
    assert [suggest(SPACE, valued, "higher", seed)["b"] for seed in range(12)] == drawn


def test_the_even_trials_fill_every_half_of_the_range() -> None:
    tried = search({"x": Dimension("float", 0.0, 1.0)}, lambda s: 0.0, EVEN_TRIALS, 5)
    halves = np.histogram([s["x"] for s, _ in tried[1:]], bins=4, range=(0, 1))[0]
    assert halves.min() >= 1


@given(st.floats(0, 1, exclude_max=True), st.integers(-3, 3), st.floats(0.01, 5))
@settings(deadline=None)
def test_suggestions_lie_in_the_range(share: float, low: int, width: float) -> None:
    for dimension in (
        Dimension("float", low, low + width),
        Dimension("float", width, width * 7, log=True),
        Dimension("int", low, low + 3),
        Dimension("choice", choices=("a", True, 3)),
    ):
        assert dimension.holds(dimension.rounded(dimension.at(share)))
    assert Dimension("int", 1, 100, log=True).holds(Dimension("int", 1, 100, log=True).at(share))


def test_numbers_are_rounded_as_people_write_them() -> None:
    assert Dimension("float", 0.0, 1.0).rounded(0.123456) == 0.123
    assert Dimension("float", 0.12345, 1.0).rounded(0.1234) == 0.12345
    assert Dimension("int", 1, 9).rounded(7) == 7


def test_the_space_is_what_the_methods_declare() -> None:
    assert space_of("plain", registry.resolve_method("plain").options) == {}
    wide = space_of("wide", registry.resolve_method("wide").options)
    assert wide["x"] == Dimension("float", 0.05, 1.0, log=True)
    assert wide["n"].kind == "int"
    assert wide["flag"].choices == (False, True)
    chain = registry.resolve_method("epie>rpie")
    keys = set(space_of("epie>rpie", chain.options))
    assert keys == {f"1.{key}" for key in registry.option_space("epie")} | {
        f"2.{key}" for key in registry.option_space("rpie")
    }
    assert keys <= set(chain.options)
    with pytest.raises(InvalidOption, match="low below high"):
        Dimension.of("x", Tunable(1.0, 1.0), 1.0)


def test_every_method_of_ours_declares_a_space_that_can_be_tried() -> None:
    for name in registry.method_names():
        defaults = registry.resolve_method(name).options
        for key, dimension in space_of(name, defaults).items():
            for share in (0.0, 0.5, 0.999):
                registry.resolve_method(name, {key: dimension.rounded(dimension.at(share))})
            assert dimension.holds(dimension.rounded(dimension.at(0.3))), (name, key)


# --- a study ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"seeds": [0, 1]}, InvalidOption, "seeds from 1000 on"),
        ({"seeds": [1000, 999]}, InvalidOption, "seeds from 1000 on"),
        ({"seeds": []}, InvalidOption, "seeds from 1000 on"),
        ({"method": "oracle"}, InvalidOption, "is a control"),
        ({"method": "initial_guess"}, InvalidOption, "is a control"),
        ({"method": "dail"}, UnknownName, "did you mean 'dial'"),
        ({"trials": 0}, InvalidOption, "at least 1"),
        ({"epochs": 0}, InvalidOption, "at least 1"),
        ({"grid": [{"x": 0.1}]}, InvalidOption, "leave out --trials"),
        ({"grid": [{"y": 0.1}], "trials": None}, UnknownName, "option of dial"),
        ({"grid": [{"x": 7.0}], "trials": None}, InvalidOption, "x"),
    ],
)
def test_wrong_use_is_one_sentence(task: Path, wrong: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        study(task, **wrong)
    assert "\n" not in str(caught.value)


def test_objects_are_of_the_domain_dev_and_there_is_no_way_to_say_otherwise(task: Path, capsys: Any) -> None:
    found = study(task)
    assert found.plan(1000, {}).cell.domain == "dev"
    assert main(["tune", "--task", str(task), "--method", "dial", "--domain", "release"]) == 2
    assert "--domain" in capsys.readouterr().err
    assert main(["tune", "--task", str(task), "--method", "dial", "--seeds", "0-1"]) == 2
    assert "seeds from 1000 on" in capsys.readouterr().err


def test_a_study_is_another_where_its_trials_would_have_other_values(task: Path) -> None:
    base = study(task)
    others = [study(task, **more) for more in ({"seeds": [1001]}, {"epochs": 2}, {"point": 1e3}, {"method": "wide"})]
    others.append(study(task, trials=None, grid=[{"x": 0.5}]))
    assert len({one.key for one in [base, *others]}) == 6
    more = study(task, trials=30)  # goes on where fewer ended
    assert (more.key, more.sampler_seed) == (base.key, base.sampler_seed)


# --- tuning ----------------------------------------------------------------------------------------------------------


def test_the_best_options_are_found_and_the_defaults_are_tried_first(task: Path, tmp_path: Path) -> None:
    done = tuned(study(task, trials=16), tmp_path)
    preset = done.preset
    assert preset is not None
    assert [trial.settings for trial in done.trials[:1]] == [{}]
    # a median of |x − 0.3| in random directions, translation removed: nearly |x − 0.3|
    assert preset.default_value == pytest.approx(0.6, rel=0.2)
    assert preset.options["x"] == pytest.approx(0.3, abs=0.05)
    assert preset.changed == {"x": preset.options["x"]}
    assert preset.value == min(value for value in preset.values if value is not None) == preset.values[preset.trial]
    for trial in done.trials[1:]:
        assert trial.value == pytest.approx(abs(trial.settings["x"] - 0.3) * preset.default_value / 0.6, rel=0.02)
    assert (preset.domain, preset.budget.trials, preset.budget.seeds, preset.budget.epochs) == ("dev", 16, [1000], 1)
    assert (preset.direction, preset.metric) == ("lower", "position_error_median_px")
    assert load_preset("dial", "tiny", folder=tmp_path / "presets") == preset


def test_tuned_is_never_worse_than_default(task: Path, tmp_path: Path) -> None:
    done = tuned(study(task, trials=None, grid=[{"x": 1.0}, {"x": 0.95}, {"x": 0.9}]), tmp_path)
    assert done.preset is not None
    assert [trial.settings for trial in done.trials] == [{}, {"x": 1.0}, {"x": 0.95}]  # 0.9 is the default
    assert (done.preset.trial, done.preset.changed) == (0, {})
    assert done.preset.value == done.preset.default_value
    assert done.preset.sampler.space == {"x": [1.0, 0.95]}


def test_the_value_of_a_trial_is_the_mean_of_what_the_runner_scores(tmp_path: Path) -> None:
    task = tmp_path / "tiny.toml"
    task.write_text(TASK.format(metric="frc_truth_area"))
    done = tuned(study(task, "epie", trials=2, seeds=[1000, 1001], epochs=3), tmp_path)
    for trial in done.trials:
        for seed, value in zip((1000, 1001), trial.values, strict=True):
            record = run(
                task=task, method="epie", seed=seed, domain="dev", epochs=3, device="cpu", report=False,
                options=trial.settings, results=tmp_path / "runs",
            )  # fmt: skip
            assert record.metrics["frc_truth_area"] == value
        assert trial.value == np.mean(trial.values)


def test_the_same_command_makes_the_same_preset(task: Path, tmp_path: Path) -> None:
    presets = [tuned(study(task, trials=11), tmp_path / place).preset for place in ("a", "b")]
    assert presets[0] is not None
    assert same(presets[0], presets[1])
    other = tuned(study(task, trials=11, seeds=[1001]), tmp_path / "c").preset
    assert other is not None
    assert other.options["x"] != presets[0].options["x"]


def test_one_way_to_fail_after_the_other_stops_nothing(task: Path, tmp_path: Path) -> None:
    faults = ["nan", "raise", "crash", "shape", "hang", "none"]
    grid = [{"fault": fault, "x": 0.4} for fault in faults]
    done = tuned(study(task, "treacherous", trials=None, grid=grid), tmp_path, timeout=15.0)
    status = {trial.settings.get("fault", "default"): trial.status for trial in done.trials}
    assert status == {
        "default": "ok", "nan": "diverged", "raise": "error", "crash": "error", "shape": "error", "hang": "timeout",
        "none": "ok",
    }  # fmt: skip
    assert all((trial.value is None) == (trial.status != "ok") for trial in done.trials)
    assert all((trial.error is None) == (trial.status == "ok") for trial in done.trials)
    assert done.preset is not None
    assert done.preset.changed == {"x": 0.4}


def test_a_failure_on_one_object_fails_the_trial(task: Path, tmp_path: Path) -> None:
    done = tuned(study(task, "hopeless", seeds=[1000, 1001], trials=2), tmp_path)
    assert [trial.values for trial in done.trials] == [[], []]
    assert done.preset is not None
    assert (done.preset.value, done.preset.changed, done.preset.values) == (None, {}, [None, None])


def test_a_method_that_refuses_the_task_has_no_preset_and_stops_no_other(task: Path, tmp_path: Path) -> None:
    studies = [study(task, name, trials=2) for name in ("picky", "dial")]
    picky, dial = tune(studies, results=tmp_path / "runs", out=tmp_path / "presets")
    assert picky.preset is None
    assert "expected a near field" in str(picky.refused)
    assert dial.preset is not None


def test_nothing_to_tune_is_said(task: Path, tmp_path: Path) -> None:
    done = tuned(study(task, "plain"), tmp_path)
    assert done.preset is not None
    assert (done.preset.budget.trials, done.preset.sampler.name, done.preset.changed) == (0, "none", {})
    assert done.path is not None
    before = done.path.read_bytes()
    tuned(study(task, "plain"), tmp_path)
    assert done.path.read_bytes() == before


def test_a_default_outside_the_range_is_tried_all_the_same(task: Path, tmp_path: Path) -> None:
    done = tuned(study(task, "wide", trials=10), tmp_path)
    assert done.preset is not None
    assert done.preset.default_value == pytest.approx(6.7, rel=0.2)
    assert done.preset.options["x"] <= 1.0


def test_options_that_were_tried_are_not_run_again_but_count(task: Path, tmp_path: Path) -> None:
    known = study(task, trials=None, grid=[{"x": 0.5}])
    double = replace(known, grid=[{}, {"x": 0.5}, {"x": 0.9}], trials=3)
    done = tuned(double, tmp_path)
    assert [trial.same_as for trial in done.trials] == [None, None, 0]
    assert done.trials[2].value == done.trials[0].value


# --- kept on disk ----------------------------------------------------------------------------------------------------


def test_finished_trials_are_not_run_again_and_more_can_follow(task: Path, tmp_path: Path) -> None:
    first = tuned(study(task, trials=9), tmp_path)
    assert first.path is not None
    text = first.path.read_bytes()
    again = tuned(study(task, trials=9), tmp_path)
    assert (again.resumed, list(again.trials)) == (9, list(first.trials))
    assert first.path.read_bytes() == text
    more = tuned(study(task, trials=11), tmp_path)
    assert (more.resumed, list(more.trials[:9])) == (9, list(first.trials))
    whole = tuned(study(task, trials=11), tmp_path / "whole")
    assert more.preset is not None
    assert same(more.preset, whole.preset)
    fewer = tuned(study(task, trials=4), tmp_path)
    assert len(fewer.trials) == 4
    assert tuned(study(task, trials=4), tmp_path, force=True).resumed == 0


def test_trials_are_no_records(task: Path, tmp_path: Path) -> None:
    tuned(study(task), tmp_path)
    assert list(Store(tmp_path / "runs").records()) == []


@pytest.mark.parametrize("cut", [1, 40])
def test_a_torn_last_line_is_cut_off(task: Path, tmp_path: Path, cut: int) -> None:
    whole = tuned(study(task, trials=5), tmp_path)
    path = tmp_path / "runs" / study(task).place
    text = path.read_bytes()
    path.write_bytes(text[:-cut])
    with Journal(study(task), tmp_path / "runs", provenance()) as journal:
        assert journal.trials == list(whole.trials[:4])
    assert path.read_bytes() == b"".join(text.splitlines(keepends=True)[:-1])
    assert same(tuned(study(task, trials=5), tmp_path).preset, whole.preset)


def test_two_processes_do_not_mix_their_trials(task: Path, tmp_path: Path) -> None:
    with Journal(study(task), tmp_path / "runs", provenance()):
        done = tuned(study(task), tmp_path)
    assert done.preset is None
    assert "another process is tuning tiny" in str(done.refused)


def test_trials_of_other_code_are_counted(task: Path) -> None:
    begun = provenance()
    trials = [Trial(trial=i, settings={}, value=1.0, code_hash=sha) for i, sha in enumerate([begun.code_hash, "0"])]
    assert make_preset(study(task), trials, begun).other_code == 1


def command(task: Path, place: Path, *more: str) -> list[str]:
    words = ["tune", "--task", str(task), "--method", "dial", "--trials", "11", "--epochs", "1", "--seeds", "1000"]
    words += ["--plugin", str(METHODS), "--out", str(place / "presets"), "--results", str(place / "runs")]
    return [sys.executable, "-P", "-m", "ptybench", *words, *more]


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT]
)
def test_a_search_that_was_killed_goes_on_to_the_same_preset(
    task: Path, tmp_path: Path, number: signal.Signals
) -> None:
    def restore() -> None:  # a shell's background job ignores Ctrl-C, and so would its children
        signal.signal(signal.SIGINT, signal.default_int_handler)

    journal = tmp_path / "runs" / study(task).place
    with subprocess.Popen(
        command(task, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=restore
    ) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (journal.exists() and journal.read_bytes().count(b"\n") > 3):
            time.sleep(0.02)
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if number != signal.SIGKILL else -signal.SIGKILL)
    assert "Traceback" not in said
    kept = journal.read_bytes().count(b"\n") - 1
    assert 3 <= kept < 11
    assert not preset_path("dial", "tiny", folder=tmp_path / "presets").exists()

    done = subprocess.run(command(task, tmp_path, "--json"), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["studies"]
    assert found["resumed"] >= 3
    whole = tuned(study(task, trials=11), tmp_path / "whole").preset
    assert same(load_preset("dial", "tiny", folder=tmp_path / "presets"), whole)


def test_studies_side_by_side_give_what_they_give_alone(task: Path, tmp_path: Path) -> None:
    studies = [study(task, name, trials=4) for name in ("dial", "wide", "plain")]
    alone = tune(studies, results=tmp_path / "a", out=tmp_path / "a")
    side_by_side = tune(studies, results=tmp_path / "b", out=tmp_path / "b", jobs=2)
    assert all(same(a.preset, b.preset) for a, b in zip(alone, side_by_side, strict=True))


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_says_what_came_of_it(task: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["tune", "--task", str(task), "--method", "dial,plain", "--epochs", "1", "--seeds", "1000"]
    words += ["--out", str(tmp_path / "presets"), "--results", str(tmp_path / "runs"), "--grid", "x=0.2:0.4:3"]
    assert main(words) == 2
    assert "option of plain" in capsys.readouterr().err
    assert main([word.replace("dial,plain", "dial") for word in words]) == 0
    said = capsys.readouterr().out
    assert "tiny · dial: position_error_median_px" in said
    assert "x=0.3" in said
    assert "4 trials" in said


def test_a_method_that_fails_everywhere_is_exit_code_1(task: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["tune", "--task", str(task), "--method", "hopeless", "--trials", "1", "--seeds", "1000"]
    assert main([*words, "--out", str(tmp_path), "--results", str(tmp_path)]) == 1
    assert "1 trials, 1 failed" in capsys.readouterr().out
    assert main(["tune", "--task", str(task)]) == 2
    assert "--method NAME" in capsys.readouterr().err


def test_what_is_left_follows_from_the_pace(task: Path, capfd: Any) -> None:
    studies = [study(task, trials=10, seeds=[1000, 1001], epochs=4) for _ in range(3)]
    done = [Trial(trial=number, settings={}, value=1.0 - number, seconds=6.0) for number in range(2)]
    done.append(Trial(trial=2, settings={}, value=2.0, same_as=0))
    standing = _standing(studies[0], done, 1, 2)  # the second object is half done
    assert standing.share == pytest.approx((3 + 0.75) / 10)
    assert standing.remaining_seconds == pytest.approx(6.0 * 6.25)
    assert _standing(studies[0], [], 1, 0, elapsed=5.0).remaining_seconds == pytest.approx(95.0)
    assert _standing(studies[0], []).remaining_seconds is None
    with StudyLine(studies, jobs=1) as line:
        line.step(standing)
        with line.finished(studies[0]):
            pass
    # two whole studies of 60 s are to come after this one
    assert "trial 4/10 · best 0 · 0:38 left · 0/3 studies, 2:38 left" in capfd.readouterr().err


def test_all_methods_are_those_of_a_sweep_without_controls() -> None:
    from ptybench.cli.tune import _pairs

    pairs = list(_pairs(["low_dose"], ["all"], "small"))
    assert ("low_dose", "epie") in pairs
    assert {method for _, method in pairs}.isdisjoint({"oracle", "initial_guess"})
    assert {one for one, _ in _pairs(["all"], ["epie"], "small")} == set(registry.task_names())


# --- grids -----------------------------------------------------------------------------------------------------------


def test_grids() -> None:
    assert parse_grid(["alpha=0.1:1.0:10"])["alpha"] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert parse_grid(["modes=1:4:4", "kind=a,b"]) == {"modes": [1, 2, 3, 4], "kind": ["a", "b"]}
    assert parse_grid(["w=1e-3:10:5:log"])["w"] == [0.001, 0.01, 0.1, 1.0, 10.0]
    assert len(grid_points(parse_grid(["a=0:1:3", "b=1,2"]))) == 6
    assert grid_points({}) == [{}]


@pytest.mark.parametrize(
    "text",
    ["a", "a=", "=1", "a=1:2", "a=1:2:1", "a=2:1:3", "a=0:1:3:log", "a=1:2:3:lin", "a=1,1", "a=1:inf:3", "a=nan:1:3"],
)
def test_a_malformed_grid_is_one_sentence(text: str) -> None:
    with pytest.raises(InvalidOption, match="--grid"):
        parse_grid([text])
    with pytest.raises(UsageError, match="twice"):
        parse_grid(["a=1,2", "a=3,4"])
