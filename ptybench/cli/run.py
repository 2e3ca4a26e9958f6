"""``ptybench run``: methods on tasks, or on a real measurement."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from ptybench.cli.options import (
    DomainName,
    Flag,
    Json,
    Names,
    Plugins,
    Results,
    Ruleset,
    Settings,
    TierName,
    add_plugins,
    parse_duration,
    parse_seeds,
    parse_settings,
    split_names,
)
from ptybench.cli.output import Output
from ptybench.cli.selection import Selection, axes, rulesets
from ptybench.errors import InvalidOption, UsageError
from ptybench.runner.quiet import load_numpy_quietly

if TYPE_CHECKING:
    from ptybench.runner.cells import Plan
    from ptybench.runner.run import RunResult


@Parameter(name="*", group=Group("A task", sort_key=1))
@dataclass(frozen=True)
class OnTasks:
    """Which simulated problems."""

    task: Names = None
    "Name of a task, or its FILE.toml; repeatable, or a comma list."
    domain: DomainName | None = None
    "Seed domain; dev unless said otherwise: tune on dev, publish on release."
    tier: TierName | None = None
    "Size of the problem; small unless said otherwise."


@Parameter(name="*", group=Group("Or a real measurement", sort_key=2))
@dataclass(frozen=True)
class OnData:
    """Which real measurements, and how they are prepared."""

    data: Names = None
    "Name of a dataset, or a file: CXI, or HDF5 and npz with a manifest; repeatable."
    geometry: Path | None = None
    "TOML file with what the data do not say: wavelength, distances, pixel size, propagation."
    crop: int | None = None
    "Keep the central N x N detector pixels."
    bin: int | None = None
    "Add up B x B detector pixels."
    orient: str | None = None
    "Turns in order, such as transpose,flip-y (patterns) or swap-xy,negate-x (positions)."
    bad_pixels: Path | None = None
    "File with the bad pixels, true = bad."
    every: float | None = None
    "Thin the scan out: 2 keeps about a quarter of the patterns, twice as far apart."

    @property
    def preparation(self) -> dict[str, Any]:
        """What was asked for, as arguments of ``load_measurement``."""
        asked = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "data"}
        return {name: value for name, value in asked.items() if value is not None}


@Parameter(name="*", group=Group("The method", sort_key=3))
@dataclass(frozen=True)
class Reconstruction:
    """Which methods, and how long."""

    method: Names = None
    "Name of a method, or a chain such as 'epie>rpie'; repeatable, or a comma list."
    epochs: int | None = None
    "Budget; the task's own unless said otherwise, 100 for data."
    seconds: float | None = None
    "Budget of solver time, instead of epochs."
    set_: Settings = None
    plugin: Plugins = None
    withheld: float | None = None
    "Share of the patterns that the solver never sees; the task's own unless said otherwise, 0.05 for data."
    ruleset: Ruleset = "default"
    "Options of the papers, or those that ptybench tune found for each task (a method without them is left out)."
    split: Annotated[bool | None, Parameter(negative="--no-split")] = None
    "Reconstruct both halves of the patterns too, for the split-half FRC; done for data unless said otherwise."


@Parameter(name="*", group=Group("The run", sort_key=4))
@dataclass(frozen=True)
class Execution:
    """Where, how often and how long."""

    seed: int | None = None
    "Seed; 0 unless said otherwise."
    seeds: str | None = None
    "Several seeds, such as 0-4,7."
    device: str = "auto"
    "auto, cpu, cuda or cuda:N."
    timeout: str | None = None
    "Kill a method after 90s, 10m or 2h."
    jobs: int = 1
    "Cells at a time."
    results: Results = Path("runs")
    force: Flag = False
    "Run again what has a record already."
    report: Annotated[bool, Parameter(negative="--no-report", show_default=False)] = True
    "Draw report.png, which takes about a second."

    @property
    def numbers(self) -> list[int]:
        """The seeds that were asked for."""
        return [self.seed or 0] if self.seeds is None else parse_seeds(self.seeds)


def run(
    *,
    on_tasks: OnTasks = OnTasks(),
    on_data: OnData = OnData(),
    reconstruction: Reconstruction = Reconstruction(),
    execution: Execution = Execution(),
    json: Json = False,
) -> int:
    """Run methods on tasks or on a real measurement; score, time and picture each."""
    out = Output(json)
    with out.reserved():
        _refuse_contradictions(on_tasks, on_data, reconstruction, execution)
        timeout = None if execution.timeout is None else parse_duration(execution.timeout)
        asked, seeds = _asked(on_tasks, on_data, reconstruction), execution.numbers

        load_numpy_quietly()
        from ptybench.runner.run import prewarmed

        with prewarmed():
            add_plugins(reconstruction.plugin)
            return _run(_plans(asked, reconstruction, execution.device, seeds, out), out, execution, timeout)


def _refuse_contradictions(tasks: OnTasks, data: OnData, method: Reconstruction, execution: Execution) -> None:
    if bool(split_names(tasks.task)) == bool(split_names(data.data)):
        raise UsageError("give either --task NAME or --data NAME: `ptybench list tasks` or `list datasets` names them")
    if not split_names(method.method):
        raise UsageError("give --method NAME: `ptybench list methods` names them")
    if tasks.task and data.preparation:
        raise InvalidOption(f"--{next(iter(data.preparation)).replace('_', '-')} is for --data, not for a task")
    if data.data and (tasks.domain or tasks.tier):
        raise InvalidOption("--domain and --tier are for --task: a real measurement has neither")
    if method.epochs is not None and method.seconds is not None:
        raise InvalidOption("give --epochs or --seconds, not both")
    if execution.seed is not None and execution.seeds is not None:
        raise InvalidOption("give --seed or --seeds, not both")
    if execution.results.exists() and not execution.results.is_dir():
        raise InvalidOption(f"--results: expected a folder, {execution.results} is a file")
    if execution.jobs < 1:
        raise InvalidOption(f"--jobs must be at least 1, got {execution.jobs}")


def _asked(tasks: OnTasks, data: OnData, method: Reconstruction) -> Selection:
    return Selection(
        tasks=split_names(tasks.task),
        domain=tasks.domain or "dev",
        tier=tasks.tier or "small",
        data=split_names(data.data),
        preparation=data.preparation,
        methods=split_names(method.method),
        rulesets=rulesets(method.ruleset, bool(data.data)),
        settings=parse_settings(method.set_),
    )


def _plans(asked: Selection, method: Reconstruction, device: str, seeds: list[int], out: Output) -> list[Plan]:
    """One plan for each task, method and seed."""
    from ptybench.runner.cells import Conditions
    from ptybench.runner.planning import combine

    conditions = Conditions(device, method.epochs, method.seconds, method.withheld, method.split)
    return [
        cell.plan()
        for subject, choices in axes(asked, out.note)
        for choice in choices
        for cell in combine([(subject, [choice])], seeds, conditions)
    ]


def _run(plans: list[Plan], out: Output, execution: Execution, timeout: float | None) -> int:
    """Run the plans, show each record as it comes, and return the exit code."""
    from ptybench.cli.progress import ProgressLine
    from ptybench.records import documents
    from ptybench.runner.run import run_cells

    with ProgressLine(len(plans)) as line:

        def tell(result: RunResult) -> None:
            with line.finished(result):
                _show(result, out, execution.results)

        found = run_cells(
            plans,
            jobs=execution.jobs,
            results=execution.results,
            force=execution.force,
            timeout=timeout,
            report=execution.report,
            progress=line.step,
            on_result=tell,
        )
    if out.json:
        out.document("records", documents([result.record for result in found]))
    if any(result.refused for result in found):
        return 2
    return 0 if all(result.record.status == "ok" for result in found) else 1


def _show(result: RunResult, out: Output, results: Path) -> None:
    record = result.record
    if result.refused is not None:
        out.note(f"ptybench: {result.refused}")
    elif result.cached:
        code = ", by other code than today's" if result.stale else ""
        out.note(f"{record.problem} · {record.method} · seed {record.seed} was run before{code}: --force runs it again")
    if out.json:
        return
    from rich.console import Console

    from ptybench.leaderboard.ranking import rank_of
    from ptybench.records import Store
    from ptybench.runner.card import result_card

    others = [one for store in (Store.published(), Store(results)) for one in store.records(problem=record.problem)]
    result_card(record, rank_of(record, others), Console())
