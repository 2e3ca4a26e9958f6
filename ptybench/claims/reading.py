"""From records to one number a seed.

A number that is only known to lie beyond another (a run that never got there within its budget) is an interval. A run
that failed has the worst value that there is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ptybench.claims.paper import COSTS, CURVE, Side
from ptybench.records import FINAL, Record, TracePoint
from ptybench.scoring.metrics import METRICS


@dataclass(frozen=True)
class Reading:
    """A number between two bounds; both are the number where it is known, infinite where a run failed."""

    low: float
    high: float

    @classmethod
    def of(cls, value: float) -> Reading:
        """A number that is known."""
        return cls(value, value)

    @property
    def value(self) -> float | None:
        """The number; ``None`` where only a bound is known, or a run failed."""
        return self.low if self.low == self.high and math.isfinite(self.low) else None

    def __sub__(self, other: Reading) -> Reading | None:
        return _ordered(_minus(self.low, other.high), _minus(self.high, other.low))

    def __truediv__(self, other: Reading) -> Reading | None:
        """The ratio of two positive numbers; ``None`` where one of them is not."""
        if self.low < 0 or other.low <= 0:
            return None
        return _ordered(_over(self.low, other.high), _over(self.high, other.low))

    def __neg__(self) -> Reading:
        return Reading(-self.high, -self.low)


def _minus(a: float, b: float) -> float:
    return a - b if math.isfinite(a) or math.isfinite(b) else math.nan


def _over(a: float, b: float) -> float:
    return a / b if math.isfinite(a) or math.isfinite(b) else math.nan


def _ordered(low: float, high: float) -> Reading | None:
    return None if math.isnan(low) or math.isnan(high) else Reading(low, high)


def better(side: Side) -> int:
    """Return 1 where a larger number of this kind is better, else -1."""
    if side.reduction == "win_rate":
        return 1
    if side.until is not None or side.reduction in ("range", "spread", "loss"):
        return -1
    return _direction(side.metric)


def _direction(metric: str) -> int:
    if metric in METRICS:
        return 1 if METRICS[metric].direction == "higher" else -1
    return 1 if metric == CURVE else -1


def unit(side: Side) -> str:
    """Return the unit of what is measured."""
    if side.reduction in ("win_rate", "rank_correlation"):
        return ""
    if side.until is not None:
        return "epochs" if side.counted_in == "epochs" else "s"
    return METRICS[side.metric].unit if side.metric in METRICS else COSTS.get(side.metric, "")


def read(record: Record | None, side: Side) -> Reading | None:
    """Return what one run says; ``None`` where it was not run, or its metric is undefined."""
    if record is None or record.status not in FINAL:
        return None
    if record.status != "ok":
        if side.reduction == "rank_correlation":  # of which no value is the worst
            return None
        worst = math.inf if side.until is not None else -_direction(side.metric) * math.inf
        return Reading.of(worst)
    if side.reduction == "rank_correlation":
        return _exact(rank_correlation(record, side.metric, str(side.other_metric)))
    if side.metric in COSTS:
        return _exact(_cost(record, side.metric))
    if side.until is not None:
        return _until(record, side)
    point = _point(record, side)
    return None if point is None else _exact(_value(record, point, side))


def _exact(value: float | None) -> Reading | None:
    return None if value is None else Reading.of(value)


def _cost(record: Record, name: str) -> float | None:
    if name == "solver_seconds":
        return record.cost.solver_seconds
    total = record.cost.ffts if name == "ffts_per_epoch" else record.cost.solver_seconds
    return None if total is None or record.epochs == 0 else total / record.epochs


def scored_points(record: Record) -> list[TracePoint]:
    """The epochs whose estimate was scored, in order."""
    return [point for point in record.trace if point.metrics]


def _point(record: Record, side: Side) -> TracePoint | None:
    """The scored epoch that a side means: the one it names, else the last; a run that stopped earlier keeps its end."""
    points = scored_points(record)
    if side.epoch is not None and side.epoch < record.epochs:
        points = [point for point in points if point.epoch == side.epoch]
    if side.seconds is not None:
        points = [point for point in points if point.seconds is not None and point.seconds <= side.seconds]
    return points[-1] if points else None


def _value(record: Record, point: TracePoint, side: Side) -> float | None:
    if side.frequency_per_um is None:
        return point.metrics.get(side.metric)
    return curve_at(record, point, 1e6 * side.frequency_per_um)


def curve_at(record: Record, point: TracePoint, frequency: float) -> float | None:
    """Return the correlation with the truth at a frequency, linearly between rings; ``None`` beyond the curve."""
    known = record.frc_frequency
    if not point.frc_truth or not known[0] <= frequency <= known[-1]:
        return None
    return float(np.interp(frequency, known, point.frc_truth))


def _until(record: Record, side: Side) -> Reading | None:
    """Epochs or seconds until the metric is at least as good as a value, linearly between checkpoints.

    Where the first checkpoint is as good already, it is no more than that one's; where none is, more than the run's
    length.
    """
    assert side.until is not None
    sign, before = _direction(side.metric), None
    for point in scored_points(record):
        place = float(point.epoch) if side.counted_in == "epochs" else point.seconds
        value = _value(record, point, side)
        if value is None or place is None:
            continue
        excess = sign * (value - side.until)
        if excess >= 0:
            if before is None:
                return Reading(0.0, place)
            earlier, lack = before
            return Reading.of(earlier + (place - earlier) * lack / (lack + excess))
        before = place, -excess
    return None if before is None else Reading(before[0], math.inf)


def rank_correlation(record: Record, first: str, second: str) -> float | None:
    """Return Spearman's rank correlation of two metrics over the scored epochs; ``None`` for fewer than three."""
    pairs = [(point.metrics.get(first), point.metrics.get(second)) for point in scored_points(record)]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if len(known) < 3 or any(len({pair[place] for pair in known}) == 1 for place in (0, 1)):
        return None
    return float(stats.spearmanr(*zip(*known, strict=True)).statistic)


def reduced(readings: Sequence[Reading | None], side: Side) -> Reading | None:
    """Return the one number that the values of several runs, settings or points become.

    ``range`` is from the worst to the best, ``spread`` the standard deviation (with ``n - 1``), ``loss`` what is worse
    at the last point than at the first.
    """
    if any(one is None for one in readings):
        return None
    known = [one for one in readings if one is not None]
    how = side.reduction
    if how in (None, "rank_correlation"):
        (only,) = known
        return only
    if how == "loss":
        first, last = known[0], known[-1]
        return first - last if _side_sign(side) > 0 else last - first
    lows, highs = [one.low for one in known], [one.high for one in known]
    if how == "mean":
        return _ordered(_mean(lows), _mean(highs))
    if how in ("best", "worst"):
        pick = max if (_side_sign(side) > 0) == (how == "best") else min
        return Reading(pick(lows), pick(highs))
    if lows != highs:  # a bound on each says little about their scatter
        return None
    if not all(map(math.isfinite, lows)):
        return Reading.of(math.inf) if any(map(math.isfinite, lows)) else None
    return Reading.of(max(lows) - min(lows) if how == "range" else float(np.std(lows, ddof=1)))


def _mean(values: Sequence[float]) -> float:
    total = sum(values)
    return total / len(values)


def _side_sign(side: Side) -> int:
    """Direction of the single values, before they are reduced."""
    return -1 if side.until is not None else _direction(side.metric)


def win_rate(
    first: Sequence[Reading | None], second: Sequence[Reading | None], side: Side, paired: bool
) -> Reading | None:
    """Return the share of comparisons that the first wins, a tie as half of one.

    Args:
        first: its value in every setting.
        second: those of the other run.
        side: what is measured.
        paired: whether both have the same settings: then each is compared with its own, else each with each.

    """
    pairs = list(zip(first, second, strict=True)) if paired else [(a, b) for a in first for b in second]
    won, open_ = 0.0, 0
    for a, b in pairs:
        if a is None or b is None:
            return None
        difference = _signed(a, b, _side_sign(side))
        if difference is None:
            open_ += 1
        else:
            won += difference
    return Reading(won / len(pairs), (won + open_) / len(pairs))


def _signed(a: Reading, b: Reading, sign: int) -> float | None:
    """1 where a is better, 0 where b is, ½ for a tie, ``None`` where the bounds do not tell."""
    low, high = (a.low, a.high) if sign > 0 else (-a.high, -a.low)
    other_low, other_high = (b.low, b.high) if sign > 0 else (-b.high, -b.low)
    if low > other_high:
        return 1.0
    if high < other_low:
        return 0.0
    return 0.5 if low == high == other_low == other_high else None
