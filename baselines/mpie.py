"""Regularised PIE with momentum."""

from __future__ import annotations

from typing import Annotated

import torch
from ptybench.baselines.rpie import RPIE
from pydantic import Field
from torch import Tensor

from ptybench.engines.rules import Rule
from ptybench.engines.sequential import SequentialOptions, batches
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
        self.velocity = torch.zeros_like(self.object)
        self.probe_velocity = torch.zeros_like(self.probe)
        count = self.team.count(self.model.count)
        self.pieces = max(1, count // (self.options.every or max(10, count // 10)))

    def place(self, positions_px: FloatArray) -> None:
        """Go on with these ``(K, 2)`` positions."""
        moved = self.shifted.moves
        super().place(positions_px)
        if moved != self.shifted.moves:
            self.probe_velocity.zero_()  # the velocity of a spectrum is none of the modes themselves

    def rules(self) -> tuple[Rule, Rule]:
        """``γ_O / ((1−α) Σ_m|P_m|² + α max Σ_m|P_m|²)`` and ``γ_P / ((1−β)|O|² + β max|O|²)``."""
        options = self.options
        return Rule(options.gamma_object, damping=options.alpha), Rule(options.gamma_probe, damping=options.beta)

    def visits(self, order: list[int], refine_probe: bool) -> float | Tensor:
        """Visit patterns, with momentum after every piece of them."""
        self.anchor = self.object.clone()
        self.probe_anchor = self.shifted.held.clone()
        squared: float | Tensor = 0.0
        for piece in self.cut(order):
            squared = squared + super().visits(piece, refine_probe)
            self.push(self.object, self.anchor, self.velocity)
            self.push(self.shifted.held, self.probe_anchor, self.probe_velocity)
        return squared

    def cut(self, order: list[int]) -> list[list[int]]:
        """The order in pieces of nearly the same number of patterns, made of whole batches."""
        found: list[list[int]] = [[]]
        visited = 0
        for batch in batches(order, self.options.batch):
            found[-1] += batch
            before = visited * self.pieces // len(order)
            visited += len(batch)
            if visited < len(order) and visited * self.pieces // len(order) > before:
                found.append([])
        return found

    def push(self, field: Tensor, anchor: Tensor, velocity: Tensor) -> None:
        """``v ← η v + (f − f_T)``, ``f ← f + φ v``, ``f_T ← f``."""
        velocity.mul_(self.options.friction).add_(field).sub_(anchor)
        field.add_(velocity, alpha=self.options.feedback)
        anchor.copy_(field)
