"""From records to a board: one row a method, ranked over the seeds of one cell.

How a board ranks, so that nobody can look better than it is:

* A row is a method with its version, options, budget and device; a variant with other options is a row of its own.
* The rank follows the median over the row's own seeds, in which every failed run (diverged, error, timeout, oom,
  killed) counts as the worst possible value. A row's rank so depends on its own records and the direction of the
  metric alone: a further method never changes the order of the others. Median and mean that are *shown* are those of
  the finished runs, beside the number of failures; a row that failed on half of its seeds or more ranks last.
* A row with fewer seeds than the board holds is marked: its median is over other, maybe easier, specimens.
* Every row is compared with the leader on their common seeds. Rows that the data cannot tell from the leader are
  marked as tied with it, and there is a sole winner only where no other row is.
* Controls (``oracle``, ``initial_guess``) are reference rows and get no rank.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ptybench.errors import InvalidOption, UnknownName
from ptybench.leaderboard.rulesets import Ruleset, RulesetName
from ptybench.leaderboard.scale import CONTROLS, Scale, Seeds
from ptybench.leaderboard.statistics import FEWEST_PAIRS, Comparison, bootstrap_interval, compare, holm, smallest_p
from ptybench.leaderboard.variants import (
    Variant,
    inverse_crime,
    most_common,
    problem_of,
    standard_task,
    variant_labels,
    variant_of,
)
from ptybench.records import Record, canonical_json
from ptybench.runner.summary import standard_options
from ptybench.scoring.metrics import METRICS
from ptybench.task import Task

#: Statuses of a run that did not happen, or has to happen on another machine; they say nothing about the method.
NOT_RUN = frozenset({"skipped", "not_installed"})

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Row:
    """One method (or control) on a board.

    Args:
        label: method, with what differs from its standard options, budget or device.
        method: its name.
        method_version: its version.
        options: resolved options.
        device: device class.
        rank: 1 is best; ``None`` for controls and for rows without any value.
        tied: whether the data cannot tell the row from the leader (for the leader: whether any other row is tied).
        values: seed → value of the metric; ``None`` where the run failed or the metric is undefined or censored.
        rescaled: seed → 0 at the initial guess, 1 at the oracle; ``None`` where that is undefined.
        failures: seed → status, of the failed runs.
        undefined: number of finished seeds on which the metric is undefined.
        censored: finished seeds whose curve never crosses its threshold: the resolution is better than can be told.
        incomplete: whether the row lacks seeds that the board has.
        median, mean: over the finished seeds; ``None`` where it depends on a censored value.
        median_interval, mean_interval: 95 % bootstrap intervals over the seeds.
        rescaled_median: median of ``rescaled``.
        solver_seconds, ffts: medians over the finished seeds.
        versus_leader: paired comparison with the leader; ``None`` for the leader itself and for controls.
        mark: on a board of tuned methods, what is to be said of its preset (it is in the label too).

    """

    label: str
    method: str
    method_version: str
    options: dict[str, Any]
    device: str
    rank: int | None
    tied: bool
    values: Seeds
    rescaled: Seeds
    failures: dict[int, str]
    undefined: int
    censored: list[int]
    incomplete: bool
    median: float | None
    median_interval: Interval
    mean: float | None
    mean_interval: Interval
    rescaled_median: float | None
    solver_seconds: float | None
    ffts: float | None
    versus_leader: Comparison | None = None
    mark: str = ""

    @property
    def runs(self) -> int:
        """Seeds that were run."""
        return len(self.values)

    @property
    def finished(self) -> int:
        """Seeds that did not fail."""
        return self.runs - len(self.failures)


@dataclass(frozen=True)
class Board:
    """The leaderboard of one cell of a task.

    Args:
        task, task_version, tier, domain: which cell.
        ladder, point: name and value of the ladder's field; ``None`` without a ladder.
        metric: metric id.
        direction: ``"higher"`` or ``"lower"`` is better.
        unit: of the metric.
        inverse_crime: whether the data were simulated with the solvers' own formula.
        seeds: all seeds of the board.
        rows: methods, best first.
        controls: reference rows.
        notes: what a reader has to know, one sentence each.
        left_out: reason → number of records that are not on this board.
        ruleset: which options the methods were held to; ``None`` where every variant has a row.
        tuning: method → budget of its preset, on a board of tuned methods.

    """

    task: str
    task_version: int | None
    tier: str | None
    domain: str | None
    ladder: str | None
    point: float | None
    metric: str
    direction: str
    unit: str
    inverse_crime: bool
    seeds: list[int]
    rows: list[Row]
    controls: list[Row]
    notes: list[str]
    left_out: dict[str, int] = field(default_factory=dict)
    ruleset: RulesetName | None = None
    tuning: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def winner(self) -> Row | None:
        """The sole winner; ``None`` where rows are tied, or there is nothing to compare with."""
        ranked = [row for row in self.rows if row.rank is not None]
        return ranked[0] if len(ranked) > 1 and not ranked[0].tied else None


def aggregate(
    records: Iterable[Record],
    task: str | Task,
    tier: str = "small",
    domain: str = "dev",
    point: float | None = None,
    metric: str | None = None,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
    ruleset: RulesetName | None = None,
    presets: Path | None = None,
) -> Board:
    """Return the board of one cell of a task.

    Records of another version of the task, or of a task with other fields changed, are left out and counted.

    Args:
        records: any records; those of other cells are ignored.
        task: name of a task or of a real measurement (then tier and domain are ignored), or the task itself, whose
            tier and point then hold. For a name that is not registered, most records say what is standard.
        tier: which tier.
        domain: which seed domain.
        point: value of the ladder; ``None`` is the task's default.
        metric: metric id; ``None`` is the task's primary metric.
        defaults: method → standard options, for labels that name what was changed; ``None`` asks the methods.
        ruleset: ``default`` or ``tuned`` keeps only the records whose options are those; ``None`` keeps all.
        presets: folder of presets; ``None`` is that of the project.

    Raises:
        UnknownName: where no record has the metric.
        InvalidOption: where there is no record of this cell at all.

    """
    standard: Task | None
    if isinstance(task, Task):
        name, standard, tier, point = task.name, task, str(task.tier), task.point
    else:
        name = task
        standard = standard_task(name, tier, point)
    cell = [r for r in records if r.problem == name and (r.task is None or (r.tier, r.domain) == (tier, domain))]
    left_out: Counter[str] = Counter()
    version = standard.version if standard else max((r.task_version or 0 for r in cell), default=0)
    chosen = _keep(cell, [r.task_version in (version, None) for r in cell], "other task version", left_out)
    if point is None:
        point = standard.point if standard else most_common([r.point for r in chosen])
    points = sorted({r.point for r in chosen if r.point is not None})
    chosen = [r for r in chosen if r.point == point]
    if not chosen:
        raise InvalidOption(_nothing(name, tier, domain, point, points, left_out))
    usual = canonical_json(standard.identity()) if standard else most_common([problem_of(r) for r in chosen])
    chosen = _keep(chosen, [problem_of(r) in (usual, None) for r in chosen], "other task fields", left_out)
    chosen = _keep(chosen, [r.status not in NOT_RUN for r in chosen], "not run", left_out)
    if not chosen:
        raise InvalidOption(_nothing(name, tier, domain, point, [], left_out))
    metric = metric or (standard.primary_metric if standard else most_common([r.primary_metric for r in chosen]))
    defaults = standard_options({r.method for r in chosen}) if defaults is None else defaults
    rules = None if ruleset is None else Ruleset.of(ruleset, defaults, name, chosen[0].tier or "small", presets)
    if rules is not None:
        chosen = _keep(chosen, [rules.allows(r) for r in chosen], f"other options than the {ruleset} ones", left_out)
        if not any(r.method not in CONTROLS for r in chosen):
            remedy = f", run `ptybench sweep --tasks {name} --methods all --ruleset {ruleset}`"
            raise InvalidOption(_nothing(name, tier, domain, point, [], left_out) + remedy)
    return _board(chosen, metric, left_out, defaults, standard.budget.epochs if standard else None, rules)


def _keep(records: list[Record], keep: list[bool], reason: str, left_out: Counter[str]) -> list[Record]:
    if not all(keep):
        left_out[reason] += keep.count(False)
    return [record for record, kept in zip(records, keep, strict=True) if kept]


def _nothing(
    name: str, tier: str, domain: str, point: float | None, points: list[float], left_out: Mapping[str, int]
) -> str:
    where = name if point is None else f"{name} at {point:g}"
    if points:
        remedy = f"there are some at {', '.join(f'{p:g}' for p in points)}"
    elif left_out:
        remedy = "there are only " + " and ".join(f"{count} with {reason}" for reason, count in left_out.items())
    else:
        remedy = f"run `ptybench run --task {name} …` first or give another --results"
    return f"expected records of {where} (tier {tier}, domain {domain}), found none: {remedy}"


def _board(
    records: list[Record],
    metric: str | None,
    left_out: Counter[str],
    defaults: Mapping[str, Mapping[str, Any]],
    epochs: int | None,
    rules: Ruleset | None,
) -> Board:
    known = {name for record in records for name in record.metrics}
    if metric is None or (metric not in known and known):
        raise UnknownName("metric", str(metric), known)
    groups: dict[Variant, dict[int, Record]] = defaultdict(dict)
    for record in sorted(records, key=lambda r: (r.created, r.key)):
        group = groups[variant_of(record, defaults.get(record.method))]
        if record.seed in group:
            left_out["older run of the same cell"] += 1
        group[record.seed] = record
    direction, unit = _direction_and_unit(records, metric)
    seeds = sorted({record.seed for record in records})
    counts = {variant: len(group) for variant, group in groups.items()}
    labels = variant_labels(counts, defaults, epochs, rules.marks if rules else None)
    rows = [_row(labels[variant], group, metric, direction, seeds) for variant, group in groups.items()]
    if rules:
        rows = [replace(row, mark=rules.marks.get(row.method, "")) for row in rows]
    controls = sorted((r for r in rows if r.method in CONTROLS), key=lambda r: (CONTROLS.index(r.method), r.label))
    scale = Scale.of({row.method: row.values for row in reversed(controls)}, direction)
    first = records[0]
    board = Board(
        task=first.problem,
        task_version=first.task_version,
        tier=first.tier,
        domain=first.domain,
        ladder=first.ladder,
        point=first.point,
        metric=metric,
        direction=direction,
        unit=unit,
        inverse_crime=inverse_crime(records),
        seeds=seeds,
        rows=[_rescaled(row, scale) for row in _ranked([r for r in rows if r.method not in CONTROLS], direction)],
        controls=[_rescaled(row, scale) for row in controls],
        notes=[],
        left_out=dict(left_out),
        ruleset=rules.name if rules else None,
        tuning={
            row.method: rules.presets[row.method].budget.model_dump(mode="json")
            for row in rows
            if rules and row.method in rules.presets
        },
    )
    said = rules.notes(row.method for row in rows) if rules else []
    return replace(board, notes=said + _notes(board, scale))


def _direction_and_unit(records: list[Record], metric: str) -> tuple[str, str]:
    for record in records:
        if metric in record.directions:
            return record.directions[metric], record.units.get(metric, "")
    known = METRICS.get(metric)
    return (known.direction, known.unit) if known else ("higher", "")


def _row(label: str, group: dict[int, Record], metric: str, direction: str, seeds: list[int]) -> Row:
    first = next(iter(group.values()))
    good = [record for _, record in sorted(group.items()) if record.status == "ok"]
    values: Seeds = {
        seed: record.metrics.get(metric) if record.status == "ok" else None for seed, record in sorted(group.items())
    }
    finite = [value for value in values.values() if value is not None]
    censored = [r.seed for r in good if r.metrics.get(metric) is None and r.censored.get(metric, False)]
    median, mean = _median(finite), float(np.mean(finite)) if finite else None
    if censored:
        # a value beyond the scale has a place in the order but no number
        sign = -1.0 if direction == "higher" else 1.0
        middle = sign * _middle(sorted([-math.inf] * len(censored) + [sign * v for v in finite]))
        median, mean = middle if math.isfinite(middle) else None, None
    return Row(
        label=label,
        method=first.method,
        method_version=first.method_version,
        options=dict(first.options),
        device=first.device,
        rank=None,
        tied=False,
        values=values,
        rescaled={},
        failures={seed: record.status for seed, record in sorted(group.items()) if record.status != "ok"},
        undefined=len(good) - len(finite) - len(censored),
        censored=censored,
        incomplete=set(values) != set(seeds),
        median=median,
        median_interval=None if censored else bootstrap_interval(finite, np.median),
        mean=mean,
        mean_interval=None if censored else bootstrap_interval(finite, np.mean),
        rescaled_median=None,
        solver_seconds=_median([r.cost.solver_seconds for r in good if r.cost.solver_seconds is not None]),
        ffts=_median([r.cost.ffts for r in good if r.cost.ffts is not None]),
    )


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if len(values) else None


def _middle(ordered: Sequence[float]) -> float:
    """Median of an ordered sequence, smaller is better, whose ends may be infinite; half best, half worst is worst."""
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return low if low == high else high if math.isinf(high) else (low + high) / 2


def _standing(row: Row, direction: str) -> tuple[float, float, str]:
    """Sort key, smaller is better: median with failures as the worst value, then mean, then label."""
    sign = -1.0 if direction == "higher" else 1.0
    scores = sorted([sign * v for v in row.values.values() if v is not None])
    scores = [-math.inf] * len(row.censored) + scores + [math.inf] * len(row.failures)
    if not scores:
        return math.inf, math.inf, row.label
    return _middle(scores), math.inf if row.mean is None else sign * row.mean, row.label


def _ranked(rows: list[Row], direction: str) -> list[Row]:
    """Rank the rows, compare each with the leader, correct by Holm, mark ties."""
    rows = sorted(rows, key=lambda row: _standing(row, direction))
    ranked = [replace(row, rank=place) for place, row in enumerate(rows, 1) if _has_value(row)]
    unranked = [row for row in rows if not _has_value(row)]
    if not ranked:
        return unranked
    leader = ranked[0]
    others = [
        replace(row, versus_leader=compare(_paired(row, direction), _paired(leader, direction), direction == "higher"))
        for row in ranked[1:] + unranked
    ]
    comparisons = [row.versus_leader for row in others if row.versus_leader is not None]
    corrected = holm([comparison.p for comparison in comparisons])
    others = [
        replace(row, versus_leader=replace(c, p_holm=p), tied=row.rank is not None and c.tied)
        for row, c, p in zip(others, comparisons, corrected, strict=True)
    ]
    return [replace(leader, tied=any(row.tied for row in others)), *others]


def _has_value(row: Row) -> bool:
    return bool(row.censored) or any(value is not None for value in row.values.values())


def _paired(row: Row, direction: str) -> Seeds:
    """Values for a paired comparison: failures stay ``None``, censored are infinitely good, undefined drop out."""
    best = math.inf if direction == "higher" else -math.inf
    values: Seeds = {seed: v for seed, v in row.values.items() if v is not None or seed in row.failures}
    return values | dict.fromkeys(row.censored, best)


def _rescaled(row: Row, scale: Scale) -> Row:
    scores = {seed: scale.rescale(seed, value) for seed, value in row.values.items()}
    return replace(row, rescaled=scores, rescaled_median=_median([v for v in scores.values() if v is not None]))


def _notes(board: Board, scale: Scale) -> list[str]:
    notes = []
    comparisons = [row.versus_leader for row in board.rows if row.versus_leader is not None]
    most = max((c.pairs for c in comparisons), default=0)
    if comparisons and smallest_p(most) * len(comparisons) >= 0.05:
        notes.append(
            f"With {most} common seed{'s' * (most != 1)} and {len(comparisons)} comparison"
            f"{'s' * (len(comparisons) != 1)} no test can be significant: the smallest p that can be reached is "
            f"{min(1.0, smallest_p(most) * len(comparisons)):.2g}."
        )
    if any(row.failures for row in board.rows):
        notes.append("Failed runs count as the worst value in the rank; median and mean are of the finished runs.")
    if any(row.censored for row in board.rows):
        notes.append("Censored: on some seeds the correlation stays above its threshold; that counts as best.")
    if any(row.incomplete for row in [*board.rows, *board.controls]):
        notes.append(f"† was not run on all {len(board.seeds)} seeds of the board: its numbers are of fewer specimens.")
    if any(row.tied for row in board.rows):
        notes.append(
            "= cannot be told from the leader: the 95 % interval of the paired difference includes 0, or there are "
            f"fewer than {FEWEST_PAIRS} common seeds."
        )
    if board.tier is not None:  # a real measurement has no controls
        notes += _scale_notes(board, scale)
    if board.inverse_crime:
        notes.append("Inverse crime: the data were simulated with the solvers' own formula.")
    for reason, count in sorted(board.left_out.items()):
        notes.append(f"{count} record{'s' * (count != 1)} left out: {reason}.")
    return notes


def _scale_notes(board: Board, scale: Scale) -> list[str]:
    if not scale.start or not scale.end:
        return ["Rescaled scores need runs of initial_guess and oracle on the same seeds."]
    if all(value is None for row in board.controls for value in row.rescaled.values()):
        return ["No rescaled scores: oracle and initial guess differ by less than their spread over the seeds."]
    return []
