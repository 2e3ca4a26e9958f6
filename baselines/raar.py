"""Relaxed averaged alternating reflections."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ptybench.engines.projection import ReflectionOptions, ReflectionSolver
from ptybench.specs import Tunable


class RAAR(ReflectionSolver):
    """Relaxed averaged alternating reflections (Luke 2005, 10.1088/0266-5611/21/1/004).

    ``ψ ← β/2 (R_F R_O + 1) ψ + (1−β) Π_O ψ`` with the reflections ``R = 2 Π − 1``: the overlap constraint comes first,
    as in ptypy, whose ``β = 0.75`` is the default. Unlike the difference map it has fixed points also where noise
    leaves no exit waves that meet both constraints.
    """

    name = "raar"

    class Options(ReflectionOptions):
        """Options of RAAR.

        Args:
            beta: relaxation; 1 is the difference map.

        """

        beta: Annotated[float, Field(gt=0, le=1), Tunable(0.5, 1.0)] = 0.75

    def setup(self) -> None:
        """Set the relaxation."""
        super().setup()
        self.relaxation = self.options.beta
