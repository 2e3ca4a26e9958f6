"""Where ``--set KEY=VALUE`` and ``--grid KEY=VALUES`` go: to fields of the tasks or to options of the methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ptybench.errors import InvalidOption, UnknownName
from ptybench.registry import option_keys
from ptybench.task import TABLES, Task, field_paths


@dataclass
class Settings:
    """The settings of one cell, sorted."""

    task: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)


@dataclass
class Route:
    """Whom a key reaches, and what they call it: task or method → its own key."""

    tasks: dict[str, str] = field(default_factory=dict)
    methods: dict[str, str] = field(default_factory=dict)


def task_keys(task: Task | None) -> set[str]:
    """Every key that a field of a task has: its path, its last name, the name of the ladder."""
    if task is None:
        return set()
    paths = field_paths(task)
    ladder = {task.ladder.name} if task.ladder is not None else set()
    return {*paths, *(path.rpartition(".")[2] for path in paths), *ladder}


def field_values(task: Task) -> dict[str, Any]:
    """Every path that ``--set task.…`` reaches, with its value."""
    tree = task.model_dump(mode="json")
    values: dict[str, Any] = {}
    for path in field_paths(task):
        node: Any = tree
        for part in path.split("."):
            node = node[int(part)] if isinstance(node, list) else node[part]
        values[path] = node
    return values


def field_of(task: Task, key: str) -> str | None:
    """What a task calls ``overlap``, ``task.overlap`` or ``low_overlap.overlap``; ``None`` where it has no such."""
    owner, _, rest = key.partition(".")
    known = task_keys(task)
    if key in known:
        return key
    return rest if owner in ("task", task.name) and (rest in known or rest in TABLES) else None


def option_of(method: str, key: str) -> str | None:
    """What a method calls ``alpha``, ``method.alpha`` or ``epie.alpha``; ``None`` where it has no such."""
    owner, _, rest = key.partition(".")
    known = option_keys(method)
    if key in known:
        return key
    return rest if owner in ("method", method) and rest in known else None


def route(key: str, tasks: Mapping[str, Task], methods: Iterable[str], flag: str = "--set") -> Route:
    """Find out whom a key reaches: every one of several tasks or methods that has it.

    Args:
        key: a bare key, or one with its owner before it: ``task``, ``method``, or the name of one of them.
        tasks: name → task.
        methods: the methods.
        flag: which option of the command line is to be named in errors.

    Raises:
        UnknownName: where nobody has the key.
        InvalidOption: where tasks and methods have it, or there is no task to set a field of.

    """
    methods = list(methods)
    owner, _, rest = key.partition(".")
    if owner == "task" and rest and not tasks:
        raise InvalidOption(f"{flag} {key}: there is no task here, only a method's options can be set")
    if owner == "method" and rest and not methods:
        raise InvalidOption(f"{flag} {key}: there is no method here, only a task's fields can be set")
    found = Route(
        {name: own for name, task in tasks.items() if (own := field_of(task, key)) is not None},
        {method: own for method in methods if (own := option_of(method, key)) is not None},
    )
    if found.tasks and found.methods:
        raise InvalidOption(f"{flag} {key}: both have it, write task.{key} or method.{key}")
    if not found.tasks and not found.methods:
        known = {known for task in tasks.values() for known in task_keys(task)} if owner != "method" else set()
        known |= {known for method in methods for known in option_keys(method)} if owner != "task" else set()
        prefix = f"{owner}." if owner in ("task", "method") else ""
        who = [f"field of task {' or '.join(tasks)}"] if tasks and owner != "method" else []
        who += [f"option of method {' or '.join(methods)}"] if methods and owner != "task" else []
        hint = f"it is no {' and no '.join(who)}"
        raise UnknownName("setting", key, {prefix + name for name in known}, hint=hint)
    return found


def sort_settings(settings: Mapping[str, Any], task: Task | None, method: str | None) -> Settings:
    """Sort the settings of one cell by who has their key.

    Args:
        settings: key → value, from :func:`ptybench.cli.options.parse_settings`.
        task: the task, ``None`` for a real measurement.
        method: the method or chain, ``None`` where there is none.

    Raises:
        UnknownName: where neither has the key.
        InvalidOption: where both have it, or there is no task to set a field of.

    """
    found = Settings()
    for key, value in settings.items():
        reached = route(key, {} if task is None else {task.name: task}, [] if method is None else [method])
        found.task |= dict.fromkeys(reached.tasks.values(), value)
        found.method |= dict.fromkeys(reached.methods.values(), value)
    return found
