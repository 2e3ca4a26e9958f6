"""Extended ptychographic iterative engine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ptybench.engines.rules import Rule
from ptybench.engines.sequential import SequentialOptions, SequentialSolver
from ptybench.specs import Tunable


class EPIE(SequentialSolver):
    """Extended ptychographic iterative engine (Maiden & Rodenburg 2009, 10.1016/j.ultramic.2009.05.012).

    ``O ← O + α P* Δψ / max|P|²`` and ``P ← P + β O* Δψ / max|O|²``, maxima over the current window; written as in
    Yamada et al. 2024 (10.1107/S1600576724006897, eqs. 18 and 19).
    """

    name = "epie"

    class Options(SequentialOptions):
        """Steps of ePIE.

        Args:
            alpha: object step.
            beta: probe step.

        """

        alpha: Annotated[float, Field(gt=0, le=2), Tunable(0.1, 1.0)] = 1.0
        beta: Annotated[float, Field(gt=0, le=2), Tunable(0.1, 1.0)] = 1.0

    def rules(self) -> tuple[Rule, Rule]:
        """``α / max|P|²`` (eq. 18) and ``β / max|O|²`` (eq. 19)."""
        return Rule(self.options.alpha, damping=1), Rule(self.options.beta, damping=1)
