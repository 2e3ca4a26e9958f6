"""Where the running cells stand, on stderr: bars in a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import TaskID

from ptybench.cli.bars import CELL_COLUMNS, Bars

if TYPE_CHECKING:
    from ptybench.runner.run import Progress as Standing
    from ptybench.runner.run import RunResult

LINE_SECONDS = 10.0


def clock(seconds: float | None) -> str:
    """Return seconds as ``m:ss`` or ``h:mm:ss``; dashes where they are unknown.

    Example:
        >>> clock(83.2), clock(None)
        ('1:23', '-:--')

    """
    if seconds is None:
        return "-:--"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def standing_text(standing: Standing) -> str:
    """Return epoch, remaining time and current error as one phrase."""
    if standing.phase == "waiting":
        return f"waiting for {standing.waits_for}"
    if standing.phase not in ("solving", "halves"):
        return standing.phase
    done = f"{standing.epoch}" if standing.epochs is None else f"{standing.epoch}/{standing.epochs}"
    error = "" if standing.data_error is None else f" · error {standing.data_error:.2g}"
    part = "half, epoch" if standing.phase == "halves" else "epoch"
    return f"{part} {done} · {clock(standing.remaining_seconds)} left{error}"


def share(standing: Standing) -> float:
    """Return the share of the budget that is used, from 0 to 1."""
    if standing.phase == "scoring":
        return 1.0
    if standing.remaining_seconds is None or standing.epoch == 0:
        return 0.0
    return standing.seconds / max(standing.seconds + standing.remaining_seconds, 1e-9)


class ProgressLine(Bars):
    """Shows what :func:`ptybench.runner.run.run_cells` tells, from any thread.

    Args:
        cells: how many cells there are.

    """

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self.done = 0
        self._lock = threading.Lock()
        self._said: dict[str, tuple[str, float]] = {}
        self._bars: dict[str, TaskID] = {}
        super().__init__(CELL_COLUMNS)

    def step(self, standing: Standing) -> None:
        """Show where a cell stands."""
        with self._lock:
            if self._live:
                self._draw(standing)
            else:
                self._say(standing)

    @contextmanager
    def finished(self, result: RunResult) -> Iterator[None]:
        """Take a finished cell off, and leave the terminal to the block."""
        with self._lock:
            self.done += 1
            bar = self._bars.pop(result.record.key, None)
            if bar is not None:
                self._progress.remove_task(bar)
            self._progress.stop()
            yield
            self._progress.start()

    def _title(self, standing: Standing) -> str:
        count = f"[{min(self.done + 1, self.cells)}/{self.cells}] " if self.cells > 1 else ""
        return f"{count}{standing.plan.title}"

    def _draw(self, standing: Standing) -> None:
        key = standing.plan.cell.key
        if key not in self._bars:
            self._bars[key] = self._progress.add_task(self._title(standing), total=1.0, standing="")
        self._progress.update(self._bars[key], completed=share(standing), standing=standing_text(standing))

    def _say(self, standing: Standing) -> None:
        key, now = standing.plan.cell.key, time.monotonic()
        phase, last = self._said.get(key, ("", -LINE_SECONDS))
        if phase == standing.phase and now - last < LINE_SECONDS:
            return
        self._said[key] = standing.phase, now
        print(f"{self._title(standing)} · {standing_text(standing)}", file=sys.stderr, flush=True)
