"""Presets: the options that ``ptybench tune`` found for a method on a task, with all that was spent on finding them.

A preset is one small JSON file, ``<task>/<method>.json`` (``<method>.<tier>.json`` where it was tuned on another tier
than ``small``). Those of the project lie in ``baselines/presets``. They belong to one version of the method and one of
the task: of another they are stale, which is said wherever they are used.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ptybench.errors import InvalidData, PtybenchError
from ptybench.records import Provenance, finite, safe_name, write_atomically
from ptybench.specs import Spec, validation_sentence

SCHEMA: Literal["ptybench.preset/1"] = "ptybench.preset/1"
USUAL_TIER = "small"


class PresetWarning(UserWarning):
    """A preset that belongs to another version of its method or task."""


class TuningBudget(Spec):
    """What was spent on a search; presets with equal budgets can be compared.

    Args:
        trials: options that were tried, the defaults among them; 0 where the method has nothing to tune.
        seeds: seeds of the domain ``dev`` whose objects were reconstructed in every trial.
        epochs: of every reconstruction.
        tier: tier of the task.
        point: value of the task's ladder.

    """

    trials: Annotated[int, Field(ge=0)]
    seeds: list[int]
    epochs: int
    tier: str
    point: float | None = None


class Sampler(Spec):
    """How the trials were chosen: ``tpe`` (Optuna), ``grid``, or ``none`` where there is nothing to tune."""

    name: Literal["tpe", "grid", "none"]
    version: str | None = None
    seed: int | None = None
    space: dict[str, Any] = Field(default_factory=dict)


class Preset(Spec):
    """Tuned options of a method on a task, with their provenance.

    Args:
        task: name of the task.
        task_version: its version.
        method: name of the method.
        method_version: its version.
        options: every resolved option.
        changed: those that differ from the defaults, with their values.
        domain: seed domain of the tuning objects, always ``dev``.
        budget: what was spent.
        sampler: how the trials were chosen.
        metric: what was optimised, the mean over the seeds; a trial that fails on any seed is the worst.
        direction: which way is better.
        default_value: of the defaults, ``None`` where they failed.
        value: of ``options``.
        trial: number of the trial that ``options`` come from; 0 is the defaults.
        values: of every trial in order, ``None`` for a failed one.
        other_code: trials that were made by other code than ``provenance`` names (a study that was resumed later).
        provenance: versions, commit and hash of the code.
        created: when the last trial ended.

    """

    schema_: Literal["ptybench.preset/1"] = Field(default=SCHEMA, alias="schema")
    task: str
    task_version: int
    method: str
    method_version: str
    options: dict[str, Any]
    changed: dict[str, Any]
    domain: Literal["dev"] = "dev"
    budget: TuningBudget
    sampler: Sampler
    metric: str
    direction: Literal["higher", "lower"]
    default_value: float | None = None
    value: float | None = None
    trial: int = 0
    values: list[float | None] = Field(default_factory=list)
    other_code: int = 0
    provenance: Provenance
    created: str

    def document(self) -> dict[str, Any]:
        """The preset as plain JSON values."""
        document: dict[str, Any] = finite(self.model_dump(mode="json", by_alias=True))
        return document

    def stale(self, method_version: str, task_version: int | None) -> str | None:
        """Return in one sentence why the preset is stale; ``None`` where it is not.

        Args:
            method_version: the method's version now.
            task_version: the task's version now; ``None`` where that is unknown.

        """
        then, now = [], []
        if self.method_version != method_version:
            then.append(f"version {self.method_version} of {self.method}")
            now.append(f"version {method_version}")
        if task_version is not None and self.task_version != task_version:
            then.append(f"version {self.task_version} of {self.task}")
            now.append(f"version {task_version}")
        if not then:
            return None
        return (
            f"the preset of {self.method} for {self.task} is stale, it was tuned for {' and '.join(then)} (now "
            f"{' and '.join(now)}): run `ptybench tune --task {self.task} --method '{self.method}'`"
        )


def preset_folder() -> Path:
    """The folder of the presets that are shipped with ptybench."""
    return Path(str(files("ptybench.baselines"))) / "presets"


def preset_path(method: str, task_name: str, tier: str = USUAL_TIER, folder: Path | None = None) -> Path:
    """Return where the preset of a method for a task lies, or would lie.

    Example:
        >>> preset_path("epie>rpie", "low_dose").name
        'epie-to-rpie.json'

    """
    suffix = "" if tier == USUAL_TIER else f".{tier}"
    place = preset_folder() if folder is None else folder
    return place / safe_name(task_name) / f"{safe_name(method)}{suffix}.json"


def load_preset(method: str, task_name: str, tier: str = USUAL_TIER, folder: Path | None = None) -> Preset | None:
    """Return the preset of a method for a task: that of the tier, else that of the tier ``small``, else ``None``.

    Args:
        method: name of the method, a chain or a composite.
        task_name: name of the task.
        tier: tier that it is to be used on.
        folder: folder of presets; the default is that of the project.

    Raises:
        InvalidData: where the file cannot be read as a preset.

    """
    for known in dict.fromkeys((tier, USUAL_TIER)):
        path = preset_path(method, task_name, known, folder)
        if path.is_file():
            preset = read_preset(path)
            if preset.method == method:  # two names may share one safe name
                return preset
    return None


def preset_options(
    method: str,
    task_name: str,
    tier: str = USUAL_TIER,
    *,
    method_version: str | None = None,
    folder: Path | None = None,
) -> dict[str, Any] | None:
    """Return the resolved options of a preset, as ``options`` of a plan; ``None`` where there is no preset.

    A stale preset is used all the same, with a :class:`PresetWarning`.

    Args:
        method: name of the method, a chain or a composite.
        task_name: name of the task.
        tier: tier that it is to be used on.
        method_version: the method's version, where it is known already; otherwise the method is asked (which imports
            torch).
        folder: folder of presets; the default is that of the project.

    Raises:
        InvalidData: where the file cannot be read as a preset.
        UnknownName: where there is a preset for a method that is not known.

    """
    preset = load_preset(method, task_name, tier, folder)
    if preset is None:
        return None
    if method_version is None:
        from ptybench.registry import resolve_method

        method_version = resolve_method(method).version
    reason = preset.stale(method_version, current_task_version(task_name))
    if reason is not None:
        warnings.warn(reason, PresetWarning, stacklevel=2)
    return dict(preset.options)


def current_task_version(task_name: str) -> int | None:
    """Return a task's version now; ``None`` where it is not known, such as that of a plug-in that is not loaded."""
    from ptybench.registry import load_task

    try:
        return load_task(task_name).version
    except PtybenchError:
        return None


def list_presets(
    task_name: str | None = None, method: str | None = None, folder: Path | None = None
) -> Iterator[Preset]:
    """Yield the presets, by task and method; of one task or one method where that is given.

    Raises:
        InvalidData: where a file cannot be read as a preset.

    """
    place = preset_folder() if folder is None else folder
    for path in sorted(place.glob("*/*.json")):
        if path.name.startswith("."):
            continue
        preset = read_preset(path)
        if preset.task == (task_name or preset.task) and preset.method == (method or preset.method):
            yield preset


def read_preset(path: Path) -> Preset:
    """Return the preset of a file.

    Raises:
        InvalidData: where it cannot be read as one.

    """
    try:
        return Preset.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as problem:
        reason = validation_sentence(problem)
    except (OSError, ValueError) as error:
        reason = str(error)
    raise InvalidData(f"{path} is no preset, run `ptybench tune` again: {reason}")


def write_preset(preset: Preset, folder: Path | None = None) -> Path:
    """Write a preset under a temporary name and rename it; return where it lies."""
    path = preset_path(preset.method, preset.task, preset.budget.tier, folder)
    write_atomically(path, _text(preset).encode())
    return path


def _text(preset: Preset) -> str:
    """One line a field: short, and a difference between two versions of the file shows which field it is in."""
    lines = (
        f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
        for name, value in preset.document().items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"
