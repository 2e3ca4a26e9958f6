"""Where one run stands among the runs of its own cell: same task, point, tier, domain and seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ptybench.leaderboard.scale import CONTROLS, Scale, Seeds
from ptybench.leaderboard.variants import (
    Variant,
    problem_of,
    variant_labels,
    variant_of,
)
from ptybench.records import Record
from ptybench.runner.summary import standard_options


@dataclass(frozen=True)
class Entry:
    """One run in a ranking.

    Args:
        label: method, with what is not standard about it.
        place: 1 is best; ``None`` for controls and failed runs.
        value: primary metric; ``None`` where the run failed.
        rescaled: 0 at the initial guess, 1 at the oracle; ``None`` where undefined.
        solver_seconds: what it cost.
        status: how it ended.
        control: whether it is a reference and not ranked.
        this: whether it is the run in question.

    """

    label: str
    place: int | None
    value: float | None
    rescaled: float | None
    solver_seconds: float | None
    status: str
    control: bool
    this: bool


@dataclass(frozen=True)
class Ranking:
    """The runs of one cell, best first, controls last.

    Args:
        place: of the run in question; ``None`` where it failed or is a control.
        of: how many runs are ranked.
        rescaled: primary metric of the run between the controls.
        metric: the primary metric.
        entries: the runs.

    """

    place: int | None
    of: int
    rescaled: float | None
    metric: str
    entries: list[Entry]


def rank_of(
    record: Record, records: Iterable[Record], defaults: Mapping[str, Mapping[str, Any]] | None = None
) -> Ranking | None:
    """Return where a run stands among ``records``, ``None`` where it has no primary metric.

    Compared are runs of the same task (or data) field by field, domain and seed; equal values share a place.

    Args:
        record: the run in question; it need not be among ``records``.
        records: any records.
        defaults: method → standard options, for labels; ``None`` asks the methods.

    """
    metric = record.primary_metric
    if metric is None:
        return None
    latest: dict[tuple[Variant, int], Record] = {}
    same = [r for r in [*records, record] if (r.key != record.key or r is record) and _same_problem(r, record)]
    standard = standard_options({r.method for r in same}) if defaults is None else defaults
    for other in sorted(same, key=lambda r: (r is record, r.created, r.key)):
        latest[variant_of(other, standard.get(other.method)), other.seed] = other
    here = {variant: other for (variant, seed), other in latest.items() if seed == record.seed}
    scale = _scale(latest, metric, record)
    labels = variant_labels(dict.fromkeys(here, 1), standard, _epochs(record))
    higher = record.directions.get(metric, "higher") == "higher"
    values = [_value(r, metric) for r in here.values() if r.method not in CONTROLS]
    ranked = [v for v in values if v is not None]

    def entry(variant: Variant, run: Record) -> Entry:
        value, control = _value(run, metric), run.method in CONTROLS
        better = sum(v > value if higher else v < value for v in ranked) if value is not None else 0
        return Entry(
            label=labels[variant],
            place=None if control or value is None else better + 1,
            value=value,
            rescaled=scale.rescale(run.seed, value),
            solver_seconds=run.cost.solver_seconds,
            status=run.status,
            control=control,
            this=run is record,
        )

    entries = [entry(variant, run) for variant, run in here.items()]
    entries.sort(key=lambda e: (e.control, e.place or math.inf, not e.this, e.label))
    mine = next(e for e in entries if e.this)
    return Ranking(mine.place, len(ranked), mine.rescaled, metric, entries)


def problem_fields(record: Record) -> dict[str, Any]:
    """Fields of a record in which all that it is compared with are like it."""
    return {name: getattr(record, name) for name in ("problem", "task_version", "point", "tier", "domain")}


def _same_problem(a: Record, b: Record) -> bool:
    return problem_fields(a) == problem_fields(b) and problem_of(a) == problem_of(b)


def _value(record: Record, metric: str) -> float | None:
    return record.metrics.get(metric) if record.status == "ok" else None


def _scale(latest: Mapping[tuple[Variant, int], Record], metric: str, record: Record) -> Scale:
    controls: dict[str, Seeds] = {name: {} for name in CONTROLS}
    for (variant, seed), run in latest.items():
        if variant.method in CONTROLS:
            controls[variant.method][seed] = _value(run, metric)
    return Scale.of(controls, record.directions.get(metric, "higher"))


def _epochs(record: Record) -> int | None:
    task = record.identity.get("task") or {}
    epochs = task.get("budget", {}).get("epochs")
    return None if epochs is None else int(epochs)
