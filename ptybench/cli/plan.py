"""``ptybench plan``: the cells of a sweep, without running them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from ptybench.cli.options import Json, Results
from ptybench.cli.output import Output, columns
from ptybench.cli.planned import (
    NO_DATA,
    NO_METHODS,
    NO_PROBLEMS,
    Methods,
    Problems,
    Which,
    changed_options,
    rows,
    split_done,
    summary,
)
from ptybench.cli.run import OnData
from ptybench.readable import duration

if TYPE_CHECKING:
    from ptybench.runner.planning import Planned
    from ptybench.runner.survey import Found

_GROUP = Group("The cells", sort_key=4)


def plan(
    *,
    problems: Problems = NO_PROBLEMS,
    on_data: OnData = NO_DATA,
    methods: Methods = NO_METHODS,
    seeds: Annotated[str, Parameter(("--seeds", "--seed"), group=_GROUP, help="Seeds, such as 0-4,7.")] = "0",
    device: Annotated[str, Parameter(group=_GROUP, help="auto, cpu, cuda or cuda:N.")] = "auto",
    results: Annotated[Results, Parameter(group=_GROUP)] = Path("runs"),
    json: Json = False,
) -> int:
    """Print the cells of a sweep without running them, and which of them are done.

    With --json every cell comes with its key, its folder and the command that runs it alone, for a queue of your own.
    """
    out = Output(json)
    with out.reserved():
        which = Which(problems, on_data, methods, seeds, device, results)
        cells = which.cells(out)
        found, left = split_done(cells, results)
        expected = _expected(cells, found, left)
        if json:
            done = len(cells) - len(left)
            head = {"count": len(cells), "done": done, "to_run": len(left), "expected_seconds": expected}
            out.documents("plan", head, "cells", rows(cells, found, which))
            return 0
        out.text(columns(list(_lines(cells, found))))
        time = "" if expected is None else f", about {duration(expected)} for one process"
        out.text(summary(cells, found, left) + time)
    return 0


def _expected(cells: Iterable[Planned], found: dict[str, Found], left: Sequence[Planned]) -> float | None:
    """Seconds that the rest will take one by one, learnt from what is done."""
    from ptybench.runner.pace import Pace, kind_of

    pace = Pace(map(kind_of, left), jobs=1)
    for cell in cells:
        if cell.key in found:
            pace.learn(kind_of(cell), found[cell.key].seconds)
    return pace.remaining()


def _lines(cells: Iterable[Planned], found: dict[str, Found]) -> Iterator[tuple[str, ...]]:
    """A line for each task, point, method and set of options, with its seeds."""
    together: dict[tuple[int, int], list[Planned]] = {}
    for cell in cells:
        together.setdefault((id(cell.subject), id(cell.method)), []).append(cell)
    for alike in together.values():
        first = alike[0]
        point = None if first.subject.task is None else first.subject.task.point
        options = " ".join(f"{key}={value}" for key, value in changed_options(first.method).items())
        done = sum(1 for cell in alike if cell.key in found and found[cell.key].final)
        yield (
            first.subject.name,
            "" if point is None else f"{point:g}",
            f"{first.method.name} {options}".rstrip(),
            f"seeds {ranges([cell.seed for cell in alike])}",
            "done" if done == len(alike) else f"{done} of {len(alike)} done",
        )


def ranges(numbers: Sequence[int]) -> str:
    """Return seeds as they are asked for.

    Example:
        >>> ranges([0, 1, 2, 4])
        '0-2,4'

    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
