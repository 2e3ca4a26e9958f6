"""Where ``--set KEY=VALUE`` goes: to a field of the task or to an option of the method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ptybench.errors import InvalidOption, UnknownName
from ptybench.registry import method_options, resolve_method
from ptybench.task import Task, field_paths


@dataclass
class Settings:
    """The settings of one cell, sorted."""

    task: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)


def method_keys(method: str) -> set[str]:
    """Every key that an option of a method has; in a chain also with the name or the place of its part."""
    if ">" not in method:
        return set(method_options(method).model_fields)
    resolve_method(method)  # says what is wrong with a chain
    parts = [part.strip() for part in method.split(">")]
    keys = {"shares"}
    for place, part in enumerate(parts, 1):
        options = set(method_options(part).model_fields)
        keys |= options | {f"{owner}.{option}" for option in options for owner in (part, str(place))}
    return keys


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


def sort_settings(settings: Mapping[str, Any], task: Task | None, method: str | None) -> Settings:
    """Sort settings by who has their key.

    Args:
        settings: key → value, from :func:`ptybench.cli.options.parse_settings`.
        task: the task, ``None`` for a real measurement.
        method: the method or chain, ``None`` where there is none.

    Raises:
        UnknownName: where neither has the key.
        InvalidOption: where both have it, or there is no task to set a field of.

    """
    found = Settings()
    of_task, of_method = task_keys(task), method_keys(method) if method is not None else set()
    for key, value in settings.items():
        owner, _, rest = key.partition(".")
        if owner == "task" and rest:
            if task is None:
                raise InvalidOption(f"--set {key}: there is no task here, only a method's options can be set")
            found.task[rest] = value
        elif owner == "method" and rest:
            if method is None:
                raise InvalidOption(f"--set {key}: there is no method here, only a task's fields can be set")
            found.method[rest] = value
        elif key in of_task and key in of_method:
            raise InvalidOption(f"--set {key}: both have it, write task.{key} or method.{key}")
        elif key in of_task:
            found.task[key] = value
        elif key in of_method:
            found.method[key] = value
        else:
            who = [f"field of task {task.name}"] if task is not None else []
            who += [f"option of method {method}"] if method is not None else []
            raise UnknownName("setting", key, of_task | of_method, hint=f"it is no {' and no '.join(who)}")
    return found
