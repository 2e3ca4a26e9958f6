"""``ptybench sweep``: all cells of a selection, each in a process of its own, as often as it takes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from ptybench.cli.options import Flag, Json, Results, parse_duration
from ptybench.cli.output import Output
from ptybench.cli.planned import NO_DATA, NO_METHODS, NO_PROBLEMS, Methods, Problems, Which, rows, split_done, summary
from ptybench.cli.run import OnData
from ptybench.errors import InvalidOption
from ptybench.readable import duration
from ptybench.runner.quiet import load_numpy_quietly

if TYPE_CHECKING:
    from ptybench.runner.planning import Planned
    from ptybench.runner.run import RunResult
    from ptybench.runner.survey import Found


@Parameter(name="*", group=Group("The sweep", sort_key=4))
@dataclass(frozen=True)
class Execution:
    """Where, how often and how long."""

    seeds: Annotated[str, Parameter(("--seeds", "--seed"))] = "0"
    "Seeds, such as 0-4,7."
    device: str = "auto"
    "auto, cpu, cuda or cuda:N."
    timeout: str | None = None
    "Kill a method after 90s, 10m or 2h."
    jobs: int = 1
    "Cells at a time; each is given its share of the cores."
    results: Results = Path("runs")
    force: Flag = False
    "Run again what has a record already."
    report: Annotated[bool, Parameter(negative="--no-report", show_default=False)] = False
    "Draw report.png for every cell, which takes about a second each; not drawn unless said so."


def sweep(
    *,
    problems: Problems = NO_PROBLEMS,
    on_data: OnData = NO_DATA,
    methods: Methods = NO_METHODS,
    execution: Execution = Execution(),
    json: Json = False,
) -> int:
    """Run all cells of a selection: every task, point, method, set of options and seed.

    What has a final record in the results folder is not run again, so the same command goes on where it was stopped.
    """
    out = Output(json)
    with out.reserved():
        if execution.jobs < 1:
            raise InvalidOption(f"--jobs must be at least 1, got {execution.jobs}")
        timeout = None if execution.timeout is None else parse_duration(execution.timeout)
        load_numpy_quietly()
        which = Which(problems, on_data, methods, execution.seeds, execution.device, execution.results)
        cells = which.cells(out)
        found, left = split_done(cells, execution.results, execution.force)
        out.note(summary(cells, found, left, execution.force))
        tally = work_off(cells, left, found, execution, timeout)
        if json:
            head = {"count": len(cells), "statuses": dict(tally.statuses()), "seconds": round(tally.seconds, 3)}
            out.documents("sweep", head, "cells", rows(cells, tally.found, which))
        out.text(tally.text(cells, execution.results))
        return 0 if set(tally.statuses()) == {"ok"} else 1


@dataclass
class Tally:
    """What has become of the cells.

    Args:
        found: key → how it ended, from now or before.
        ran: how many were run now.
        seconds: how long that took.

    """

    found: dict[str, Found]
    ran: int = 0
    seconds: float = 0.0

    def statuses(self) -> Counter[str]:
        """How many ended how, the good ones first."""
        counted = Counter(one.status for one in self.found.values())
        return Counter(dict(sorted(counted.items(), key=lambda item: (item[0] != "ok", -item[1]))))

    def text(self, cells: Sequence[Planned], results: Path) -> str:
        """The end of a sweep in a few lines: how many ended how, where the records are, what failed and why."""
        counts = ", ".join(f"{count} {status}" for status, count in self.statuses().items())
        now = f" ({self.ran} run now, in {duration(self.seconds)})" if self.ran else ""
        bad: dict[tuple[str, str], list[Planned]] = {}
        for cell in cells:
            status = self.found[cell.key].status
            if status != "ok":
                bad.setdefault((status, cell.method.name), []).append(cell)
        lines = [f"  {status}: {method}, {_why(alike, results)}" for (status, method), alike in bad.items()]
        return "\n".join([f"{len(cells)} cells in {results}: {counts}{now}", *lines])


def _why(cells: Sequence[Planned], results: Path) -> str:
    """How many cells a method failed on, and what the first of them says."""
    from ptybench.records import Store

    record = Store(results).load(PurePosixPath(cells[0].folder), cells[0].key)
    error = "" if record is None or record.error is None else f": {record.error}"
    count = f"{len(cells)} cells, the first " if len(cells) > 1 else ""
    return f"{count}{results / cells[0].folder}{error}"


def work_off(
    cells: Sequence[Planned],
    left: Sequence[Planned],
    found: dict[str, Found],
    execution: Execution,
    timeout: float | None,
) -> Tally:
    """Run what is left, show each cell as it ends, and count."""
    from ptybench.cli.sweepline import SweepLine
    from ptybench.runner.pace import Pace, kind_of
    from ptybench.runner.planning import Plans
    from ptybench.runner.run import each_cell
    from ptybench.runner.survey import Found

    pace = Pace(map(kind_of, left), execution.jobs)
    for cell in cells:
        if cell.key in found:
            pace.learn(kind_of(cell), found[cell.key].seconds)
    kinds = {cell.key for cell in left}
    tally = Tally({key: one for key, one in found.items() if key not in kinds})
    start = time.monotonic()
    with SweepLine(len(cells), len(cells) - len(left), pace) as line:

        def tell(index: int, result: RunResult) -> None:
            tally.found[left[index].key] = Found(result.record.status, result.record.wall_seconds, result.stale)
            tally.ran += not result.cached
            line.finished(result, kind_of(left[index]))

        each_cell(
            Plans(left),
            tell,
            jobs=execution.jobs,
            results=execution.results,
            force=execution.force,
            timeout=timeout,
            report=execution.report,
            progress=line.step,
        )
    tally.seconds = time.monotonic() - start
    return tally
