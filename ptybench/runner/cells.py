"""What is to be run: a cell, the identity of one number, and a plan, the cell with what is needed to run it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ptybench.errors import InvalidOption, UnknownName, UsageError
from ptybench.records import canonical_json, folder_text
from ptybench.runner import devices
from ptybench.seeds import named_seed
from ptybench.specs import Spec
from ptybench.task import DOMAINS, TIERS, Domain, Task, Tier

if TYPE_CHECKING:
    from ptybench.io.manifest import LoadedData
    from ptybench.registry import ResolvedMethod

DEFAULT_CHECKPOINTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
DATA_EPOCHS = 100
"""Budget on a real measurement where none is asked for."""
ORACLE_EPOCHS = 10_000
"""Budget of the control that knows the truth: it runs until its likelihood stands still, not for the task's epochs."""
DATA_WITHHELD = 0.05
"""Share of a real measurement's patterns that its solver never sees."""


class Cell(Spec):
    """Everything that a number depends on, except the code.

    Args:
        task: every resolved field of the task, its name and version among them; ``None`` for a real measurement.
        data: name, SHA-256 and preparation of a real measurement; ``None`` for a task.
        domain: seed domain of a task.
        tier: tier of a task.
        seed: the seed.
        method: name of the method.
        method_version: version of the method.
        options: every resolved option.
        epochs: budget in epochs, with ``seconds``.
        seconds: budget in seconds of solver time.
        device: device class, ``cpu`` or ``cuda:NAME``.
        weights: SHA-256 of the weights; ``None`` for a method without.
        withheld: share of the patterns that the solver never sees.
        split: true where the two halves of the patterns are reconstructed too.

    """

    task: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    domain: Domain | None = None
    tier: Tier | None = None
    seed: int
    method: str
    method_version: str
    options: dict[str, Any]
    epochs: int | None = None
    seconds: float | None = None
    device: str
    weights: str | None = None
    withheld: float = 0.0
    split: bool = False

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The cell as plain JSON values."""
        return self.model_dump(mode="json")

    @cached_property
    def key(self) -> str:
        """SHA-256 of the identity as canonical JSON."""
        return hashlib.sha256(canonical_json(self.identity).encode()).hexdigest()

    @property
    def problem(self) -> str:
        """The task's or the measurement's name."""
        return str((self.task or self.data or {})["name"])

    @property
    def place(self) -> PurePosixPath:
        """The cell's folder inside a results folder."""
        return PurePosixPath(folder_name(self.problem, self.method, self.domain, self.tier, self.seed, self.key))


def folder_name(problem: str, method: str, domain: str | None, tier: str | None, seed: int, key: str) -> str:
    """Return a cell's folder inside a results folder."""
    parts = [domain, tier, f"seed{seed}"]
    return folder_text(problem, method, "-".join(part for part in parts if part), key)


@dataclass(frozen=True, eq=False)
class Subject:
    """What is reconstructed, settled: a task at one point of its ladder, or a real measurement.

    Args:
        task: the task; ``None`` for a real measurement.
        loaded: the real measurement; ``None`` for a task.
        domain: seed domain of the task.
        source: name or file, as it was asked for.
        overrides: what of the task was asked to be otherwise.

    """

    task: Task | None = None
    loaded: LoadedData | None = None
    domain: Domain | None = None
    source: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The task's or the measurement's name."""
        if self.task is not None:
            return self.task.name
        assert self.loaded is not None
        return self.loaded.name


@dataclass(frozen=True, eq=False)
class Conditions:
    """What holds for all cells of a plan.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        epochs: budget; the default is the task's, for data 100.
        seconds: budget in seconds of solver time, instead of epochs or beside them.
        withheld: share of patterns that the solver never sees; the default is the task's, for data 5 %.
        split: also reconstruct both halves of the patterns; the default is only for data.

    Raises:
        InvalidOption: where one is out of range.

    """

    device: str = "auto"
    epochs: int | None = None
    seconds: float | None = None
    withheld: float | None = None
    split: bool | None = None

    def __post_init__(self) -> None:
        _at_least("epochs", self.epochs, 1)
        if self.seconds is not None and not self.seconds > 0:
            raise InvalidOption(f"seconds must be above 0, got {self.seconds}")
        if self.withheld is not None and not 0 <= self.withheld < 0.5:
            raise InvalidOption(f"withheld must be at least 0 and below 0.5, got {self.withheld}")
        devices.resolve(self.device)


@dataclass(frozen=True, eq=False)
class Plan:
    """A cell and what is needed to run it.

    Args:
        cell: the identity.
        method: the method with its options.
        device: what torch is told; ``cuda`` is any that is like the first one.
        task: the task; ``None`` for a real measurement.
        loaded: the real measurement; ``None`` for a task.

    """

    cell: Cell
    method: ResolvedMethod
    device: str
    task: Task | None = None
    loaded: LoadedData | None = None

    @property
    def title(self) -> str:
        """A short name for people: ``low_dose 1000 · epie · seed 0``."""
        point = "" if self.task is None or self.task.point is None else f" {self.task.point:g}"
        return f"{self.cell.problem}{point} · {self.cell.method} · seed {self.cell.seed}"

    @property
    def solver_seed(self) -> int:
        """The seed that the solver is given; a hash, so that it does not tell the task's own."""
        if self.task is not None:
            return named_seed(self.task.name, str(self.cell.domain), self.cell.seed, "solver")
        assert self.cell.data is not None
        return named_seed(str(self.cell.data["sha256"]), self.cell.seed, "solver")

    @property
    def checkpoints(self) -> list[int]:
        """Epochs at which the estimate is scored for the trace."""
        marks = DEFAULT_CHECKPOINTS if self.task is None else self.task.budget.trace
        return sorted({mark for mark in marks if self.cell.epochs is None or mark < self.cell.epochs})


def plan(
    *,
    method: str,
    task: str | Path | Task | None = None,
    data: str | Path | LoadedData | None = None,
    seed: int = 0,
    domain: str = "dev",
    tier: str = "small",
    device: str = "auto",
    epochs: int | None = None,
    seconds: float | None = None,
    options: dict[str, Any] | None = None,
    task_overrides: dict[str, Any] | None = None,
    preparation: dict[str, Any] | None = None,
    withheld: float | None = None,
    split: bool | None = None,
) -> Plan:
    """Settle everything about one cell, without running anything.

    Args:
        method: name of a method, a variant, a composite or a chain.
        task: name of a task, its TOML file, or the task itself (whose own tier then holds).
        data: name or file of a real measurement, or one that is loaded; give this or ``task``.
        seed: seed of the simulation (for data: of the solver alone).
        domain: ``train``, ``dev`` or ``release``.
        tier: ``small``, ``paper`` or ``large``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        epochs: budget; the default is the task's, for data 100.
        seconds: budget in seconds of solver time, instead of epochs or beside them.
        options: options of the method.
        task_overrides: dotted path, ladder name or unique last name → value.
        preparation: arguments of :func:`ptybench.io.manifest.load_measurement` (``geometry``, ``crop``, ``bin``, …).
        withheld: share of patterns that the solver never sees; the default is the task's, for data 5 %.
        split: also reconstruct both halves of the patterns; the default is only for data.

    Raises:
        UsageError: whatever is wrong with it, in one sentence.

    """
    from ptybench.registry import resolve_method

    conditions = Conditions(device, epochs, seconds, withheld, split)
    resolved = resolve_method(method, options)
    subject = settle_subject(task, data, domain, tier, task_overrides, preparation)
    return plan_cell(subject, resolved, conditions, seed)


def settle_subject(
    task: str | Path | Task | None = None,
    data: str | Path | LoadedData | None = None,
    domain: str = "dev",
    tier: str = "small",
    task_overrides: dict[str, Any] | None = None,
    preparation: dict[str, Any] | None = None,
) -> Subject:
    """Settle what is reconstructed; arguments and errors are those of :func:`plan`."""
    if (task is None) == (data is None):
        raise UsageError("give either a task or the data of a real measurement")
    if data is not None:
        return Subject(loaded=_load(data, preparation or {}))
    for known in DOMAINS:
        if domain == known:
            return Subject(task=_task(task, tier, task_overrides or {}), domain=known)
    raise UnknownName("domain", domain, DOMAINS)


def plan_cell(subject: Subject, method: ResolvedMethod, conditions: Conditions, seed: int) -> Plan:
    """Put a cell together from what is settled already.

    Raises:
        UsageError: where method and subject do not go together, or the seed is negative.

    """
    _at_least("seed", seed, 0)
    told, device_class = devices.resolve(conditions.device)
    common: dict[str, Any] = {
        "seed": seed,
        "method": method.name,
        "method_version": str(method.version),
        "options": method.options,
        "seconds": conditions.seconds,
        "device": device_class,
    }
    if subject.loaded is not None:
        if method.needs_truth:
            raise UsageError(f"{method.name} is a control that needs a task's truth: a real measurement has none")
        cell = Cell(
            data=_data_identity(subject.loaded),
            epochs=epochs_of(subject, method, conditions),
            withheld=DATA_WITHHELD if conditions.withheld is None else conditions.withheld,
            split=conditions.split is not False,
            **common,
        )
        return Plan(cell, method, told, loaded=subject.loaded)
    task = subject.task
    assert task is not None
    cell = Cell(
        task=task.identity(),
        domain=subject.domain,
        tier=task.tier,
        epochs=epochs_of(subject, method, conditions),
        withheld=task.withheld if conditions.withheld is None else conditions.withheld,
        split=bool(conditions.split),
        **common,
    )
    return Plan(cell, method, told, task=task)


def epochs_of(subject: Subject, method: ResolvedMethod, conditions: Conditions) -> int | None:
    """Return a cell's budget in epochs; ``None`` where it has one in seconds alone."""
    if conditions.epochs is not None or conditions.seconds is not None:
        return conditions.epochs
    if subject.task is None:
        return DATA_EPOCHS
    return ORACLE_EPOCHS if method.needs_truth else subject.task.budget.epochs


def _at_least(name: str, value: int | None, low: int) -> None:
    if value is not None and value < low:
        raise InvalidOption(f"{name} must be at least {low}, got {value}")


def _task(task: str | Path | Task | None, tier: str, overrides: dict[str, Any]) -> Task:
    from ptybench.registry import load_task

    if isinstance(task, Task):
        if overrides:
            raise UsageError("a task object is settled already: give its overrides to load_task")
        return task
    for known in TIERS:
        if tier == known and task is not None:
            return load_task(task, known, overrides)
    raise UnknownName("tier", tier, TIERS)


def _load(data: str | Path | LoadedData, preparation: dict[str, Any]) -> LoadedData:
    from ptybench.io.manifest import LoadedData, load_measurement

    if isinstance(data, LoadedData):
        return data
    return load_measurement(data, **preparation)


def _data_identity(loaded: LoadedData) -> dict[str, Any]:
    m, origin = loaded.measurement, loaded.provenance
    told = {"title", "file", "sha256", "licence", "source", "citation", "note", "recommended"}
    preparation = {key: origin.get(key) for key in ("orient", "crop", "bin", "bad_pixels_sha256")} | {
        "manifest": loaded.manifest.model_dump(mode="json", exclude=told),
        "propagation": m.propagation,
        "wavelength_m": m.wavelength_m,
        "distance_m": m.distance_m,
        "pixel_size_m": None if m.pixel_size_m is None else list(m.pixel_size_m),
        "source_distance_m": m.source_distance_m,
        "known_probe": m.known_probe,
    }
    if origin.get("every") is not None:  # came after records were published, which have no such field
        preparation["every"] = origin["every"]
    # the file's own hash where there is a file: what is computed from it may differ in the last bit between machines
    return {"name": loaded.name, "sha256": origin.get("sha256") or m.digest(), "preparation": preparation}
