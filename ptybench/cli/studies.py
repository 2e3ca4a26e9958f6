"""Where studies stand, on stderr: a bar each and the time left for all in a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import TaskID

from ptybench.cli.bars import CELL_COLUMNS, Bars
from ptybench.cli.progress import LINE_SECONDS, clock
from ptybench.readable import number

if TYPE_CHECKING:
    from ptybench.tuning.study import Study
    from ptybench.tuning.tune import Standing


class StudyLine(Bars):
    """Shows what :func:`ptybench.tuning.tune.tune` tells, from any thread.

    Args:
        studies: all of them.
        jobs: how many at a time.

    """

    def __init__(self, studies: Sequence[Study], jobs: int) -> None:
        self._studies, self._jobs = studies, jobs
        self._done: set[int] = set()
        self._spent: list[float] = []  # time of the studies that were run
        self._begun: dict[int, float] = {}
        self._standings: dict[int, Standing] = {}
        self._bars: dict[int, TaskID] = {}
        self._said: dict[int, float] = {}
        self._lock = threading.Lock()
        super().__init__(CELL_COLUMNS)

    def step(self, standing: Standing) -> None:
        """Show where a study stands."""
        key = id(standing.study)
        with self._lock:
            self._begun.setdefault(key, time.monotonic())
            self._standings[key] = standing
            if self._live:
                if key not in self._bars:
                    self._bars[key] = self._progress.add_task(standing.study.title, total=1.0, standing="")
                self._progress.update(self._bars[key], completed=standing.share, standing=self._words(standing))
            else:
                self._say(key, standing)

    @contextmanager
    def finished(self, study: Study) -> Iterator[None]:
        """Take a finished study off, and leave the terminal to the block."""
        key = id(study)
        with self._lock:
            self._done.add(key)
            self._standings.pop(key, None)
            if key in self._begun:
                self._spent.append(time.monotonic() - self._begun[key])
            if key in self._bars:
                self._progress.remove_task(self._bars.pop(key))
            self._progress.stop()
            yield
            self._progress.start()

    def _say(self, key: int, standing: Standing) -> None:
        if time.monotonic() - self._said.get(key, -LINE_SECONDS) >= LINE_SECONDS:
            self._said[key] = time.monotonic()
            print(f"{standing.study.title} · {self._words(standing)}", file=sys.stderr, flush=True)

    def _words(self, standing: Standing) -> str:
        """``trial 3/20 · best 0.4312 · 2:10 left · 5/40 studies, 1:02:10 left``."""
        study, done = standing.study, len(standing.trials)
        best = study.best(standing.trials).value if standing.trials else None
        parts = [f"trial {min(done + 1, study.trials)}/{study.trials}", f"best {number(best)}"]
        parts.append(f"{clock(standing.remaining_seconds)} left")
        if len(self._studies) > 1:
            parts.append(f"{len(self._done)}/{len(self._studies)} studies, {clock(self._left())} left")
        return " · ".join(parts)

    def _left(self) -> float | None:
        """Time until all are done: what is under way, and for those to come the mean of what is known."""
        whole = list(self._spent)
        running = []
        for standing in self._standings.values():
            if standing.remaining_seconds is not None and standing.seconds is not None:
                running.append(standing.remaining_seconds)
                whole.append(standing.seconds * standing.study.trials)
        if not whole:
            return None
        waiting = len(self._studies) - len(self._done) - len(running)
        return max((sum(running) + waiting * sum(whole) / len(whole)) / self._jobs, max(running, default=0.0))
