"""Scoring: gauges are removed first, then every metric is taken where the dose is.

The functions live in :mod:`ptybench.scoring.scores`; they are loaded on first use, so that the names of the metrics
(:mod:`ptybench.scoring.metrics`) can be listed without numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptybench.scoring.scores import Scores, evaluate, score

__all__ = ["Scores", "evaluate", "score"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ptybench.scoring import scores

    return getattr(scores, name)
