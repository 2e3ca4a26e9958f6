"""The quality gate: whether a commit is worse than the one that it starts from, on the same cells and seeds.

Runs of two commits on one seed share specimen, probe, scan and noise, so what is tested is the *difference* per seed.
A method is compared with itself: on the same task, field by field, at the same point, tier, domain and device. Where
each commit has one variant of it (its defaults, say, which one of them changed) these two are compared, else those with
equal options and budget. A cell that ended well before and fails now is a regression whatever the other seeds say.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ptybench.errors import InvalidOption
from ptybench.leaderboard.statistics import holm, signed_rank_tails
from ptybench.leaderboard.variants import Variant, problem_of, variant_of
from ptybench.leaderboard.verdicts import LEVEL, Verdict, verdict_of
from ptybench.readable import number
from ptybench.records import Record

#: How much worse the median may become, as a share of it.
TOLERANCE = 0.02
#: Statuses that say nothing about the code.
SILENT = frozenset({"skipped", "not_installed", "killed"})
#: Room for rounding where the median is 0.
ROUNDING = 1e-12


class Place(NamedTuple):
    """What is compared: a method somewhere."""

    problem: str
    point: float | None
    tier: str | None
    domain: str | None
    device: str
    method: str

    def __str__(self) -> str:
        where = self.problem if self.point is None else f"{self.problem} {self.point:g}"
        return f"{where} · {self.method}"


@dataclass(frozen=True)
class Compared:
    """A method of two commits on the same seeds.

    Args:
        name: of task, point and method, and what else tells it from others.
        metric: what was compared, the primary metric of the base.
        pairs: seeds that both have a result on.
        base, head: medians of the finished ones; ``None`` where there is none.
        gain: median over the seeds of how much better the head is, in the metric's unit; below 0 it is worse.
        margin: how much worse it may be, in the metric's unit.
        worse: p-value, corrected for all comparisons, of being worse by more than the margin.
        fine: p-value of not being worse by more than that.
        verdict: what follows.
        why: in a few words.

    """

    name: str
    verdict: Verdict
    why: str
    metric: str | None = None
    pairs: int = 0
    base: float | None = None
    head: float | None = None
    gain: float | None = None
    margin: float | None = None
    worse: float | None = None
    fine: float | None = None


def gate(base: Iterable[Record], head: Iterable[Record], tolerance: float = TOLERANCE) -> list[Compared]:
    """Compare the records of two commits.

    Args:
        base: records of the commit that was there before.
        head: records of the one that is judged.
        tolerance: how much worse the median of the primary metric may be, as a share of the base's.

    Returns:
        One entry for each method and place that either has records of; see :mod:`ptybench.leaderboard.verdicts`.

    Raises:
        InvalidOption: where the tolerance is not above 0.

    """
    if not (tolerance > 0 and math.isfinite(tolerance)):
        raise InvalidOption(f"the tolerance must be above 0, such as 0.02 for 2 %, got {tolerance}")
    before, now = _sorted(base), _sorted(head)
    found = [
        _compared(name, old, new, tolerance)
        for place in sorted({*before, *now}, key=repr)
        for name, old, new in _matched(place, before.get(place, {}), now.get(place, {}))
    ]
    raw = [one.worse for one in found if one.worse is not None]
    corrected = iter(holm(raw))
    return [one if one.worse is None else _judged(one, next(corrected), len(raw)) for one in found]


_Runs = dict[int, Record]  # by seed


def _sorted(records: Iterable[Record]) -> dict[Place, dict[Variant, _Runs]]:
    """The newest record of every seed, by place and variant; a variant's version is no part of it."""
    found: dict[Place, dict[Variant, _Runs]] = defaultdict(lambda: defaultdict(dict))
    for r in sorted(records, key=lambda r: (r.created, r.key)):
        place = Place(r.problem, r.point, r.tier, r.domain, r.device, r.method)
        found[place][replace(variant_of(r), version="")][r.seed] = r
    return found


def _matched(
    place: Place, base: Mapping[Variant, _Runs], head: Mapping[Variant, _Runs]
) -> Iterable[tuple[str, _Runs, _Runs]]:
    if len(base) == len(head) == 1:
        yield str(place), next(iter(base.values())), next(iter(head.values()))
        return
    variants = sorted({*base, *head}, key=repr)
    for count, variant in enumerate(variants, 1):
        name = str(place) if len(variants) == 1 else f"{place} ({count})"
        yield name, base.get(variant, {}), head.get(variant, {})


def _compared(name: str, base: _Runs, head: _Runs, tolerance: float) -> Compared:
    """One comparison, whose p-value is not corrected yet."""
    if not base or not head:
        return Compared(name, Verdict.NO_DATA, f"no records of the {'head' if base else 'base'}")
    first = next(iter(base.values()))
    metric = first.primary_metric
    common = [seed for seed in sorted(base) if seed in head]
    if metric is None or not common:
        return Compared(name, Verdict.NO_DATA, "no seed in common" if metric else "no primary metric")
    if any(_other_problem(base[seed], head[seed]) for seed in common):
        return Compared(name, Verdict.NO_DATA, "the task itself is another one", metric)
    higher = first.directions.get(metric, "higher") == "higher"
    ends = {seed: (_end(base[seed], metric, higher), _end(head[seed], metric, higher)) for seed in common}
    told = {seed: (old, new) for seed, (old, new) in ends.items() if not math.isnan(old) and not math.isnan(new)}
    worst = -math.inf if higher else math.inf
    both = {seed: pair for seed, pair in told.items() if pair != (worst, worst)}
    medians = [_median([pair[i] for pair in both.values()]) for i in (0, 1)]
    one = Compared(name, Verdict.NO_DATA, "no seed on which either has a result", metric, len(both), *medians)
    if not both:
        return one
    gains = [0.0 if old == new else (new - old if higher else old - new) for old, new in both.values()]
    margin = max(tolerance * abs(medians[0] or 0.0), ROUNDING)
    one = replace(one, gain=_median(gains), margin=margin)
    lost = [seed for seed, (_, new) in both.items() if new == worst]
    if lost:
        return replace(one, verdict=Verdict.REGRESSED, why=_loss(lost, head[lost[0]], metric))
    worse, fine = signed_rank_tails([gain + margin for gain in gains])
    return replace(one, worse=worse, fine=fine)


def _other_problem(a: Record, b: Record) -> bool:
    one, other = problem_of(a), problem_of(b)
    return a.task_version != b.task_version or (one != other and None not in (one, other))


def _end(record: Record, metric: str, higher: bool) -> float:
    """The value; the best one of all where it is beyond its scale, the worst of all after a failure, NaN: no data."""
    worst = -math.inf if higher else math.inf
    if record.status in SILENT:
        return math.nan
    if record.status != "ok":
        return worst
    if metric not in record.metrics:
        return math.nan
    if record.censored.get(metric, False):
        return -worst
    value = record.metrics[metric]
    return worst if value is None else value


def _median(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.median(finite)) if finite else None


def _loss(seeds: Sequence[int], record: Record, metric: str) -> str:
    how = record.status if record.status != "ok" else f"{metric} is undefined"
    more = f" and {len(seeds) - 1} more" if len(seeds) > 1 else ""
    return f"had a result before, now: {how} (seed {seeds[0]}{more})"


def _judged(one: Compared, worse: float, comparisons: int) -> Compared:
    assert one.fine is not None
    verdict = verdict_of(worse, one.fine)
    if one.gain is None:  # none of the seeds has a number on both sides
        change = "beyond the scale on one side"
    else:
        change = f"{'worse' if one.gain < 0 else 'better'} by {number(abs(one.gain))}"
    why = f"{change}, {number(one.margin, 2)} worse is tolerated"
    if verdict == Verdict.NOISY and comparisons * 0.5**one.pairs > LEVEL:  # the smallest p that there can be
        seeds = math.ceil(math.log2(comparisons / LEVEL))
        why += f", {one.pairs} seeds are too few: {seeds} can be significant among {comparisons} comparisons"
    elif verdict != Verdict.NOISY:
        why += f", p = {one.fine if verdict == Verdict.OK else worse:.2g}"
    return replace(one, worse=worse, verdict=verdict, why=why)
