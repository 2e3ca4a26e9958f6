"""What makes two records comparable: the same task field by field, and the same variant of a method."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptybench.errors import PtybenchError
from ptybench.leaderboard.scale import CONTROLS
from ptybench.records import Record, canonical_json
from ptybench.runner.summary import brief, changed
from ptybench.task import TIERS, Task


@dataclass(frozen=True)
class Variant:
    """What a row of a board is about; everything of a cell's identity but task and seed.

    Args:
        method: name of the method.
        version: its version.
        options: resolved options as canonical JSON.
        budget: ``(epochs, seconds)`` that it was given.
        device: device class.
        weights: SHA-256 of its weights.
        withheld: share of the patterns that it never saw.

    """

    method: str
    version: str
    options: str
    budget: tuple[int | None, float | None]
    device: str
    weights: str | None
    withheld: float


def variant_of(record: Record, defaults: Mapping[str, Any] | None = None) -> Variant:
    """Return the variant that a record belongs to.

    Args:
        record: the record.
        defaults: the method's default options, for those that it has been given since the record was made.

    """
    return Variant(
        method=record.method,
        version=record.method_version,
        options=canonical_json({**(defaults or {}), **record.options}),
        budget=(record.budget.epochs, record.budget.seconds),
        device=record.device,
        weights=record.identity.get("weights"),
        withheld=float(record.identity.get("withheld") or 0.0),
    )


def problem_of(record: Record) -> str | None:
    """Return every resolved field of a record's task or data as canonical JSON, ``None`` where it does not tell."""
    fields = record.identity.get("task") or record.identity.get("data")
    return canonical_json(fields) if fields else None


def inverse_crime(records: Iterable[Record]) -> bool:
    """Whether any of the records was simulated with the solvers' own formula."""
    tasks = (record.identity.get("task") or {} for record in records)
    return any(task.get("geometry", {}).get("inverse_crime", False) for task in tasks)


def standard_task(name: str, tier: str, point: float | None) -> Task | None:
    """Return the registered task at a point of its ladder, ``None`` where no task has that name.

    Args:
        name: of the task.
        tier: which tier.
        point: value of the ladder; ``None`` is the default.

    """
    from ptybench.registry import load_task

    known = next((known for known in TIERS if known == tier), TIERS[0])
    try:
        task = load_task(name, known)
        if point is not None and task.ladder is not None:
            task = load_task(name, known, {task.ladder.field: point})
    except PtybenchError:
        return None
    return task


def most_common(values: Sequence[Any]) -> Any:
    """Return the most frequent value, the smallest of several, ``None`` where there is none."""
    counts = Counter(value for value in values if value is not None)
    return min(counts, key=lambda value: (-counts[value], value), default=None)


def variant_labels(
    counts: Mapping[Variant, int],
    defaults: Mapping[str, Mapping[str, Any]],
    epochs: int | None,
    marks: Mapping[str, str] | None = None,
) -> dict[Variant, str]:
    """Return a short label for each variant: the method, and in brackets what is not standard about it.

    Version, device, weights and withheld share are named only where the variants of one method differ in them.

    Args:
        counts: variant → number of records.
        defaults: method → standard options; where it is missing, those of most records stand for them.
        epochs: the task's budget; ``None`` where unknown, then that of most records.
        marks: method → what else is to be said of it.

    """
    families: dict[str, list[Variant]] = defaultdict(list)
    for variant in sorted(counts, key=repr):
        families[variant.method].append(variant)
    usual_budget = most_common([v.budget[0] for v in counts for _ in range(counts[v])]) if epochs is None else epochs
    labels = {}
    for method, family in families.items():
        repeated = [v.options for v in family for _ in range(counts[v])]
        standard = defaults.get(method) or json.loads(most_common(repeated))
        for variant in family:
            notes = [f"{k}={brief(v)}" for k, v in changed(json.loads(variant.options), standard).items()]
            given, seconds = variant.budget
            if given != usual_budget and method not in CONTROLS:  # they do not stop for a budget
                notes.append(f"epochs={given or 'any'}")
            if seconds is not None:
                notes.append(f"seconds={seconds:g}")
            for name in ("version", "device", "weights", "withheld"):
                if len({getattr(other, name) for other in family}) > 1:
                    value = brief(getattr(variant, name))
                    notes.append(value[:12] if name == "device" else f"{name}={value[:8]}")
            if marks and method in marks:
                notes.append(marks[method])
            labels[variant] = f"{method} ({', '.join(notes)})" if notes else method
    return labels
