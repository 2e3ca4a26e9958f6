"""A task: the declarative recipe of a standardized problem, read from one TOML file and validated.

A file holds the tier ``small`` in its tables and, under ``[tiers.paper]`` and ``[tiers.large]``, what differs there.
A ladder names one field and its standard values. Every field can be overridden by its dotted path
(``scan.overlap=0.25``), the ladder's field also by the ladder's name, any field by its last name where that is unique,
and a whole table by its name (``probe={"kind": "gaussian", "fwhm_m": 4e-7}``).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from ptybench.datasets.particles import Particles
from ptybench.datasets.pictures import Pictures
from ptybench.datasets.siemens import SiemensStar
from ptybench.errors import InvalidData, InvalidOption, UnknownName
from ptybench.optics.probes import ApertureProbe, GaussianProbe, PinholeProbe, ZonePlateProbe
from ptybench.optics.scans import Scan
from ptybench.specs import Spec, validation_sentence
from ptybench.tables import merge
from ptybench.types import Propagation

Domain = Literal["train", "dev", "release"]
Tier = Literal["small", "paper", "large"]
DOMAINS: tuple[Domain, ...] = ("train", "dev", "release")
TIERS: tuple[Tier, ...] = ("small", "paper", "large")
TABLES = frozenset({"specimen", "probe", "scan", "geometry", "dose", "detector", "errors", "start", "budget"})

LATER: dict[tuple[str, str], Any] = {
    ("scan", "every"): 1,
    ("probe", "wavefront_m"): None,
    ("start", "probe"): None,
    ("budget", "curves"): [],
    ("specimen", "correlated"): False,
}
"""Fields that came after records were published, with the value at which they change nothing: there they are no part of
an identity, so that the records of before are still those of today's tasks."""

AnySpecimen = Annotated[Particles | Pictures | SiemensStar, Field(discriminator="kind")]
AnyProbe = Annotated[ApertureProbe | ZonePlateProbe | PinholeProbe | GaussianProbe, Field(discriminator="kind")]


class Ladder(Spec):
    """The axis along which a task gets harder: one field, its standard values; the field's own value is the default.

    ``default`` is filled in on loading, so that it is still known where the field is overridden.
    """

    name: str
    field: str
    values: list[float]
    default: float | None = None


class Geometry(Spec):
    """Wavelength, distances and detector grid; see :mod:`ptybench.optics.geometry` for what follows from them."""

    propagation: Propagation = "far_field"
    energy_ev: Annotated[float, Field(gt=0)] = 8000.0
    distance_m: Annotated[float, Field(gt=0)]
    pitch_m: Annotated[float, Field(gt=0)] = 75e-6
    shape: tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]] = (64, 64)
    source_distance_m: Annotated[float, Field(gt=0)] | None = None
    oversampling: Annotated[int, Field(ge=1, le=8)] = 2
    inverse_crime: bool = False


class Dose(Spec):
    """Photons: expected counts of the brightest pattern.

    With ``fixed_total_dose`` the photons of the whole scan are held at those of the ladder's default point.
    """

    photons: Annotated[float, Field(gt=0)]
    noise_free: bool = False
    fixed_total_dose: bool = False


class Detector(Spec):
    """What the detector does to the expected intensities."""

    background_photons: Annotated[float, Field(ge=0)] = 0.0
    read_noise_photons: Annotated[float, Field(ge=0)] = 0.0
    saturation_photons: Annotated[float, Field(gt=0)] | None = None
    dead_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    gap_px: Annotated[int, Field(ge=0)] = 0
    point_spread_px: Annotated[float, Field(ge=0)] = 0.0


class Errors(Spec):
    """What only the simulator knows.

    ``distance`` and ``wavelength`` are magnitudes of a relative error whose sign is random and whose size is drawn
    within 20 % of the value.
    """

    position_error_px: Annotated[float, Field(ge=0)] = 0.0
    drift_px: Annotated[float, Field(ge=0)] = 0.0
    backlash_px: Annotated[float, Field(ge=0)] = 0.0
    scale: Annotated[float, Field(gt=-0.5, lt=0.5)] = 0.0
    rotation_rad: Annotated[float, Field(gt=-0.5, lt=0.5)] = 0.0
    shear: Annotated[float, Field(gt=-0.5, lt=0.5)] = 0.0
    fly_scan_px: Annotated[float, Field(ge=0)] = 0.0
    distance: Annotated[float, Field(ge=0, lt=0.8)] = 0.0
    wavelength: Annotated[float, Field(ge=0, lt=0.8)] = 0.0


class Start(Spec):
    """The initial estimate: flat object, and a probe of the right power with a wrong defocus and few modes.

    ``probe`` is another beam to start from; its defocus has the error too.
    """

    known_probe: bool = False
    defocus_error: float = 0.2
    modes: Annotated[int, Field(ge=1)] = 1
    probe: AnyProbe | None = None


class Budget(Spec):
    """Epochs that every method is given, and the epochs at which its estimate is scored for the trace.

    ``curves`` are those of them, or of the end, whose whole correlation with the truth is kept in the record.
    """

    epochs: Annotated[int, Field(ge=1)]
    trace: list[int] = Field(default_factory=lambda: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000])
    curves: list[int] = Field(default_factory=list)


class Task(Spec):
    """A standardized problem, resolved for one tier."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    version: Annotated[int, Field(ge=1)] = 1
    title: str
    asks: str
    source: str
    primary_metric: str
    metrics: list[str] = Field(default_factory=list)
    tier: Tier = "small"
    ladder: Ladder | None = None
    specimen: AnySpecimen | Annotated[list[AnySpecimen], Field(min_length=1)]
    probe: AnyProbe
    scan: Scan
    geometry: Geometry
    dose: Dose
    detector: Detector = Detector()
    errors: Errors = Errors()
    start: Start = Start()
    budget: Budget
    withheld: Annotated[float, Field(ge=0, lt=0.5)] = 0.0

    @model_validator(mode="after")
    def _ladder_names_a_field(self) -> Task:
        if self.ladder is not None:
            section, _, key = self.ladder.field.partition(".")
            if not hasattr(getattr(self, section, None), key):
                raise ValueError(f"the ladder's field {self.ladder.field!r} is no field of the task")
        return self

    @property
    def point(self) -> float | None:
        """The value of the ladder's field; ``None`` without a ladder."""
        if self.ladder is None:
            return None
        section, _, key = self.ladder.field.partition(".")
        return float(getattr(getattr(self, section), key))

    def identity(self) -> dict[str, Any]:
        """Every resolved field that changes the data or the score, as plain JSON values."""
        told = {"title", "asks", "source", "ladder"}
        tree = self.model_dump(mode="json", exclude=told)
        for (table, key), nothing in LATER.items():
            for one in tree[table] if isinstance(tree[table], list) else [tree[table]]:
                if one.get(key) == nothing:
                    one.pop(key, None)
        return tree


def parse_task(text: str, where: str, tier: Tier = "small", overrides: dict[str, Any] | None = None) -> Task:
    """Return the task of a TOML text, resolved for a tier, with overrides.

    Args:
        text: the TOML document.
        where: its name, for error messages.
        tier: which tier.
        overrides: dotted path, ladder name or unique last name → value; a table's name (``specimen``, ``probe``) → a
            table that replaces it.

    Raises:
        InvalidData: where the text is not TOML or a field is missing, misspelt or out of range.
        UnknownName: where an override names no field.
        InvalidOption: where an override's value is not allowed.

    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidData(f"{where} is not TOML: {error}") from None
    return task_of(raw, where, tier, overrides)


def task_of(raw: dict[str, Any], where: str, tier: Tier = "small", overrides: dict[str, Any] | None = None) -> Task:
    """Return the task of a TOML document's tables, which are used up; see :func:`parse_task`."""
    tiers = raw.pop("tiers", {})
    unknown = set(tiers) - set(TIERS)
    if unknown:
        raise UnknownName("tier", sorted(unknown)[0], TIERS)
    merge(raw, tiers.get(tier, {}))
    raw["tier"] = tier
    task = _validate(raw, InvalidData, f"{where}: ")
    if task.ladder is not None:
        task = task.model_copy(update={"ladder": task.ladder.model_copy(update={"default": task.point})})
    return overridden(task, overrides) if overrides else task


def overridden(task: Task, overrides: dict[str, Any]) -> Task:
    """Return a task with other values; names and errors are those of :func:`parse_task`."""
    tree = task.model_dump()
    for key, value in overrides.items():
        # a whole table takes the other's place: another kind of specimen or probe has other fields
        whole = key in TABLES and isinstance(value, dict | list)
        _assign(tree, key if whole else resolve_path(task, key), value)
    return _validate(tree, InvalidOption, "")


def _validate(raw: dict[str, Any], error: type[Exception], prefix: str) -> Task:
    try:
        return Task.model_validate(raw)
    except ValidationError as problem:
        raise error(prefix + validation_sentence(problem)) from None


def field_paths(task: Task) -> list[str]:
    """Every dotted path that ``--set task.…`` reaches."""
    paths: list[str] = []

    def walk(node: Any, prefix: str) -> None:
        if isinstance(node, BaseModel):
            for key in type(node).model_fields:
                walk(getattr(node, key), f"{prefix}{key}.")
        elif isinstance(node, list) and node and isinstance(node[0], BaseModel):
            for index, item in enumerate(node):
                walk(item, f"{prefix}{index}.")
        else:
            paths.append(prefix.rstrip("."))

    walk(task, "")
    fixed = {"name", "version", "title", "asks", "source", "tier"}
    return [path for path in paths if path not in fixed and not path.startswith("ladder")]


def resolve_path(task: Task, key: str) -> str:
    """Return the dotted path that ``key`` means: a path, the ladder's name, or a last name that is unique.

    Raises:
        UnknownName: where it means none, or more than one.

    """
    paths = field_paths(task)
    if key in paths:
        return key
    if task.ladder is not None and key == task.ladder.name:
        return task.ladder.field
    matches = [path for path in paths if path.rsplit(".", 1)[-1] == key]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UnknownName("task field", key, [], hint=f"it could be {' or '.join(matches)}, write the whole path")
    names = paths + [path.rsplit(".", 1)[-1] for path in paths]
    raise UnknownName("task field", key, names, hint=f"`ptybench info {task.name}` lists the fields")


def _assign(tree: Any, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    tree[last] = value


def load_task_file(path: Path, tier: Tier = "small", overrides: dict[str, Any] | None = None) -> Task:
    """Return the task of a TOML file; see :func:`parse_task`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidData(f"cannot read the task file {path}: {reason}") from None
    return parse_task(text, str(path), tier, overrides)
