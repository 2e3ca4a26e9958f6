"""One trial: reconstruct the tuning objects with some options and score them, as the runner does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from ptybench.errors import UsageError
from ptybench.records import TracePoint
from ptybench.runner.cells import Plan
from ptybench.runner.finish import Verdict, judge
from ptybench.runner.job import sentence
from ptybench.runner.prepare import Problem, job_of, prepare
from ptybench.runner.provenance import code_hash
from ptybench.runner.supervisor import Nursery
from ptybench.scoring import evaluate
from ptybench.scoring.metrics import METRICS
from ptybench.tuning.study import Study, Trial

TIMEOUT_SECONDS = 3600.0
"""A reconstruction that takes longer has failed, so that a method that hangs cannot stop a study."""

OnStep = Callable[[int, TracePoint], None]


class UnsuitableError(UsageError):
    """The method cannot be run on the task at all: it refuses it, or lacks a package."""


@dataclass(frozen=True)
class Workers:
    """Where reconstructions are run: each in a process of its own, so that none depends on what ran before it.

    Args:
        nursery: where processes come from.
        timeout: seconds of one reconstruction.
        stop: when set, the process is killed and ``KeyboardInterrupt`` raised.

    """

    nursery: Nursery
    timeout: float
    stop: threading.Event

    def solve(self, plan: Plan, problem: Problem, on_step: Callable[[TracePoint], None]) -> Verdict:
        """Run one plan and judge what it leaves."""
        with self.nursery.take() as child:
            ended = child.run(job_of(plan), problem.measurement, timeout=self.timeout, on_step=on_step, stop=self.stop)
            self.nursery.warm()
            return judge(ended)


class Objects:
    """The tuning objects of a study, simulated once, when they are first needed."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._problems: dict[int, Problem] = {}

    def problem(self, seed: int) -> Problem:
        """Return the problem of a seed.

        Raises:
            UsageError: where the task cannot be simulated, or would not fit into memory.

        """
        if seed not in self._problems:
            self._problems[seed] = prepare(self._study.plan(seed, {}))
        return self._problems[seed]


def run_trial(
    study: Study, settings: Mapping[str, Any], number: int, objects: Objects, workers: Workers, on_step: OnStep
) -> Trial:
    """Reconstruct every tuning object with some settings; the first that fails ends the trial.

    Args:
        study: which study.
        settings: what is set.
        number: of the trial.
        objects: the tuning objects.
        workers: solve.
        on_step: told of the place of the object and of every epoch.

    Raises:
        UnsuitableError: where already the defaults are refused.

    """
    start = time.perf_counter()
    values: list[float] = []
    verdict = Verdict("ok", None, None)
    for place, seed in enumerate(study.seeds):
        problem = objects.problem(seed)
        verdict = _solved(study.plan(seed, settings), problem, workers, partial(on_step, place))
        if number == 0 and verdict.status in ("skipped", "not_installed"):
            raise UnsuitableError(f"{study.method} cannot be tuned on {study.task.name}: {verdict.error}")
        value, verdict = _value(study, verdict, problem)
        if value is None:
            break
        values.append(value)
    return Trial(
        trial=number,
        settings=dict(settings),
        value=float(np.mean(values)) if len(values) == len(study.seeds) else None,
        values=values,
        status=verdict.status,
        error=verdict.error,
        seconds=round(time.perf_counter() - start, 3),
        code_hash=code_hash(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _solved(plan: Plan, problem: Problem, workers: Workers, on_step: Callable[[TracePoint], None]) -> Verdict:
    """Solve; once more where the machine and not the method ended it."""
    try:
        verdict = workers.solve(plan, problem, on_step)
        return verdict if verdict.status not in ("oom", "killed") else workers.solve(plan, problem, on_step)
    except Exception as error:  # what a solver leaves may be nonsense; its trial has failed, and no other
        return Verdict("error", sentence(error), None)


def _value(study: Study, verdict: Verdict, problem: Problem) -> tuple[float | None, Verdict]:
    """The metric of an estimate; a curve that never falls to its threshold has the best value that there is."""
    if verdict.estimate is None:
        return None, verdict
    metric = METRICS[study.metric]
    try:
        scores = evaluate(
            verdict.estimate, problem.truth, problem.measurement, problem.withheld, metrics={study.metric}
        )
    except Exception as error:
        return None, Verdict("error", sentence(error), None)
    value = scores.values.get(study.metric)
    if value is None and scores.censored.get(study.metric):
        value = metric.high if metric.direction == "higher" else metric.low
    if value is None:
        return None, Verdict("error", f"{study.metric} is undefined for what the method found", None)
    return float(value), verdict
