"""``ptybench run``: methods on tasks, or on a real measurement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from ptybench.cli.options import (
    DomainName,
    Json,
    Plugins,
    Results,
    Settings,
    TierName,
    add_plugins,
    parse_duration,
    parse_seeds,
    parse_settings,
    split_names,
)
from ptybench.cli.output import Output
from ptybench.errors import InvalidOption, UsageError

if TYPE_CHECKING:
    from ptybench.runner.cells import Plan
    from ptybench.runner.run import RunResult
    from ptybench.task import Task

Names = Annotated[list[str] | None, Parameter(negative="")]


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
    force: Annotated[bool, Parameter(negative="", show_default=False)] = False
    "Run again what has a record already."

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
        settings = parse_settings(reconstruction.set_)
        numbers = execution.numbers

        from ptybench.runner.run import prewarmed

        with prewarmed():
            add_plugins(reconstruction.plugin)
            cells = _on_data(on_data) if on_data.data else _on_tasks(on_tasks)
            plans = [
                one
                for problem, task in cells
                for one in _plans(problem, task, settings, reconstruction, execution.device, numbers)
            ]
            return _run(plans, out, execution, timeout)


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


def _on_tasks(asked: OnTasks) -> Iterator[tuple[dict[str, Any], Task | None]]:
    """Arguments of a plan, and the task without overrides, for every task."""
    from ptybench.registry import load_task

    domain, tier = asked.domain or "dev", asked.tier or "small"
    for name in split_names(asked.task):
        yield {"task": name, "domain": domain, "tier": tier}, load_task(name, tier)


def _on_data(asked: OnData) -> Iterator[tuple[dict[str, Any], Task | None]]:
    """Arguments of a plan for every measurement, which is read once."""
    from ptybench.io.manifest import load_measurement

    for name in split_names(asked.data):
        yield {"data": load_measurement(name, **asked.preparation)}, None


def _plans(
    problem: Mapping[str, Any],
    task: Task | None,
    settings: Mapping[str, Any],
    asked: Reconstruction,
    device: str,
    seeds: list[int],
) -> Iterator[Plan]:
    """One plan for each method and seed."""
    from ptybench.cli.settings import sort_settings
    from ptybench.runner.cells import plan

    for method in split_names(asked.method):
        sorted_settings = sort_settings(settings, task, method)
        overrides: dict[str, Any] = {} if task is None else {"task_overrides": sorted_settings.task}
        for seed in seeds:
            yield plan(
                **problem,
                **overrides,
                method=method,
                options=sorted_settings.method,
                seed=seed,
                device=device,
                epochs=asked.epochs,
                seconds=asked.seconds,
                withheld=asked.withheld,
                split=asked.split,
            )


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
