"""Tables of TOML files, before anybody looks at what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from ptybench.errors import InvalidData, UnknownName


def merge(base: dict[str, Any], changes: dict[str, Any]) -> None:
    """Lay nested ``changes`` over ``base``, in place."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = value


def paper_tasks(raw: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """Return the tables of every task in the file of a paper, ``[tasks.NAME]``, by name.

    A task may be ``like`` another one of the file and say only what differs, in its tiers too.

    Args:
        raw: the TOML document.
        where: its name, for error messages.

    Raises:
        UnknownName: where a task is like none of them.
        InvalidData: where tasks are like each other.

    """
    own: Mapping[str, dict[str, Any]] = raw.get("tasks", {})

    def settled(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
        if name in seen:
            raise InvalidData(f"{where}: the task {name} is like itself, by way of {' and '.join(seen)}")
        if name not in own:
            raise UnknownName(f"task of {where}", name, own)
        tables = deepcopy(own[name])
        base = settled(tables.pop("like"), (*seen, name)) if "like" in tables else {}
        merge(base, tables)
        return base | {"name": name}

    return {name: settled(name, ()) for name in own}
