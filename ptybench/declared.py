"""What a source declares, read without running it, so that a listing imports nothing."""

from __future__ import annotations

import ast
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ptybench.errors import InvalidData


@dataclass(frozen=True)
class Declared:
    """What a source says of a method or an addition, read without running it.

    Args:
        name: ``epie``, ``admm:poisson``; of an addition ``xcorr``.
        title: first line of the docstring.
        fixed: options that a variant fixes.
        addition: true for an addition.
        refines: what an addition finds beside object and probe.
        bases: methods that an addition is listed and swept with.

    """

    name: str
    title: str
    fixed: dict[str, Any] = field(default_factory=dict)
    addition: bool = False
    refines: frozenset[str] = frozenset()
    bases: tuple[str, ...] = ()


@cache  # also because Python 3.11 cannot parse in two threads at a time (gh-106905)
def declared(text: str) -> list[Declared]:
    """Every class with a literal ``name`` or ``adds`` and its variants, without running anything."""
    found = []
    for node in ast.parse(text).body:
        if not isinstance(node, ast.ClassDef):
            continue
        said = _literals(node)
        title = (ast.get_docstring(node) or "").partition("\n")[0]
        if isinstance(said.get("adds"), str):
            refines, bases = frozenset(said.get("refines", ())), tuple(said.get("bases", ()))
            found.append(Declared(said["adds"], title, addition=True, refines=refines, bases=bases))
        elif isinstance(said.get("name"), str):
            found.append(Declared(said["name"], title))
            for variant, fixed in said.get("variants", {}).items():
                found.append(Declared(f"{said['name']}:{variant}", f"{title[:-1]}, {variant}.", fixed))
    return found


def _literals(node: ast.ClassDef) -> dict[str, Any]:
    """The class attributes that are plain values."""
    found = {}
    for line in node.body:
        target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
        value = getattr(line, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.expr):
            with suppress(ValueError, TypeError):
                found[target.id] = ast.literal_eval(value)
    return found


def declared_tasks(text: str) -> list[str]:
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


def declared_generators(text: str) -> dict[str, str]:
    """Name and title of every class with a literal ``generates``, without running anything."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef) and isinstance(name := _literals(node).get("generates"), str):
            found[name] = (ast.get_docstring(node) or "").partition("\n")[0]
    return found
