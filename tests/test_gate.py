"""The gates: what is said of two commits, by the rule that quality and speed share."""

# ruff: noqa: E402 - the path comes before the import from it
from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from test_leaderboard import METRIC, record, runs

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import speed_gate

from ptybench.cli import main
from ptybench.errors import InvalidOption
from ptybench.leaderboard.gate import Compared, gate
from ptybench.leaderboard.statistics import signed_rank_p, signed_rank_tails
from ptybench.leaderboard.verdicts import LEVEL, Verdict, overall, summary, verdict_of
from ptybench.records import Record, Store, folder_of

OK, NOISY, REGRESSED, NO_DATA = Verdict.OK, Verdict.NOISY, Verdict.REGRESSED, Verdict.NO_DATA
values = st.lists(st.floats(0.1, 0.9), min_size=5, max_size=9)
pairs = st.lists(st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)), min_size=1, max_size=9)


def one(base: list[Record], head: list[Record], **more: Any) -> Compared:
    (found,) = gate(base, head, **more)
    return found


# --- the rule --------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1, 1).filter(lambda d: abs(d) > 1e-6), min_size=1, max_size=12, unique_by=abs))
def test_tails_are_those_of_scipy(differences: list[float]) -> None:
    below, above = signed_rank_tails(differences)
    assert below == pytest.approx(stats.wilcoxon(differences, alternative="less", method="exact").pvalue)
    assert above == pytest.approx(stats.wilcoxon(differences, alternative="greater", method="exact").pvalue)
    assert signed_rank_p(differences) == pytest.approx(min(1, 2 * min(below, above)))


def test_the_worst_of_what_could_be_compared_counts() -> None:
    assert overall([]) == overall([NO_DATA]) == NO_DATA
    assert overall([OK, NO_DATA]) == OK
    assert overall([OK, NOISY, NO_DATA]) == NOISY
    assert overall([OK, NOISY, REGRESSED]) == REGRESSED
    assert summary("speed", [OK, NOISY, OK]) == "speed: noisy (3 looked at: 1 noisy, 2 ok)"
    assert [verdict_of(0.01, 0.9), verdict_of(0.9, 0.01), verdict_of(0.9, 0.3)] == [REGRESSED, OK, NOISY]


# --- quality ---------------------------------------------------------------------------------------------------------


@given(values)
def test_the_same_runs_are_ok(found: list[float]) -> None:
    same = one(runs("epie", [*found]), runs("epie", [*found]))
    assert (same.verdict, same.gain) == (OK, 0)


@given(values, st.sampled_from(["higher", "lower"]))
def test_all_seeds_worse_by_more_than_the_tolerance_is_a_regression_and_the_other_way_round_is_ok(
    found: list[float], direction: str
) -> None:
    factor = 0.5 if direction == "higher" else 2.0
    good = runs("epie", [*found], direction=direction)
    bad = runs("epie", [v * factor for v in found], direction=direction)
    lost, won = one(good, bad), one(bad, good)
    # the smallest loss is half of 0.1, more than 2 % of what the largest median can be
    assert lost.verdict == REGRESSED
    assert won.verdict == OK
    assert lost.gain == pytest.approx(-(won.gain or math.nan))


@given(pairs)
def test_swapping_turns_the_gain_around_and_never_are_both_a_regression(found: list[tuple[float, float]]) -> None:
    base, head = (runs("epie", [pair[i] for pair in found]) for i in (0, 1))
    there, back = one(base, head), one(head, base)
    assert there.gain == pytest.approx(-(back.gain or 0.0))
    assert not there.verdict == back.verdict == REGRESSED


@given(pairs)
def test_the_order_of_the_seeds_and_the_scale_do_not_matter(found: list[tuple[float, float]]) -> None:
    base, head = (runs("epie", [pair[i] for pair in found]) for i in (0, 1))
    usual = one(base, head)
    assert one(base[::-1], head[::-1]) == usual
    # the direction turned around, and every number with it
    mirrored = [runs("epie", [-pair[i] for pair in found], direction="lower") for i in (0, 1)]
    assert one(*mirrored).verdict == usual.verdict


@given(pairs, st.floats(0.001, 0.5), st.floats(1.01, 10))
def test_more_tolerance_never_makes_it_worse(found: list[tuple[float, float]], tolerance: float, more: float) -> None:
    base, head = (runs("epie", [pair[i] for pair in found]) for i in (0, 1))
    order = [REGRESSED, NOISY, OK]
    strict, loose = (one(base, head, tolerance=t).verdict for t in (tolerance, tolerance * more))
    assert order.index(strict) <= order.index(loose)


@given(st.lists(st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)), min_size=1, max_size=4))
def test_few_seeds_are_noisy_whatever_they_say(found: list[tuple[float, float]]) -> None:
    base, head = (runs("epie", [pair[i] for pair in found]) for i in (0, 1))
    few = one(base, head)
    assert few.verdict == NOISY
    assert "too few" in few.why


def test_among_many_comparisons_more_seeds_are_asked_for() -> None:
    base, head = ([r for m in "abc" for r in runs(m, [v] * 5)] for v in (0.5, 0.3))
    assert {(found.verdict, "6 can be" in found.why) for found in gate(base, head)} == {(NOISY, True)}
    base, head = ([r for m in "abc" for r in runs(m, [v] * 6)] for v in (0.5, 0.3))
    assert {found.verdict for found in gate(base, head)} == {REGRESSED}


def test_a_loss_within_the_tolerance_is_ok_and_a_spread_around_it_noisy() -> None:
    base = runs("epie", [0.5, 0.52, 0.48, 0.51, 0.49, 0.5])
    assert one(base, runs("epie", [v - 0.005 for v in (0.5, 0.52, 0.48, 0.51, 0.49, 0.5)])).verdict == OK
    assert one(base, runs("epie", [0.4, 0.62, 0.38, 0.6, 0.39, 0.6])).verdict == NOISY


def test_false_alarms_are_as_rare_as_the_level_says() -> None:
    """Changes around exactly the tolerance, four methods at a time: any regression there is a false one."""
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(100):
        base, head = [], []
        for method in range(4):
            old = rng.uniform(0.4, 0.6, 8)
            margin = 0.02 * float(np.median(old))
            base += runs(f"m{method}", old.tolist())
            head += runs(f"m{method}", (old - margin + 0.05 * rng.standard_normal(8)).tolist())
        alarms += any(found.verdict == REGRESSED for found in gate(base, head))
    # binomial, three standard deviations above 5 %
    assert alarms / 100 < LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / 100)


@pytest.mark.parametrize("status", ["diverged", "error", "timeout", "oom"])
def test_what_was_ok_and_fails_now_is_a_regression(status: str) -> None:
    base = runs("epie", [0.5] * 6)
    head = [*runs("epie", [0.5] * 5), record("epie", 5, None, status=status)]
    lost = one(base, head)
    assert lost.verdict == REGRESSED
    assert f"{status} (seed 5)" in lost.why
    assert one(head, base).verdict == OK
    undefined = [*runs("epie", [0.5] * 5), record("epie", 5, None, status="ok")]
    assert "undefined" in one(base, undefined).why


def test_what_cannot_be_compared_is_no_data() -> None:
    base = runs("epie", [0.5] * 6)
    assert one(base, []).verdict == one([], base).verdict == NO_DATA
    assert one(base, [record("epie", 9, 0.1)]).verdict == NO_DATA
    assert one(base, runs("epie", [0.1] * 6, task_version=2)).verdict == NO_DATA
    assert one(base, runs("epie", [0.1] * 6, task_fields={"name": "made_up", "other": 1})).verdict == NO_DATA
    for status in ("skipped", "not_installed", "killed"):
        assert one(base, [record("epie", seed, None, status=status) for seed in range(6)]).verdict == NO_DATA
    failed = runs("epie", [None] * 6)
    assert one(failed, failed).verdict == NO_DATA


def test_defaults_that_changed_are_compared_and_several_variants_each_with_its_own() -> None:
    base = runs("epie", [0.5] * 6)
    assert one(base, runs("epie", [0.3] * 6, options={"alpha": 0.1}, method_version="2")).verdict == REGRESSED
    two = [*base, *runs("epie", [0.4] * 6, options={"alpha": 0.1})]
    assert [found.verdict for found in gate(two, two)] == [OK, OK]
    assert sorted(found.verdict for found in gate(base, two)) == [NO_DATA, OK]


def test_a_value_beyond_the_scale_beats_every_number() -> None:
    beyond = [record("epie", seed, None, status="ok", censored={METRIC: True}) for seed in range(6)]
    numbers = runs("epie", [0.5] * 6)
    assert one(numbers, beyond).verdict == one(beyond, beyond).verdict == OK
    assert one(beyond, numbers).verdict == REGRESSED
    assert "now: error" in one(beyond, runs("epie", [None] * 6)).why


@pytest.mark.parametrize("tolerance", [0, -1, math.inf, math.nan])
def test_a_tolerance_must_leave_room(tolerance: float) -> None:
    with pytest.raises(InvalidOption, match="above 0"):
        gate([], [], tolerance)


def test_the_command_on_runs_of_the_runner(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    base, head = str(tmp_path / "base"), str(tmp_path / "head")
    sweep = ["sweep", "--tasks", "low_overlap", "--methods", "epie", "--seeds", "0-4", "--epochs", "4"]
    assert main([*sweep, "--results", base]) == 0
    for run in Store(base).records():  # what the same runs were after their first epoch
        early = run.model_copy(update={"metrics": run.trace[0].metrics, "epochs": 1, "artifacts": {}})
        Store(head).save(folder_of(run.problem, run.method, f"seed{run.seed}", run.key), early)
    capfd.readouterr()
    assert main(["gate", base, base]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "quality: ok (1 looked at: 1 ok)"
    assert main(["gate", head, base]) == 0
    assert main(["gate", base, head]) == 1
    assert capfd.readouterr().out.splitlines()[-1].startswith("quality: regressed (1 looked at: 1")
    assert main(["gate", base, head, "--json"]) == 1
    document = json.loads(capfd.readouterr().out)
    assert (document["schema"], document["verdict"]) == ("ptybench.gate/1", "regressed")
    assert {found["pairs"] for found in document["compared"]} == {5}
    (tmp_path / "empty").mkdir()
    assert main(["gate", base, str(tmp_path / "empty")]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "quality: no data (1 looked at: 1 no data)"
    assert main(["gate", base, str(tmp_path / "nowhere")]) == 2


# --- speed -----------------------------------------------------------------------------------------------------------


def timed(seconds: float, spread: float = 0.01, count: int = 12, seed: int = 0) -> Any:
    samples = seconds * (1 + spread * np.random.default_rng(seed).standard_normal(count))
    return speed_gate.Measured(float(np.median(samples)), samples.tolist())


def verdicts(base: dict[str, Any], head: dict[str, Any], **more: Any) -> dict[str, Verdict]:
    return {found.name: found.verdict for found in speed_gate.compare(base, head, **more)}


@given(st.floats(1e-6, 10), st.floats(0.2, 5), st.integers(0, 99))
def test_a_time_is_judged_by_the_factor(seconds: float, ratio: float, seed: int) -> None:
    assume(not 1.15 < ratio < 1.35)
    found = verdicts({"time_a": timed(seconds)}, {"time_a": timed(seconds * ratio, seed=seed)})
    assert found == {"time_a": REGRESSED if ratio > speed_gate.FACTOR else OK}


def test_wide_or_few_samples_are_noisy_and_lists_are_corrected() -> None:
    wide = timed(1.0, 0.4, seed=1)
    assert verdicts({"time_a": wide}, {"time_a": timed(1.2, 0.4, seed=2)}) == {"time_a": NOISY}
    few = verdicts({"time_a": timed(1.0, count=2)}, {"time_a": timed(9.0, count=2)})
    assert few == verdicts({"time_a": timed(1.0, count=1)}, {"time_a": timed(9.0, count=1)}) == {"time_a": NOISY}
    # three samples against three: p = 1/20 alone is significant, among four it is not
    names = [f"time_{letter}" for letter in "abcd"]
    many = verdicts({n: timed(1.0, count=3) for n in names}, {n: timed(9.0, count=3) for n in names})
    assert set(many.values()) == {NOISY}
    assert verdicts({"time_a": timed(1.0, count=3)}, {"time_a": timed(9.0, count=3)}) == {"time_a": REGRESSED}


def test_failures_skips_and_memory() -> None:
    fails, skipped = speed_gate.Measured(None), speed_gate.Measured(math.nan)
    size, more = speed_gate.Measured(100.0), speed_gate.Measured(130.0)
    base = {"time_a": timed(1), "time_b": timed(1), "time_c": fails, "time_d": skipped, "time_e": timed(1)}
    head = {"time_a": fails, "time_b": skipped, "time_c": timed(1), "time_d": skipped, "time_f": timed(1)}
    assert verdicts(base, head) == {"time_a": REGRESSED} | dict.fromkeys(
        ["time_b", "time_c", "time_e", "time_f"], NO_DATA
    )
    assert verdicts({"track_memory": size}, {"track_memory": more}) == {"track_memory": REGRESSED}
    assert verdicts({"track_memory": size}, {"track_memory": more}, factor=1.4) == {"track_memory": OK}


def test_results_of_asv_are_read(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    document = {
        "commit_hash": "a" * 40,
        "result_columns": ["result", "params", "version", "samples"],
        "results": {
            "m.time_a": [[0.1, None], [["'x'", "'y'"]], "1", [[0.1, 0.1], None]],
            "m.time_b": [None, [["1", "2"]], "1"],
            "m.time_c": [[float("nan")], [], "1"],
        },
    }
    (tmp_path / "here" / "aaaaaaaa-env.json").write_text(json.dumps(document))
    found = speed_gate.read_results(tmp_path, "a" * 40)
    assert found["here: m.time_a('x')"] == speed_gate.Measured(0.1, (0.1, 0.1))
    assert {name for name, one in found.items() if one.value is None} == {
        "here: m.time_a('y')",
        "here: m.time_b(1)",
        "here: m.time_b(2)",
    }
    assert math.isnan(found["here: m.time_c"].value or 0)
    assert speed_gate.read_results(tmp_path, "b" * 40) == {}


# --- workflows -------------------------------------------------------------------------------------------------------


def test_workflows_are_valid() -> None:
    pytest.importorskip("check_jsonschema")
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    files = sorted(map(str, (ROOT / ".github" / "workflows").glob("*.yml")))
    assert len(files) == 2
    done = subprocess.run([*words, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_workflows_run_what_a_person_runs() -> None:
    lines = [
        line.strip().removeprefix("- run: ")
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for line in path.read_text().splitlines()
        if "run: " in line
    ]
    assert sorted(lines) == ['bash .ci/quality "$BASE"', "bash .ci/run", 'bash .ci/speed "$BASE"']
    documents = (ROOT / "docs" / "benchmarks.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    for line in lines:
        assert line.replace('"$BASE"', "main") in documents
    for name in ("quality", "speed", "run"):
        assert subprocess.run(["bash", "-n", str(ROOT / ".ci" / name)], check=False).returncode == 0
