"""Processors that this thread may use."""

from __future__ import annotations

import os


def usable_cores() -> list[int]:
    """Numbers of the processors that this thread may use."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return list(range(os.cpu_count() or 1))
