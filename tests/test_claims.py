"""Claims: what a file may say, what is read off records, and verdicts that cannot contradict themselves."""

from __future__ import annotations

import itertools
import json
import math
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from ptybench.claims.cells import Laboratory
from ptybench.claims.figures import draw
from ptybench.claims.paper import COMPARATORS, Check, Paper, Side, load_paper, read_paper, with_options
from ptybench.claims.reading import Reading, better, curve_at, rank_correlation, read, reduced, win_rate
from ptybench.claims.results import cases, cells_of, judged, measure
from ptybench.claims.verdict import ALPHA, Outcome, claim_verdict, interval, outcome, seed_margins
from ptybench.claims.words import check_words
from ptybench.cli import main
from ptybench.errors import InvalidData, PtybenchError, UnknownName, UsageError
from ptybench.leaderboard.hypermap import maps_of
from ptybench.leaderboard.statistics import one_sided_p, signed_rank_p, signed_rank_tails, student_interval
from ptybench.records import Provenance, Record, TracePoint
from ptybench.registry import load_task

FINITE = st.floats(-1e3, 1e3).map(lambda x: round(x, 6))
SEEDS = st.integers(2, 8)


def check(comparator: str, **fields: Any) -> Check:
    return Check(**({"task": "low_dose", "run": "a", "metric": "frc_truth_area", "comparator": comparator} | fields))


def readings(values: Sequence[float | Reading | None]) -> dict[int, Reading | None]:
    plain = [one if one is None or isinstance(one, Reading) else Reading.of(one) for one in values]
    return dict(enumerate(plain))


def verdict_of(comparator: str, own: Sequence[Any], other: Sequence[Any] | None = None, **fields: Any) -> str:
    return outcome(check(comparator, **fields), readings(own), None if other is None else readings(other)).verdict


# --- verdicts --------------------------------------------------------------------------------------------------------

PAIRS = SEEDS.flatmap(lambda n: st.tuples(*[st.lists(FINITE, min_size=n, max_size=n)] * 2))


@given(PAIRS, st.floats(0, 10), st.sampled_from(["frc_truth_area", "nrmse_complex"]))
def test_a_comparison_and_its_reverse_are_never_both_reproduced(
    pair: tuple[list[float], list[float]], by: float, metric: str
) -> None:
    first, second = pair
    both = [verdict_of("better_than:b", *two, value=by, metric=metric) for two in ((first, second), (second, first))]
    assert both.count("reproduced") < 2
    if by == 0 and "reproduced" in both:
        assert sorted(both) == ["not reproduced", "reproduced"]


@given(PAIRS)
def test_better_depends_on_the_direction_of_the_metric(pair: tuple[list[float], list[float]]) -> None:
    first, second = pair
    assert verdict_of("better_than:b", first, second) == verdict_of(
        "better_than:b", second, first, metric="nrmse_complex"
    )
    assert verdict_of("better_than:b", first, second) == verdict_of(
        "better_than:b", second, first, reduce="range", points=[1, 2]
    )


@given(PAIRS, st.floats(0, 100), st.permutations(range(8)))
def test_the_order_of_the_seeds_and_a_shift_of_both_do_not_matter(
    pair: tuple[list[float], list[float]], shift: float, order: list[int]
) -> None:
    own, other = (np.array(one) for one in pair)
    mixed = [place for place in order if place < len(own)]
    before = outcome(check("better_than:b"), readings(own.tolist()), readings(other.tolist()))
    after = outcome(check("better_than:b"), readings(own[mixed].tolist()), readings(other[mixed].tolist()))
    assert before.verdict == after.verdict
    assume(before.p_for is not None and min(abs(before.p_for - ALPHA), abs(before.p_for - 1 + ALPHA)) > 1e-3)
    assume(np.std(own - other) > 1e-3)
    moved = outcome(check("better_than:b"), readings((own + shift).tolist()), readings((other + shift).tolist()))
    assert moved.verdict == before.verdict


@given(st.lists(FINITE, min_size=2, max_size=8), FINITE, st.floats(0, 100))
def test_what_holds_by_a_margin_holds_more_easily(values: list[float], value: float, less: float) -> None:
    first = outcome(check(">=", value=value), readings(values), None)
    second = outcome(check(">=", value=value - less), readings(values), None)
    if first.verdict == "reproduced":
        assert second.verdict == "reproduced"
    if second.verdict == "not reproduced":
        assert first.verdict == "not reproduced"


@given(st.lists(FINITE, min_size=2, max_size=8), FINITE)
def test_at_least_and_at_most_are_never_both_refused(values: list[float], value: float) -> None:
    both = [verdict_of(sign, values, value=value) for sign in (">=", "<=")]
    assert both.count("not reproduced") < 2
    if set(values) != {value}:
        assert both.count("reproduced") < 2


@given(PAIRS, st.floats(0.01, 100))
def test_close_is_symmetric_and_no_contradiction_to_not_worse(
    pair: tuple[list[float], list[float]], tolerance: float
) -> None:
    first, second = pair
    close = [verdict_of("close_to:b", *two, tolerance=tolerance) for two in ((first, second), (second, first))]
    assert close[0] == close[1]
    if close[0] == "reproduced":
        for two in ((first, second), (second, first)):
            assert verdict_of("not_worse_than:b", *two, tolerance=tolerance) == "reproduced"


@given(PAIRS, st.floats(0, 1))
def test_equal_is_said_of_every_single_seed(pair: tuple[list[float], list[float]], tolerance: float) -> None:
    first, second = pair
    holds = all(abs(a - b) <= tolerance for a, b in zip(first, second, strict=True))
    found = verdict_of("equals:b", first, second, tolerance=tolerance)
    assume(all(abs(abs(a - b) - tolerance) > 1e-9 or a == b for a, b in zip(first, second, strict=True)))
    assert found == ("reproduced" if holds else "not reproduced")
    assert verdict_of("equals:b", first, first) == "reproduced"


def test_the_examples_of_every_verdict() -> None:
    assert verdict_of("better_than:b", [0.61, 0.62, 0.63], [0.5, 0.52, 0.51]) == "reproduced"
    assert verdict_of("better_than:b", [0.5, 0.52, 0.51], [0.61, 0.62, 0.63]) == "not reproduced"
    assert verdict_of("better_than:b", [0.5, 0.7, 0.6], [0.61, 0.62, 0.63]) == "inconclusive"
    assert verdict_of("better_than:b", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]) == "not reproduced"
    assert verdict_of("not_worse_than:b", [0.5, 0.5], [0.5, 0.5], tolerance=0) == "reproduced"
    assert verdict_of("within", [0.5, 0.51, 0.49], value=0.5, tolerance=0.05) == "reproduced"
    assert verdict_of("within", [0.7, 0.71, 0.69], value=0.5, tolerance=0.05) == "not reproduced"
    assert verdict_of("within", [0.4, 0.6], value=0.5, tolerance=0.05) == "inconclusive"
    assert verdict_of(">=", [0.9], value=0.5) == "inconclusive", "one seed tells no spread"
    assert verdict_of(">=", [0.9, None, 0.9], value=0.5) == "inconclusive", "a run is missing"


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("comparator", ["better_than:b", "close_to:b"])
def test_a_claim_on_the_edge_is_rarely_decided(n: int, comparator: str) -> None:
    """The level is held where the claim is just not true: for a difference of 0, and of the tolerance."""
    rng, draws = np.random.default_rng(n), 1500
    edge = 0.0 if comparator.startswith("better") else 100.0
    wrong = {"reproduced": 0, "not reproduced": 0, "inconclusive": 0}
    for _ in range(draws):
        found = verdict_of(comparator, rng.normal(edge, 1, n).tolist(), [0.0] * n, tolerance=100.0)
        wrong[found] += 1
    allowed = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / draws)
    assert wrong["reproduced"] / draws < allowed
    assert wrong["not reproduced"] / draws < allowed


@given(st.lists(FINITE, min_size=2, max_size=8))
def test_the_test_is_that_of_scipy_and_agrees_with_its_interval(values: list[float]) -> None:
    assume(np.std(values) > 1e-6)
    p = one_sided_p(values)
    assert p == pytest.approx(stats.ttest_1samp(values, 0, alternative="greater").pvalue, rel=1e-6)
    low, high = student_interval(values, 1 - 2 * ALPHA) or (0.0, 0.0)
    assume(min(abs(low), abs(high)) > 1e-6)
    assert (low > 0) == (p < ALPHA)
    assert (high < 0) == (one_sided_p([-one for one in values]) < ALPHA)


@given(st.lists(FINITE, min_size=1, max_size=9, unique_by=abs))
def test_tails_of_the_signed_rank_test(values: list[float]) -> None:
    assume(0 not in values)
    expected = [stats.wilcoxon(values, alternative=side, method="exact").pvalue for side in ("less", "greater")]
    assert signed_rank_tails(values) == pytest.approx(expected)
    assert signed_rank_p(values) == pytest.approx(min(1.0, 2 * min(expected)))


# --- runs that failed, and values beyond the budget ------------------------------------------------------------------

FAILED = Reading.of(-math.inf)  # the worst of a metric of which more is better


def test_failures_count_against_the_run_that_fails() -> None:
    assert verdict_of("better_than:b", [FAILED] * 3, [0.5, 0.6, 0.7]) == "not reproduced"
    assert verdict_of("better_than:b", [0.5, 0.6, 0.7], [FAILED] * 3) == "reproduced"
    assert verdict_of("better_than:b", [FAILED] * 3, [FAILED] * 3) == "inconclusive"
    # one failure among three is no certainty, among many wins neither
    assert verdict_of("better_than:b", [FAILED, 0.9, 0.9], [0.5] * 3) == "inconclusive"
    assert verdict_of("better_than:b", [0.9, 0.91, 0.92, 0.93, 0.94, 0.95], [FAILED] + [0.5] * 5) == "reproduced"


def test_what_is_only_known_to_lie_beyond_is_used_where_its_sign_is_certain() -> None:
    never = Reading(300, math.inf)
    until = {"until": 0.95, "metric": "frc_truth_area"}
    assert verdict_of("better_than:b", [40, 50, 45], [never] * 3, **until) == "reproduced"
    assert verdict_of("better_than:b", [never] * 3, [40, 50, 45], **until) == "not reproduced"
    assert verdict_of("better_than:b", [never] * 3, [never] * 3, **until) == "inconclusive"
    half = check("<=", value=0.5, per="b", **until)
    assert seed_margins(half, Reading.of(40) / never, None) == (0.5 - 40 / 300,)
    assert seed_margins(half, Reading.of(200) / never, None) is None, (
        "200 of more than 300 may be more than half, or less"
    )
    assert seed_margins(half, never / Reading.of(40), None) == (0.5 - 300 / 40,)


@given(st.tuples(FINITE, FINITE), st.tuples(FINITE, FINITE), st.floats(0, 1), st.floats(0, 1))
def test_bounds_hold_whatever_the_numbers_are(
    a: tuple[float, float], b: tuple[float, float], x: float, y: float
) -> None:
    first, second = (Reading(min(one), max(one)) for one in (a, b))
    p, q = (one.low + share * (one.high - one.low) for one, share in ((first, x), (second, y)))
    difference = first - second
    assert difference is not None
    assert difference.low - 1e-6 <= p - q <= difference.high + 1e-6
    ratio = first / second
    if ratio is not None:
        assert ratio.low - 1e-6 <= p / q <= ratio.high * (1 + 1e-9) + 1e-6


def test_claims_of_several_checks() -> None:
    def of(verdict: Any, p_against: float | None = 0.5) -> Outcome:
        return Outcome(verdict, "", {}, 0.01, p_against)

    yes, open_, no = of("reproduced"), of("inconclusive"), of("not reproduced", 0.01)
    assert claim_verdict([yes, yes]) == "reproduced"
    assert claim_verdict([yes, open_]) == "inconclusive"
    assert claim_verdict([yes, no]) == "not reproduced"
    # with twenty chances to find something against it, one in a hundred is none
    assert claim_verdict([no, *[yes] * 19]) == "inconclusive"
    assert claim_verdict([yes, of("not reproduced", None)]) == "not reproduced"
    assert claim_verdict([]) == "not testable here"


# --- records ---------------------------------------------------------------------------------------------------------


def record(seed: int = 0, method: str = "a", status: Any = "ok", **fields: Any) -> Record:
    trace = fields.pop("trace", [])
    return Record(
        key=f"{seed:064x}",
        status=status,
        seed=seed,
        method=method,
        method_version="1",
        device="cpu",
        epochs=trace[-1].epoch if trace else 0,
        trace=trace,
        provenance=Provenance(package_version="0", code_hash="0"),
        created="2026-01-01",
        **fields,
    )


def points(values: dict[int, float], metric: str = "frc_truth_area") -> list[TracePoint]:
    return [TracePoint(epoch=epoch, seconds=0.1 * epoch, metrics={metric: value}) for epoch, value in values.items()]


def side(**fields: Any) -> Side:
    return Side(**({"task": "low_dose", "run": "a", "metric": "frc_truth_area"} | fields))


def test_a_run_is_read_at_its_end_at_an_epoch_or_at_a_second() -> None:
    one = record(trace=points({10: 0.3, 20: 0.5, 40: 0.6}))
    assert read(one, side()) == Reading.of(0.6)
    assert read(one, side(epoch=20)) == Reading.of(0.5)
    assert read(one, side(epoch=30)) is None, "no checkpoint there"
    assert read(one, side(epoch=100)) == Reading.of(0.6), "it had converged before"
    assert read(one, side(seconds=2.5)) == Reading.of(0.5)
    assert read(one, side(seconds=0.5)) is None
    assert read(None, side()) is None
    assert read(record(status="killed"), side()) is None
    assert read(record(status="diverged"), side()) == FAILED
    assert read(record(status="timeout"), side(metric="nrmse_complex")) == Reading.of(math.inf)


def test_epochs_and_seconds_until_a_value() -> None:
    one = record(trace=points({10: 0.3, 20: 0.5, 40: 0.6}))
    assert read(one, side(until=0.55)) == Reading.of(pytest.approx(30))
    assert read(one, side(until=0.55, counted_in="seconds")) == Reading.of(pytest.approx(3.0))
    assert read(one, side(until=0.2)) == Reading.of(10), "no later than its first checkpoint"
    assert read(one, side(until=0.7)) == Reading(40, math.inf)
    assert read(record(status="diverged"), side(until=0.5)) == Reading.of(math.inf)
    falling = record(trace=points({1: 4.0, 3: 2.0}, "nrmse_complex"))
    assert read(falling, side(until=3.0, metric="nrmse_complex")) == Reading.of(pytest.approx(2))
    assert better(side(until=0.5)) == -1


@given(st.lists(st.floats(0, 1), min_size=2, max_size=10), st.floats(0, 1), st.floats(0, 1))
def test_a_harder_goal_is_reached_later(values: list[float], first: float, second: float) -> None:
    one = record(trace=points(dict(enumerate(values, 1))))
    easy, hard = (read(one, side(until=goal)) for goal in sorted((first, second)))
    assert easy is not None
    assert hard is not None
    assert easy.low <= hard.low + 1e-9
    if hard.value is not None:
        assert easy.value is not None


def test_the_correlation_at_a_frequency() -> None:
    point = TracePoint(epoch=5, metrics={"frc_truth_area": 0.5}, frc_truth=[1.0, 0.5, 0.0])
    one = record(trace=[point], frc_frequency=[1e6, 2e6, 3e6])
    assert curve_at(one, point, 1.5e6) == pytest.approx(0.75)
    assert read(one, side(metric="frc_truth", frequency_per_um=2.5)) == Reading.of(pytest.approx(0.25))
    assert read(one, side(metric="frc_truth", frequency_per_um=3.5)) is None
    again = Record.model_validate(one.document())
    assert again.trace[0].frc_truth == [1.0, 0.5, 0.0]
    assert "frc_frequency" not in record(trace=points({1: 0.5})).document()


def test_reductions() -> None:
    values = [Reading.of(0.8), Reading.of(0.5), Reading.of(0.6)]

    def of(how: str, **fields: Any) -> float | None:
        found = reduced(values, side(reduce=how, points=[1, 2, 3], **fields))
        return None if found is None else found.value

    assert of("mean") == pytest.approx(1.9 / 3)
    assert of("best") == 0.8
    assert of("worst") == 0.5
    assert of("best", metric="nrmse_complex") == 0.5
    assert of("range") == pytest.approx(0.3)
    assert of("spread") == pytest.approx(np.std([0.8, 0.5, 0.6], ddof=1))
    assert of("loss") == pytest.approx(0.2)
    assert of("loss", metric="nrmse_complex") == pytest.approx(-0.2)
    broken = reduced([Reading.of(0.8), FAILED], side(reduce="loss", points=[1, 2]))
    assert broken == Reading.of(math.inf)
    assert reduced([Reading.of(0.8), None], side(reduce="mean", points=[1, 2])) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_win_rates_of_both_sides_add_up_to_one(first: list[float], second: list[float]) -> None:
    a, b = ([Reading.of(one) for one in values] for values in (first, second))
    both = [win_rate(*two, side(reduce="win_rate:b", vary="grid"), False) for two in ((a, b), (b, a))]
    assert sum(one.low for one in both if one is not None) == pytest.approx(1)
    wins = sum((x > y) + 0.5 * (x == y) for x, y in itertools.product(first, second))
    assert both[0] == Reading.of(pytest.approx(wins / len(first) / len(second)))


def test_rank_correlation_over_the_epochs() -> None:
    trace = [
        TracePoint(epoch=epoch, metrics={"ssim_phase": epoch / 10, "distance_error_relative": 1 / epoch})
        for epoch in range(1, 9)
    ]
    one = record(trace=trace)
    assert rank_correlation(one, "ssim_phase", "distance_error_relative") == pytest.approx(-1)
    assert rank_correlation(record(trace=trace[:2]), "ssim_phase", "distance_error_relative") is None


def test_costs_are_those_of_an_epoch() -> None:
    one = record(trace=points({10: 0.3})).model_copy(update={"epochs": 20})
    one = one.model_copy(update={"cost": one.cost.model_copy(update={"solver_seconds": 4.0, "ffts": 100})})
    assert read(one, side(metric="seconds_per_epoch")) == Reading.of(0.2)
    assert read(one, side(metric="ffts_per_epoch")) == Reading.of(5)


# --- files -----------------------------------------------------------------------------------------------------------

FILE = """
[paper]
title = "A trial"
authors = "N. N."
journal = "None"
year = 2026
doi = "10.0/none"

[tasks.base]
title = "A small task"
asks = "Does it run?"
source = "nobody"
primary_metric = "frc_truth_area"
specimen = { kind = "particles" }
probe = { kind = "aperture", numerical_aperture = 9e-4, defocus_m = 3.67e-4 }
scan = { overlap = 0.6, grid = [3, 3] }
geometry = { distance_m = 1.0 }
dose = { photons = 1e5 }
budget = { epochs = 3, trace = [1, 2], curves = [2, 3] }

[tasks.bright]
like = "base"
dose = { photons = 1e6 }

[tasks.thin]
like = "bright"
scan = { overlap = 0.75, grid = [5, 5] }
ladder = { name = "every", field = "scan.every", values = [1, 2] }

[runs.a]
method = "epie"
options = { alpha = 0.5 }
on.bright = { alpha = 0.7 }
grid = { alpha = [0.2, 0.9], beta = [0.5, 1.0] }

[runs.b]
method = "rpie"
grid = { alpha = [0.2, 0.9], beta = [0.5, 1.0] }

[claims.first]
says = "a is better than nothing"
place = "here"
task = "base"
run = "a"
metric = "frc_truth_area"
checks = [
    { comparator = ">=", value = -1 },
    { comparator = "equals:a", epoch = 2, against = { epoch = 2 } },
    { metric = "frc_truth", frequency_per_um = 1.0, comparator = "<=", value = 1 },
]

[claims.second]
says = "a is as good as b on every setting"
place = "there"
task = "bright"
run = "a"
metric = "frc_truth_half_nyquist"
vary = "grid"
checks = [{ reduce = "win_rate:b", comparator = ">=", value = 0 }, { reduce = "spread", comparator = "<=", value = 9 }]

[claims.third]
says = "thin scans cost nothing"
place = "nowhere"
task = "thin"
run = "a"
metric = "frc_truth_area"
points = [1, 2]
reduce = "loss"
comparator = "<="
value = 2

[claims.later]
says = "a method to come"
place = "nowhere"
needs = ["method:no_such_method"]
task = "base"
run = "a"
metric = "frc_truth_area"
comparator = ">="
value = 0

[tiers.paper]
runs.a.grid.alpha = [0.1, 0.2, 0.3]
"""


def paper(text: str = FILE, tier: Any = "small") -> Paper:
    return read_paper(tomllib.loads(text), "trial", "trial.toml", tier)


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
    ],
)
def test_mistakes_get_one_sentence(old: str, new: str, sentence: str) -> None:
    assert old in FILE
    with pytest.raises(UsageError) as caught:
        paper(FILE.replace(old, new, 1))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


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
    monkeypatch.setattr("ptybench.claims.cells.weights_folder", lambda: tmp_path)
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


def test_a_paper_that_does_not_exist() -> None:
    with pytest.raises(UnknownName, match="did you mean 'pine'"):
        load_paper("pin")
    with pytest.raises(InvalidData, match="cannot read"):
        load_paper("no_such.toml")


def test_there_is_a_sentence_for_every_comparator() -> None:
    for name in COMPARATORS:
        comparator = name if name in (">=", "<=", "within") else f"{name}:b"
        assert "low_dose" in check_words(check(comparator, value=0.5, tolerance=0.1))


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
"""
    )
    laboratory = Laboratory(paper(text), "small", "dev", [0, 1], "cpu")
    found = cases(laboratory, ["first", "second", "third", "speed"])
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
