"""Plug-and-play ptychography: ePIE with a denoising network in its iteration."""

from __future__ import annotations

from typing import Annotated

from ptybench.baselines.epie import EPIE
from pydantic import Field

from ptybench.engines.denoising import Denoising, DenoisingOptions
from ptybench.solver import Cost
from ptybench.specs import Tunable


class PINE(EPIE):
    """PINE (Yamada, Akaishi, Yatabe & Takayama 2024, 10.1107/S1600576724006897, algorithm 1).

    An epoch of ePIE (eqs. 18 and 19), then ``O ← (1−ρ) O + ρ D(O)`` with ``D(O) = D(Re O) + i D(Im O)`` (eqs. 22 to
    24). The steps are the paper's for simulated low-dose data; for high dose it took 0.8 and 0.5. With ``rho = 0`` it
    is ePIE; ``epie+dncnn`` is the same by another name.
    """

    name = "pine"

    class Options(DenoisingOptions, EPIE.Options):
        """Steps of ePIE, and how the object is denoised.

        Args:
            alpha: object step.
            beta: probe step.

        """

        alpha: Annotated[float, Field(gt=0, le=2), Tunable(0.1, 1.0)] = 0.5
        beta: Annotated[float, Field(gt=0, le=2), Tunable(0.1, 1.0)] = 0.1

    def setup(self) -> None:
        """Load the denoiser."""
        super().setup()
        self.denoising = Denoising(self, self.options)

    def epoch(self) -> float:
        """An epoch of ePIE, and the step towards what the denoiser makes of its object."""
        error = super().epoch()
        self.denoising.step(self.epochs_done + 1, error)
        return error

    def cost(self) -> Cost:
        """That of ePIE, and the network's."""
        spent = super().cost()
        return Cost(spent.ffts, spent.network_evaluations + self.denoising.denoiser.evaluations)
