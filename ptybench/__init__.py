"""ptybench: the benchmark and dataset generator for ptychographic phase retrieval.

    measurement, truth = ptybench.simulate("low_dose", seed=0)
    estimate = ptybench.reconstruct(measurement, "epie", epochs=100, alpha=0.5)
    ptybench.score(estimate, truth)
    record = ptybench.run(task="low_dose", method="epie", seed=0)

Everything is loaded when it is first used, so that ``import ptybench`` is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptybench.reconstruction import reconstruct
    from ptybench.runner.run import run
    from ptybench.scoring import score
    from ptybench.simulation import simulate
    from ptybench.types import Estimate, Measurement, Truth

__version__ = "0.1.0"

_HOMES = {
    "Estimate": "ptybench.types",
    "Measurement": "ptybench.types",
    "Truth": "ptybench.types",
    "reconstruct": "ptybench.reconstruction",
    "run": "ptybench.runner.run",
    "score": "ptybench.scoring",
    "simulate": "ptybench.simulation",
}

__all__ = ["Estimate", "Measurement", "Truth", "__version__", "reconstruct", "run", "score", "simulate"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ptybench' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
