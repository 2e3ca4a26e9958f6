"""Leaderboards: statistics against scipy and closed forms, ranks, ties, failures, tables."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ptybench.cli import main
from ptybench.errors import InvalidOption, UnknownName
from ptybench.leaderboard.aggregate import aggregate
from ptybench.leaderboard.ranking import rank_of
from ptybench.leaderboard.scale import Scale
from ptybench.leaderboard.statistics import bootstrap_interval, compare, holm, signed_rank_p, smallest_p
from ptybench.leaderboard.tables import FORMATS, render
from ptybench.leaderboard.variants import variant_of
from ptybench.presets import Preset, Sampler, TuningBudget, write_preset
from ptybench.records import Cost, Provenance, Record, RunBudget
from ptybench.registry import load_task
from ptybench.runner.summary import changed

ROOT = Path(__file__).resolve().parents[1]
METRIC = "frc_truth_area"


def record(method: str, seed: int, value: float | None = None, **more: Any) -> Record:
    metric = more.pop("metric", METRIC)
    direction = more.pop("direction", "higher")
    seconds = more.pop("solver_seconds", 1.0)
    task_fields = more.pop("task_fields", {"name": "made_up", "geometry": {"inverse_crime": False}})
    fields: dict[str, Any] = {
        "status": "ok" if value is not None or "censored" in more else "error",
        "task": "made_up",
        "task_version": 1,
        "ladder": "overlap",
        "point": 0.5,
        "domain": "dev",
        "tier": "small",
        "seed": seed,
        "method": method,
        "method_version": "1",
        "options": {"alpha": 1.0},
        "device": "cpu",
        "budget": RunBudget(epochs=100),
        "epochs": 100,
        "metrics": {metric: value},
        "directions": {metric: direction},
        "units": {metric: ""},
        "primary_metric": metric,
        "cost": Cost(ffts=1000, solver_seconds=seconds),
        "identity": {"task": task_fields},
        "provenance": Provenance(package_version="0", code_hash="0"),
        "created": "2026-01-01T00:00:00",
    } | more
    name = json.dumps([method, seed, more], sort_keys=True, default=str)
    return Record.model_validate({"key": hashlib.sha256(name.encode()).hexdigest(), **fields})


def runs(method: str, values: list[float | None], **more: Any) -> list[Record]:
    return [record(method, seed, value, **more) for seed, value in enumerate(values)]


def board(records: list[Record], **more: Any) -> Any:
    return aggregate(records, "made_up", point=0.5, defaults={}, **more)


# --- statistics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistic", [np.median, np.mean])
def test_bootstrap_interval_is_scipys_percentile_interval(statistic: Any) -> None:
    values = np.random.default_rng(3).normal(5, 2, 30)
    low, high = bootstrap_interval(values.tolist(), statistic) or (math.nan, math.nan)
    expected = stats.bootstrap(
        (values,), statistic, n_resamples=9999, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    width = expected.high - expected.low
    assert low == pytest.approx(expected.low, abs=0.05 * width)
    assert high == pytest.approx(expected.high, abs=0.05 * width)


def test_bootstrap_of_a_mean_has_the_width_of_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(0, 1, 200)
    low, high = bootstrap_interval(values.tolist(), np.mean) or (math.nan, math.nan)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(200), rel=0.05)


def test_bootstrap_does_not_depend_on_order_and_needs_two_values() -> None:
    values = [0.3, 0.9, 0.1, 0.5, 0.2]
    assert bootstrap_interval(values, np.median) == bootstrap_interval(values[::-1], np.median)
    assert bootstrap_interval([0.4], np.median) is None
    assert bootstrap_interval([0.4, 0.4], np.mean) == (0.4, 0.4)


@pytest.mark.parametrize("n", [3, 6, 11])
def test_signed_rank_is_scipys_exact_test(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.4, 1, n)
    expected = stats.wilcoxon(differences, method="exact").pvalue
    assert signed_rank_p(differences.tolist()) == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=7))
@settings(deadline=None, max_examples=40)
def test_signed_rank_with_ties_equals_the_enumeration_of_all_signs(differences: list[int]) -> None:
    moved = [d for d in differences if d]
    ranks = stats.rankdata(np.abs(moved)) if moved else np.zeros(0)
    sums = [
        sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in itertools.product((0, 1), repeat=len(ranks))
    ]
    found = sum(r for r, d in zip(ranks, moved, strict=True) if d > 0)
    tail = min(np.mean([s <= found + 1e-9 for s in sums]), np.mean([s >= found - 1e-9 for s in sums]))
    assert signed_rank_p([float(d) for d in differences]) == pytest.approx(min(1.0, 2 * tail))


def test_five_seeds_cannot_be_significant() -> None:
    assert smallest_p(5) == signed_rank_p([1.0, 2.0, 3.0, 4.0, math.inf]) == 0.0625
    assert smallest_p(6) == signed_rank_p([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == 0.03125


def test_holm_by_hand() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 = 0.02, 0.03, 0.06, 0.04; never below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_failure_loses_its_seed() -> None:
    values: dict[int, float | None] = dict.fromkeys(range(6), 0.9)
    other: dict[int, float | None] = {seed: 0.5 + 0.01 * seed for seed in range(6)}
    won = compare(values, other, higher_is_better=True)
    lost = compare(values | {0: None}, other, higher_is_better=True)
    assert (won.wins, won.losses, lost.wins, lost.losses) == (6, 0, 5, 1)
    assert lost.p > won.p == pytest.approx(0.03125)
    assert lost.difference is not None
    assert compare({0: None}, {0: None}, True).p == 1.0


# --- ranks -----------------------------------------------------------------------------------------------------------

SCORES = st.lists(st.floats(0.01, 1).map(lambda v: round(v, 3)) | st.none(), min_size=1, max_size=5)
DIRECTIONS = st.sampled_from(["higher", "lower"])


@given(
    st.lists(SCORES, min_size=1, max_size=4), st.randoms(use_true_random=False), st.sampled_from(["higher", "lower"])
)
@settings(deadline=None, max_examples=25)
def test_order_of_records_does_not_matter(columns: list[Any], random: Any, direction: str) -> None:
    records = [r for i, column in enumerate(columns) for r in runs(f"m{i}", column, direction=direction)]
    shuffled = random.sample(records, len(records))
    assert render(board(records), "json") == render(board(shuffled), "json")


@given(st.lists(SCORES, min_size=2, max_size=4), SCORES, DIRECTIONS)
@settings(deadline=None, max_examples=25)
def test_a_further_method_does_not_change_the_order_of_the_others(
    columns: list[Any], further: list[float | None], direction: str
) -> None:
    records = [r for i, column in enumerate(columns) for r in runs(f"m{i}", column, direction=direction)]
    before = [row.label for row in board(records).rows]
    after = [row.label for row in board(records + runs("z", further, direction=direction)).rows]
    assert [label for label in after if label != "z"] == before


@pytest.mark.parametrize(("direction", "best"), [("higher", "big"), ("lower", "small")])
def test_direction_is_respected(direction: str, best: str) -> None:
    records = runs("big", [0.9] * 5, direction=direction) + runs("small", [0.1] * 5, direction=direction)
    found = board(records)
    assert found.rows[0].label == best
    assert found.winner.label == best
    assert found.rows[1].versus_leader.losses == 5


def test_a_method_that_failed_does_not_look_better() -> None:
    steady = runs("steady", [0.6, 0.6, 0.6, 0.6, 0.6])
    lucky = runs("lucky", [0.9, 0.9, None, None, None])
    found = board(steady + lucky)
    assert [row.label for row in found.rows] == ["steady", "lucky"]
    row = found.rows[1]
    assert (row.finished, row.runs, row.median) == (2, 5, 0.9)
    assert row.failures == {2: "error", 3: "error", 4: "error"}
    assert (row.versus_leader.wins, row.versus_leader.losses) == (2, 3)
    assert "2/5" in render(found, "md")
    assert any("worst value" in note for note in found.notes)


def test_a_method_that_failed_everywhere_has_no_rank() -> None:
    found = board(runs("good", [0.5] * 5) + runs("bad", [None] * 5))
    assert [(row.label, row.rank, row.median) for row in found.rows] == [("good", 1, 0.5), ("bad", None, None)]
    assert found.rows[1].versus_leader.losses == 5
    for format in FORMATS:
        assert "bad" in render(found, format)
    assert board(runs("bad", [None] * 3)).winner is None


def test_ties_have_no_winner() -> None:
    first, second = [0.50, 0.61, 0.72, 0.40, 0.55], [0.51, 0.60, 0.71, 0.41, 0.54]
    found = board(runs("a", first) + runs("b", second))
    assert all(row.tied for row in found.rows)
    assert found.winner is None
    assert "**a**" not in render(found, "md")
    apart = board(runs("a", first) + runs("b", [v - 0.1 for v in first]))
    assert apart.winner.label == "a"
    assert "**a**" in render(apart, "md")
    assert r"\textbf{a}" in render(apart, "latex")


def test_few_seeds_never_make_a_winner() -> None:
    found = board(runs("a", [0.9, 0.9]) + runs("b", [0.1, 0.1]))
    assert found.winner is None
    assert found.rows[1].versus_leader.interval is None
    assert any("no test can be significant" in note for note in found.notes)
    assert board(runs("a", [0.9] * 5)).winner is None


def test_a_row_with_fewer_seeds_is_marked() -> None:
    found = board(runs("a", [0.5] * 5) + runs("b", [0.9]))
    row = next(row for row in found.rows if row.label == "b")
    assert row.incomplete
    assert row.versus_leader is None or row.versus_leader.pairs == 1
    assert "†" in render(found, "md")


def test_a_curve_that_never_crosses_is_the_best_resolution() -> None:
    name = "resolution_m_frc_truth_0.5"
    more: dict[str, Any] = {"metric": name, "direction": "lower"}
    sharp = [record("sharp", s, None, censored={name: True}, **more) for s in range(3)]
    sharp += [record("sharp", s, 2e-8, **more) for s in (3, 4)]
    found = board(runs("blunt", [1e-8] * 5, **more) + sharp, metric=name)
    assert [row.label for row in found.rows] == ["sharp", "blunt"]
    assert found.rows[0].median is None
    assert found.rows[0].undefined == 0
    assert (found.rows[1].versus_leader.wins, found.rows[1].versus_leader.losses) == (2, 3)
    assert "3 censored" in render(found, "text")


# --- controls --------------------------------------------------------------------------------------------------------


def test_controls_are_reference_rows_and_set_the_scale() -> None:
    controls = runs("initial_guess", [0.0, 0.1, 0.0, 0.1, 0.0]) + runs("oracle", [0.8, 0.9, 0.8, 0.9, 0.8])
    found = board(controls + runs("a", [0.4, 0.5, 0.4, 0.5, 0.4]))
    assert [row.label for row in found.rows] == ["a"]
    assert [row.label for row in found.controls] == ["oracle", "initial_guess"]
    assert all(row.rank is None and row.versus_leader is None for row in found.controls)
    assert found.rows[0].rescaled == pytest.approx(dict.fromkeys(range(5), 0.5))
    assert found.controls[0].rescaled_median == pytest.approx(1.0)


def test_scale_is_null_within_the_spread_and_where_the_oracle_is_worse() -> None:
    noisy = {"initial_guess": {0: 0.1, 1: 0.5}, "oracle": {0: 0.3, 1: 0.7}}
    assert Scale.of(noisy, "higher").rescale(0, 0.2) is None  # differ by 0.2, spread 0.28
    fine = {"initial_guess": {0: 0.1}, "oracle": {0: 0.3}}
    assert Scale.of(fine, "higher").rescale(0, 0.2) == pytest.approx(0.5)
    assert Scale.of(fine, "lower").rescale(0, 0.2) is None
    assert Scale.of({"initial_guess": {0: 2.0}, "oracle": {0: 0.0}}, "lower").rescale(0, 0.5) == pytest.approx(0.75)
    assert Scale.of({}, "higher").rescale(0, 0.2) is None
    assert Scale.of(fine, "higher").rescale(1, 0.2) is None


# --- what belongs on a board -----------------------------------------------------------------------------------------


def test_other_versions_and_changed_tasks_are_left_out_and_counted() -> None:
    good = runs("a", [0.5] * 3)
    old = runs("a", [0.9] * 2, task_version=0)
    other = [record("b", 0, 0.9, task_fields={"name": "made_up", "dose": {"photons": 1e9}})]
    skipped = [record("c", 0, status="not_installed")]
    found = board(good + old + other + skipped)
    assert [row.label for row in found.rows] == ["a"]
    assert found.left_out == {"other task version": 2, "other task fields": 1, "not run": 1}
    assert sum("left out" in note for note in found.notes) == 3
    crime = {"name": "made_up", "geometry": {"inverse_crime": True}}
    assert board(runs("a", [0.5] * 3, task_fields=crime)).inverse_crime
    assert "inverse crime" in render(board(runs("a", [0.5] * 3, task_fields=crime)), "text")


def test_a_registered_task_says_what_is_standard() -> None:
    task = load_task("low_overlap", "small", {"overlap": 0.5})
    standard: dict[str, Any] = {
        "task": task.name,
        "task_version": task.version,
        "ladder": "overlap",
        "point": 0.5,
        "budget": RunBudget(epochs=task.budget.epochs),
    }
    easy = load_task("low_overlap", "small", {"overlap": 0.5, "photons": 1e9})
    records = runs("epie", [0.5], **standard, task_fields=task.identity())
    records += runs("rpie", [0.9, 0.9, 0.9], **standard, task_fields=easy.identity())
    for asked in (aggregate(records, task), aggregate(records, "low_overlap", point=0.5)):
        assert [row.method for row in asked.rows] == ["epie"]
        assert asked.left_out == {"other task fields": 3}
    with pytest.raises(InvalidOption, match=r"there are some at 0\.5"):
        aggregate(records, "low_overlap")


def test_variants_are_rows_of_their_own() -> None:
    records = runs("a", [0.5] * 3) + runs("a", [0.6] * 3, options={"alpha": 0.5})
    records += runs("a", [0.7] * 3, budget=RunBudget(epochs=500)) + runs("a", [0.8] * 3, device="cuda:H200")
    found = aggregate(records, "made_up", point=0.5, defaults={"a": {"alpha": 1.0}})
    assert {row.label for row in found.rows} == {
        "a (cpu)",
        "a (alpha=0.5, cpu)",
        "a (epochs=500, cpu)",
        "a (cuda:H200)",
    }
    assert changed({"x": {"y": 1, "z": 2}}, {"x": {"y": 1, "z": 3}}) == {"x.z": 2}
    assert variant_of(records[0]) == variant_of(records[1])


def preset(method: str, folder: Path, **more: Any) -> Preset:
    """Write a preset of a made-up method for the made-up task."""
    budget = {"trials": 20, "seeds": [1000], "epochs": 100, "tier": "small", "point": 0.5} | more.pop("budget", {})
    fields: dict[str, Any] = {
        "task": "made_up",
        "task_version": 1,
        "method": method,
        "method_version": "1",
        "options": {"alpha": 0.3},
        "changed": {"alpha": 0.3},
        "budget": TuningBudget.model_validate(budget),
        "sampler": Sampler(name="tpe" if budget["trials"] else "none"),
        "metric": METRIC,
        "direction": "higher",
        "provenance": Provenance(package_version="0", code_hash="0"),
        "created": "2026-01-01T00:00:00",
    }
    found = Preset.model_validate(fields | more)
    write_preset(found, folder)
    return found


def ruled(records: list[Record], name: str, folder: Path, **defaults: Any) -> Any:
    return aggregate(
        records, "made_up", point=0.5, defaults={"a": {"alpha": 1.0}, "b": {"alpha": 1.0}} | defaults,
        ruleset=name, presets=folder,  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_ruleset_keeps_the_options_that_it_names(tmp_path: Path) -> None:
    preset("a", tmp_path)
    records = runs("a", [0.5] * 3) + runs("a", [0.6] * 3, options={"alpha": 0.3}) + runs("b", [0.4] * 3)
    records += runs("a", [0.9] * 3, options={"alpha": 0.7}) + runs("b", [0.9] * 3, options={"alpha": 0.3})
    records += runs("oracle", [0.8] * 3, options={"steps": 3}) + runs("unheard_of", [1.0] * 3)
    default = ruled(records, "default", tmp_path)
    assert [(row.label, row.median) for row in default.rows] == [("a", 0.5), ("b", 0.4)]
    tuned = ruled(records, "tuned", tmp_path)
    assert [(row.label, row.median) for row in tuned.rows] == [("a (alpha=0.3)", 0.6), ("b (untuned)", 0.4)]
    for found in (default, tuned):
        assert [row.method for row in found.controls] == ["oracle"]
        assert found.left_out == {f"other options than the {found.ruleset} ones": 12}
        assert f"ruleset {found.ruleset}" in render(found, "md")
        assert json.loads(render(found, "json"))["ruleset"] == found.ruleset
    assert len(board(records).rows) == 6  # nothing is hidden where no ruleset was asked for
    assert tuned.tuning["a"]["trials"] == 20
    assert any("20 trials on the seeds 1000 of 100 epochs each" in note for note in tuned.notes)
    assert any("no preset" in note and "b" in note for note in tuned.notes)
    with pytest.raises(InvalidOption, match="with other options than the default ones"):
        ruled(runs("a", [0.5], options={"alpha": 0.7}), "default", tmp_path)


def test_budgets_that_differ_are_said_and_nothing_to_tune_is_no_difference(tmp_path: Path) -> None:
    preset("a", tmp_path)
    preset("b", tmp_path)
    preset("c", tmp_path, budget={"trials": 0}, options={"alpha": 1.0}, changed={})
    records = [r for name in "ab" for r in runs(name, [0.5] * 3, options={"alpha": 0.3})] + runs("c", [0.5] * 3)
    fair = ruled(records, "tuned", tmp_path, c={"alpha": 1.0})
    assert not any("differ" in note for note in fair.notes if "tuning" in note)
    assert "c (nothing to tune)" in [row.label for row in fair.rows]
    for budget in ({"trials": 21}, {"seeds": [1000, 1001]}, {"epochs": 50}, {"point": 0.75}):
        preset("b", tmp_path, budget=budget)
        unfair = ruled(records, "tuned", tmp_path, c={"alpha": 1.0})
        assert any("budgets differ" in note and "a:" in note and "b:" in note for note in unfair.notes), budget


def test_records_from_before_an_option_are_those_of_its_default(tmp_path: Path) -> None:
    preset("a", tmp_path)
    now = {"alpha": 1.0, "batch": 1}
    old = [*runs("a", [0.5, 0.5]), record("a", 2, 0.6, options=now)]
    tuned = [record("a", 3, 0.7, options={"alpha": 0.3, "batch": 1}), record("a", 4, 0.7, options={"alpha": 0.3})]
    assert [row.values for row in ruled(old + tuned, "default", tmp_path, a=now).rows] == [{0: 0.5, 1: 0.5, 2: 0.6}]
    assert [row.values for row in ruled(old + tuned, "tuned", tmp_path, a=now).rows] == [{3: 0.7, 4: 0.7}]
    everything = aggregate(old + tuned, "made_up", point=0.5, defaults={"a": now})
    assert sorted(row.label for row in everything.rows) == ["a", "a (alpha=0.3)"]
    other = [record("a", 0, 0.9, options={"alpha": 1.0, "batch": 2})]
    assert ruled(old + other, "default", tmp_path, a=now).rows[0].values[0] == 0.5


def test_a_stale_preset_is_said_to_be(tmp_path: Path) -> None:
    preset("epie", tmp_path, method_version="0")
    records = runs("epie", [0.5] * 3, options={"alpha": 0.3})
    found = ruled(records, "tuned", tmp_path, epie={"alpha": 1.0})
    assert [row.label for row in found.rows] == ["epie (alpha=0.3, stale preset)"]
    assert any("version 0 of epie" in note for note in found.notes)


def test_the_command_takes_a_ruleset(tmp_path: Path, capfd: Any) -> None:
    words = ["leaderboard", "--task", "low_overlap", "--domain", "release", "--results", str(ROOT / "results")]
    assert main([*words, "--ruleset", "default"]) == 0
    assert "ruleset default" in capfd.readouterr().out
    assert main([*words, "--ruleset", "tuned", "--presets", str(tmp_path)]) == 0
    assert "epie (untuned)" in capfd.readouterr().out
    assert main([*words, "--presets", str(tmp_path)]) == 2
    assert "--ruleset tuned" in capfd.readouterr().err


def test_the_later_of_two_runs_of_one_cell_counts() -> None:
    old, new = record("a", 0, 0.2, created="2026-01-01"), record("a", 0, 0.7, created="2026-01-02")
    found = board([new, old])
    assert found.rows[0].values == {0: 0.7}
    assert sum(found.left_out.values()) == 1


def test_wrong_questions_get_one_sentence() -> None:
    with pytest.raises(InvalidOption, match="found none"):
        aggregate([], "made_up")
    with pytest.raises(UnknownName, match="frc_truth_area"):
        board(runs("a", [0.5]), metric="frc_truth_are")
    with pytest.raises(UnknownName, match="format"):
        render(board(runs("a", [0.5])), "xml")


def test_real_data_have_boards_too() -> None:
    more: dict[str, Any] = {
        "task": None, "data": "star", "tier": None, "domain": None, "point": None, "ladder": None, "task_version": None,
        "metric": "deviance_withheld", "direction": "lower", "identity": {"data": {"name": "star", "sha256": "0"}},
    }  # fmt: skip
    found = aggregate(runs("a", [2.0], **more) + runs("b", [1.0], **more), "star", defaults={})
    assert [row.label for row in found.rows] == ["b", "a"]
    assert render(found, "md").startswith("**star: deviance_withheld")


# --- tables ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def full_board() -> Any:
    records = runs("initial_guess", [0.0] * 6) + runs("oracle", [0.9] * 6)
    records += runs("epie", [0.5, 0.6, 0.5, 0.7, 0.6, 0.5]) + runs("a>b_c", [0.3, 0.4, 0.3, 0.5, 0.4, None])
    return board(records)


def test_json_is_one_strict_document(full_board: Any) -> None:
    found = json.loads(render(full_board, "json"), parse_constant=pytest.fail)
    assert found["schema"] == "ptybench.leaderboard/1"
    assert [row["label"] for row in found["rows"]] == ["epie", "a>b_c"]
    assert found["rows"][0]["values"]["0"] == 0.5
    assert found["rows"][1]["failures"] == {"5": "error"}
    assert found["winner"] == "epie"


def test_csv_holds_full_numbers(full_board: Any) -> None:
    lines = list(csv.DictReader(io.StringIO(render(full_board, "csv"))))
    assert [line["label"] for line in lines] == ["epie", "a>b_c", "oracle", "initial_guess"]
    assert float(lines[0]["mean"]) == full_board.rows[0].mean
    assert (lines[1]["seeds_ok"], lines[1]["seeds_run"], lines[1]["failures"]) == ("5", "6", "5:error")
    assert json.loads(lines[0]["options"]) == {"alpha": 1.0}
    assert {line["kind"] for line in lines} == {"method", "control"}


def test_markdown_and_latex_have_as_many_cells_as_columns(full_board: Any) -> None:
    lines = [line for line in render(full_board, "md").splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + 4
    latex = render(full_board, "latex")
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len({line.count("&") for line in rows}) == 1
    assert r"a\textgreater{}b\_c" in latex
    assert latex.count(r"\begin{") == latex.count(r"\end{") == 2
    assert {r"\toprule", r"\midrule", r"\bottomrule"} <= set(latex.splitlines())


def test_text_is_aligned(full_board: Any) -> None:
    lines = render(full_board, "text").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("#"))
    column = lines[start].index("method")
    for line in lines[start + 2 : start + 4]:
        assert line[column - 1] == " "
        assert line[column] != " "


def test_tables_do_not_import_pandas_until_they_must() -> None:
    code = (
        "import sys, ptybench.leaderboard.tables, ptybench.leaderboard.ranking, ptybench.runner.card;"
        "print(*({'pandas', 'torch', 'matplotlib', 'seaborn'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


# --- the ranking of one run ------------------------------------------------------------------------------------------


def test_rank_of_one_run() -> None:
    mine = record("epie", 0, 0.5)
    others = [
        record("rpie", 0, 0.7),
        record("dm", 0, 0.5),
        record("bad", 0),
        record("far", 1, 0.99),
        record("initial_guess", 0, 0.1),
        record("oracle", 0, 0.9),
        record("elsewhere", 0, 0.99, point=0.25),
    ]
    found = rank_of(mine, [*others, mine], defaults={})
    assert found is not None
    assert (found.place, found.of) == (2, 3)
    assert found.rescaled == pytest.approx(0.5)
    assert [(e.label, e.place) for e in found.entries] == [
        ("rpie", 1), ("epie", 2), ("dm", 2), ("bad", None), ("initial_guess", None), ("oracle", None),
    ]  # fmt: skip
    assert [e.label for e in found.entries if e.this] == ["epie"]
    assert rank_of(mine, [], defaults={}) is not None
    lower = rank_of(record("a", 0, 1.0, direction="lower"), [record("b", 0, 2.0, direction="lower")], defaults={})
    assert lower is not None
    assert lower.place == 1
    assert rank_of(record("a", 0, 1.0, primary_metric=None), []) is None
