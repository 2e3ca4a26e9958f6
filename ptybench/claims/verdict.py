"""Verdicts: whether what was measured over the seeds supports a claim, contradicts it, or neither.

Each check becomes one *margin* a seed, by how much the claim holds there: ``value - 5`` for ``>= 5``, the paired
difference of two runs for ``better_than``. Seeds are the specimens (with scan and noise) of the problem, so margins of
different seeds are independent. Two one-sided tests at the level :data:`ALPHA`:

* *reproduced* where "the mean margin is 0 or less" is refused,
* *not reproduced* where "the mean margin is 0 or more" is refused,
* *inconclusive* where neither is.

The test is Student's on the margins (intervals in tables are two-sided at ``1 - 2 ALPHA``, so that a verdict can be
read off that of the margin). Three seeds are enough for it if the difference is large; the exact signed-rank test can
refuse nothing below five. It takes over where a run failed, which has no finite margin. A claim of several checks is
reproduced where each of them is (an intersection-union test, which needs no correction: Berger, Technometrics 24, 295,
1982, 10.1080/00401706.1982.10487790), and not reproduced where one of them is not after Holm's correction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ptybench.claims.paper import STRICT, Check
from ptybench.claims.reading import Reading, better
from ptybench.leaderboard.statistics import holm, one_sided_p, student_interval

ALPHA = 0.05

Verdict = Literal["reproduced", "not reproduced", "inconclusive", "not testable here"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "not reproduced", "inconclusive", "not testable here")


@dataclass(frozen=True)
class Outcome:
    """What came of one check.

    Args:
        verdict: of this check alone.
        why: in a few words, where the numbers do not say it.
        margins: seed → by how much it holds; ``None`` where that is open, or only a bound of it is known.
        p_for: chance of margins as favourable as these if the claim held nowhere but on the edge.
        p_against: the same the other way round.

    """

    verdict: Verdict
    why: str
    margins: dict[int, float | None]
    p_for: float | None = None
    p_against: float | None = None


def outcome(check: Check, own: dict[int, Reading | None], other: dict[int, Reading | None] | None) -> Outcome:
    """Judge one check.

    Args:
        check: what is to hold.
        own: seed → what was measured; already divided where the check says ``per``.
        other: seed → the other run's, where the comparator has one.

    """
    margins = {
        seed: seed_margins(check, reading, None if other is None else other[seed]) for seed, reading in own.items()
    }
    shown = {seed: None if one is None else _least(one) for seed, one in margins.items()}
    undecided = [seed for seed, one in margins.items() if one is None]
    if undecided:
        return Outcome("inconclusive", f"open on seed {', '.join(map(str, undecided))}", shown)
    known = [one for one in margins.values() if one is not None]
    strict = check.relation in STRICT
    if check.relation == "equals" or check.card is not None:  # about every single run, or no run: nothing is random
        holds = all(margin.low > 0 or (margin.low == 0 and not strict) for one in known for margin in one)
        return Outcome("reproduced" if holds else "not reproduced", "", shown)
    if len(known) < 2:
        return Outcome("inconclusive", "one seed tells no spread", shown)
    columns = list(zip(*known, strict=True))
    # of two bounds both must hold, and one that is broken is enough: twice its p-value for two chances to be wrong;
    # of a margin that is only bounded each test takes the end that speaks against what it would show
    p_for = max(p_positive([one.low for one in column], strict) for column in columns)
    p_against = min(1.0, len(columns) * min(p_negative([one.high for one in column], strict) for column in columns))
    return Outcome(_verdict(p_for, p_against), "", shown, p_for, p_against)


def _verdict(p_for: float, p_against: float) -> Verdict:
    if p_for <= ALPHA:
        return "reproduced"
    return "not reproduced" if p_against <= ALPHA else "inconclusive"


def seed_margins(check: Check, own: Reading | None, other: Reading | None) -> tuple[Reading, ...] | None:
    """Return by how much a check holds on one seed, of ``within`` on either side; ``None`` where its sign is open."""
    if own is None or (other is None and check.relation in ("better_than", "not_worse_than", "close_to", "equals")):
        return None
    value, tolerance = check.value or 0.0, check.tolerance or 0.0
    target = other if other is not None else Reading.of(value)
    difference = own - target
    if difference is None:
        return None
    if check.relation in ("within", "close_to", "equals"):
        return _settled(_above(difference, -tolerance), _above(-difference, -tolerance))
    downwards = check.relation.endswith("_than") and better(check.side) < 0
    if downwards or check.relation in ("<", "<="):
        difference = -difference
    least = value if check.relation == "better_than" else -tolerance
    return _settled(_above(difference, least))


def _above(reading: Reading, least: float) -> Reading:
    return Reading(reading.low - least, reading.high - least)


def _settled(*margins: Reading) -> tuple[Reading, ...] | None:
    """The margins, where the sign of each is certain."""
    return margins if all(one.low == one.high or one.low > 0 or one.high < 0 for one in margins) else None


def _least(margins: Sequence[Reading]) -> float | None:
    """The least of some margins, where all are known."""
    return min(one.low for one in margins) if all(one.low == one.high for one in margins) else None


def p_positive(margins: Sequence[float], strict: bool) -> float:
    """Return the p-value against "the mean margin is 0 or less"; margins that are all 0 hold unless ``strict``."""
    if not any(margins):
        return 1.0 if strict else 0.0
    return one_sided_p(margins)


def p_negative(margins: Sequence[float], strict: bool) -> float:
    """Return the p-value against "the mean margin is 0 or more"; see :func:`p_positive`."""
    if not any(margins):
        return 0.0 if strict else 1.0
    return one_sided_p([-one for one in margins])


def claim_verdict(outcomes: Sequence[Outcome]) -> Verdict:
    """Return the verdict on a claim of several checks."""
    if not outcomes:
        return "not testable here"
    verdicts = [one.verdict for one in outcomes]
    if all(verdict == "reproduced" for verdict in verdicts):
        return "reproduced"
    flat = [one for one in outcomes if one.p_against is None]
    if any(one.verdict == "not reproduced" for one in flat):
        return "not reproduced"
    against = [one.p_against for one in outcomes if one.p_against is not None]
    if any(p <= ALPHA for p in holm(against)):
        return "not reproduced"
    return "not testable here" if "not testable here" in verdicts else "inconclusive"


def interval(values: Sequence[float | None]) -> tuple[float, float] | None:
    """Return the two-sided interval of a mean that belongs to the tests, ``None`` where a value is open or infinite."""
    known = [one for one in values if one is not None and math.isfinite(one)]
    return student_interval(known, 1 - 2 * ALPHA) if len(known) == len(values) else None
