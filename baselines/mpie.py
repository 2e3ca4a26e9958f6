"""Regularised PIE with momentum."""

from __future__ import annotations

from typing import Annotated

import torch
from ptybench.baselines.rpie import RPIE, regularised
from pydantic import Field
from torch import Tensor

from ptybench.engines.sequential import SequentialOptions
from ptybench.specs import Tunable
from ptybench.types import FloatArray


class MPIE(RPIE):
    """PIE with momentum (Maiden, Johnson & Li 2017, 10.1364/OPTICA.4.000736).

    Steps of rPIE, ``O ← O + γ_O P* Δψ / ((1−α)|P|² + α max|P|²)`` and likewise the probe; after every ``T`` of them
    ``v ← η v + (O − O_T)``, ``O ← O + φ v`` and ``O_T ← O``, the same for the probe, where ``O_T`` is the object as it
    was after the last such step. Feedback ``φ = 0`` and ``γ = 1`` are rPIE. In the paper ``φ = η``; two numbers, and
    all values here, are those of PtyLab (Loetgering et al. 2023, 10.1364/OE.485370), which draws by chance after which
    patterns the velocity is added, one in 20. They fit noise on ``low_dose`` at 1e3 photons, where the complex error
    goes from 0.26 after 20 epochs to 0.87 after 200 (one seed of ``dev``); ``β = 5`` keeps it at 0.26.
    """

    name = "mpie"

    class Options(SequentialOptions):
        """Steps, regularisation and momentum of mPIE.

        Args:
            alpha: object regularisation; small is bold where the probe is dim.
            beta: probe regularisation; above 1 merely damps.
            gamma_object: object step ``γ_O``.
            gamma_probe: probe step ``γ_P``.
            friction: what the velocity keeps, ``η``; 0 forgets it.
            feedback: how much of the velocity is added, ``φ``; 0 is no momentum.
            every: patterns between two additions of momentum, ``T``; an epoch is cut evenly into as many such pieces
                as it holds, at least one. ``0`` is a tenth of the patterns, at least 10.

        """

        alpha: Annotated[float, Field(gt=0, le=5), Tunable(0.05, 0.25)] = 0.1
        beta: Annotated[float, Field(gt=0, le=5), Tunable(0.1, 5.0, log=True)] = 0.1
        gamma_object: Annotated[float, Field(gt=0, le=2)] = 0.25
        gamma_probe: Annotated[float, Field(gt=0, le=2)] = 0.25
        friction: Annotated[float, Field(ge=0, lt=1), Tunable(0.5, 0.9)] = 0.7
        feedback: Annotated[float, Field(ge=0, lt=1), Tunable(0.1, 0.9)] = 0.3
        every: Annotated[int, Field(ge=0)] = 0

    def setup(self) -> None:
        """Begin at rest."""
        super().setup()
        self.gamma_object = self.constant(self.options.gamma_object).real
        self.gamma_probe = self.constant(self.options.gamma_probe).real
        self.velocity = torch.zeros_like(self.object)
        self.probe_velocity = torch.zeros_like(self.probe)
        count = self.model.count
        self.pieces = max(1, count // (self.options.every or max(10, count // 10)))

    def place(self, positions_px: FloatArray) -> None:
        """Go on with these ``(K, 2)`` positions."""
        moved = self.shifted.moves
        super().place(positions_px)
        if moved != self.shifted.moves:
            self.probe_velocity.zero_()  # the velocity of a spectrum is none of the modes themselves

    def object_weight(self, power: Tensor, largest: Tensor) -> Tensor:
        """``γ_O / ((1−α) Σ_m|P_m|² + α max Σ_m|P_m|²)``."""
        return regularised(power, largest, self.options.alpha).mul_(self.gamma_object)

    def probe_weight(self, power: Tensor, largest: Tensor) -> Tensor:
        """``γ_P / ((1−β)|O|² + β max|O|²)``."""
        return regularised(power, largest, self.options.beta).mul_(self.gamma_probe)

    @torch.inference_mode()
    def epoch(self) -> float:
        """Visit every pattern once, with momentum in between."""
        self.visited = 0
        self.anchor = self.object.clone()
        self.probe_anchor = self.shifted.held.clone()
        return super().epoch()

    def visit(self, k: int, refine_probe: bool) -> Tensor:
        """Update object and probe by one pattern; return its squared error."""
        squared = super().visit(k, refine_probe)
        self.count(1)
        return squared

    def visit_together(self, index: list[int], refine_probe: bool) -> Tensor:
        """Update object and probe by several patterns; return their squared error."""
        squared = super().visit_together(index, refine_probe)
        self.count(len(index))
        return squared

    def count(self, patterns: int) -> None:
        """Add momentum when these patterns end a piece of the epoch."""
        before = self.visited * self.pieces // self.model.count
        self.visited += patterns
        if self.visited * self.pieces // self.model.count > before:
            self.push(self.object, self.anchor, self.velocity)
            self.push(self.shifted.held, self.probe_anchor, self.probe_velocity)

    def push(self, field: Tensor, anchor: Tensor, velocity: Tensor) -> None:
        """``v ← η v + (f − f_T)``, ``f ← f + φ v``, ``f_T ← f``."""
        velocity.mul_(self.options.friction).add_(field).sub_(anchor)
        field.add_(velocity, alpha=self.options.feedback)
        anchor.copy_(field)
