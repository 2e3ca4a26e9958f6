"""Several threads that take one piece of work after another, until all is done or somebody says stop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

from ptybench.runner.leases import pause

_LATER_SECONDS = 0.5


def share_out(count: int, jobs: int, work: Callable[[int], bool], stop: threading.Event) -> None:
    """Do the pieces ``0 … count - 1``, ``jobs`` at a time, in this order.

    Args:
        count: how many pieces.
        jobs: how many threads; with one the work is done in this very thread.
        work: does a piece; false where that cannot be done now, it then comes again when the others are done.
        stop: set where a piece raises or Ctrl-C is pressed, so that the others end.

    Raises:
        BaseException: whatever a piece raises, after all threads have ended.

    """
    fresh, later, lock = iter(range(count)), deque[int](), threading.Lock()

    def member() -> None:
        while not stop.is_set():
            with lock:
                index = next(fresh, None)
                put_off = index is None
                if index is None and later:
                    index = later.popleft()
            if index is None:
                return
            if put_off:
                pause(_LATER_SECONDS, stop)
            if not work(index):
                with lock:
                    later.append(index)

    if jobs == 1:
        member()
        return
    with ThreadPoolExecutor(jobs) as pool:
        members = [pool.submit(member) for _ in range(jobs)]
        try:
            wait(members, return_when="FIRST_EXCEPTION")
        finally:  # also on Ctrl-C, which only this thread is told of
            if not all(one.done() and one.exception() is None for one in members):
                stop.set()
    ended = [error for one in members if (error := one.exception()) is not None]
    for error in sorted(ended, key=lambda error: isinstance(error, KeyboardInterrupt)):
        raise error  # rather what went wrong than what was stopped because of it
