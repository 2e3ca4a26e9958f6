"""What a results folder holds already of many cells: one listing per method, and a glance at each record there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptybench.records import FINAL, RECORD_FILE, SCHEMA, Provenance, Status, Store, read_record
from ptybench.runner.planning import Planned

_HEAD_BYTES, _TAIL_BYTES = 4096, 4096
_HEAD = re.compile(rf'\{{\n "schema": "{SCHEMA}",\n "key": "(\w{{64}})",\n "status": "(\w+)",\n')
_SECONDS = re.compile(r'\n "wall_seconds": ([0-9.e+-]+),\n')
_PROVENANCE = re.compile(r'\n "provenance": (\{\n.*?\n \}),\n', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a cell that has a record.

    Args:
        status: how it ended.
        seconds: how long the whole cell took.
        stale: true where it was made by other code than today's.

    """

    status: Status
    seconds: float | None
    stale: bool

    @property
    def final(self) -> bool:
        """True where it is not run again."""
        return self.status in FINAL


def survey(store: Store, cells: Iterable[Planned], now: Provenance) -> dict[str, Found]:
    """Return the key of every cell that has a record, with what that says.

    Args:
        store: the results folder.
        cells: which cells.
        now: today's code and plug-ins.

    """
    there: dict[str, set[str]] = {}
    found: dict[str, Found] = {}
    for cell in cells:
        parent, _, name = cell.folder.rpartition("/")
        if parent not in there:
            there[parent] = _names(store.root / parent)
        if name in there[parent]:
            known = glance(store.root / parent / name / RECORD_FILE, cell.key, now)
            if known is not None:
                found[cell.key] = known
    return found


def _names(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in os.scandir(folder)}
    except OSError:
        return set()


def glance(path: Path, key: str, now: Provenance) -> Found | None:
    """Return what a record says of a cell, from both ends of its file; ``None`` where it is no record of that cell.

    A record is written in a fixed order and never in part. What looks otherwise is read as a whole.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD_BYTES).decode(errors="replace")
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read().decode(errors="replace")
    except OSError:
        return None
    start, origin = _HEAD.match(head), _PROVENANCE.search(tail)
    if start is None or origin is None or not tail.endswith("\n}\n"):
        return _reading(path, key, now)
    if start[1] != key:
        return None
    made_by: dict[str, Any] = json.loads(origin[1])
    took = _SECONDS.search(head)
    stale = is_stale(made_by["code_hash"], made_by.get("plugins", {}), now)
    return Found(start[2], None if took is None else float(took[1]), stale)  # type: ignore[arg-type]


def _reading(path: Path, key: str, now: Provenance) -> Found | None:
    record = read_record(path)
    if record is None or record.key != key:
        return None
    stale = is_stale(record.provenance.code_hash, record.provenance.plugins, now)
    return Found(record.status, record.wall_seconds, stale)


def is_stale(code_hash: str, plugins: Mapping[str, str], now: Provenance) -> bool:
    """True where ptybench, or a plug-in that is loaded now, was another when a record was made."""
    return code_hash != now.code_hash or any(now.plugins.get(name, sha) != sha for name, sha in plugins.items())
