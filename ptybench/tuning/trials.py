"""One trial: reconstruct the tuning objects with some options and score them, as the runner does."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np

from ptybench.errors import UsageError
from ptybench.records import TracePoint
from ptybench.runner.cells import Plan
from ptybench.runner.finish import Verdict, judge
from ptybench.runner.job import sentence
from ptybench.runner.prepare import Problem, job_of, prepare
from ptybench.runner.provenance import code_hash
from ptybench.runner.supervisor import Child
from ptybench.scoring import evaluate
from ptybench.scoring.metrics import METRICS
from ptybench.tuning.study import Study, Trial

TIMEOUT_SECONDS = 3600.0
"""A reconstruction that takes longer has failed, so that a method that hangs cannot stop a study."""

OnStep = Callable[[int, TracePoint], None]


class UnsuitableError(UsageError):
    """The method cannot be run on the task at all: it refuses it, or lacks a package."""


class Worker:
    """A child process that solves one job after another; one that has failed is replaced by a new one.

    Args:
        threads: threads of its numerical libraries; ``None`` leaves that to the environment.
        timeout: seconds of one reconstruction.
        stop: when set, the child is killed and ``KeyboardInterrupt`` raised.

    """

    def __init__(self, threads: int | None, timeout: float, stop: threading.Event) -> None:
        self._threads, self._timeout, self._stop = threads, timeout, stop
        self._child: Child | None = None

    def warm(self) -> None:
        """Start the child, so that it loads while the parent simulates."""
        if self._child is None:
            self._child = Child(self._threads)

    def solve(self, plan: Plan, problem: Problem, on_step: Callable[[TracePoint], None]) -> Verdict:
        """Run one plan and judge what is left."""
        self.warm()
        assert self._child is not None
        healthy = False
        try:
            ended = self._child.run(
                job_of(plan), problem.measurement, timeout=self._timeout, on_step=on_step, stop=self._stop
            )
            verdict = judge(ended)
            healthy = ended.status == "done"
            shutil.rmtree(ended.folder, ignore_errors=True)
            return verdict
        finally:
            if not healthy:
                self.close()

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
    study: Study, settings: Mapping[str, Any], number: int, objects: Objects, worker: Worker, on_step: OnStep
) -> Trial:
    """Reconstruct every tuning object with some settings; the first that fails ends the trial.

    Args:
        study: which study.
        settings: what is set.
        number: of the trial.
        objects: the tuning objects.
        worker: solves.
        on_step: told of the place of the object and of every epoch.

    Raises:
        UnsuitableError: where already the defaults are refused.

    """
    start = time.perf_counter()
    values: list[float] = []
    verdict = Verdict("ok", None, None)
    worker.warm()
    for place, seed in enumerate(study.seeds):
        problem = objects.problem(seed)
        verdict = _solved(study.plan(seed, settings), problem, worker, partial(on_step, place))
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


def _solved(plan: Plan, problem: Problem, worker: Worker, on_step: Callable[[TracePoint], None]) -> Verdict:
    """Solve; once more where the machine and not the method ended it."""
    try:
        verdict = worker.solve(plan, problem, on_step)
        return verdict if verdict.status not in ("oom", "killed") else worker.solve(plan, problem, on_step)
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
