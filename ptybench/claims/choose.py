"""Options chosen on ``dev``: every run by the same rule, on its own grid, on specimens that no claim is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ptybench.claims.cells import Laboratory, Member
from ptybench.claims.paper import Side
from ptybench.claims.reading import better, read
from ptybench.claims.results import Records
from ptybench.errors import UsageError
from ptybench.runner.planning import Planned

Chosen = dict[tuple[str, str], dict[str, Any]]
"""Run and task → the options that were chosen."""


def searches(laboratory: Laboratory, claims: Sequence[str]) -> dict[tuple[str, str], tuple[Side, list[Member]]]:
    """Return the grid of every run on every task of the claims, with its cells; a run without a grid has none.

    Args:
        laboratory: that of the domain ``dev``.
        claims: ids of claims whose needs are met.

    """
    found: dict[tuple[str, str], tuple[Side, list[Member]]] = {}
    for name in claims:
        for check in laboratory.paper.claims[name].checks:
            for side in filter(None, (check.side, check.other)):
                for run in side.runs:
                    if side.task is None or side.vary == "grid" or not laboratory.paper.runs[run].grid:
                        continue
                    if (run, side.task) not in found:
                        search = _search(laboratory, run, side.task)
                        found[run, side.task] = search, laboratory.members(search)
    return found


def _search(laboratory: Laboratory, run: str, task: str) -> Side:
    """The grid of a run on a task as it stands, scored at the end by the task's primary metric."""
    return Side(
        task=task,
        run=run,
        metric=laboratory.load(task, {}).primary_metric,
        vary="grid",
        reduce="best",
        set={"budget.trace": [], "budget.curves": []},
    )


def search_cells(found: dict[tuple[str, str], tuple[Side, list[Member]]]) -> list[Planned]:
    """Return every cell of the searches once, seeds varying slowest."""
    cells = {cell.key: cell for _, members in found.values() for one in members for cell in one.cells.values()}
    return sorted(cells.values(), key=lambda cell: cell.seed)


def choose(found: dict[tuple[str, str], tuple[Side, list[Member]]], records: Records) -> Chosen:
    """Return every run's setting with the best mean over the seeds, the first of several.

    Raises:
        UsageError: where a cell has no final record, so that the best of the whole grid is not known; or where the
            metric is defined in no setting.

    """
    chosen: Chosen = {}
    for (run, task), (side, members) in found.items():
        keys = [cell.key for one in members for cell in one.cells.values()]
        left = sum(key not in records or not records[key].final for key in keys)
        if left:
            raise UsageError(
                f"options of {run} on {task} cannot be chosen: {left} of {len(keys)} cells of dev have no "
                "final record; run the same command without --no-run"
            )
        merits = [(_merit(one, side, records), one.settings) for one in members]
        known = [(merit, settings) for merit, settings in merits if merit is not None]
        if not known:
            raise UsageError(f"options of {run} on {task} cannot be chosen: {side.metric} is defined in no setting")
        chosen[run, task] = max(known, key=lambda pair: pair[0])[1]
    return chosen


def _merit(member: Member, side: Side, records: Records) -> float | None:
    """The mean over the seeds, larger where it is better; a run that failed makes it infinitely bad."""
    values = [None if one is None else one.low for one in (read(records[c.key], side) for c in member.cells.values())]
    known = [one for one in values if one is not None]
    if len(known) < len(values):
        return None
    return better(side.model_copy(update={"reduce": None})) * float(np.mean(known))
