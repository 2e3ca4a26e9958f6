"""Patterns whose positions are lost: which they are, and where to look for them.

A position that is wrong by more than the finest structure of the object sits in a minimum of the loss of its own, and
the longer a reconstruction goes on, the better the object fits it there. That such a pattern is lost shows in its data
error; where it belongs shows only on an object that was made without it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DOUBT = 2.0  # times the median error, above which a pattern is doubted
EXPLAINED = 1 / 3  # of the error with an empty object: above that the object tells nothing about a place
REACH, SPACING = 4.0, 0.4  # of a search, in standard deviations of the positions: one of 3000 strays farther


def doubtful(errors: NDArray[np.float64]) -> list[int]:
    """The patterns, of ``(K,)`` data errors, that fit badly: less than half of them."""
    found: list[int] = np.flatnonzero(errors > DOUBT * np.median(errors)).tolist()
    return found


def shifts(deviation_px: float) -> NDArray[np.float64]:
    """Corrections ``(C, 2)`` in pixels that reach as far as positions with this standard deviation stray."""
    spacing = max(SPACING * deviation_px, 1.0)
    steps = spacing * np.arange(-(reach := int(REACH * deviation_px / spacing)), reach + 1)
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    found: NDArray[np.float64] = grid[np.hypot(*grid.T) <= REACH * deviation_px]
    return found
