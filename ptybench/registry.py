"""Names: what tasks, methods, datasets, generators and metrics there are, and where plug-ins come in.

Nothing here imports an algorithm before it is asked for; listings read the sources instead, so that they are fast.
A method is found by its class attribute ``name`` in a module of ``ptybench.baselines``, in the entry-point group
``ptybench.methods`` or in a file given with ``--plugin``, an addition by its class attribute ``adds``, a generator of
training images likewise by ``generates`` (``ptybench.datasets``, ``ptybench.generators``); a task by a TOML
file in ``ptybench.tasks``, in a package of the entry-point group ``ptybench.tasks``, named by a plug-in's
``TASKS = ["mine.toml"]``, or given by its path.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ptybench.declared import Declared, declared, declared_generators, declared_tasks
from ptybench.errors import DuplicateName, InvalidData, InvalidOption, UnknownName
from ptybench.specs import Tunable, Weighted
from ptybench.tables import paper_tasks

if TYPE_CHECKING:
    import torch

    from ptybench.generation.generator import Generator
    from ptybench.solver import Addition, Solver, SolverOptions
    from ptybench.specs import Spec
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
        weights: SHA-256 of the weights of its network; of several, of their SHA-256s; ``None`` without.

    """

    name: str
    version: str
    options: dict[str, Any]
    needs_truth: bool
    create: Callable[[Measurement, str | torch.device, int, Truth | None], Solver]
    weights: str | None = None


_plugins: dict[str, Path] = {}  # name of a method or an addition → plug-in file
_task_plugins: dict[str, Path] = {}  # task name → TOML file
_generator_plugins: dict[str, Path] = {}  # generator name → plug-in file


# --- methods ---------------------------------------------------------------------------------------------------------
#
# chain      = composite { ">" composite }      the estimate of one starts the next
# composite  = method { "+" addition }          an addition looks at the method after each epoch
# method     = name [ ":" variant ]             a variant fixes options of its method


def list_methods() -> list[Listed]:
    """Every method: the project's, the controls, those of installed and of loaded plug-ins."""
    return [Listed(one.name, one.title, origin) for one, origin in _known().values() if not one.addition]


def list_additions() -> list[Listed]:
    """Everything that can be added to a method with ``+``."""
    return [Listed(one.name, one.title, origin) for one, origin in _known().values() if one.addition]


@cache
def _installed(group: str, path: tuple[str, ...]) -> tuple[metadata.EntryPoint, ...]:
    """Entry points of a group; to look through all packages takes 10 ms, which a plan of many cells asks for often."""
    return tuple(metadata.entry_points(group=group))


def _known() -> dict[str, tuple[Declared, str]]:
    """Every method and addition by name, with its origin; sorted."""
    found = dict(_sources())
    for point in _installed("ptybench.methods", tuple(sys.path)):
        _refuse_duplicate("method", point.name, found)
        found[point.name] = Declared(point.name, ""), point.value
    for name, path in _plugins.items():
        found[name] = {one.name: one for one in declared(path.read_text(encoding="utf-8"))}[name], str(path)
    return {name: found[name] for name in sorted(found)}


def method_names() -> list[str]:
    """The names of :func:`list_methods`."""
    return [listed.name for listed in list_methods()]


def standard_methods(task: Task) -> list[str]:
    """What ``--methods all`` means on a task.

    Every method with its variants and the controls, and every addition on its usual bases, where the task has
    something wrong that the addition refines.
    """
    known = _known()
    wrong = {
        "positions": task.errors.position_error_px > 0,
        "distance": task.errors.distance != 0 and task.geometry.propagation == "near_field",
    }
    singles = [name for name, (one, _) in known.items() if not one.addition]
    composites = [
        f"{base}+{name}"
        for name, (one, _) in known.items()
        if one.addition and all(wrong[what] for what in one.refines)
        for base in one.bases
    ]
    return sorted(singles + composites)


def load_method(name: str) -> type[Solver]:
    """Return the class of a single method, or of a variant.

    Raises:
        UnknownName: where there is none.

    """
    kind: type[Solver] = _load(name, "method")
    return kind


def load_addition(name: str) -> type[Addition]:
    """Return the class of an addition.

    Raises:
        UnknownName: where there is none.

    """
    kind: type[Addition] = _load(name, "addition")
    return kind


def _load(name: str, what: str) -> Any:
    known = {key: value for key, value in _known().items() if value[0].addition == (what == "addition")}
    if name not in known:
        raise UnknownName(what, name, known)
    declared, origin = known[name]
    if name in _plugins:
        return _class_named(_load_file(_plugins[name]), declared)
    if ":" in origin:
        module, _, attribute = origin.partition(":")
        kind = getattr(_imported(module), attribute, None)
        if not (inspect.isclass(kind) and issubclass(kind, _base_class("method"))):
            raise InvalidData(f"the installed method {name!r} points to {origin}, which is no Solver subclass")
        return kind
    return _class_named(importlib.import_module(origin), declared)


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


def _base_class(what: str) -> type[Any]:
    from ptybench.solver import Addition, Solver

    return Addition if what == "addition" else Solver


def resolve_method(name: str, options: dict[str, Any] | None = None) -> ResolvedMethod:
    """Settle a method and its options.

    Args:
        name: a method ``a``, a variant ``a:v``, a composite ``a+b`` in which ``b`` refines what ``a`` finds, or a chain
            ``a>b`` in which the estimate of ``a`` starts ``b``.
        options: option → value; in a composite ``b.option`` reaches an addition, in a chain ``a.option`` one part; a
            bare option reaches every part of a chain that has it.

    Raises:
        UnknownName: an unknown method, addition or option.
        InvalidOption: an option out of range.

    """
    from ptybench.chain import resolve_chain
    from ptybench.composite import resolve_composite
    from ptybench.solver import parse_options

    options = dict(options or {})
    if ">" in name:
        return resolve_chain(name, options)
    if "+" in name:
        return resolve_composite(name, options)
    kind = load_method(name)
    fixed = _known()[name][0].fixed
    for key, value in options.items():
        if key in fixed and value != fixed[key]:
            raise InvalidOption(f"{name} fixes {key}={fixed[key]}: for {key}={value} use {name.partition(':')[0]}")
    settled = parse_options(kind.Options, name, fixed | options)
    needs_truth = "truth" in inspect.signature(kind).parameters

    def create(measurement: Measurement, device: str | torch.device, seed: int, truth: Truth | None = None) -> Solver:
        more: dict[str, Any] = {"truth": truth} if needs_truth else {}
        return kind(measurement, settled, device, seed, **more)

    weights = weights_of(settled)
    version = str(kind.versions.get(name.partition(":")[2], kind.version))
    return ResolvedMethod(name, version, settled.model_dump(mode="json"), needs_truth, create, weights)


def weights_of(*parts: Spec | ResolvedMethod) -> str | None:
    """SHA-256 of the weights that options or methods use together; ``None`` where there are none."""
    found = [
        part.weights if isinstance(part, ResolvedMethod) else part.weights_sha256()
        for part in parts
        if isinstance(part, ResolvedMethod | Weighted)
    ]
    there = [sha for sha in found if sha is not None]
    return there[0] if len(there) == 1 else hashlib.sha256(" ".join(there).encode()).hexdigest() if there else None


def option_owners(method: str) -> dict[str, type[Spec]]:
    """The options of a single method or composite: prefix (``""``, ``"xcorr."``) → model."""
    base, *additions = method.split("+")
    owners: dict[str, type[Spec]] = {"": load_method(base).Options}
    return owners | {f"{name}.": load_addition(name).Options for name in additions}


def option_keys(method: str) -> set[str]:
    """Every key by which an option of a method, composite or chain can be set."""
    if ">" in method:
        parts = [part.strip() for part in method.split(">")]
        keys = {"shares"}
        for place, part in enumerate(parts, 1):
            own = option_keys(part)
            keys |= own | {f"{owner}.{key}" for key in own for owner in (part, str(place))}
        return keys
    return {
        key
        for prefix, model in option_owners(method).items()
        for option in model.model_fields
        for key in (f"{prefix}{option}", option)
    }


def option_space(method: str) -> dict[str, Tunable]:
    """What ``ptybench tune`` may turn in a method or composite: key → where to look."""
    fixed = {key for part in method.split("+")[:1] for key in _known()[part][0].fixed} if ">" not in method else set()
    return {
        f"{prefix}{option}": entry
        for prefix, model in option_owners(method).items()
        for option, info in model.model_fields.items()
        if option not in fixed
        for entry in info.metadata
        if isinstance(entry, Tunable)
    }


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
        methods, tasks, generators = declared(text), declared_tasks(text), declared_generators(text)
    except OSError as error:
        raise InvalidData(f"cannot read the plug-in {path}: {error.strerror}") from None
    except (SyntaxError, UnicodeDecodeError) as error:
        raise InvalidData(f"the plug-in {path} is not Python: {error}") from None
    names = [one.name for one in methods]
    if not names and not tasks and not generators:
        raise InvalidData(
            f'the plug-in {path} holds no method: expected a Solver subclass with a `name = "…"`, or `TASKS = ["…"]`'
        )
    for name in names:
        if _plugins.get(name) == path:
            continue
        _refuse_duplicate("method", name, _known())
        if names.count(name) > 1:
            raise DuplicateName(f"the plug-in {path} declares the method {name!r} twice")
    for name in generators:
        if _generator_plugins.get(name) != path:
            _refuse_duplicate("generator", name, _known_generators())
    added = [_add_task(path.parent / task) for task in tasks]
    for name in names:
        _plugins[name] = path
    for name in generators:
        _generator_plugins[name] = path
    return names + added + list(generators)


def _add_task(path: Path) -> str:
    from ptybench.task import load_task_file

    name = load_task_file(path).name
    if _task_plugins.get(name) != path:
        _refuse_duplicate("task", name, {listed.name: (listed, listed.origin) for listed in list_tasks()})
        _task_plugins[name] = path
    return name


def plugin_paths() -> list[Path]:
    """The files of loaded plug-ins, for a child process."""
    return sorted({*_plugins.values(), *_generator_plugins.values()})


def _refuse_duplicate(what: str, name: str, known: Mapping[str, tuple[object, str]]) -> None:
    if name in known:
        raise DuplicateName(f"the {what} {name!r} is already defined by {known[name][1]}: choose another name")


@cache
def _sources() -> dict[str, tuple[Declared, str]]:
    """Methods and additions of the project: name → (what is declared, module)."""
    found: dict[str, tuple[Declared, str]] = {}
    places = [
        (item.read_text(encoding="utf-8"), f"ptybench.baselines.{item.name.removesuffix('.py')}")
        for item in resources.files("ptybench.baselines").iterdir()
        if item.name.endswith(".py") and not item.name.startswith("_")
    ]
    controls = resources.files("ptybench").joinpath("controls.py").read_text(encoding="utf-8")
    for text, module in [*places, (controls, "ptybench.controls")]:
        for one in declared(text):
            _refuse_duplicate("method", one.name, found)
            found[one.name] = one, module
    return found


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


def _class_named(module: Any, declared: Declared) -> type[Any]:
    what, attribute = ("addition", "adds") if declared.addition else ("method", "name")
    wanted = declared.name if declared.addition else declared.name.partition(":")[0]
    for value in vars(module).values():
        ours = inspect.isclass(value) and issubclass(value, _base_class(what))
        if ours and value.__dict__.get(attribute) == wanted:
            kind: type[Any] = value
            return kind
    kinds = "Addition" if declared.addition else "Solver"
    raise InvalidData(f"{module.__name__} declares the {what} {wanted!r} but holds no such {kinds} subclass")


# --- tasks -----------------------------------------------------------------------------------------------------------


def _task_files() -> Iterator[tuple[str, str, Any]]:
    """``(name, origin, readable)`` of every task file of the project and of installed plug-ins."""
    places = [("ptybench.tasks", resources.files("ptybench.tasks"))]
    for point in _installed("ptybench.tasks", tuple(sys.path)):
        places.append((point.value, resources.files(_imported(point.value))))
    for origin, folder in places:
        for item in sorted(folder.iterdir(), key=lambda item: item.name):
            if item.name.endswith(".toml"):
                yield item.name.removesuffix(".toml"), origin, item
    for name, path in _task_plugins.items():
        yield name, str(path.parent), path


def _paper_tasks() -> dict[str, tuple[str, dict[str, Any]]]:
    """Origin and tables of every task that stands in the file of a paper, by name."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for paper, item in paper_files().items():
        origin = f"ptybench.tasks.papers/{paper}.toml"
        for name, raw in paper_tasks(read_toml(item, origin), origin).items():
            _refuse_duplicate("task", name, {known: (one, one[0]) for known, one in found.items()})
            found[name] = origin, raw
    return found


def paper_files() -> dict[str, Any]:
    """The readable TOML file of every paper, by name."""
    folder = resources.files("ptybench.tasks").joinpath("papers")
    return {
        item.name.removesuffix(".toml"): item
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".toml")
    }


def read_toml(item: Any, origin: str) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        InvalidData: where it is none.

    """
    try:
        return tomllib.loads(item.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidData(f"cannot read {origin}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidData(f"{origin} is not TOML: {error}") from None


def list_tasks() -> list[Listed]:
    """Every registered task, those of papers last.

    Raises:
        DuplicateName: where two files claim one name.

    """
    found: dict[str, Listed] = {}
    for name, origin, item in _task_files():
        _refuse_duplicate("task", name, {known: (listed, listed.origin) for known, listed in found.items()})
        title = read_toml(item, f"the task {origin}/{item.name}").get("title", "")
        found[name] = Listed(name, str(title), origin)
    for name, (origin, raw) in _paper_tasks().items():
        _refuse_duplicate("task", name, {known: (listed, listed.origin) for known, listed in found.items()})
        found[name] = Listed(name, str(raw.get("title", "")), origin)
    return list(found.values())


def task_names() -> list[str]:
    """The names of the problems that ``all`` means: those of :func:`list_tasks` without the papers' own."""
    papers = _paper_tasks()
    return [listed.name for listed in list_tasks() if listed.name not in papers]


def load_task(name: str | Path, tier: Tier = "small", overrides: dict[str, Any] | None = None) -> Task:
    """Return a registered task by its name, or the task of a TOML file by its path.

    Raises:
        UnknownName: no such task, tier or field.
        InvalidData: the file is missing or not a valid task.
        DuplicateName: two installed tasks claim the name.
        InvalidOption: an override that is out of range.

    """
    from ptybench.task import TIERS, load_task_file, parse_task, task_of

    if tier not in TIERS:
        raise UnknownName("tier", tier, TIERS)
    if isinstance(name, Path) or name.endswith(".toml"):
        return load_task_file(Path(name), tier, overrides)
    matches = [(origin, item) for known, origin, item in _task_files() if known == name]
    if not matches:
        papers = _paper_tasks()
        if name not in papers:
            raise UnknownName("task", name, [listed.name for listed in list_tasks()])
        origin, raw = papers[name]
        return task_of(raw, f"{origin}, {name}", tier, overrides)
    origin, item = matches[0]
    if len(matches) > 1:
        raise DuplicateName(f"the task {name!r} is defined by {origin} and by {matches[1][0]}: rename one")
    task = parse_task(item.read_text(encoding="utf-8"), f"{origin}/{item.name}", tier, overrides)
    if task.name != name:
        raise InvalidData(f"{origin}/{item.name} calls its task {task.name!r}: the file's name must agree")
    return task


# --- generators of training images -----------------------------------------------------------------------------------


def list_generators() -> list[Listed]:
    """Every generator: the project's, those of installed and of loaded plug-ins."""
    return [Listed(name, *said) for name, said in sorted(_known_generators().items())]


def _known_generators() -> dict[str, tuple[str, str]]:
    """Title and origin of every generator by name."""
    found: dict[str, tuple[str, str]] = {}
    for item in resources.files("ptybench.datasets").iterdir():
        if item.name.endswith(".py"):
            for name, title in declared_generators(item.read_text(encoding="utf-8")).items():
                _refuse_duplicate("generator", name, found)
                found[name] = title, f"ptybench.datasets.{item.name.removesuffix('.py')}"
    for point in _installed("ptybench.generators", tuple(sys.path)):
        _refuse_duplicate("generator", point.name, found)
        found[point.name] = "", point.value
    for name, path in _generator_plugins.items():
        found[name] = declared_generators(path.read_text(encoding="utf-8"))[name], str(path)
    return found


def load_generator(name: str) -> type[Generator]:
    """Return the class of a generator, ``name`` or ``name:variant``.

    Raises:
        UnknownName: where there is none.
        InvalidOption: a name that has variants, without one.

    """
    from ptybench.generation.generator import Generator

    known = _known_generators()
    if name not in known:
        variants = sorted(one.partition(":")[2] for one in known if one.startswith(f"{name}:"))
        if variants:
            raise InvalidOption(f"{name} comes in variants: give --variant {' or '.join(variants)}")
        raise UnknownName("generator", name, known)
    origin = known[name][1]
    module = _load_file(_generator_plugins[name]) if name in _generator_plugins else _imported(origin.partition(":")[0])
    for value in vars(module).values():
        if inspect.isclass(value) and issubclass(value, Generator) and value.__dict__.get("generates") == name:
            return value
    raise InvalidData(f"{origin} declares the generator {name!r} but holds no such Generator subclass")


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
