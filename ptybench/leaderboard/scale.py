"""The two controls as the ends of a scale: 0 is the initial guess, 1 the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ptybench.scoring.metrics import rescaled

ORACLE, INITIAL_GUESS = "oracle", "initial_guess"
CONTROLS = (ORACLE, INITIAL_GUESS)

Seeds = dict[int, float | None]


@dataclass(frozen=True)
class Scale:
    """The way from initial guess to oracle, seed by seed.

    It is undefined where the oracle is not better than the initial guess by more than their spread, the larger of
    the two standard deviations over the seeds (0 for a single seed).

    Args:
        start: seed → value of ``initial_guess``.
        end: seed → value of ``oracle``.
        spread: of the two over the seeds.
        direction: of the metric.

    """

    start: Seeds
    end: Seeds
    spread: float
    direction: str

    @classmethod
    def of(cls, controls: Mapping[str, Seeds], direction: str) -> Scale:
        """Return the scale of the controls' values: name → seed → value."""
        start, end = controls.get(INITIAL_GUESS, {}), controls.get(ORACLE, {})
        columns = [[v for v in column.values() if v is not None] for column in (start, end)]
        spread = max((float(np.std(c, ddof=1)) for c in columns if len(c) > 1), default=0.0)
        return cls(start, end, spread, direction)

    def rescale(self, seed: int, value: float | None) -> float | None:
        """Return ``(value − initial guess) / (oracle − initial guess)`` of a seed, ``None`` where undefined."""
        start, end = self.start.get(seed), self.end.get(seed)
        if start is None or end is None or (end > start) != (self.direction == "higher"):
            return None
        return rescaled(value, start, end, max(self.spread, 1e-12 * max(abs(start), abs(end))))
