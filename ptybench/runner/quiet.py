"""The parent process does its linear algebra on one thread, whatever its children do."""

from __future__ import annotations

import os

_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def load_numpy_quietly() -> None:
    """Import numpy with one thread for its linear algebra, where it is not imported yet; the environment stays.

    Scoring multiplies small arrays: threads that wait for each other make it three times slower where the other cores
    are busy (measured: 0.24 s a score on one thread, 0.76 s of processor time on two), and take the cores of other
    cells. The libraries read the environment once; children are to find it as it was.
    """
    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update(dict.fromkeys(_VARIABLES, "1"))
    try:
        import numpy  # noqa: F401
        import scipy.linalg  # noqa: F401 - brings a library of its own
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
