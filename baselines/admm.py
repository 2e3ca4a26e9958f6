"""Alternating direction method of multipliers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ptybench.engines.projection import ProjectionOptions, ProjectionSolver, exit_waves
from ptybench.engines.rules import Step
from ptybench.optics.forward import TINY, total_intensity
from ptybench.specs import Tunable


class ADMM(ProjectionSolver):
    """ADMM for blind ptychography (Chang, Enfedaque & Marchesini 2019, 10.1137/18M1188446).

    Minimises ``Σ G(|z|)`` with ``z_jm = F(P_m O_j)``. Each epoch finds probe and object from the exit waves
    ``F⁻¹(z + Λ)`` by weighted averages, then with ``v = F(P O) − Λ`` takes
    ``z = argmin G(|z|) + β/2 |z − v|²`` and ``Λ ← Λ + z − F(P O)``, which is ``z − v``. ``G`` is ``½ (|z| − √I)²``, or
    ``½ (|z|² − I log |z|²)`` for Poisson statistics; several modes share the modulus ``|z|² = Σ_m |z_m|²``. With
    ``β → 0`` the step on ``z`` becomes the modulus constraint. The multipliers are kept beside the residuals and take
    as much memory.
    """

    name = "admm"
    variants: ClassVar = {"poisson": {"likelihood": "poisson"}}

    class Options(ProjectionOptions):
        """Options of ADMM.

        Args:
            beta: penalty of the difference from the model; large is slow and steady.
            likelihood: ``amplitude`` or ``poisson``.

        """

        beta: Annotated[float, Field(gt=0), Tunable(0.1, 10.0, log=True)] = 1.0
        likelihood: Literal["amplitude", "poisson"] = "amplitude"

    def setup(self) -> None:
        """Start with multipliers of 0."""
        super().setup()
        self.multiplier = exit_waves(self)
        self.prox = poisson_prox if self.options.likelihood == "poisson" else amplitude_prox

    def states(self) -> list[Tensor]:
        """Residuals and multipliers."""
        return [*super().states(), self.multiplier]

    def stated(self) -> Step:
        """The step on ``z`` and ``Λ``."""
        return Step(multiplier=self.multiplier, beta=self.options.beta, poisson=self.prox is poisson_prox)

    def advance(self, chunk: slice, probes: Tensor) -> Tensor:
        """Step on ``z`` and ``Λ``; the residual ``F⁻¹(z + Λ) − P O`` is twice the new multiplier less the old one."""
        before = self.multiplier[chunk]
        wave = self.model.forward(self.seen.waves(probes, chunk, before), chunk).add_(TINY)
        modulus, measured = total_intensity(wave).sqrt_(), self.model.measured(chunk)
        gap, step = measured - modulus, self.prox(modulus, measured, self.options.beta).sub_(modulus)
        if self.model.good is not None:
            gap.mul_(self.model.good)
            step.mul_(self.model.good)
        after = self.model.backward(wave.mul_(step.div_(modulus)), chunk)
        torch.add(after, after - before, out=self.residual[chunk])
        self.multiplier[chunk] = after
        return gap.square_().sum()


def amplitude_prox(modulus: Tensor, measured: Tensor, beta: float) -> Tensor:
    """``argmin_ρ ½ (ρ − √I)² + β/2 (ρ − |v|)² = (√I + β|v|) / (1 + β)``."""
    return (measured + beta * modulus) / (1 + beta)


def poisson_prox(modulus: Tensor, measured: Tensor, beta: float) -> Tensor:
    """``argmin_ρ ½ (ρ² − I log ρ²) + β/2 (ρ − |v|)² = (β|v| + √(β²|v|² + 4 (1+β) I)) / (2 (1+β))``."""
    pull = beta * modulus
    return (pull + (pull.square() + 4 * (1 + beta) * measured.square()).sqrt()) / (2 * (1 + beta))
