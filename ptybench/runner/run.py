"""Run cells: each in a process of its own, each ending as exactly one record, whatever happens.

The parent simulates, scores and writes; the child solves. A cell that has a final record is not run again. While a cell
runs it is claimed, so that no other process runs it into the same folder, and it holds the cores that it was given:
parent thread and child keep to them from simulation to record, so that neither disturbs the cells beside it.
"""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from ptybench import registry
from ptybench.errors import UsageError
from ptybench.records import Record, Store, TracePoint
from ptybench.runner import devices
from ptybench.runner.attempt import Attempt
from ptybench.runner.cells import Plan, plan
from ptybench.runner.crew import share_out
from ptybench.runner.finish import finish, load_estimate
from ptybench.runner.job import ESTIMATE_FILE, TRACEBACK_FILE, sentence
from ptybench.runner.leases import Claim, Lease, Machine, kept_to, lease_folder, share_of
from ptybench.runner.prepare import Problem, job_of, prepare
from ptybench.runner.provenance import provenance
from ptybench.runner.supervisor import Child, Ended, Nursery
from ptybench.runner.survey import is_stale
from ptybench.scoring.data import split_halves
from ptybench.types import Estimate

_LOG_BYTES = 2**20


@dataclass(frozen=True)
class Progress:
    """Where a cell stands.

    Args:
        plan: which cell.
        phase: ``waiting``, ``simulating`` or ``loading``, ``solving``, ``halves`` or ``scoring``.
        epoch: epochs done.
        epochs: the budget in epochs, where there is one.
        seconds: solver seconds so far.
        data_error: the last data error.
        remaining_seconds: solver seconds still to come, by the pace so far; ``None`` before the first epoch.
        waits_for: who has the cores or the device that a waiting cell needs, or is running it already.

    """

    plan: Plan
    phase: str
    epoch: int = 0
    epochs: int | None = None
    seconds: float = 0.0
    data_error: float | None = None
    remaining_seconds: float | None = None
    waits_for: str = ""


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True)
class RunResult:
    """What came of a cell.

    Args:
        record: its record.
        cached: true where the record was there already and nothing was run.
        stale: true where a cached record was made by other code than today's.
        refused: why the cell was not begun, where that was wrong use; the record's status is then ``skipped``.

    """

    record: Record
    cached: bool = False
    stale: bool = False
    refused: UsageError | None = None


@dataclass(frozen=True)
class _Setting:
    """What holds for all cells of one call."""

    store: Store
    nursery: Nursery
    machine: Machine
    cores: int
    stop: threading.Event
    force: bool
    timeout: float | None
    report: bool
    progress: ProgressCallback
    memory_bytes: int | None
    distributed: bool = False

    def waits(self, plan: Plan) -> Callable[[str], None]:
        """What is called where a cell has to wait for somebody."""
        return lambda who: self.progress(Progress(plan, "waiting", waits_for=who))


class _RefusedError(Exception):
    """The cell cannot be begun, for a reason that its user can mend."""

    def __init__(self, reason: UsageError) -> None:
        super().__init__(str(reason))
        self.reason = reason


_MANY = 4
"""Cells from which on a process that imports torch once for all of them pays."""
_early = Nursery()


@contextmanager
def prewarmed() -> Iterator[None]:
    """Start the first child process at once, so that it loads while the block makes plans for :func:`run_cells`."""
    with _early:
        _early.warm()
        yield


def run(
    *,
    method: str,
    timeout: float | None = None,
    results: str | Path = "./runs",
    force: bool = False,
    report: bool = True,
    progress: ProgressCallback | None = None,
    **cell: Any,
) -> Record:
    """Run one cell and return its record.

    Args:
        method: name of a method or a chain.
        timeout: seconds after which the solver's process is killed.
        results: results folder.
        force: run it even where it has a final record.
        report: also draw ``report.png``.
        progress: told of every epoch.
        cell: ``task`` or ``data``, ``seed``, ``domain``, ``tier``, ``device``, ``epochs``, ``seconds``, ``options``,
            ``task_overrides``, … as in :func:`ptybench.runner.cells.plan`.

    Raises:
        UsageError: whatever is wrong with the arguments, or too little memory.

    Example:
        >>> import ptybench
        >>> record = ptybench.run(task="low_dose", method="epie", seed=0, epochs=2)  # doctest: +SKIP

    """
    with prewarmed():
        (result,) = run_cells(
            [plan(method=method, **cell)],
            results=results,
            force=force,
            timeout=timeout,
            report=report,
            progress=progress,
        )
    if result.refused is not None:
        raise result.refused
    return result.record


def run_cells(plans: Sequence[Plan], **options: Any) -> list[RunResult]:
    """Run cells and return one result per plan, in their order; see :func:`each_cell`."""
    found: dict[int, RunResult] = {}
    tell: Callable[[RunResult], None] = options.pop("on_result", None) or _silent

    def keep(index: int, result: RunResult) -> None:
        found[index] = result
        tell(result)

    each_cell(plans, keep, **options)
    return [found[index] for index in range(len(plans))]


def each_cell(
    plans: Sequence[Plan],
    on_result: Callable[[int, RunResult], None],
    *,
    jobs: int = 1,
    results: str | Path = "./runs",
    force: bool = False,
    timeout: float | None = None,
    report: bool = True,
    progress: ProgressCallback | None = None,
    memory_bytes: int | None = None,
    distributed: bool = False,
) -> None:
    """Run cells, one process each; one that fails stops nothing, and nothing is kept.

    Args:
        plans: what to run; each is asked for when its turn comes.
        on_result: told of the place and the record of every cell as it comes, one at a time.
        jobs: how many at a time; each is given its share of the cores.
        results: results folder.
        force: run them even where they have final records.
        timeout: seconds of each solver's process.
        report: also draw ``report.png``.
        progress: told of every epoch, from several threads where ``jobs`` is above 1.
        memory_bytes: memory at which a solver's process is stopped; the default is what this machine has free.
        distributed: whether the processes of torchrun solve together; this is the first of them.

    Raises:
        KeyboardInterrupt: on Ctrl-C and on SIGTERM, after the running cells have left ``killed`` records.

    """
    stop, telling = threading.Event(), threading.Lock()
    machine = Machine(lease_folder())
    cores = share_of(machine, jobs)
    many = len(plans) >= _MANY
    with Nursery(cores if jobs > 1 else None, many) as own, _early, interruptible():
        setting = _Setting(
            Store(results),
            own if many or jobs > 1 else _early,
            machine,
            cores,
            stop,
            force,
            timeout,
            report,
            progress or _silent,
            memory_bytes,
            distributed,
        )

        def one(index: int) -> bool:
            # a child that loads while another cell is scored would take that one's neighbours' time where cells run
            # side by side
            more = jobs == 1 and index + 1 < len(plans)
            result = _run_claimed(plans[index], setting, more)
            if result is None:
                return False
            with telling:
                on_result(index, result)
            return True

        share_out(len(plans), jobs, one, stop)


def _silent(_: object) -> None:
    """Tell nobody."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _run_claimed(plan: Plan, setting: _Setting, more: bool) -> RunResult | None:
    """Run a cell, unless it has its record or somebody is running it now (``None``)."""
    claim = Claim.take(setting.store.root, plan.cell.key)
    if claim is None:
        setting.waits(plan)("another process that runs this very cell")
        return None
    with claim:
        old = setting.store.load(plan.cell.place, plan.cell.key)
        if old is not None and old.final and not setting.force:
            now = provenance(registry.plugin_paths())
            return RunResult(old, cached=True, stale=is_stale(old.provenance.code_hash, old.provenance.plugins, now))
        lease = setting.machine.lease_cores(setting.cores, setting.waits(plan), setting.stop)
        with lease, kept_to(lease.cores):
            return _run_cell(plan, setting, lease, more)


def _run_cell(plan: Plan, setting: _Setting, lease: Lease, more: bool) -> RunResult:
    """Run one cell to its record."""
    store, place = setting.store, plan.cell.place
    attempt = Attempt(plan, provenance(registry.plugin_paths(), exclusive=lease.exclusive), store.stage(place))
    interrupted = None
    try:
        _attempt(attempt, setting, lease, more)
    except KeyboardInterrupt as error:
        interrupted = error
        lost = ", as torchrun does when one of its processes has ended" if setting.distributed else ""
        attempt.end("killed", f"the run was interrupted{lost}")
    except _RefusedError as error:
        attempt.end("skipped", str(error.reason))
        return RunResult(store.save(place, attempt.record(), attempt.staged), refused=error.reason)
    except Exception as error:
        attempt.end("error", sentence(error))
        path = attempt.artifact("traceback", TRACEBACK_FILE)
        path.write_text(traceback.format_exc(), encoding="utf-8", errors="replace")
    record = store.save(place, attempt.record(), attempt.staged)
    if interrupted is not None:
        raise interrupted
    return RunResult(record)


def _attempt(attempt: Attempt, setting: _Setting, lease: Lease, more: bool) -> None:
    """Simulate, solve, score; whatever is raised becomes the record's status."""
    plan = attempt.plan
    if setting.stop.is_set():
        raise KeyboardInterrupt
    with setting.nursery.take() as child:
        child.keep_to(lease.cores)
        setting.progress(Progress(plan, "simulating" if plan.task is not None else "loading", epochs=plan.cell.epochs))
        try:
            problem = prepare(plan)
        except UsageError as error:
            raise _RefusedError(error) from error
        attempt.facts = problem.facts
        with _on_device(attempt, setting, child) as plan:
            ended, halves = _solve_all(attempt, plan, setting, child, problem)
        _keep_log(attempt, child)
        if more:
            setting.nursery.warm()
        setting.progress(_progress(plan, "scoring", ended.steps[-1] if ended.steps else TracePoint(epoch=0)))
        finish(attempt, ended, problem, halves, report=setting.report)


@contextmanager
def _on_device(attempt: Attempt, setting: _Setting, child: Child) -> Iterator[Plan]:
    """Lease a device for a while, and yield the plan on that; cells simulate and score while others solve."""
    plan = attempt.plan
    choices = devices.choices(plan.device)
    if not choices:
        yield plan
        return
    with setting.machine.lease_device(list(choices.values()), setting.waits(plan), setting.stop) as lease:
        device = list(choices)[lease.device]
        exclusive = attempt.provenance.exclusive and lease.exclusive
        attempt.provenance = attempt.provenance.model_copy(update={"exclusive": exclusive})
        child.warm(device)
        yield replace(plan, device=device)


def _solve_all(
    attempt: Attempt, plan: Plan, setting: _Setting, child: Child, problem: Problem
) -> tuple[Ended, tuple[Estimate, Estimate] | None]:
    """Reconstruct all patterns, and both halves where they are asked for."""
    truth = problem.truth if plan.method.needs_truth else None
    follow = partial(_solve, child, plan=plan, setting=setting, truth=truth)
    earlier = len(child.jobs)
    try:
        ended = follow(measurement=problem.measurement, phase="solving")
    finally:  # an interrupted run has a trace too
        attempt.ended = child.jobs[earlier] if len(child.jobs) > earlier else None
    told = {"threads": child.threads, "kernels": child.kernels, "world": child.world}
    attempt.provenance = attempt.provenance.model_copy(update=told)
    wanted = plan.cell.split and ended.status == "done"
    return ended, _halves(attempt, problem, follow) if wanted else None


def _solve(child: Child, *, plan: Plan, setting: _Setting, truth: Any, measurement: Any, phase: str) -> Ended:
    marks = plan.checkpoints if phase == "solving" else []
    return child.run(
        job_of(plan, marks, truth is not None, setting.distributed),
        measurement,
        truth,
        timeout=setting.timeout,
        on_step=lambda step: setting.progress(_progress(plan, phase, step)),
        stop=setting.stop,
        memory_bytes=setting.memory_bytes,
    )


def _halves(attempt: Attempt, problem: Problem, follow: Callable[..., Ended]) -> tuple[Estimate, Estimate] | None:
    """Reconstruct both halves of the patterns; ``None``, with a warning, where one of them fails."""
    found = []
    for indices in split_halves(problem.measurement):
        ended = follow(measurement=problem.measurement.subset(indices), phase="halves")
        if ended.status != "done" or ended.done is None or ended.done.status != "ok":
            attempt.warnings.append(f"no split-half metrics: {ended.error or 'a half diverged'}")
            return None
        found.append(load_estimate(ended.folder / ESTIMATE_FILE))
    return found[0], found[1]


def _progress(plan: Plan, phase: str, step: TracePoint) -> Progress:
    seconds, cell = step.seconds or 0.0, plan.cell
    left = []
    if cell.epochs is not None and step.epoch > 0:
        left.append(seconds / step.epoch * (cell.epochs - step.epoch))
    if cell.seconds is not None:
        left.append(max(0.0, cell.seconds - seconds))
    return Progress(plan, phase, step.epoch, cell.epochs, seconds, step.data_error, min(left, default=None))


def _keep_log(attempt: Attempt, child: Child) -> None:
    """Keep the end of what the solver printed."""
    size = child.log.stat().st_size
    if size == 0:
        return
    with child.log.open("rb") as log:
        log.seek(max(0, size - _LOG_BYTES))
        attempt.artifact("log", "solver.log").write_bytes(log.read())
