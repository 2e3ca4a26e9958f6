"""One study: a method on a task, what may be turned, and what may be spent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field

from ptybench.errors import InvalidOption
from ptybench.leaderboard.scale import CONTROLS
from ptybench.presets import TuningBudget
from ptybench.records import Status, canonical_json, safe_name
from ptybench.registry import load_task, resolve_method
from ptybench.runner import devices
from ptybench.runner.cells import Plan, plan
from ptybench.scoring.metrics import METRICS
from ptybench.seeds import named_seed
from ptybench.specs import Spec
from ptybench.task import Task, Tier
from ptybench.tuning.search import suggest
from ptybench.tuning.space import Dimension, space_of

FIRST_SEED = 1000
"""Seeds of the domain ``dev`` from here on are for tuning; boards and examples use those below."""
DEFAULT_SEEDS = (1000, 1001)
DEFAULT_TRIALS = 20


class Trial(Spec):
    """One set of options and what came of it.

    Args:
        trial: its number; 0 is the defaults.
        settings: what was set; everything else is the method's default.
        value: mean of the metric over the seeds; ``None`` where it failed on one.
        values: the metric of each seed that was run; a failure ends the trial.
        status: ``ok``, or how the reconstruction ended that failed.
        error: one sentence where it failed.
        same_as: number of an earlier trial with the same options, whose outcome this is.
        seconds: how long it took.
        code_hash: of the code that made it.
        created: when it ended.

    """

    trial: int
    settings: dict[str, Any]
    value: float | None = None
    values: list[float] = Field(default_factory=list)
    status: Status = "ok"
    error: str | None = None
    same_as: int | None = None
    seconds: float = 0.0
    code_hash: str = ""
    created: str = ""


@dataclass(frozen=True, eq=False)
class Study:
    """A search for the best options of one method on one task.

    Args:
        task: the task, at its point.
        method: name of the method.
        method_version: its version.
        defaults: its resolved default options.
        seeds: seeds of the tuning objects.
        epochs: of every reconstruction.
        device: what torch is told.
        device_class: ``cpu`` or ``cuda:NAME``.
        trials: how many sets of options are tried, the defaults among them; 0 where there is nothing to tune.
        space: option → where to look.
        grid: settings of every trial, where a grid was given; the first are the defaults.

    """

    task: Task
    method: str
    method_version: str
    defaults: dict[str, Any]
    seeds: tuple[int, ...]
    epochs: int
    device: str
    device_class: str
    trials: int
    space: dict[str, Dimension] = field(default_factory=dict)
    grid: list[dict[str, Any]] | None = None
    _options: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    @property
    def title(self) -> str:
        """A short name for people: ``low_dose · epie``."""
        return f"{self.task.name} · {self.method}"

    @property
    def metric(self) -> str:
        """What is optimised."""
        return self.task.primary_metric

    @property
    def direction(self) -> Literal["higher", "lower"]:
        """Which way is better."""
        return METRICS[self.metric].direction

    @property
    def sampler(self) -> Literal["tpe", "grid", "none"]:
        """How the trials are chosen."""
        return "none" if self.trials == 0 else "tpe" if self.grid is None else "grid"

    @property
    def budget(self) -> TuningBudget:
        """What is spent."""
        return TuningBudget(
            trials=self.trials,
            seeds=list(self.seeds),
            epochs=self.epochs,
            tier=self.task.tier,
            point=self.task.point,
        )

    @property
    def sampler_seed(self) -> int:
        """Seed of the search, from task, method and what a trial costs; more trials so go on where fewer ended."""
        spent = self.budget.model_dump(mode="json", exclude={"trials"})
        return named_seed("tuning", self.task.name, self.method, canonical_json(spent))

    @cached_property
    def key(self) -> str:
        """SHA-256 of everything that a trial's value depends on, except the code."""
        identity = {
            "task": self.task.identity(),
            "tier": self.task.tier,
            "seeds": list(self.seeds),
            "epochs": self.epochs,
            "device": self.device_class,
            "method": self.method,
            "method_version": self.method_version,
            "defaults": self.defaults,
            "space": {key: dimension.document() for key, dimension in self.space.items()},
            "grid": self.grid,
        }
        return hashlib.sha256(canonical_json(identity).encode()).hexdigest()

    @property
    def place(self) -> PurePosixPath:
        """Where its trials are kept inside a results folder."""
        return PurePosixPath("tuning") / safe_name(self.task.name) / f"{safe_name(self.method)}-{self.key[:12]}.jsonl"

    def options(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return every resolved option of a trial's settings."""
        text = canonical_json(settings)
        if text not in self._options:
            self._options[text] = resolve_method(self.method, dict(settings)).options
        return self._options[text]

    def plan(self, seed: int, settings: Mapping[str, Any]) -> Plan:
        """Return what is run in a trial for one tuning object: a cell of the domain ``dev``, as the runner has it."""
        return plan(
            method=self.method,
            task=self.task,
            seed=seed,
            domain="dev",
            device=self.device,
            epochs=self.epochs,
            options=dict(settings),
        )

    def next_settings(self, trials: Sequence[Trial]) -> dict[str, Any]:
        """Return what the next trial sets: nothing in the first, which tries the defaults."""
        if self.grid is not None:
            return self.grid[len(trials)]
        if not trials:
            return {}
        tried = [(self.options(trial.settings), trial.value) for trial in trials]
        return suggest(self.space, tried, self.direction, self.sampler_seed)

    def best(self, trials: Sequence[Trial]) -> Trial:
        """Return the trial with the best value; of equals, and where all failed, the earliest."""
        sign = -1 if self.direction == "higher" else 1
        return min(trials, key=lambda t: (t.value is None, 0.0 if t.value is None else sign * t.value, t.trial))


def make_study(
    task: str | Path,
    method: str,
    *,
    trials: int | None = None,
    seeds: Sequence[int] = DEFAULT_SEEDS,
    epochs: int | None = None,
    tier: Tier = "small",
    point: float | None = None,
    device: str = "auto",
    grid: Sequence[Mapping[str, Any]] | None = None,
) -> Study:
    """Settle everything about one study, without running anything.

    Args:
        task: name of a task, or its TOML file.
        method: name of a method, a composite or a chain.
        trials: sets of options to try, the defaults among them; 20, or with a grid its size.
        seeds: seeds of the tuning objects, 1000 and above.
        epochs: of every reconstruction; the task's budget.
        tier: tier of the task.
        point: value of the task's ladder; its default.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        grid: settings to try one by one, instead of a search.

    Raises:
        UsageError: whatever is wrong with it, in one sentence.

    """
    _check(method, trials, seeds, epochs, grid)
    settled = load_task(task, tier)
    if point is not None:
        if settled.ladder is None:
            raise InvalidOption(f"--point: {settled.name} has no ladder")
        settled = load_task(task, tier, {settled.ladder.field: point})
    torch_device, device_class = devices.resolve(device)
    resolved = resolve_method(method)
    defaults = resolved.options
    wanted = None if grid is None else _grid(method, defaults, grid)
    space = {} if wanted is not None else space_of(method, defaults)
    budget = len(wanted) if wanted is not None else (trials or DEFAULT_TRIALS) if space else 0
    return Study(
        task=settled,
        method=resolved.name,
        method_version=resolved.version,
        defaults=defaults,
        seeds=tuple(dict.fromkeys(seeds)),
        epochs=settled.budget.epochs if epochs is None else epochs,
        device=torch_device,
        device_class=device_class,
        trials=budget,
        space=space,
        grid=wanted,
    )


def _check(
    method: str, trials: int | None, seeds: Sequence[int], epochs: int | None, grid: Sequence[Mapping[str, Any]] | None
) -> None:
    if method in CONTROLS:
        raise InvalidOption(f"{method} is a control and is not tuned: leave it out")
    if grid is not None and trials is not None:
        raise InvalidOption("--grid tries each of its points: leave out --trials")
    if not seeds or min(seeds) < FIRST_SEED:
        raise InvalidOption(
            f"--seeds: objects for tuning have seeds from {FIRST_SEED} on, so that none of them is ever on a board, "
            f"got {min(seeds, default='none')}"
        )
    for name, value in (("trials", trials), ("epochs", epochs)):
        if value is not None and value < 1:
            raise InvalidOption(f"--{name} must be at least 1, got {value}")


def _grid(method: str, defaults: dict[str, Any], grid: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The defaults, then every point of the grid that is another."""
    found: list[dict[str, Any]] = [{}]
    known = [defaults]
    for settings in grid:
        options = resolve_method(method, dict(settings)).options
        if options not in known:
            known.append(options)
            found.append(dict(settings))
    return found
