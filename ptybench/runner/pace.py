"""How long cells take, learnt from those that are finished, and so how long the rest will take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptybench.runner.planning import Planned

Kind = tuple[str, float | None, str]
"""Problem, point and method of a cell: cells of a kind take about as long as each other."""


def kind_of(cell: Planned) -> Kind:
    """Return what a cell's time is learnt for."""
    task = cell.subject.task
    return cell.subject.name, None if task is None else task.point, cell.method.name


class Pace:
    """The remaining time of a sweep.

    Args:
        left: the kinds of the cells that are still to be run.
        jobs: how many run at a time.

    """

    def __init__(self, left: Iterable[Kind], jobs: int) -> None:
        self._left = Counter(left)
        self._jobs = jobs
        self._known: dict[tuple[object, ...], tuple[int, float]] = {}  # how many, and their sum of seconds
        self._running: dict[str, tuple[Kind, float]] = {}

    def begin(self, key: str, kind: Kind) -> None:
        """Take note that a cell runs now."""
        if key not in self._running:
            self._left[kind] -= 1
            self._running[key] = kind, time.monotonic()

    def end(self, key: str, kind: Kind, seconds: float | None) -> None:
        """Take note that a cell has ended, after ``seconds`` where they are worth learning from."""
        if self._running.pop(key, None) is None:
            self._left[kind] -= 1
        self.learn(kind, seconds)

    def learn(self, kind: Kind, seconds: float | None) -> None:
        """Take in how long a cell took."""
        if seconds is not None:
            for likeness in _likenesses(kind):
                count, total = self._known.get(likeness, (0, 0.0))
                self._known[likeness] = count + 1, total + seconds

    def expected(self, kind: Kind) -> float | None:
        """Seconds that a cell will take: the mean over those most like it."""
        for likeness in _likenesses(kind):
            if likeness in self._known:
                count, total = self._known[likeness]
                return total / count
        return None

    def remaining(self) -> float | None:
        """Seconds until all cells are done; ``None`` while nothing is known."""
        if not self._known:
            return None
        now = time.monotonic()
        under_way = [max(0.0, (self.expected(kind) or 0.0) - (now - since)) for kind, since in self._running.values()]
        waiting = sum(count * (self.expected(kind) or 0.0) for kind, count in self._left.items() if count > 0)
        return max((sum(under_way) + waiting) / self._jobs, max(under_way, default=0.0))


def _likenesses(kind: Kind) -> list[tuple[object, ...]]:
    """What two cells can have in common, the closest first; the last is nothing."""
    problem, point, method = kind
    return [(problem, point, method), (problem, method), (method,), (problem, None), ()]
