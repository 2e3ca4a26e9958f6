"""How far something countable has come and how long it will take, on stderr: a bar, or now and then a line."""

from __future__ import annotations

import sys
import time

from ptybench.cli.bars import COUNT_COLUMNS, Bars
from ptybench.cli.progress import LINE_SECONDS, clock


class Counting(Bars):
    """Shows ``done`` of ``total`` and the time left, as the pace so far promises.

    Args:
        what: what is counted, for example ``"images"``.

    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._from: tuple[float, int] | None = None
        self._said = 0.0
        super().__init__(COUNT_COLUMNS)
        self._bar = self._progress.add_task("", total=None)

    def step(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are there; the first call says what was there before."""
        now = time.monotonic()
        if self._from is None:
            self._from, self._said = (now, done), now
        if self._live:
            self._progress.update(self._bar, completed=done, total=total, description=self._text(now, done, total))
        elif now - self._said >= LINE_SECONDS and done < total:
            self._said = now
            print(self._text(now, done, total), file=sys.stderr, flush=True)

    def _text(self, now: float, done: int, total: int) -> str:
        assert self._from is not None
        if done == total:
            return f"{total} {self._what}, finishing"
        since, before = self._from
        left = (now - since) * (total - done) / (done - before) if done > before else None
        return f"{done}/{total} {self._what} · {clock(left)} left"
