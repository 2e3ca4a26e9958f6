"""What a comparison of two commits says, of quality and of speed: no data, noisy, regressed or ok.

One rule for both. Something may be worse than before by a stated tolerance. It is *regressed* where a test shows that
it is worse by more than that, *ok* where a test shows that it is not, and *noisy* where neither can be shown: there are
too few runs, or they spread too widely. So a regression is always both significant and larger than the tolerance, and
what could hide one is never called ok. Only *regressed* fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from enum import StrEnum

#: Chance of a false verdict; for *regressed* that of any among all things compared (Holm).
LEVEL = 0.05


class Verdict(StrEnum):
    """What can be said, the worst first."""

    REGRESSED = "regressed"
    NOISY = "noisy"
    NO_DATA = "no data"
    OK = "ok"


def verdict_of(worse: float, fine: float) -> Verdict:
    """Return the verdict of two tests.

    Args:
        worse: p-value of "worse by more than the tolerance", corrected for the number of comparisons.
        fine: p-value of "not worse by more than the tolerance".

    """
    if worse <= LEVEL:
        return Verdict.REGRESSED
    return Verdict.OK if fine <= LEVEL else Verdict.NOISY


def overall(verdicts: Collection[Verdict]) -> Verdict:
    """Return the one verdict of many: the worst of what could be compared, *no data* where nothing could be."""
    compared = [verdict for verdict in Verdict if verdict != Verdict.NO_DATA and verdict in verdicts]
    return compared[0] if compared else Verdict.NO_DATA


def summary(what: str, verdicts: Collection[Verdict]) -> str:
    """Return the one line that says it all: ``quality: noisy (6 looked at: 1 noisy, 5 ok)``."""
    counts = Counter(verdicts)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    return f"{what}: {overall(verdicts)} ({len(verdicts)} looked at{': ' + told if told else ''})"
