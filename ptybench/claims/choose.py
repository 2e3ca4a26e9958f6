"""Options chosen on ``dev``: every run by the same rule, on its own grid, on specimens that no claim is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ptybench.claims.cells import Laboratory, Member
from ptybench.claims.paper import Side
from ptybench.claims.reading import Reading, better, read
from ptybench.claims.results import Records
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
    """Return every run's setting with the best mean over the seeds; one without a complete setting is left out."""
    chosen: Chosen = {}
    for place, (side, members) in found.items():
        means = [_mean([read(records.get(cell.key), side) for cell in one.cells.values()], side) for one in members]
        known = [(mean, one) for mean, one in zip(means, members, strict=True) if mean is not None]
        if known:
            chosen[place] = max(known, key=lambda pair: pair[0])[1].settings
    return chosen


def _mean(readings: Sequence[Reading | None], side: Side) -> float | None:
    """The mean, larger where it is better; a run that failed makes it infinitely bad."""
    if any(one is None for one in readings):
        return None
    return better(side.model_copy(update={"reduce": None})) * float(np.mean([one.low for one in readings if one]))
