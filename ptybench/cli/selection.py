"""From what a command line asks for to settled tasks and methods: the axes of its cells."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ptybench.cli.grids import grid_points
from ptybench.cli.points import parse_points
from ptybench.errors import DuplicateName, InvalidOption, UsageError

if TYPE_CHECKING:
    from ptybench.registry import ResolvedMethod
    from ptybench.runner.cells import Subject
    from ptybench.runner.planning import Axis
    from ptybench.task import Domain, Task, Tier

ALL = "all"
Note = Callable[[str], None]


@dataclass(frozen=True)
class Selection:
    """What was asked for.

    Args:
        tasks: names or files, or ``all``; none where there are data.
        points: texts of ``--points``.
        domain: seed domain of the tasks.
        tier: tier of the tasks.
        data: names or files of real measurements.
        preparation: arguments of :func:`ptybench.io.manifest.load_measurement`.
        methods: names, or ``all``.
        rulesets: ``default``, ``tuned`` or both.
        settings: key → value.
        grid: key → values.

    """

    tasks: Sequence[str] = ()
    points: Sequence[str] = ()
    domain: Domain = "dev"
    tier: Tier = "small"
    data: Sequence[str] = ()
    preparation: Mapping[str, Any] = field(default_factory=dict)
    methods: Sequence[str] = ()
    rulesets: Sequence[str] = ("default",)
    settings: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def axes(asked: Selection, note: Note) -> list[Axis]:
    """Settle every task at every point, and every method with every set of options that it is to have there.

    Args:
        asked: what was asked for.
        note: told, in a sentence, what was left out.

    Raises:
        UsageError: whatever is wrong with it.

    """
    twice = [key for key in asked.grid if key in asked.settings]
    if twice:
        raise InvalidOption(f"--set and --grid both give {twice[0]!r}: give one of them")
    return list(_on_data(asked) if asked.data else _on_tasks(asked, note))


def _on_tasks(asked: Selection, note: Note) -> Iterator[Axis]:
    from ptybench.registry import standard_methods

    sources = _tasks(asked)
    tasks = {task.name: task for task in sources.values()}
    points = parse_points(asked.points, tasks)
    _check_keys(asked, tasks, [name for task in tasks.values() for name in _named(asked, standard_methods(task))])
    choices = _Choices(asked)
    for source, task in sources.items():
        for subject in _subjects(asked, source, task, points[task.name]):
            assert subject.task is not None
            methods = _named(asked, standard_methods(subject.task))
            yield subject, [choice for method in methods for choice in choices.of(method, task.name)]
    for name, without in choices.without_preset.items():
        note(f"no preset for {', '.join(without)} on {name}: left out of the tuned ruleset")


def _tasks(asked: Selection) -> dict[str, Task]:
    """Every task as it stands in its file, by how it was asked for."""
    from ptybench.registry import load_task, task_names

    names = [name for word in asked.tasks for name in (task_names() if word == ALL else [word])]
    found: dict[str, Task] = {}
    for source in dict.fromkeys(names):
        task = load_task(source, asked.tier)
        if task.name in (other.name for other in found.values()):
            raise DuplicateName(f"two of the tasks are called {task.name!r}: rename one")
        found[source] = task
    return found


def _named(asked: Selection, standard: Sequence[str]) -> list[str]:
    """The methods with ``all`` written out, each once."""
    return list(dict.fromkeys(name for word in asked.methods for name in (standard if word == ALL else [word])))


def _check_keys(asked: Selection, tasks: Mapping[str, Task], methods: Sequence[str]) -> None:
    """Raise where a key of ``--set`` or ``--grid`` reaches nobody, or both tasks and methods."""
    from ptybench.cli.settings import route

    for flag, keys in (("--set", asked.settings), ("--grid", asked.grid)):
        for key in keys:
            route(key, tasks, dict.fromkeys(methods), flag)


def _subjects(asked: Selection, source: str, task: Task, points: Sequence[float | None]) -> Iterator[Subject]:
    """One task at every point, with every combination of what the grid says of its fields."""
    from ptybench.cli.settings import field_of
    from ptybench.runner.cells import Subject
    from ptybench.task import overridden

    given = {own: value for key, value in asked.settings.items() if (own := field_of(task, key)) is not None}
    grid = {own: values for key, values in asked.grid.items() if (own := field_of(task, key)) is not None}
    for point in points:
        place = {} if point is None or task.ladder is None else {task.ladder.name: point}
        if place:
            _refuse_two_points(task, [*given, *grid])
        for more in grid_points(grid):
            overrides = given | more | place
            settled = overridden(task, overrides) if overrides else task
            yield Subject(task=settled, domain=asked.domain, source=source, overrides=overrides)


def _refuse_two_points(task: Task, keys: Sequence[str]) -> None:
    from ptybench.task import TABLES, resolve_path

    assert task.ladder is not None
    for key in keys:
        if key not in TABLES and resolve_path(task, key) == task.ladder.field:
            raise InvalidOption(f"--points and {key} both give the point of {task.name}: give one of them")


def _on_data(asked: Selection) -> Iterator[Axis]:
    from ptybench.io.manifest import load_measurement
    from ptybench.registry import method_names, resolve_method
    from ptybench.runner.cells import Subject

    standard = [name for name in method_names() if not resolve_method(name).needs_truth] if ALL in asked.methods else []
    methods = _named(asked, standard)
    _check_keys(asked, {}, methods)
    choices = _Choices(asked)
    settled = [choice for method in methods for choice in choices.of(method)]
    for name in asked.data:
        yield Subject(loaded=load_measurement(name, **asked.preparation), source=name), settled


class _Choices:
    """Methods with their options; those that are the same are settled once.

    Attributes:
        without_preset: task → methods that are not in the tuned ruleset.

    """

    def __init__(self, asked: Selection) -> None:
        self._asked = asked
        self._settled: dict[str, ResolvedMethod] = {}
        self.without_preset: dict[str, dict[str, None]] = {}

    def of(self, method: str, task: str | None = None) -> list[ResolvedMethod]:
        """A method with every combination of what the grid says of its options, in every ruleset."""
        from ptybench.cli.settings import option_of

        asked = self._asked
        given = {own: value for key, value in asked.settings.items() if (own := option_of(method, key)) is not None}
        grid = {own: values for key, values in asked.grid.items() if (own := option_of(method, key)) is not None}
        return [
            self._resolved(method, base | given | more)
            for base in self._bases(method, task)
            for more in grid_points(grid)
        ]

    def _bases(self, method: str, task: str | None) -> Iterator[dict[str, Any]]:
        """What the rulesets set beforehand."""
        for ruleset in self._asked.rulesets:
            preset = {} if ruleset == "default" or task is None else self._preset(method, task)
            if preset is None:
                self.without_preset.setdefault(str(task), {})[method] = None
            else:
                yield preset

    def _preset(self, method: str, task: str) -> dict[str, Any] | None:
        """The preset; the defaults where there is nothing to tune, as in controls."""
        from ptybench.presets import preset_options
        from ptybench.registry import option_space, resolve_method

        version = resolve_method(method).version
        preset = preset_options(method, task, self._asked.tier, method_version=version)
        if preset is None and ">" not in method and not option_space(method):
            return {}
        return preset

    def _resolved(self, method: str, options: dict[str, Any]) -> ResolvedMethod:
        from ptybench.registry import resolve_method

        known = json.dumps([method, options], sort_keys=True)
        if known not in self._settled:
            self._settled[known] = resolve_method(method, options)
        return self._settled[known]


def rulesets(ruleset: str, data: bool) -> tuple[str, ...]:
    """The rulesets that one word means.

    Raises:
        UsageError: where there are none for real measurements.

    """
    if data and ruleset != "default":
        raise UsageError("--ruleset is for tasks: there are no presets for a real measurement")
    return ("default", "tuned") if ruleset == "both" else (ruleset,)
