"""From checks to cells: which runs a claim needs, each once however many claims share it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from ptybench.claims.paper import CURVE, Check, Claim, Paper, RunSpec, Side
from ptybench.errors import InvalidData, PtybenchError, UnknownName, UsageError
from ptybench.registry import ResolvedMethod, load_task, resolve_method
from ptybench.runner import devices
from ptybench.runner.cells import Conditions, Subject
from ptybench.runner.planning import Planned, combine
from ptybench.scoring.metrics import METRICS
from ptybench.task import Domain, Task, Tier, task_of


class MissingError(PtybenchError):
    """What a claim needs and this machine, or ptybench so far, has not got."""


@dataclass(frozen=True, eq=False)
class Member:
    """One run of one setting at one point, on every seed.

    Args:
        run: name of the run.
        settings: what of its options is varied.
        point: value of the ladder, where points are asked for.
        cells: seed → cell.

    """

    run: str
    settings: dict[str, Any]
    point: float | None
    cells: dict[int, Planned]


@dataclass(eq=False)
class Laboratory:
    """Makes the cells of a paper's claims.

    Args:
        paper: the paper, for one tier.
        tier: the tier.
        domain: seed domain of the tasks.
        seeds: which seeds.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        chosen: run and task → options that go before those of the paper.

    """

    paper: Paper
    tier: Tier
    domain: Domain
    seeds: Sequence[int]
    device: str = "auto"
    chosen: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _subjects: dict[str, Subject] = field(default_factory=dict)
    _methods: dict[str, ResolvedMethod] = field(default_factory=dict)

    def need(self, claim: Claim) -> None:
        """Look whether everything that a claim needs is there.

        Raises:
            MissingError: what is not, in one sentence.

        """
        for need in claim.needs:
            kind, _, name = (part.strip() for part in need.partition(":"))
            if kind == "experiment":
                raise MissingError(f"needs {name}")
            if kind == "gpu" and not devices.resolve(self.device)[1].startswith("cuda"):
                raise MissingError("needs a CUDA device, and there is none")
            if kind == "metric" and name not in METRICS:
                raise MissingError(f"needs the metric {name}, which is not there yet")
            if kind == "method":
                _need_method(name, [run for run in self.paper.runs.values() if run.method == name])
            if kind == "data":
                _need_data(name)

    def sides(self, check: Check) -> tuple[list[Member], list[Member] | None]:
        """Return the members of a check's own side and of the other run's.

        Raises:
            MissingError: where a real measurement is not here.
            UsageError: where a check does not fit its task or its method.

        """
        other = check.other
        return self.members(check.side), None if other is None else self.members(other)

    def members(self, side: Side) -> list[Member]:
        """Return every run of a side; see :meth:`sides`."""
        return list(self._members(side))

    def _members(self, side: Side) -> Iterator[Member]:
        points: list[float | None] = [*side.points] or [None]
        for run, point in itertools.product(side.runs, points):
            subject = self._subject(side, point)
            conditions = Conditions(self.device, side.epochs, split=_split(side))
            if subject.task is not None:
                _kept(self.paper, side, subject.task)
            for settings in self.settings(side, run):
                method = self._method(run, side, settings)
                cells = combine([(subject, [method])], self.seeds, conditions)
                yield Member(run, settings, point, {cell.seed: cell for cell in cells})

    def settings(self, side: Side, run: str) -> list[dict[str, Any]]:
        """Return every combination of the options that a side varies.

        Raises:
            InvalidData: where it is the run's grid, and that has none.

        """
        grid = self.paper.runs[run].grid if side.vary == "grid" else side.vary
        if side.vary == "grid" and not grid:
            raise InvalidData(f"{self.paper.where}: vary is the grid of the run {run}, which has none")
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]

    def _subject(self, side: Side, point: float | None) -> Subject:
        known = repr((side.task, side.data, sorted(side.set.items(), key=str), point))
        if known not in self._subjects:
            self._subjects[known] = self._task(side, point) if side.task else self._data(side, point)
        return self._subjects[known]

    def _task(self, side: Side, point: float | None) -> Subject:
        name, overrides = str(side.task), dict(side.set)
        if point is not None:
            ladder = self.load(name, {}).ladder
            if ladder is None:
                raise InvalidData(f"{self.paper.where}: the task {name} has no ladder, so it has no point {point:g}")
            overrides[ladder.name] = point
        return Subject(task=self.load(name, overrides), domain=self.domain, source=name, overrides=overrides)

    def load(self, name: str, overrides: dict[str, Any]) -> Task:
        """Return a task of the paper, or a registered one."""
        own = self.paper.tasks.get(name)
        if own is None:
            return load_task(name, self.tier, overrides)
        return task_of(deepcopy(own), f"{self.paper.where}, task {name}", self.tier, overrides)

    def _data(self, side: Side, point: float | None) -> Subject:
        from ptybench.io.manifest import load_measurement

        preparation = dict(side.set) | ({} if point is None else {"every": point})
        name = str(side.data)
        _need_data(name)
        return Subject(loaded=load_measurement(name, **preparation), source=name)

    def _method(self, run: str, side: Side, settings: dict[str, Any]) -> ResolvedMethod:
        spec = self.paper.runs[run]
        options = spec.options | spec.on.get(side.subject, {}) | self.chosen.get((run, side.subject), {}) | settings
        known = repr((spec.method, sorted(options.items(), key=str)))
        if known not in self._methods:
            self._methods[known] = resolve_method(spec.method, options)
        return self._methods[known]


def _need_method(name: str, runs: Sequence[RunSpec]) -> None:
    """Raise where a method is not there, or something that a run's options name, such as a network's weights."""
    for options in [run.options for run in runs] or [{}]:
        try:
            resolve_method(name, options)
        except UnknownName as error:
            if error.name in options:  # a misspelt option will never be there
                raise
            absent = error.name in (name, *re.split("[>+]", name), *re.split("[>+:]", name))
            if absent:
                raise MissingError(f"needs the method {name}, which is not there yet") from None
            raise MissingError(f"the method {name} cannot be made here: {error}") from None


def card_number(network: str, name: str) -> float:
    """Return a number on the card of a network that ships with ptybench.

    Args:
        network: its name.
        name: dotted, such as ``lipschitz.residual_bound``.

    Raises:
        MissingError: where there is no such network, or no card beside its weights.
        UnknownName: where the card has no such number.

    """
    from ptybench.networks.denoisers import weights_folder

    path = weights_folder() / f"dncnn_{network}.card.json"
    if not path.is_file():
        raise MissingError(f"needs the card {path.name} of a trained network, which is not there yet")
    node: Any = json.loads(path.read_text(encoding="utf-8"))
    for part in name.split("."):
        if not isinstance(node, dict) or part not in node:
            raise UnknownName(f"number of {path.name}", part, node if isinstance(node, dict) else [])
        node = node[part]
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise InvalidData(f"{path.name}: {name} is no number")
    return float(node)


def _need_data(name: str) -> None:
    from ptybench.io.manifest import dataset_file, dataset_names

    if name in dataset_names():
        try:
            dataset_file(name)
        except UsageError as error:
            raise MissingError(str(error)) from None


def _split(side: Side) -> bool:
    named = [name for name in (side.metric, side.other_metric) if name in METRICS]
    return any("halves" in METRICS[str(name)].needs for name in named)


def _kept(paper: Paper, side: Side, task: Task) -> None:
    """Raise where a record will not hold what a side reads.

    Raises:
        InvalidData: with what to add to the task's budget.

    """
    epochs = side.epochs or task.budget.epochs
    at = epochs if side.epoch is None else side.epoch
    if at > epochs or (at < epochs and at not in task.budget.trace):
        raise InvalidData(
            f"{paper.where}: a claim reads epoch {at} of {task.name}, whose budget has {epochs} epochs and "
            f"checkpoints at {', '.join(map(str, task.budget.trace))}: take one of them, or add it to budget.trace"
        )
    if side.metric == CURVE:
        read = (
            [at] if side.until is None and side.seconds is None else [mark for mark in task.budget.trace if mark < at]
        )
        lost = [mark for mark in read if mark not in task.budget.curves]
        if lost:
            raise InvalidData(
                f"{paper.where}: a claim reads the correlation of {task.name} at epoch {lost[0]}, which no record "
                "keeps: add it to budget.curves"
            )
