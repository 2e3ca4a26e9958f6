"""One attempt at a cell: what is known about it so far, and the record that it would leave now."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ptybench.io.files import sha256_file
from ptybench.records import SCHEMA, Cost, Metrics, Provenance, Record, RunBudget, Status, TracePoint
from ptybench.runner.cells import Plan
from ptybench.scoring.metrics import METRICS
from ptybench.types import Estimate

if TYPE_CHECKING:
    from ptybench.runner.supervisor import Ended
    from ptybench.scoring import Scores

TRACE_POINTS = 120
"""A longer trace is thinned to about this many epochs, so that records stay small."""


class Curve(NamedTuple):
    """A correlation with the truth over spatial frequency, of the rings that count."""

    frequency: list[float]
    value: list[float]


@dataclass
class Attempt:
    """Gathers what is found out, so that a record can be made of it at any moment.

    Args:
        plan: what is run.
        provenance: where its numbers come from.
        staged: folder of the artefacts.

    """

    plan: Plan
    provenance: Provenance
    staged: Path
    status: Status = "error"
    error: str | None = None
    ended: Ended | None = None
    scores: Scores | None = None
    trace_metrics: dict[int, Metrics] = field(default_factory=dict)
    curves: dict[int, Curve] = field(default_factory=dict)
    facts: Metrics = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    artifacts: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def end(self, status: Status, error: str | None = None) -> None:
        """Settle how the attempt ended."""
        self.status, self.error = status, error

    def artifact(self, name: str, file: str) -> Path:
        """Return where an artefact is to be written; it is listed once it is there."""
        self.artifacts[name] = file
        return self.staged / file

    def record(self) -> Record:
        """The record of the attempt as it stands."""
        cell, task = self.plan.cell, self.plan.task
        done = self.ended.done if self.ended is not None else None
        steps = self.ended.steps if self.ended is not None else []
        ok = self.status == "ok" and self.scores is not None
        values: Metrics = dict.fromkeys(METRICS)
        if ok and self.scores is not None:
            values |= self.scores.values
        there = {name: file for name, file in self.artifacts.items() if (self.staged / file).exists()}
        arrays = {name: file for name, file in there.items() if file.endswith((".h5", ".tif", ".tiff"))}
        fields: dict[str, Any] = {
            "schema": SCHEMA,
            "key": cell.key,
            "status": self.status,
            "stop_reason": done.stop_reason if done is not None and self.status == "ok" else None,
            "task": None if task is None else task.name,
            "task_version": None if task is None else task.version,
            "ladder": None if task is None or task.ladder is None else task.ladder.name,
            "point": None if task is None else task.point,
            "data": None if cell.data is None else cell.data["name"],
            "domain": cell.domain,
            "tier": cell.tier,
            "seed": cell.seed,
            "method": cell.method,
            "method_version": cell.method_version,
            "options": cell.options,
            "device": cell.device,
            "budget": RunBudget(epochs=cell.epochs, seconds=cell.seconds),
            "epochs": done.epochs if done is not None else len(steps),
            "wall_seconds": round(time.perf_counter() - self.started, 3),
            "metrics": values,
            "censored": self.scores.censored if ok and self.scores is not None else {},
            "directions": {name: metric.direction for name, metric in METRICS.items()},
            "units": {name: metric.unit for name, metric in METRICS.items()},
            "primary_metric": self._primary_metric(),
            "gauges": self.scores.gauges if ok and self.scores is not None else {},
            "trace": thinned(steps, self.trace_metrics, self.curves),
            "frc_frequency": next((curve.frequency for curve in self.curves.values()), []),
            "cost": self._cost(),
            "facts": self.facts,
            "warnings": self.warnings,
            "error": self.error,
            "artifacts": there,
            "sha256": {name: sha256_file(self.staged / file) for name, file in arrays.items()},
            "identity": cell.identity,
            "provenance": self.provenance,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return Record.model_validate(fields)

    def _primary_metric(self) -> str:
        if self.plan.task is not None:
            return self.plan.task.primary_metric
        return "deviance_withheld" if self.plan.cell.withheld > 0 else "r_factor"

    def _cost(self) -> Cost:
        if self.ended is None:
            return Cost()
        done, steps = self.ended.done, self.ended.steps
        if done is None:
            last = steps[-1] if steps else TracePoint(epoch=0)
            return Cost(ffts=last.ffts, solver_seconds=last.seconds, peak_rss_bytes=self.ended.peak_rss_bytes)
        return Cost(
            ffts=done.ffts,
            network_evaluations=done.network_evaluations,
            solver_seconds=done.solver_seconds,
            peak_rss_bytes=done.peak_rss_bytes or self.ended.peak_rss_bytes,
            peak_device_bytes=done.peak_device_bytes,
        )


def thinned(
    steps: Sequence[TracePoint], metrics: dict[int, Metrics], curves: dict[int, Curve] | None = None
) -> list[TracePoint]:
    """Return the trace with its metrics: every scored epoch, the first and the last, and about 120 in all.

    Args:
        steps: every epoch.
        metrics: epoch → what it scored.
        curves: epoch → its correlation with the truth, where that is kept.

    """
    stride = -(-len(steps) // TRACE_POINTS)
    kept = {epoch: curve.value for epoch, curve in (curves or {}).items()}
    return [
        step.model_copy(update={"metrics": metrics.get(step.epoch, {}), "frc_truth": kept.get(step.epoch, [])})
        for index, step in enumerate(steps)
        if index % stride == 0 or index == len(steps) - 1 or step.epoch in metrics
    ]


def is_finite(estimate: Estimate) -> bool:
    """True where no array of the estimate holds NaN or infinity."""
    arrays = (estimate.object, estimate.probe, estimate.positions_px)
    distance = estimate.distance_m is None or np.isfinite(estimate.distance_m)
    return bool(distance and all(np.isfinite(array).all() for array in arrays))
