"""Semi-implicit relaxed Douglas-Rachford."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ptybench.engines.projection import exit_waves, keep_in_place
from ptybench.engines.rules import Memory, Rule
from ptybench.engines.sequential import SequentialOptions, SequentialSolver
from ptybench.specs import Tunable
from ptybench.types import FloatArray


class SDR(SequentialSolver):
    """Semi-implicit relaxed Douglas-Rachford (Pham, Rana, Miao & Osher 2019, 10.1364/OE.27.031246).

    Sequential like ePIE, but each pattern remembers its exit wave ``ψ``. At a visit ``ψ̂ = (1+σ) P O − σ ψ``, then
    ``ψ ← (1−w) Π_F ψ̂ + w ψ̂ + σ (ψ − P O)``, and with ``Δψ = ψ − P O`` the object takes a proximal (semi-implicit) step
    and the probe an explicit one: ``O ← O + α P* Δψ / (α|P|² + (1−α) max|P|²)``, ``P ← P + β O* Δψ / max|O|²``. The
    weight ``w`` of what the modulus constraint leaves as it was grows with the fourth power of the share of the budget
    that is used, and all numbers are those of the authors' published code, from which this is taken; there the maximum
    of the probe's step is of the object after its update. ``σ = 0`` and ``w = 0`` are a member of the PIE family.

    The authors' ``α = 0.9`` is too bold where the probe is dim, like ``α = 0.1`` of rPIE, and the probe runs away on
    three of the five tasks, without noise too; measured at default points and budgets (``dev``, ``frc_truth_area``):
    0.13 and 0.01 on ``low_overlap`` (seeds 1000 and 1001), 0.28 and 0.01 on ``low_dose``, 0.00 on ``position_jitter``
    (1000); with ``α = 0.5`` 0.40 and 0.65, 0.33 (1001), and 0.25. At overlap 0.75 the default does well.

    The exit waves take ``8 J M h w`` bytes for ``J`` patterns of ``h × w`` pixels and ``M`` modes.
    """

    name = "sdr"

    class Options(SequentialOptions):
        """Options of SDR.

        Args:
            sigma: relaxation of the reflection, ``σ``.
            loose_start: what the modulus constraint leaves at the start of the budget, ``w``.
            loose_end: the same at its end.
            alpha: object step; 1 is fully implicit.
            beta: probe step.

        """

        sigma: Annotated[float, Field(ge=0, le=1), Tunable(0.0, 1.0)] = 0.9
        loose_start: Annotated[float, Field(ge=0, lt=1)] = 0.2
        loose_end: Annotated[float, Field(ge=0, lt=1), Tunable(0.2, 0.8)] = 0.6
        alpha: Annotated[float, Field(gt=0, le=1), Tunable(0.2, 0.95)] = 0.9
        beta: Annotated[float, Field(gt=0, le=2), Tunable(0.02, 1.0, log=True)] = 0.1

    def setup(self) -> None:
        """Remember the exit waves of the initial object and probe."""
        super().setup()
        self.waves, probe = exit_waves(self), self.probe
        for chunk in self.model.chunks(len(probe)):
            probes = self.model.shifted_probes(probe, chunk)
            self.waves[chunk] = probes * self.model.patches(self.object, chunk)[:, None]

    def place(self, positions_px: FloatArray) -> None:
        """Go on with these ``(K, 2)`` positions; the exit waves move along with their windows."""
        corners = self.model.corners
        super().place(positions_px)
        keep_in_place(self.waves, corners, self.model.corners)

    @property
    def loose(self) -> float:
        """``w`` at this share of the budget."""
        start, end = self.options.loose_start, self.options.loose_end
        weight: float = start + (end - start) * self.progress**4
        return weight

    @property
    def memory(self) -> Memory:
        """The exit waves ``ψ``; ``Δψ = ψ − P O``, which by the formulas above is ``(1−w) (Π_F − 1) ψ̂``."""
        return Memory(self.waves, self.options.sigma, keep=1 - self.loose)

    def rules(self) -> tuple[Rule, Rule]:
        """``α / (α Σ_m|P_m|² + (1−α) max Σ_m|P_m|²)`` and ``β / max|O|²``."""
        return Rule(self.options.alpha, damping=1 - self.options.alpha), Rule(self.options.beta, damping=1)
