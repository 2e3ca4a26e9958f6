"""What tests of solvers share that compare two ways of doing the same: a few epochs, and how far their ends differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ptybench.baselines.epie import EPIE
from ptybench.baselines.mpie import MPIE
from ptybench.baselines.pie import PIE
from ptybench.baselines.rpie import RPIE
from ptybench.baselines.sdr import SDR
from ptybench.baselines.wasp import WASP

from ptybench.engines.sequential import SequentialSolver
from ptybench.solver import Solver
from ptybench.types import Measurement

FAMILY: list[tuple[type[SequentialSolver], dict[str, Any]]] = [
    (EPIE, {"alpha": 0.7, "beta": 0.4}),
    (RPIE, {"alpha": 0.2, "beta": 3.0}),
    (PIE, {"alpha": 0.1, "beta": 0.8}),
    (MPIE, {"every": 7}),
    (SDR, {}),
    (WASP, {"alpha": 1.5, "beta": 0.7}),
]


def run(
    kind: type[Solver],
    measurement: Measurement,
    options: dict[str, Any],
    epochs: int = 2,
    where: str = "cpu",
    dtype: torch.dtype = torch.complex128,
) -> tuple[Any, list[float]]:
    """A solver after some epochs, and their errors."""
    solver = type(kind.__name__, (kind,), {"dtype": dtype})(measurement, kind.Options(**options), where, seed=5)
    errors = []
    for epoch in range(epochs):
        solver.progress = epoch / epochs
        errors.append(solver.step())
    return solver, errors


def object_after_moves(measurement: Measurement) -> torch.Tensor:
    """What ePIE has after epochs between which positions and distance change, to whole pixels at the end."""
    solver, _ = run(EPIE, measurement, {}, 1)
    solver.place(solver.model.positions_px + 0.3)
    solver.step()
    solver.refocus(0.11)
    solver.step()
    solver.place(np.round(solver.model.positions_px))  # no fractions any more
    solver.step()
    found: torch.Tensor = solver.object
    return found


def differ(a: torch.Tensor, b: torch.Tensor) -> float:
    """``|a - b| / |b|``."""
    return float((a - b).norm() / b.norm())
