"""Difference map."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ptybench.engines.projection import ReflectionOptions, ReflectionSolver
from ptybench.specs import Tunable


class DM(ReflectionSolver):
    """Difference map (Thibault et al. 2009, 10.1016/j.ultramic.2008.12.011).

    ``ψ ← ψ + Π_F(2 Π_O ψ − ψ) − Π_O ψ``; with an ``α`` below 1, which leads over to alternating projections,
    ``ψ ← α (ψ − Π_O ψ) + Π_F((1+α) Π_O ψ − α ψ)``.
    """

    name = "dm"

    class Options(ReflectionOptions):
        """Options of the difference map.

        Args:
            alpha: reflection at the overlap constraint; 0 would be alternating projections.

        """

        alpha: Annotated[float, Field(ge=0, le=1), Tunable(0.5, 1.0)] = 1.0
        fourier_relax: Annotated[float, Field(ge=0, le=2), Tunable(0.0, 0.4)] = 0.05

    def setup(self) -> None:
        """Set the reflection."""
        super().setup()
        self.reflection = self.options.alpha
