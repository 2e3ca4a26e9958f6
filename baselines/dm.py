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

    Noise leaves no exit waves that meet both constraints, and then the residuals ``ψ − Π_O ψ`` grow for ever
    (Fannjiang & Zhang 2019, arXiv:1909.08600). ``fourier_relax`` stops them; its default is that of ptypy (Enders &
    Thibault 2016, 10.1098/rspa.2016.0640), the strict constraint of 2009 is 0. Measured after 200 epochs (``dev``,
    seed 1000, ``frc_truth_area``): on ``low_overlap`` 0.26, and 0.09 with 0, which at overlap 0.75 has 0.52 at epoch 30
    and 0.28 at the end; on ``low_dose`` 0.07, as 1e4 photons need more of it, 0.35 with 0.2. ``average`` over
    10 or 50 epochs takes ``noisy_poisson`` (seed 1001) from 0.36 to 0.39 or 0.40.
    """

    name = "dm"

    class Options(ReflectionOptions):
        """Options of the difference map.

        Args:
            alpha: reflection at the overlap constraint; 0 would be alternating projections.

        """

        alpha: Annotated[float, Field(ge=0, le=1), Tunable(0.5, 1.0)] = 1.0
        average: Annotated[int, Field(ge=0), Tunable(choices=(0, 10, 50))] = 0
        fourier_relax: Annotated[float, Field(ge=0, le=2), Tunable(0.0, 0.4)] = 0.05

    def setup(self) -> None:
        """Set the reflection."""
        super().setup()
        self.reflection = self.options.alpha
