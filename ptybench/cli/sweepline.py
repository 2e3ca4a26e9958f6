"""Where a sweep stands, on stderr: a line for each cell that ends; in a terminal also bars, for all and for each."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import TaskID
from rich.text import Text

from ptybench.cli.bars import CELL_COLUMNS, Bars
from ptybench.cli.progress import clock, share, standing_text
from ptybench.readable import duration, number

if TYPE_CHECKING:
    from ptybench.runner.cells import Plan
    from ptybench.runner.pace import Kind, Pace
    from ptybench.runner.run import Progress as Standing
    from ptybench.runner.run import RunResult

SILENT_SECONDS = 60.0
"""Where there is no terminal, a cell that takes longer says now and then where it is."""
_STYLES = {"ok": "green", "skipped": "yellow", "not_installed": "yellow"}


def kind_of_plan(plan: Plan) -> Kind:
    """Return what a cell's time is learnt for."""
    return plan.cell.problem, None if plan.task is None else plan.task.point, plan.cell.method


class SweepLine(Bars):
    """Shows what :func:`ptybench.runner.run.each_cell` tells, from any thread.

    Args:
        cells: how many cells the sweep has.
        done: how many of them were done before.
        pace: learns how long cells take.

    """

    def __init__(self, cells: int, done: int, pace: Pace) -> None:
        self.cells, self.done, self.failed = cells, done, 0
        self._pace = pace
        self._lock = threading.Lock()
        self._said: dict[str, tuple[str, float]] = {}
        self._bars: dict[str, TaskID] = {}
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        super().__init__(CELL_COLUMNS, self._console)
        self._all = self._progress.add_task("all cells", total=max(cells, 1), completed=done, standing="")

    def step(self, standing: Standing) -> None:
        """Show where a cell stands."""
        with self._lock:
            key = standing.plan.cell.key
            if standing.phase != "waiting":
                self._pace.begin(key, kind_of_plan(standing.plan))
            if self._live:
                if key not in self._bars:
                    self._bars[key] = self._progress.add_task(standing.plan.title, total=1.0, standing="")
                self._progress.update(self._bars[key], completed=share(standing), standing=standing_text(standing))
                self._draw()
            else:
                self._say(key, standing)

    def finished(self, result: RunResult, kind: Kind) -> None:
        """Say how a cell ended."""
        record = result.record
        with self._lock:
            self.done += 1
            self.failed += record.status != "ok"
            worth = not result.cached and record.status not in ("skipped", "not_installed", "killed")
            self._pace.end(record.key, kind, record.wall_seconds if worth else None)
            self._said.pop(record.key, None)
            bar = self._bars.pop(record.key, None)
            if bar is not None:
                self._progress.remove_task(bar)
            line = Text(f"[{self.done:>{len(str(self.cells))}}/{self.cells}] ")
            line.append(f"{record.status:<8}", style=_STYLES.get(record.status, "red"))
            line.append(f" {ended_text(result)}")
            if not self._live and self.done < self.cells:
                line.append(f" · {clock(self._pace.remaining())} left")
            self._console.print(line)
            self._draw()

    def _draw(self) -> None:
        failed = f" · {self.failed} failed" if self.failed else ""
        standing = f"{self.done}/{self.cells}{failed} · {clock(self._pace.remaining())} left"
        self._progress.update(self._all, completed=self.done, standing=standing)

    def _say(self, key: str, standing: Standing) -> None:
        now = time.monotonic()
        phase, last = self._said.setdefault(key, ("", now))
        if (standing.phase == "waiting" != phase) or now - last > SILENT_SECONDS:
            print(f"{standing.plan.title} · {standing_text(standing)}", file=sys.stderr, flush=True)
            last = now
        self._said[key] = standing.phase, last


def ended_text(result: RunResult) -> str:
    """Return which cell ended with what, as one phrase."""
    record = result.record
    point = "" if record.point is None else f" {record.point:g}"
    parts = [f"{record.problem}{point} · {record.method} · seed {record.seed}"]
    if record.status == "ok" and record.primary_metric is not None:
        parts.append(f"{record.primary_metric} {number(record.value)}")
    elif record.error:
        parts.append(record.error)
    parts.append("run by another process" if result.cached else duration(record.wall_seconds))
    return " · ".join(parts)
