"""Tables and pictures of many boards: their numbers are the boards', everything is named, the same twice."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import runpy
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from ptybench.cli import main
from ptybench.cli.table import draw_all, records_of, section
from ptybench.errors import InvalidOption
from ptybench.leaderboard import breakdown
from ptybench.leaderboard.aggregate import aggregate
from ptybench.leaderboard.overview import COLUMNS, markdown, overview, table
from ptybench.leaderboard.scale import CONTROLS
from ptybench.presets import Preset, Sampler, TuningBudget, write_preset
from ptybench.records import Cost, Provenance, Record, RunBudget, Store
from ptybench.registry import load_task, resolve_method
from ptybench.task import overridden

mpl.use("Agg")

ROOT = Path(__file__).resolve().parents[1]
TASK = load_task("low_overlap")
POINTS = (0.75, 0.375, 0.0)
METRIC = "frc_truth_area"
CODE = Provenance(package_version="0", code_hash="0")
TUNED = {"epie": {"alpha": 0.5}, "dm": {"probe_start": 5}}


def record(method: str, point: float, seed: int, value: float | None, options: dict[str, Any], **more: Any) -> Record:
    assert TASK.ladder is not None
    epochs = more.pop("epochs", TASK.budget.epochs)
    task = overridden(TASK, {TASK.ladder.field: point})
    name = f"{method}{point}{seed}{json.dumps(options)}{epochs}"
    fields: dict[str, Any] = {
        "key": hashlib.sha256(name.encode()).hexdigest(),
        "status": "diverged" if value is None else "ok",
        "task": task.name,
        "task_version": task.version,
        "ladder": TASK.ladder.name,
        "point": point,
        "domain": "release",
        "tier": "small",
        "seed": seed,
        "method": method,
        "method_version": resolve_method(method).version,
        "options": options,
        "device": "cpu",
        "budget": RunBudget(epochs=epochs),
        "metrics": {METRIC: value, "cpcc_abs": value},
        "directions": {METRIC: "higher", "cpcc_abs": "higher"},
        "primary_metric": METRIC,
        "cost": Cost(ffts=1000, solver_seconds=2.0),
        "identity": {"task": task.identity()},
        "provenance": CODE,
        "created": "2026-01-01T00:00:00",
    }
    return Record.model_validate(fields | more)


def value_of(method: str, point: float, seed: int, tuned: bool) -> float | None:
    """A number that tells where it came from; ``dm`` fails on a seed of the last point, ``pie`` on all."""
    if point == POINTS[-1] and (method == "pie" or (method == "dm" and seed == 1)):
        return None
    start = {"oracle": 0.9, "initial_guess": 0.0, "epie": 0.6, "rpie": 0.5, "dm": 0.4, "pie": 0.3}[method]
    return round(start * (0.5 + point / 2) + 0.01 * seed + 0.05 * tuned, 6)


@pytest.fixture(scope="module")
def presets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("presets")
    for method, changes in TUNED.items():
        resolved = resolve_method(method, changes)
        budget = TuningBudget(trials=20, seeds=[1000, 1001], epochs=200, tier="small", point=0.375)
        write_preset(
            Preset(
                task=TASK.name, task_version=TASK.version, method=method, method_version=resolved.version,
                options=resolved.options, changed=changes, budget=budget, sampler=Sampler(name="tpe"), metric=METRIC,
                direction="higher", provenance=CODE, created="2026-01-01",
            ),
            folder,
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def records() -> list[Record]:
    found = []
    for method, point, seed in itertools.product(("epie", "rpie", "dm", "pie", *CONTROLS), POINTS, range(3)):
        options = resolve_method(method).options
        found.append(record(method, point, seed, value_of(method, point, seed, False), options))
        if method in TUNED:
            options = resolve_method(method, TUNED[method]).options
            found.append(record(method, point, seed, value_of(method, point, seed, True), options))
    return found


@pytest.fixture(scope="module")
def lines(records: list[Record], presets: Path) -> pd.DataFrame:
    return overview(records, [TASK], metrics=["cpcc_abs", "no_such_metric"], presets=presets)


def test_every_number_is_that_of_its_board(records: list[Record], presets: Path, lines: pd.DataFrame) -> None:
    assert len(lines) == 6 * len(POINTS) * 2 * 2  # methods and controls, points, rulesets, metrics
    assert tuple(lines.columns) == COLUMNS
    for point, ruleset in itertools.product(POINTS, ("default", "tuned")):
        board = aggregate(
            records, TASK.name, domain="release", point=point, ruleset=ruleset, presets=presets,  # type: ignore[arg-type]
        )  # fmt: skip
        own = lines[(lines["point"] == point) & (lines["ruleset"] == ruleset) & (lines["metric"] == METRIC)]
        for row in [*board.rows, *board.controls]:
            (line,) = own[own["method"] == row.method].to_dict("records")
            assert (None if pd.isna(line["median"]) else line["median"]) == row.median
            assert (line["seeds_ok"], line["seeds_run"], line["mark"]) == (row.finished, row.runs, row.mark)
            if row.median_interval is not None:
                assert (line["median_low"], line["median_high"]) == row.median_interval


def test_a_table_says_all_that_its_lines_do(lines: pd.DataFrame) -> None:
    shown = table(lines, METRIC)
    assert list(shown.index) == ["oracle", "epie", "rpie", "dm", "pie", "initial_guess"]
    assert list(shown.columns) == [
        f"overlap {point:g}, {ruleset}" for point in POINTS for ruleset in ("default", "tuned")
    ] + ["time", "FFTs"]
    assert shown.loc["epie", "overlap 0.375, default"] == "**0.4225** [0.412, 0.432]"
    assert shown.loc["rpie", "overlap 0.375, tuned"].endswith("*untuned*")
    assert shown.loc["pie", "overlap 0, default"] == "failed 3/3"
    assert shown.loc["dm", "overlap 0, default"].endswith("2/3 ok")
    text = markdown(shown)
    assert len(text.splitlines()) == 2 + len(shown)
    assert len({line.count("|") for line in text.splitlines()}) == 1
    said = section(lines, TASK)
    assert said.count("| method |") == 2
    assert "untuned" in said


def test_bold_is_the_best_and_nobody_where_all_are_equal(lines: pd.DataFrame) -> None:
    shown = table(lines, METRIC)
    for column in shown.columns[:-2]:
        bold = [method for method, cell in shown[column].items() if cell.startswith("**")]
        assert bold == ["epie"], column
    level = lines.assign(median=lines["median"].where(lines["kind"] != "method", 0.5))
    assert not table(level, METRIC).map(lambda cell: "**" in cell).any().any()


def test_other_budgets_points_and_tasks_are_not_shown(records: list[Record], presets: Path) -> None:
    more = [record("rpie", 0.75, seed, 0.99, resolve_method("rpie").options, epochs=9999) for seed in range(3)]
    more += [record("epie", 0.75, seed, 0.99, resolve_method("epie").options, domain="dev") for seed in range(3)]
    lines = overview(records + more, [TASK], points={TASK.name: (0.75, 0.25)}, presets=presets)
    assert set(lines["point"]) == {0.75}
    assert lines[lines["kind"] == "method"]["median"].max() < 0.9
    only = overview(more, [TASK], epochs=9999, presets=presets)
    assert set(only["method"]) == {"rpie"}
    with pytest.raises(InvalidOption, match="expected records of low_dose"):
        overview(records, [load_task("low_dose")])


# --- pictures --------------------------------------------------------------------------------------------------------


def test_every_method_is_in_the_panel_of_its_family_and_named(lines: pd.DataFrame) -> None:
    figure = breakdown.draw(lines, METRIC)
    axes = np.array(figure.axes).reshape(2, 2)
    assert [ax.get_title() for ax in axes[0]] == ["PIE family", "projections"]
    for row, own in zip(axes, ({"epie", "rpie", "pie"}, {"epie", "rpie°", "pie°"}), strict=True):
        assert {text.get_text() for text in row[0].texts} == own | {"oracle", "initial guess"}
    for ax in axes.flat:
        heights = sorted(text.xyann[1] for text in ax.texts)
        assert min(np.diff(heights)) >= breakdown.LABEL_GAP - 1e-9
    colours = [{text.get_text().strip("°"): text.get_color() for text in ax.texts} for ax in axes[:, 0]]
    assert colours[0] == colours[1]


def test_a_point_stands_at_its_median_and_a_bar_over_its_interval(lines: pd.DataFrame) -> None:
    ax = breakdown.draw(lines, METRIC).axes[1]  # projections, default: dm alone
    own = lines[(lines["method"] == "dm") & (lines["ruleset"] == "default") & (lines["metric"] == METRIC)]
    (bars,) = [one for one in ax.collections if hasattr(one, "get_segments")]
    drawn = [(*segment[:, 0], *sorted(segment[:, 1])) for segment in bars.get_segments()]
    wanted = [
        (i, i, low, high) for i, (low, high) in enumerate(zip(own["median_low"], own["median_high"], strict=True))
    ]
    np.testing.assert_allclose(np.array(drawn), np.array(wanted, dtype=float))
    hollow = [line for line in ax.get_lines() if line.get_marker() == "o" and line.get_markerfacecolor() == "white"]
    assert [list(line.get_xdata()) for line in hollow] == [[2.0]]  # where a seed failed


def test_the_same_numbers_make_the_same_file_and_a_small_one(lines: pd.DataFrame, tmp_path: Path) -> None:
    paths = [draw_all(lines, tmp_path / name) for name in "ab"]
    assert [path.name for path in paths[0]] == ["low_overlap.svg", "low_overlap.cpcc_abs.svg"]
    for first, second in zip(*paths, strict=True):
        assert first.read_bytes() == second.read_bytes()
        assert 10_000 < first.stat().st_size < 300_000
    assert draw_all(lines[lines["point"] == 0.75], tmp_path / "c") == []  # nothing to draw along


def test_small_is_better_over_decades_is_logarithmic(lines: pd.DataFrame) -> None:
    lines = lines.assign(median=lines["median"].where(lines["method"] != "initial_guess", 0.0))
    lower = lines.assign(direction="lower")
    assert breakdown.draw(lower, METRIC).axes[0].get_yscale() == "linear"
    wide = lower.assign(median=lower["median"] ** 8)
    ax = breakdown.draw(wide, METRIC).axes[0]
    assert ax.get_yscale() == "log"
    assert "initial guess" not in {text.get_text() for text in ax.texts}  # a value of 0 has no place


def test_families() -> None:
    assert breakdown.family("epie>dm") == "projections"
    assert breakdown.family("admm:poisson") == "projections"
    assert breakdown.family("lsqml+gradient") == "with a refinement"
    assert breakdown.family("somebody_elses") == "others"


@given(st.lists(st.floats(0, 1), max_size=7), st.sampled_from([0.05, 0.1]))
@settings(deadline=None, max_examples=60)
def test_names_are_apart_in_order_and_as_near_as_can_be(wanted: list[float], gap: float) -> None:
    wanted = sorted(wanted)
    places = breakdown.spread(wanted, gap)
    assert all(b - a >= gap - 1e-9 for a, b in itertools.pairwise(places))
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    if not wanted:
        return
    n = len(wanted)
    best = minimize(
        lambda x: float(np.sum((x - wanted) ** 2)), np.linspace(0, 1, n), method="SLSQP", bounds=[(0, 1)] * n,
        constraints=[{"type": "ineq", "fun": lambda x: np.diff(x) - gap}] if n > 1 else [], options={"ftol": 1e-12},
    )  # fmt: skip
    assert np.sum((np.array(places) - wanted) ** 2) <= best.fun + 1e-6


# --- command and page ------------------------------------------------------------------------------------------------


def test_the_command_writes_each_form(tmp_path: Path, capfd: Any) -> None:
    words = ["table", "--task", "low_overlap,low_dose", "--domain", "release", "--results", str(ROOT / "results")]
    assert main(words) == 0
    assert capfd.readouterr().out.count("| *oracle* |") == 2
    assert main([*words, "--format", "csv", "--ruleset", "default", "--points", "default"]) == 0
    read = pd.read_csv(io.StringIO(capfd.readouterr().out))
    assert set(read["task"]) == {"low_overlap", "low_dose"}
    assert set(read["ruleset"]) == {"default"}
    assert main([*words, "--json", "--figures", str(tmp_path)]) == 0
    document = json.loads(capfd.readouterr().out)
    assert set(document["lines"][0]) == set(COLUMNS)
    assert main([*words, "--points", "low_doze=1"]) == 2
    assert "low_dose" in capfd.readouterr().err


def test_lines_are_plain_json(lines: pd.DataFrame) -> None:
    assert len(json.loads(json.dumps(records_of(lines), allow_nan=False))) == len(lines)


def test_the_page_holds_the_tables_of_the_published_records() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "make_tables.py"))
    text = script["PAGE"].read_text(encoding="utf-8")
    assert {place[2] for place in script["TABLE"].finditer(text)} == set(script["POINTS"])
    for name, values in script["POINTS"].items():
        task = load_task(name)
        assert task.ladder is not None
        assert task.point in values
        assert len(values) == 3
        assert set(values) <= set(task.ladder.values)
    published = list(Store(ROOT / "results").records(domain="release", tier="small"))
    lines = script["table_lines"](published)
    figures = list((ROOT / "docs" / "figures").glob("*.svg"))
    assert script["updated"](text, lines, figures) == text
    written = pd.read_csv(ROOT / "docs" / "classical.csv")
    assert len(written) == len(lines)
    np.testing.assert_allclose(written["median"], lines["median"].astype(float))
