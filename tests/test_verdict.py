"""Verdicts of claims: none contradicts another, the level is held, and what failed or is only bounded counts right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from papers import check
from scipy import stats

from ptybench.claims.reading import Reading
from ptybench.claims.verdict import ALPHA, Outcome, claim_verdict, outcome, seed_margins
from ptybench.leaderboard.statistics import one_sided_p, signed_rank_p, signed_rank_tails, student_interval

FINITE = st.floats(-1e3, 1e3).map(lambda x: round(x, 6))
SEEDS = st.integers(2, 8)


def readings(values: Sequence[float | Reading | None]) -> dict[int, Reading | None]:
    plain = [one if one is None or isinstance(one, Reading) else Reading.of(one) for one in values]
    return dict(enumerate(plain))


def verdict_of(comparator: str, own: Sequence[Any], other: Sequence[Any] | None = None, **fields: Any) -> str:
    return outcome(check(comparator, **fields), readings(own), None if other is None else readings(other)).verdict


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


@given(st.lists(FINITE, min_size=2, max_size=8), FINITE)
def test_more_than_is_the_contrary_of_at_most(values: list[float], value: float) -> None:
    contrary = {"reproduced": "not reproduced", "not reproduced": "reproduced", "inconclusive": "inconclusive"}
    for sign, opposite in ((">", "<="), ("<", ">=")):
        assert verdict_of(sign, values, value=value) == contrary[verdict_of(opposite, values, value=value)]


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
    assert [verdict_of(sign, [0.5, 0.5], value=0.5) for sign in (">=", "<=")] == ["reproduced"] * 2
    assert [verdict_of(sign, [0.5, 0.5], value=0.5) for sign in (">", "<")] == ["not reproduced"] * 2
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
    edge, fields = (0.0, {}) if comparator.startswith("better") else (100.0, {"tolerance": 100.0})
    wrong = {"reproduced": 0, "not reproduced": 0, "inconclusive": 0}
    for _ in range(draws):
        found = verdict_of(comparator, rng.normal(edge, 1, n).tolist(), [0.0] * n, **fields)
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
    assert seed_margins(half, Reading.of(40) / never, None) == (Reading(0.5 - 40 / 300, 0.5),)
    assert seed_margins(half, Reading.of(200) / never, None) is None, (
        "200 of more than 300 may be more than half, or less"
    )
    assert seed_margins(half, never / Reading.of(40), None) == (Reading(-math.inf, 0.5 - 300 / 40),)
    found = outcome(check("better_than:b", **until), readings([40, 50, never]), readings([never, never, 60]))
    assert found.margins == {0: None, 1: None, 2: None}, "a bound is no margin"


def test_a_bound_says_nothing_against_what_may_be_far_better() -> None:
    """Seven small losses and one win of at least 1: that may be a win of a million."""
    until: dict[str, Any] = {"until": 0.95, "metric": "frc_truth_area"}
    own, other = [11.0] * 4 + [12.0] * 3 + [299.0], [10.0] * 7
    assert verdict_of("better_than:b", own, [*other, 300.0], **until) == "not reproduced"
    assert verdict_of("better_than:b", own, [*other, Reading(300, math.inf)], **until) == "inconclusive"
    assert verdict_of("better_than:b", [*other, Reading(300, math.inf)], own, **until) == "inconclusive"


@given(PAIRS, st.floats(0, 1e3), st.lists(st.booleans(), min_size=8, max_size=8))
def test_what_is_reproduced_with_bounds_holds_whatever_they_hide(
    pair: tuple[list[float], list[float]], more: float, open_: list[bool]
) -> None:
    until: dict[str, Any] = {"until": 0.95, "metric": "frc_truth_area"}
    own, other = pair
    bounded = [Reading(b, math.inf) if one else b for b, one in zip(other, open_, strict=False)]
    found = outcome(check("better_than:b", **until), readings(own), readings(bounded))
    true = [b + more if one else b for b, one in zip(other, open_, strict=False)]
    if found.verdict == "reproduced":
        assert np.mean(np.array(true) - own) > 0


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
