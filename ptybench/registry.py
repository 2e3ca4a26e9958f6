"""Names: what tasks, methods, datasets and metrics there are, and where plug-ins come in.

Nothing here imports an algorithm before it is asked for; listings read the sources instead, so that they are fast.
A method is found by its class attribute ``name`` in a module of ``ptybench.baselines``, in the entry-point group
``ptybench.methods`` or in a file given with ``--plugin``; a task by a TOML file in ``ptybench.tasks``, in a package of
the entry-point group ``ptybench.tasks``, named by a plug-in's ``TASKS = ["mine.toml"]``, or given by its path.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ptybench.errors import DuplicateName, InvalidData, UnknownName

if TYPE_CHECKING:
    import torch

    from ptybench.solver import Solver, SolverOptions
    from ptybench.task import Task, Tier
    from ptybench.types import Measurement, Truth


@dataclass(frozen=True)
class Listed:
    """One line of a listing: a name, a sentence, and where it comes from."""

    name: str
    title: str
    origin: str


@dataclass(frozen=True)
class ResolvedMethod:
    """A method with every option settled, ready to be made.

    Args:
        name: as asked for, for example ``"epie>rpie"``.
        version: version of the method; of a chain, of its parts.
        options: every resolved option, as JSON values.
        needs_truth: true for a control that is given the truth.
        create: makes the solver from ``(measurement, device, seed, truth)``.

    """

    name: str
    version: str
    options: dict[str, Any]
    needs_truth: bool
    create: Callable[[Measurement, str | torch.device, int, Truth | None], Solver]


_plugins: dict[str, Path] = {}  # method name → plug-in file
_task_plugins: dict[str, Path] = {}  # task name → TOML file


# --- methods ---------------------------------------------------------------------------------------------------------


def list_methods() -> list[Listed]:
    """Every method: the project's, the controls, those of installed and of loaded plug-ins."""
    found: dict[str, Listed] = {}
    for name, (title, origin) in _sources().items():
        found[name] = Listed(name, title, origin)
    for point in metadata.entry_points(group="ptybench.methods"):
        _refuse_duplicate("method", point.name, found)
        found[point.name] = Listed(point.name, "", point.value)
    for name, path in _plugins.items():
        title = dict(_declared(path.read_text(encoding="utf-8")))[name]
        found[name] = Listed(name, title, str(path))
    return [found[name] for name in sorted(found)]


def method_names() -> list[str]:
    """The names of :func:`list_methods`."""
    return [listed.name for listed in list_methods()]


def load_method(name: str) -> type[Solver]:
    """Return the class of a single method.

    Raises:
        UnknownName: where there is none.

    """
    for listed in list_methods():
        if listed.name != name:
            continue
        if name in _plugins:
            return _class_named(_load_file(_plugins[name]), name)
        if ":" in listed.origin:
            module, _, attribute = listed.origin.partition(":")
            kind = getattr(_imported(module), attribute, None)
            if not (inspect.isclass(kind) and issubclass(kind, _solver_class())):
                raise InvalidData(
                    f"the installed method {name!r} points to {listed.origin}, which is no Solver subclass"
                )
            return kind
        return _class_named(importlib.import_module(listed.origin), name)
    raise UnknownName("method", name, method_names())


def _imported(module: str) -> ModuleType:
    """Import a module of an installed plug-in.

    Raises:
        InvalidData: where that fails, in whatever way.

    """
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise InvalidData(
            f"the installed plug-in {module} cannot be imported, repair or uninstall its package: "
            f"{type(error).__name__}: {error}"
        ) from error


def _solver_class() -> type[Solver]:
    from ptybench.solver import Solver

    return Solver


def resolve_method(name: str, options: dict[str, Any] | None = None) -> ResolvedMethod:
    """Settle a method and its options.

    Args:
        name: a method, or a chain ``a>b`` in which the estimate of ``a`` starts ``b``.
        options: option → value; in a chain ``a.option`` reaches one part, a bare option every part that has it.

    Raises:
        UnknownName: an unknown method or option.
        InvalidOption: an option out of range.

    """
    from ptybench.chain import resolve_chain
    from ptybench.solver import parse_options

    options = dict(options or {})
    if ">" in name:
        return resolve_chain(name, options)
    kind = load_method(name)
    settled = parse_options(kind.Options, name, options)
    needs_truth = "truth" in inspect.signature(kind).parameters

    def create(measurement: Measurement, device: str | torch.device, seed: int, truth: Truth | None = None) -> Solver:
        more: dict[str, Any] = {"truth": truth} if needs_truth else {}
        return kind(measurement, settled, device, seed, **more)

    return ResolvedMethod(name, str(kind.version), settled.model_dump(mode="json"), needs_truth, create)


def method_options(name: str) -> type[SolverOptions]:
    """The options class of a single method."""
    return load_method(name).Options


def add_plugin(path: Path) -> list[str]:
    """Make the methods and tasks of a Python file, or the task of a TOML file, known; return their names.

    Raises:
        InvalidData: where the file is missing, no Python or TOML, or holds neither method nor task.
        DuplicateName: where a name is taken.

    """
    path = Path(path).resolve()
    if path.suffix == ".toml":
        return [_add_task(path)]
    try:
        text = path.read_text(encoding="utf-8")
        declared, tasks = _declared(text), _declared_tasks(text)
    except OSError as error:
        raise InvalidData(f"cannot read the plug-in {path}: {error.strerror}") from None
    except (SyntaxError, UnicodeDecodeError) as error:
        raise InvalidData(f"the plug-in {path} is not Python: {error}") from None
    names = [name for name, _ in declared]
    if not names and not tasks:
        raise InvalidData(
            f'the plug-in {path} holds no method: expected a Solver subclass with a `name = "…"`, or `TASKS = ["…"]`'
        )
    for name in names:
        if _plugins.get(name) == path:
            continue
        _refuse_duplicate("method", name, {listed.name: listed for listed in list_methods()})
        if names.count(name) > 1:
            raise DuplicateName(f"the plug-in {path} declares the method {name!r} twice")
    added = [_add_task(path.parent / task) for task in tasks]
    for name in names:
        _plugins[name] = path
    return names + added


def _add_task(path: Path) -> str:
    from ptybench.task import load_task_file

    name = load_task_file(path).name
    if _task_plugins.get(name) != path:
        _refuse_duplicate("task", name, {listed.name: listed for listed in list_tasks()})
        _task_plugins[name] = path
    return name


def plugin_paths() -> list[Path]:
    """The files of loaded plug-ins, for a child process."""
    return sorted(set(_plugins.values()))


def _refuse_duplicate(what: str, name: str, known: dict[str, Listed]) -> None:
    if name in known:
        raise DuplicateName(f"the {what} {name!r} is already defined by {known[name].origin}: choose another name")


@cache
def _sources() -> dict[str, tuple[str, str]]:
    """Methods of the project: name → (title, module)."""
    found: dict[str, tuple[str, str]] = {}
    places = [
        (item.read_text(encoding="utf-8"), f"ptybench.baselines.{item.name.removesuffix('.py')}")
        for item in resources.files("ptybench.baselines").iterdir()
        if item.name.endswith(".py") and not item.name.startswith("_")
    ]
    controls = resources.files("ptybench").joinpath("controls.py").read_text(encoding="utf-8")
    for text, module in [*places, (controls, "ptybench.controls")]:
        for name, title in _declared(text):
            if name in found:
                raise DuplicateName(f"the method {name!r} is defined by {found[name][1]} and by {module}")
            found[name] = (title, module)
    return found


def _declared(text: str) -> list[tuple[str, str]]:
    """``(name, first line of the docstring)`` of every class with a literal ``name``, without running anything."""
    found = []
    for node in ast.parse(text).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for line in node.body:
            target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
            value = getattr(line, "value", None)
            if isinstance(target, ast.Name) and target.id == "name" and isinstance(value, ast.Constant):
                title = (ast.get_docstring(node) or "").partition("\n")[0]
                found.append((str(value.value), title))
    return found


def _declared_tasks(text: str) -> list[str]:
    """The strings of a literal ``TASKS = […]``, without running anything."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "TASKS" for t in node.targets):
            try:
                names = ast.literal_eval(node.value)
            except ValueError:
                names = None
            if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
                raise InvalidData(
                    'a plug-in\'s TASKS must be a plain list of file names, such as TASKS = ["mine.toml"]'
                )
            return list(names)
    return []


@cache
def _load_file(path: Path) -> Any:
    name = f"ptybench_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InvalidData(f"the plug-in {path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _class_named(module: Any, name: str) -> type[Solver]:
    for value in vars(module).values():
        if inspect.isclass(value) and issubclass(value, _solver_class()) and value.__dict__.get("name") == name:
            return value
    raise InvalidData(f"{module.__name__} declares the method {name!r} but holds no such Solver subclass")


# --- tasks -----------------------------------------------------------------------------------------------------------


def _task_files() -> Iterator[tuple[str, str, Any]]:
    """``(name, origin, readable)`` of every task file of the project and of installed plug-ins."""
    places = [("ptybench.tasks", resources.files("ptybench.tasks"))]
    for point in metadata.entry_points(group="ptybench.tasks"):
        places.append((point.value, resources.files(_imported(point.value))))
    for origin, folder in places:
        for item in sorted(folder.iterdir(), key=lambda item: item.name):
            if item.name.endswith(".toml"):
                yield item.name.removesuffix(".toml"), origin, item
    for name, path in _task_plugins.items():
        yield name, str(path.parent), path


def list_tasks() -> list[Listed]:
    """Every registered task.

    Raises:
        DuplicateName: where two files claim one name.

    """
    found: dict[str, Listed] = {}
    for name, origin, item in _task_files():
        _refuse_duplicate("task", name, found)
        try:
            title = tomllib.loads(item.read_text(encoding="utf-8")).get("title", "")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidData(f"the task {origin}/{item.name} is not TOML: {error}") from None
        found[name] = Listed(name, str(title), origin)
    return list(found.values())


def task_names() -> list[str]:
    """The names of :func:`list_tasks`."""
    return [listed.name for listed in list_tasks()]


def load_task(name: str | Path, tier: Tier = "small", overrides: dict[str, Any] | None = None) -> Task:
    """Return a registered task by its name, or the task of a TOML file by its path.

    Raises:
        UnknownName: no such task, tier or field.
        InvalidData: the file is missing or not a valid task.
        DuplicateName: two installed tasks claim the name.
        InvalidOption: an override that is out of range.

    """
    from ptybench.task import TIERS, load_task_file, parse_task

    if tier not in TIERS:
        raise UnknownName("tier", tier, TIERS)
    if isinstance(name, Path) or name.endswith(".toml"):
        return load_task_file(Path(name), tier, overrides)
    matches = [(origin, item) for known, origin, item in _task_files() if known == name]
    if not matches:
        raise UnknownName("task", name, task_names())
    origin, item = matches[0]
    if len(matches) > 1:
        raise DuplicateName(f"the task {name!r} is defined by {origin} and by {matches[1][0]}: rename one")
    task = parse_task(item.read_text(encoding="utf-8"), f"{origin}/{item.name}", tier, overrides)
    if task.name != name:
        raise InvalidData(f"{origin}/{item.name} calls its task {task.name!r}: the file's name must agree")
    return task


# --- datasets and metrics --------------------------------------------------------------------------------------------


def list_datasets() -> list[Listed]:
    """Real measurements that have a manifest."""
    found = []
    for item in sorted(resources.files("ptybench.datasets.real").iterdir(), key=lambda item: item.name):
        if item.name.endswith(".toml"):
            title = tomllib.loads(item.read_text(encoding="utf-8")).get("title", "")
            found.append(Listed(item.name.removesuffix(".toml"), title, "ptybench.datasets.real"))
    return found


def list_metrics() -> list[Listed]:
    """Every metric that a record can hold."""
    from ptybench.scoring.metrics import METRICS

    return [
        Listed(metric.id, metric.title, f"{metric.unit}, {metric.direction} is better") for metric in METRICS.values()
    ]
