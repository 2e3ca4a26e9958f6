"""What ``sweep`` and ``plan`` share: what is asked for, its cells, and how those are told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from ptybench.cli.grids import Grid, parse_grid
from ptybench.cli.options import (
    DomainName,
    Names,
    Plugins,
    Ruleset,
    Settings,
    TierName,
    add_plugins,
    parse_seeds,
    parse_settings,
    setting_words,
    split_names,
)
from ptybench.cli.output import Output
from ptybench.cli.points import Points
from ptybench.cli.run import OnData
from ptybench.cli.selection import Selection, axes, rulesets
from ptybench.errors import InvalidOption, UsageError

if TYPE_CHECKING:
    from ptybench.registry import ResolvedMethod
    from ptybench.runner.planning import Planned
    from ptybench.runner.survey import Found


@Parameter(name="*", group=Group("Tasks", sort_key=1))
@dataclass(frozen=True)
class Problems:
    """Which simulated problems."""

    tasks: Annotated[Names, Parameter(("--tasks", "--task"))] = None
    "Names of tasks, FILE.toml, or all; repeatable, or a comma list."
    points: Points = None
    domain: DomainName | None = None
    "Seed domain; dev unless said otherwise: tune on dev, publish on release."
    tier: TierName | None = None
    "Size of the problems; small unless said otherwise."


@Parameter(name="*", group=Group("Methods", sort_key=3))
@dataclass(frozen=True)
class Methods:
    """Which methods, with which options, and how long."""

    methods: Annotated[Names, Parameter(("--methods", "--method"))] = None
    "Names of methods, chains such as 'epie>rpie', or all; repeatable, or a comma list."
    set_: Settings = None
    grid: Grid = None
    ruleset: Ruleset = "default"
    "Options of the papers, those that ptybench tune found for each task (a method without them is left out), or both."
    epochs: int | None = None
    "Budget; the task's own unless said otherwise, 100 for data."
    seconds: float | None = None
    "Budget of solver time, instead of epochs."
    plugin: Plugins = None
    withheld: float | None = None
    "Share of the patterns that the solver never sees; the task's own unless said otherwise, 0.05 for data."
    split: Annotated[bool | None, Parameter(negative="--no-split")] = None
    "Reconstruct both halves of the patterns too, for the split-half FRC; done for data unless said otherwise."


NO_PROBLEMS, NO_DATA, NO_METHODS = Problems(), OnData(), Methods()


@dataclass(frozen=True)
class Which:
    """All that decides which cells there are.

    Args:
        problems: the tasks.
        on_data: or the data.
        methods: the methods.
        seeds: text of ``--seeds``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        results: results folder.

    """

    problems: Problems
    on_data: OnData
    methods: Methods
    seeds: str
    device: str
    results: Path

    def cells(self, out: Output) -> list[Planned]:
        """Every cell.

        Raises:
            UsageError: whatever is wrong with what was asked for, or there is no cell.

        """
        self._refuse_contradictions()
        asked, seeds = self._asked(), parse_seeds(self.seeds)
        add_plugins(self.methods.plugin)

        from ptybench.runner.cells import Conditions
        from ptybench.runner.planning import combine

        method = self.methods
        conditions = Conditions(self.device, method.epochs, method.seconds, method.withheld, method.split)
        found = combine(axes(asked, out.note), seeds, conditions)
        if not found:
            raise UsageError("there is no cell to run: no method is left")
        return found

    def _asked(self) -> Selection:
        problems, method = self.problems, self.methods
        return Selection(
            tasks=split_names(problems.tasks),
            points=problems.points or (),
            domain=problems.domain or "dev",
            tier=problems.tier or "small",
            data=split_names(self.on_data.data),
            preparation=self.on_data.preparation,
            methods=split_names(method.methods),
            rulesets=rulesets(method.ruleset, bool(self.on_data.data)),
            settings=parse_settings(method.set_),
            grid=parse_grid(method.grid),
        )

    def _refuse_contradictions(self) -> None:
        problems, data, method = self.problems, self.on_data, self.methods
        if bool(split_names(problems.tasks)) == bool(split_names(data.data)):
            raise UsageError("give either --tasks NAMES or --data NAMES, or --tasks all")
        if not split_names(method.methods):
            raise UsageError("give --methods NAMES, or --methods all: `ptybench list methods` names them")
        if problems.tasks and data.preparation:
            raise InvalidOption(f"--{next(iter(data.preparation)).replace('_', '-')} is for --data, not for tasks")
        for name in ("points", "domain", "tier"):
            if data.data and getattr(problems, name):
                raise InvalidOption(f"--{name} is for --tasks: a real measurement has none")
        if method.epochs is not None and method.seconds is not None:
            raise InvalidOption("give --epochs or --seconds, not both")
        if self.results.exists() and not self.results.is_dir():
            raise InvalidOption(f"--results: expected a folder, {self.results} is a file")


def split_done(cells: Sequence[Planned], results: Path, force: bool = False) -> tuple[dict[str, Found], list[Planned]]:
    """Return what the results folder says of the cells, and those that are to be run."""
    from ptybench import registry
    from ptybench.records import Store
    from ptybench.runner.provenance import provenance
    from ptybench.runner.survey import survey

    found = survey(Store(results), cells, provenance(registry.plugin_paths()))
    left = [cell for cell in cells if force or cell.key not in found or not found[cell.key].final]
    return found, left


def summary(cells: Sequence[Planned], found: dict[str, Found], left: Sequence[Planned], force: bool = False) -> str:
    """Return how many cells there are and how many are done, as a sentence."""
    done = len(cells) - sum(1 for cell in cells if cell.key not in found or not found[cell.key].final)
    stale = sum(one.stale for one in found.values() if one.final)
    code = f" ({stale} by other code than today's{'' if force else ': --force runs them again'})" if stale else ""
    again = " again" if force and done else ""
    return f"{len(cells)} cells: {done} done before{code}, {len(left)} to run{again}"


def rows(cells: Iterable[Planned], found: dict[str, Found], which: Which) -> Iterator[dict[str, Any]]:
    """Yield every cell as plain JSON values, with the words that run it alone."""
    from ptybench.runner.cells import epochs_of
    from ptybench.runner.devices import resolve

    words, device = _Words(which), resolve(which.device)[1]
    for cell in cells:
        task, known = cell.subject.task, found.get(cell.key)
        yield {
            "key": cell.key,
            "folder": cell.folder,
            "task": None if task is None else task.name,
            "ladder": None if task is None or task.ladder is None else task.ladder.name,
            "point": None if task is None else task.point,
            "data": cell.subject.name if task is None else None,
            "domain": cell.subject.domain,
            "tier": None if task is None else task.tier,
            "seed": cell.seed,
            "method": cell.method.name,
            "method_version": cell.method.version,
            "options": cell.method.options,
            "epochs": epochs_of(cell.subject, cell.method, cell.conditions),
            "seconds": cell.conditions.seconds,
            "device": device,
            "status": None if known is None else known.status,
            "done": known is not None and known.final,
            "stale": known is not None and known.stale,
            "command": [*words.of(cell), "--seed", str(cell.seed)],
        }


@cache
def _defaults(method: str) -> dict[str, Any]:
    from ptybench.registry import resolve_method

    return resolve_method(method).options


def changed_options(method: ResolvedMethod) -> dict[str, Any]:
    """Options that are not the method's defaults."""
    usual = _defaults(method.name)
    return {key: value for key, value in method.options.items() if usual.get(key) != value}


class _Words:
    """The command that runs a cell alone, without its seed; told once for all seeds."""

    def __init__(self, which: Which) -> None:
        self._which = which
        self._known: dict[tuple[int, int], list[str]] = {}

    def of(self, cell: Planned) -> list[str]:
        """``ptybench run …``."""
        both = id(cell.subject), id(cell.method)
        if both not in self._known:
            self._known[both] = ["ptybench", "run", *self._subject(cell), *self._method(cell.method), *self._rest()]
        return self._known[both]

    def _subject(self, cell: Planned) -> list[str]:
        subject, data = cell.subject, self._which.on_data
        if subject.task is None:
            asked = [(f"--{name.replace('_', '-')}", str(value)) for name, value in data.preparation.items()]
            return ["--data", subject.source, *(word for pair in asked for word in pair)]
        found = ["--task", subject.source, "--domain", str(subject.domain), "--tier", subject.task.tier]
        for key, value in subject.overrides.items():
            found += setting_words(f"task.{key}", value)
        return found

    def _method(self, method: ResolvedMethod) -> list[str]:
        found = ["--method", method.name]
        for key, value in changed_options(method).items():
            found += setting_words(f"method.{key}", value)
        return found

    def _rest(self) -> list[str]:
        which, found = self._which, list[str]()
        for path in which.methods.plugin or []:
            found += ["--plugin", str(path)]
        for flag in ("epochs", "seconds", "withheld"):
            value = getattr(which.methods, flag)
            found += [] if value is None else [f"--{flag}", str(value)]
        if which.methods.split is not None:
            found.append("--split" if which.methods.split else "--no-split")
        found += [] if which.device == "auto" else ["--device", which.device]
        return [*found, "--results", str(which.results)]
