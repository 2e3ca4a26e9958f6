"""From what the child left to scores and artefacts."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ptybench.io.files import hdf5_file
from ptybench.io.hdf5 import add_scores, read_estimate, save_reconstruction
from ptybench.records import Status
from ptybench.runner.attempt import Attempt, Curve, is_finite
from ptybench.runner.job import ESTIMATE_FILE, TRACEBACK_FILE, sentence
from ptybench.runner.prepare import Problem
from ptybench.runner.supervisor import Ended
from ptybench.scoring import Scores, evaluate
from ptybench.scoring.data import all_positions
from ptybench.scoring.metrics import METRICS
from ptybench.types import Estimate

COSTLY_PIXELS = 4_000_000
"""Detector pixels in all patterns from which a forward pass takes more than about a second."""

DECIMALS = 6
"""Of a correlation that a record keeps."""

_drawing = threading.Lock()  # matplotlib is not thread-safe


def finish(
    attempt: Attempt, ended: Ended, problem: Problem, halves: tuple[Estimate, Estimate] | None, report: bool
) -> None:
    """Judge, score and picture what the child left; the attempt then holds all that its record needs."""
    if ended.traceback is not None:
        shutil.copyfile(ended.traceback, attempt.artifact("traceback", TRACEBACK_FILE))
    score_checkpoints(attempt, ended, problem)
    verdict = judge(ended)
    if verdict.estimate is None or ended.done is None:
        attempt.end(verdict.status, verdict.error)
        return
    estimate = verdict.estimate
    attempt.scores = evaluate(estimate, problem.truth, problem.measurement, problem.withheld, halves)
    if ended.done.epochs > 0:
        _keep(attempt, ended.done.epochs, attempt.scores)
    attempt.end("ok")
    _write_arrays(attempt, estimate, problem)
    if report:
        _draw(attempt, estimate, problem)


class Verdict(NamedTuple):
    """How a job ended, after a look at what it left; ``estimate`` is there where that can be scored."""

    status: Status
    error: str | None
    estimate: Estimate | None


def judge(ended: Ended) -> Verdict:
    """Return how a job ended: its child may call nonsense a success.

    Raises:
        InvalidData: where it left no estimate.

    """
    if ended.status != "done" or ended.done is None:
        return Verdict("error" if ended.status == "done" else ended.status, ended.error, None)
    estimate = load_estimate(ended.folder / ESTIMATE_FILE)
    if ended.done.status == "diverged" or not is_finite(estimate):
        return Verdict("diverged", "the method diverged: its estimate or its data error is not finite", None)
    return Verdict("ok", None, estimate)


def load_estimate(path: Path) -> Estimate:
    """Read what a solver left, finite or not.

    Raises:
        InvalidData: where the file is not an estimate.

    """
    with hdf5_file(path) as file:
        return read_estimate(file)


def score_checkpoints(attempt: Attempt, ended: Ended, problem: Problem) -> None:
    """Score the estimates that were kept on the way; one that cannot be scored is left out.

    Where a forward pass of all patterns takes seconds, the fit to the patterns used is left to the final estimate: the
    data error of every epoch tells nearly the same.
    """
    costly = problem.measurement.intensities.size > COSTLY_PIXELS
    wanted = set(METRICS) - {"r_factor", "deviance_used"} if costly else None
    for epoch, path in ended.checkpoints.items():
        try:
            estimate = load_estimate(path)
            if is_finite(estimate):
                scores = evaluate(estimate, problem.truth, problem.measurement, problem.withheld, metrics=wanted)
                _keep(attempt, epoch, scores)
        except Exception:  # a solver that fails later may well have left nonsense here; its record says how it ended
            continue


def _keep(attempt: Attempt, epoch: int, scores: Scores) -> None:
    """Keep an epoch's metrics, and its whole correlation where the task asks for it."""
    attempt.trace_metrics[epoch] = dict(scores.values)
    task = attempt.plan.task
    if task is not None and epoch in task.budget.curves and "frc_truth" in scores.curves:
        frequency, value = (scores.curves[name] for name in ("frc_truth_frequency", "frc_truth"))
        attempt.curves[epoch] = Curve(
            [float(f"{one:.8g}") for one in frequency], [round(one, DECIMALS) for one in value]
        )


def _write_arrays(attempt: Attempt, estimate: Estimate, problem: Problem) -> None:
    from ptybench.io.tiff import write_images

    scores = attempt.scores
    assert scores is not None
    wavelength = problem.measurement.wavelength_m if problem.truth is None else problem.truth.wavelength_m
    path = attempt.artifact("reconstruction", "reconstruction.h5")
    if problem.withheld is not None:  # row k belongs to pattern k of the whole measurement
        positions = all_positions(estimate, problem.measurement, problem.withheld)
        estimate = replace(estimate, positions_px=positions)
    save_reconstruction(path, estimate, wavelength)
    if problem.truth is not None:
        add_scores(path, scores, problem.truth)
    for name, file in write_images(attempt.staged, estimate.object, estimate.pixel_size_m).items():
        attempt.artifact(name, file.name)


def _draw(attempt: Attempt, estimate: Estimate, problem: Problem) -> None:
    """Draw the report; without it the numbers stand all the same."""
    path = attempt.artifact("report", "report.png")
    try:
        from ptybench.runner.report import write_report

        with _drawing:
            write_report(
                path,
                attempt.record(),
                attempt.scores,
                estimate,
                problem.truth,
                problem.measurement,
                problem.withheld,
            )
    except Exception as error:
        attempt.warnings.append(f"no report.png: {sentence(error)}")
        path.unlink(missing_ok=True)
