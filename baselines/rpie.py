"""Regularised ptychographic iterative engine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ptybench.engines.rules import Rule
from ptybench.engines.sequential import SequentialOptions, SequentialSolver
from ptybench.specs import Tunable


class RPIE(SequentialSolver):
    """Regularised PIE (Maiden, Johnson & Li 2017, 10.1364/OPTICA.4.000736).

    ``O ← O + P* Δψ / ((1−α)|P|² + α max|P|²)`` and ``P ← P + O* Δψ / ((1−β)|O|² + β max|O|²)``;
    ``α = β = 1`` is ePIE with unit steps. The defaults are those of
    Yamada et al. 2024 (10.1107/S1600576724006897) for simulated low-dose data; their choice for measured data,
    ``α = 0.1, β = 1``, diverges on ``low_dose`` (measured on the ``dev`` domain, from epoch 50 on).
    """

    name = "rpie"

    class Options(SequentialOptions):
        """Regularisation of rPIE.

        Args:
            alpha: object regularisation; small is bold where the probe is dim.
            beta: probe regularisation; above 1 merely damps.

        """

        alpha: Annotated[float, Field(gt=0, le=5), Tunable(0.05, 0.5)] = 0.15
        beta: Annotated[float, Field(gt=0, le=5), Tunable(0.5, 5.0)] = 5.0

    def rules(self) -> tuple[Rule, Rule]:
        """``1 / ((1−α) Σ_m|P_m|² + α max Σ_m|P_m|²)`` and ``1 / ((1−β)|O|² + β max|O|²)``."""
        return Rule(1, damping=self.options.alpha), Rule(1, damping=self.options.beta)
