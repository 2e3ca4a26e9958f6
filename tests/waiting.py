"""Waiting for what another process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress


def wait(for_what: Callable[[], object], seconds: float = 60) -> None:
    """Come back when something is so; files may come and go while they are looked at."""
    end = time.monotonic() + seconds
    while True:
        with suppress(OSError):
            if for_what():
                return
        assert time.monotonic() < end
        time.sleep(0.01)
