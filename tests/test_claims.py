"""Claims: what a file may say, the cells that it needs, and the way from records to a page."""

from __future__ import annotations

import itertools
import json
import math
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from papers import FILE, check, paper, points, record, side
from pydantic import ValidationError

from ptybench.claims.cells import Laboratory
from ptybench.claims.figures import draw
from ptybench.claims.paper import ALLOWED, BESIDE, NEEDED, load_paper, read_paper, with_options
from ptybench.claims.results import cases, cells_of, judged, measure
from ptybench.claims.verdict import interval
from ptybench.claims.words import check_words
from ptybench.cli import main
from ptybench.errors import InvalidData, PtybenchError, UnknownName, UsageError
from ptybench.leaderboard.hypermap import maps_of
from ptybench.records import TracePoint
from ptybench.registry import load_task


def test_a_file_is_understood() -> None:
    found = paper()
    assert list(found.claims) == ["first", "second", "third", "later"]
    assert found.tasks["thin"]["dose"] == {"photons": 1e6}
    assert found.tasks["thin"]["geometry"] == {"distance_m": 1.0}
    assert found.tasks["base"]["dose"] == {"photons": 1e5}
    assert found.claims["first"].checks[2].metric == "frc_truth"
    assert paper(tier="paper").runs["a"].grid["alpha"] == [0.1, 0.2, 0.3]
    sentences = [check_words(one) for claim in found.claims.values() for one in claim.checks]
    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('run = "a"\nmetric = "frc_truth_half', 'run = "aa"\nmetric = "frc_truth_half', "did you mean 'a'"),
        ("frc_truth_half_nyquist", "frc_truth_half_nyqist", "did you mean 'frc_truth_half_nyquist'"),
        ('comparator = "<="\nvalue = 2', 'comparator = "better_then:b"', "did you mean 'better_than'"),
        ('reduce = "loss"', 'reduce = "los"', "did you mean 'loss'"),
        ('task = "bright"', 'task = "brigt"', "did you mean 'bright'"),
        ('like = "base"', 'like = "bass"', "did you mean 'base'"),
        ("options =", "option =", "did you mean 'options'"),
        ("says =", "say =", "did you mean 'says'"),
        ("[tiers.paper]", "[tiers.papr]", "did you mean 'paper'"),
        ('needs = ["method', 'needs = ["methd', "did you mean 'method'"),
        ("[claims.third]", "[claim.third]", "did you mean 'claims'"),
        ('comparator = "<="\nvalue = 2', 'comparator = "<="', "<= needs a value"),
        ('comparator = "<="\nvalue = 2', 'comparator = "better_than"', "better_than:RUN"),
        ('comparator = "<="\nvalue = 2', 'comparator = "close_to:b"', "needs a tolerance"),
        ('comparator = "<="\nvalue = 2', 'comparator = "better_than:b"\nvalue = -1', "write not_worse_than"),
        ('reduce = "loss"\n', "", "say in reduce"),
        ("points = [1, 2]\n", "", "a loss is that"),
        ('task = "thin"', 'task = "thin"\ndata = "siemens_star_aps"', "either a task, or data"),
        ("points = [1, 2]", "points = [1, 2]\nepoch = 1\nuntil = 0.5", "one of epoch"),
        ("frequency_per_um = 1.0, ", "", "go together"),
        ('like = "base"', 'like = "thin"', "is like itself"),
        ('comparator = "<="\nvalue = 2', 'comparator = "<="\nvalue = 2\nagainst = { epoch = 1 }', "no check has one"),
        ("points = [1, 2]", "points = [1, 2]\nvary = { alpha = [] }", "at least 1 item"),
    ],
)
def test_mistakes_get_one_sentence(old: str, new: str, sentence: str) -> None:
    assert old in FILE
    with pytest.raises(UsageError) as caught:
        paper(FILE.replace(old, new, 1))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


RANKS: dict[str, Any] = {"value": 0.5, "reduce": "rank_correlation", "other_metric": "ssim_phase"}
CARD: dict[str, Any] = {"value": 1, "task": None, "run": "", "card": "bn"}


@pytest.mark.parametrize(
    ("comparator", "fields", "sentence"),
    [
        ("better_than:b", {"tolerance": 0.1}, "better_than takes no tolerance: leave it out"),
        ("<=", {"value": 2, "tolerance": 0.1}, "<= takes no tolerance"),
        (">", {"value": 2, "tolerance": 0.1}, "> takes no tolerance"),
        ("not_worse_than:b", {"tolerance": 0.1, "value": 2}, "not_worse_than takes no value"),
        ("close_to:b", {"tolerance": 0.1, "value": 2}, "close_to takes no value"),
        ("equals:b", {"value": 2}, "equals takes no value"),
        ("better_than:b", {"against": {"run": "c"}}, "unknown field of against 'run'"),
        ("better_than:b", {"against": {"metric": "ssim_phase"}}, "unknown field of against 'metric'"),
        ("better_than:b", {"counted_in": "seconds"}, "counted_in is for until"),
        ("better_than:b", {"points": [1, 2], "reduce": "loss", "vary": "grid"}, "a loss is that of one run"),
        ("better_than:b", {"points": [1, 2], "reduce": "loss", "run": ["a", "c"]}, "a loss is that of one run"),
        (">", {"value": 0.5, "reduce": "win_rate:b", "points": [1, 2]}, "at one point"),
        (">", {"value": 0.5, "reduce": "win_rate:b", "vary": "grid", "run": ["a", "c"]}, "of one run, at one point"),
        ("<=", {"value": 0.5, "reduce": "range", "vary": {"alpha": [0.5]}}, "nothing for reduce"),
        ("<=", RANKS | {"other_metric": "solver_seconds"}, "solver_seconds is none"),
        ("<=", RANKS | {"metric": "frc_truth", "frequency_per_um": 1}, "frc_truth is none"),
        ("<=", RANKS | {"epoch": 2}, "over all epochs"),
        ("<=", RANKS | {"per": "b"}, "no rank correlation is better"),
        ("better_than:b", RANKS, "no rank correlation is better"),
        ("<=", CARD | {"epochs": 3}, "a card belongs to a network"),
        ("<=", CARD | {"until": 0.0}, "a card belongs to a network"),
        ("<=", CARD | {"set": {"photons": 1}}, "a card belongs to a network"),
    ],
)
def test_what_a_check_would_not_use_is_refused(comparator: str, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises((ValidationError, UnknownName), match=re.escape(sentence)):
        check(comparator, **fields)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("epoch = 2, against = { epoch = 2 }", "epoch = 7, against = { epoch = 7 }", "reads epoch 7"),
        ("curves = [2, 3]", "curves = [2]", "add it to budget.curves"),
        ("alpha = 0.5", "alfa = 0.5", "did you mean 'alpha'"),
        ("points = [1, 2]", "points = [1, 0.5]", "every"),
        ('method = "rpie"', 'method = "rpy"', "did you mean 'rpie'"),
        ('ladder = { name = "every", field = "scan.every", values = [1, 2] }\n', "", "has no ladder"),
    ],
)
def test_what_does_not_fit_its_task_or_method_is_said_before_anything_runs(old: str, new: str, sentence: str) -> None:
    assert old in FILE
    found = paper(FILE.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        cases(Laboratory(found, "small", "dev", [0], "cpu"), list(found.claims))
    assert sentence in str(caught.value)


def test_cells_are_shared_between_claims_and_missing_ones_are_said() -> None:
    laboratory = Laboratory(paper(), "small", "dev", [0, 1], "cpu")
    found = cases(laboratory, ["first", "second", "third", "later"])
    assert found[3].missing == "needs the method no_such_method, which is not there yet"
    cells = cells_of(found)
    # first: one run; second: four settings each; third: two points; on two seeds
    assert len(cells) == 2 * (1 + 4 + 4 + 2)
    assert [cell.seed for cell in cells] == [0] * 11 + [1] * 11
    options = {cell.method.options["alpha"] for cell in cells if cell.subject.name == "base"}
    assert options == {0.5}
    results = judged(laboratory, found, {})
    assert [one.verdict for one in results.results] == ["inconclusive"] * 3 + ["not testable here"]


def test_numbers_on_the_card_of_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card is a fact: no seeds, no test; where there is none, nothing can be said."""
    text = (
        FILE.split("[claims.first]")[0]
        + """
[claims.card]
says = "it does not stretch"
place = "here"
card = "toy"
metric = "lipschitz.found"
comparator = "<="
value = 1.0
"""
    )
    monkeypatch.setattr("ptybench.networks.denoisers.weights_folder", lambda: tmp_path)
    laboratory = Laboratory(paper(text), "small", "dev", [0, 1], "cpu")
    assert "dncnn_toy.card.json" in str(cases(laboratory, ["card"])[0].missing)
    card = tmp_path / "dncnn_toy.card.json"
    for found, verdict in ((0.9, "reproduced"), (1.0, "reproduced"), (1.2, "not reproduced")):
        card.write_text(json.dumps({"lipschitz": {"found": found}}))
        (result,) = judged(laboratory, cases(laboratory, ["card"]), {}).results
        assert result.verdict == verdict
    card.write_text(json.dumps({"lipschitz": {"fund": 1.0}}))
    with pytest.raises(UnknownName, match="did you mean"):
        cases(laboratory, ["card"])


def test_options_of_runs_can_be_set() -> None:
    found = with_options(paper(), {"a.alpha": 0.25})
    laboratory = Laboratory(found, "small", "dev", [0], "cpu")
    one, two = (laboratory.members(side(task=task, run="a"))[0].cells[0] for task in ("base", "bright"))
    assert (one.method.options["alpha"], two.method.options["alpha"]) == (0.25, 0.25)
    for key, sentence in (("c.alpha", "unknown run 'c'"), ("alpha", "RUN.OPTION")):
        with pytest.raises(UsageError, match=sentence):
            with_options(paper(), {key: 1})


def test_a_comparison_on_records_and_its_reverse() -> None:
    """The whole way from records to a verdict: what one run wins the other loses."""
    text = FILE.replace('comparator = "<="\nvalue = 2', 'comparator = "better_than:b"')
    there = paper(text).claims["third"].checks[0]
    laboratory = Laboratory(paper(text), "small", "dev", [0, 1, 2], "cpu")
    (trial,) = cases(laboratory, ["third"])[0].trials
    rng, records = np.random.default_rng(0), {}
    for run, lost in (("epie", 0.1), ("rpie", 0.3)):
        for cell in trial.cells:
            assert cell.subject.task is not None
            if cell.method.name == run:
                value = 0.9 - lost * (cell.subject.task.point == 2) + 0.01 * rng.random()
                records[cell.key] = record(trace=points({3: value}))
    assert measure(trial, records).outcome.verdict == "reproduced"
    swapped = replace(trial, check=there, own=trial.other, other=trial.own)
    assert measure(swapped, records).outcome.verdict == "not reproduced"


def test_the_command_runs_what_is_missing_and_writes_the_page(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "trial.toml", tmp_path / "out"
    file.write_text(FILE)
    words = ["reproduce", str(file), "--seeds", "0-1", "--domain", "dev", "--device", "cpu"]
    words += ["--results", str(tmp_path / "runs")]
    assert main([*words, "--plan", "--json"]) == 0
    plan = json.loads(capfd.readouterr().out)
    assert (plan["cells"], plan["to_run"]) == (22, 22)
    assert main([*words, "--claims", "first,third,later", "--out", str(out), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["schema"] == "ptybench.claims/1"
    verdicts = {one["id"]: one["verdict"] for one in document["claims"]}
    assert verdicts == {"first": "reproduced", "third": "reproduced", "later": "not testable here"}
    written = json.loads((out / "trial.json").read_text())
    assert [one["checks"] for one in written["claims"]] == [one["checks"] for one in document["claims"]]
    page = (out / "trial.md").read_text()
    assert "--seeds 0-1 --claims first,third,later --domain dev --device cpu --out" in page
    for claim in written["claims"]:
        assert f"## {claim['id']}" in page
        if claim["figure"]:
            assert (out / claim["figure"]).read_text().startswith("<?xml")
            assert claim["figure"] in page
    assert [bool(one["figure"]) for one in written["claims"]] == [True, True, False]
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("record.json")}
    assert len(times) == 6
    assert main([*words, "--claims", "first,third"]) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times
    text = capfd.readouterr().out
    assert "2 reproduced" in text
    assert main([*words, "--claims", "firs"]) == 2
    assert "did you mean 'first'" in capfd.readouterr().err


# --- the project's own papers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", ["small", "paper"])
def test_the_claims_of_pine_are_complete(tier: Any) -> None:
    found = load_paper("pine", tier)
    assert {f"P{number}" for number in range(1, 10)} <= set(found.claims)
    assert found.about.doi.startswith("10.1107/")
    settings = 5 if tier == "small" else 10
    assert all(
        len(values) == settings for name in ("epie", "rpie", "pine") for values in found.runs[name].grid.values()
    )
    laboratory = Laboratory(found, tier, "release", [0], "cpu")
    for claim in found.claims.values():
        for one in claim.checks:
            for member_side in (one.side, one.other):
                if member_side is not None and member_side.task and member_side.runs[0] in ("epie", "rpie"):
                    assert laboratory.members(member_side)


@pytest.mark.parametrize(
    ("name", "claims"), [("dap", "D1 D2 D3 D4 D4b D5 D6 D7"), ("scicompty", "S1 S1b S2 S3 S4 S5 S6")]
)
@pytest.mark.parametrize("tier", ["small", "paper"])
def test_the_claims_of_gradient_methods_can_all_be_tested(name: str, claims: str, tier: Any) -> None:
    found = load_paper(name, tier)
    assert list(found.claims) == claims.split()
    settled = cases(Laboratory(found, tier, "release", [0], "cpu"), list(found.claims))
    assert not [one.missing for one in settled if one.missing]
    sides = [one for claim in found.claims.values() for check_ in claim.checks for one in (check_.side, check_.other)]
    assert set(found.runs) == {run for one in sides if one is not None for run in one.runs}, "a run that no claim needs"


@pytest.mark.parametrize("name", ["dap", "pine", "scicompty"])
def test_runs_are_searched_on_as_many_settings_as_what_they_are_compared_with(name: str) -> None:
    found = load_paper(name)
    sizes = {key: math.prod(map(len, run.grid.values())) for key, run in found.runs.items()}
    for claim in found.claims.values():
        for one in claim.checks:
            if one.other is not None and found.runs[one.other.runs[0]].method != "initial_guess":
                assert {sizes[run] for run in one.side.runs} == {sizes[run] for run in one.other.runs}, claim.id


def test_a_paper_that_does_not_exist() -> None:
    with pytest.raises(UnknownName, match="did you mean 'pine'"):
        load_paper("pin")
    with pytest.raises(InvalidData, match="cannot read"):
        load_paper("no_such.toml")


def test_there_is_a_sentence_for_every_comparator() -> None:
    for name, needed in NEEDED.items():
        comparator = f"{name}:b" if name in BESIDE else name
        fields = dict.fromkeys((*needed, *ALLOWED.get(name, ())), 0.5)
        sentence = check_words(check(comparator, **fields))
        assert "low_dose" in sentence
        assert "0.5" in sentence
    elsewhere = check("better_than:b", against={"task": "low_overlap", "set": {"overlap": 0.5}})
    assert check_words(elsewhere).endswith("a better than b on low_overlap with overlap = 0.5")
    faint = check("better_than:b", set={"dose.photons": 100, "budget.trace": []})
    assert check_words(faint).endswith("on low_dose with dose.photons = 100: a better than b")


def test_maps_of_records() -> None:
    found = [
        record(seed, options={"alpha": a, "beta": b}, metrics={"frc_truth_area": a * b + seed})
        for seed, a, b in itertools.product(range(2), (0.1, 0.2), (1.0, 2.0))
    ]
    (shown,) = maps_of(found, ("alpha", "beta"), "frc_truth_area")
    assert np.allclose(shown.means(), [[0.6, 0.7], [0.7, 0.9]])
    assert shown.best(True) == (0.2, 2.0)
    assert shown.best(False) == (0.1, 1.0)
    broken = [found[0].model_copy(update={"status": "diverged"}), *found[1:]]
    assert np.isnan(maps_of(broken, ("alpha", "beta"), "frc_truth_area")[0].means()[0, 0])
    assert interval([1.0, math.inf]) is None


def test_errors_are_ours() -> None:
    assert issubclass(UnknownName, PtybenchError)
    assert load_task("pine_high_dose").name == "pine_high_dose"


def test_every_kind_of_claim_has_its_figure() -> None:
    """On records that are made up: what is drawn is what was measured."""
    text = (
        FILE
        + """
[claims.speed]
says = "a is as fast as b"
place = "here"
task = "base"
run = "a"
metric = "frc_truth_area"
until = 0.55
comparator = "better_than:b"

[claims.thinner]
says = "a is faster on the dense scan"
place = "here"
task = "thin"
run = "a"
metric = "frc_truth_area"
until = 0.55
points = [1]
against = { points = [2] }
comparator = "better_than:a"

[claims.beside]
says = "a and b on both scans, and more of them"
place = "here"
task = "thin"
metric = "r_factor"
checks = [
    { run = "a", points = [1], comparator = "better_than:b" },
    { run = "b", points = [1], comparator = "<=", value = 0.5 },
    { run = "a", points = [2], per = "b", comparator = "<=", value = 2 },
    { run = "a", points = [1], against = { points = [2] }, comparator = "better_than:a" },
    { run = "a", points = [1], set = { "dose.photons" = 1e4 }, comparator = "better_than:b" },
]
"""
    )
    laboratory = Laboratory(paper(text), "small", "dev", [0, 1], "cpu")
    found = cases(laboratory, ["first", "second", "third", "speed", "thinner", "beside"])
    records = {}
    for cell in cells_of(found):
        alpha = cell.method.options["alpha"]
        trace = [
            TracePoint(
                epoch=epoch,
                seconds=epoch / 10,
                metrics={"frc_truth_area": alpha * epoch / 3, "frc_truth_half_nyquist": alpha},
                frc_truth=[alpha, 0.5, 0.1] if epoch > 1 else [],
            )
            for epoch in (1, 2, 3)
        ]
        records[cell.key] = record(cell.seed, trace=trace, frc_frequency=[1e6, 2e6, 3e6])
    results = {one.claim.id: one for one in judged(laboratory, found, records).results}
    figures = {name: draw(one, records) for name, one in results.items()}
    maps, curves, speed = figures["second"], figures["first"], figures["speed"]
    assert maps is not None
    assert curves is not None
    assert speed is not None
    shown = [ax.images[0].get_array() for ax in maps.axes if ax.images]
    assert len(shown) == 2
    assert all(np.allclose(one, [[0.2, 0.2], [0.9, 0.9]]) for one in shown)
    (line, *_) = curves.axes[0].lines
    assert np.allclose(np.interp([1, 2, 3], line.get_xdata(), line.get_ydata()), [0.5, 0.5, 0.1], atol=0.01)
    assert [ax.get_xlabel() for ax in speed.axes] == ["epoch", "seconds of solver time"]
    thinner = figures["thinner"]
    assert thinner is not None
    legend = thinner.axes[0].get_legend()
    assert legend is not None
    assert [one.get_text() for one in legend.get_texts()] == ["a at 1", "a at 2"]
    assert len(thinner.axes[0].lines) == 2 * 2 + 1  # two points, two seeds, and what is to be reached
    beside = figures["beside"]
    assert beside is not None
    shown_runs = {ax.get_title(): [one.get_text() for one in ax.get_xticklabels()] for ax in beside.axes}
    assert shown_runs == {
        "r_factor, thin at 1": ["a", "b"],
        "r_factor, thin at 2": ["a over b"],
        "r_factor, thin": ["a at 1", "a at 2"],
        "r_factor, thin with dose.photons = 10000 at 1": ["a", "b"],
    }
    assert figures["third"] is not None
    assert draw(results["first"], {}) is None


# --- claims of papers to come ----------------------------------------------------------------------------------------

TO_COME = """
[paper]
title = "Two papers"
authors = "N. N."
journal = "None"
year = 2026
doi = "10.0/none"

[runs]
dap_p.method = "new:poisson"
dap_g.method = "new:gaussian"
dap_r.method = "new:r"
dap_constant = { method = "new:poisson", options = { held = "constant" } }
autodiff.method = "autodiff"
crop = { method = "autodiff", options = { sampler = "crop" } }
epie.method = "epie"
admm.method = "admm"
nothing.method = "initial_guess"

[claims]
D1 = { says = "s", place = "p", needs = ["method:new:poisson"], task = "low_dose", set = { photons = 1e3 }, \
run = ["dap_p", "dap_g", "dap_r"], metric = "cpcc_abs", reduce = "range", comparator = "<=", value = 0.03 }
D2 = { says = "s", place = "p", needs = ["method:new:poisson"], task = "low_dose", run = "dap_p", metric = "cpcc_abs", \
checks = [{ points = [1e3], comparator = "better_than:epie" }, { points = [1e4], comparator = "better_than:admm" }] }
D4 = { says = "s", place = "p", needs = ["method:new:poisson", "metric:periodic_artefact"], task = "low_overlap", \
run = "dap_p", metric = "periodic_artefact", per = "epie", comparator = "<=", value = 0.5 }
D5 = { says = "s", place = "p", needs = ["method:new:poisson"], task = "low_dose", run = "dap_p", metric = "cpcc_abs", \
comparator = "better_than:dap_constant" }
D6 = { says = "s", place = "p", needs = ["method:new:poisson"], task = "low_dose", run = "dap_p", metric = "cpcc_abs", \
until = 0.8, comparator = "better_than:dap_constant" }
S1 = { says = "s", place = "p", task = "position_jitter", run = "epie", metric = "position_error_affine_median_px", \
per = "nothing", comparator = "<=", value = 0.1 }
S2 = { says = "s", place = "p", task = "wrong_distance", run = "epie", metric = "distance_error_relative", \
comparator = "<=", value = 0.01 }
S3 = { says = "s", place = "p", task = "wrong_distance", run = "epie", metric = "ssim_phase", \
other_metric = "distance_error_relative", reduce = "rank_correlation", comparator = "<=", value = -0.8 }
S4 = { says = "s", place = "p", task = "wrong_distance", run = "epie", metric = "distance_error_relative", \
until = 0.1, points = [0.1], against = { points = [0.3] }, comparator = "better_than:epie" }
S5 = { says = "s", place = "p", needs = ["method:autodiff"], task = "position_jitter", run = "autodiff", \
metric = "r_factor", epoch = 200, comparator = "better_than:crop" }
S6 = { says = "s", place = "p", needs = ["experiment: the paper's measurement"] }
"""


def test_claims_of_other_papers_can_be_said() -> None:
    found = read_paper(tomllib.loads(TO_COME), "to_come", "to_come.toml")
    settled = {one.claim.id: one for one in cases(Laboratory(found, "small", "dev", [0, 1], "cpu"), list(found.claims))}
    runnable = {name for name, one in settled.items() if one.missing is None}
    assert runnable == {"S1", "S2", "S3", "S4"}
    assert settled["S6"].missing == "needs the paper's measurement"
    first, second = (settled["S4"].trials[0].own, settled["S4"].trials[0].other or [])
    assert [one.point for one in (*first, *second)] == [0.1, 0.3]
    assert "method new:poisson" in str(settled["D1"].missing)
    metric = {"needs": ["metric:periodic_artefact"]}
    later = {name: one.model_copy(update=metric) for name, one in found.claims.items()}
    later_found = replace(found, claims=later)
    assert "metric periodic_artefact" in str(
        cases(Laboratory(later_found, "small", "dev", [0], "cpu"), ["D4"])[0].missing
    )
