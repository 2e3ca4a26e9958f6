"""Weighted average of sequential projections."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ptybench.engines.rules import Rule, Sums
from ptybench.engines.sequential import SequentialOptions, SequentialSolver
from ptybench.optics.forward import over_modes
from ptybench.specs import Tunable

KEEP = 1e-6  # share of the largest weight at which a pixel keeps half of what it was


class WASP(SequentialSolver):
    """Weighted average of sequential projections (Maiden, Mei & Li 2024, 10.1364/OE.516946).

    A sequential pass, ``O ← O + P* Δψ / (|P|² + α mean|P|²)`` and ``P ← P + O* Δψ / (|O|² + β)``, at whose end both
    become the weighted average of what each pattern asked for on the way,
    ``O = Σ P* ψ' / Σ |P|²`` and ``P = Σ O* ψ' / Σ |O|²``. Defaults are those of the authors' code; their ptypy module
    halves the object's step and has ``α = 1``.

    With a shift by a fraction ``T_k`` of a pixel the numerator of the probe is
    ``Σ |O_k|² P + T_k^H[O_k* Δψ_k]``: without a fraction the same, and the truth stays exactly where it is. That takes
    two more transforms a pattern and mode than ePIE.
    """

    name = "wasp"

    class Options(SequentialOptions):
        """Steps of WASP.

        Args:
            alpha: damps the object's step where the probe is dim, relative to the probe's mean intensity.
            beta: damps the probe's step, relative to an object of modulus 1.

        """

        alpha: Annotated[float, Field(gt=0, le=100), Tunable(0.5, 8.0, log=True)] = 2.0
        beta: Annotated[float, Field(gt=0, le=100), Tunable(0.25, 4.0, log=True)] = 1.0

    def rules(self) -> tuple[Rule, Rule]:
        """``1 / (Σ_m|P_m|² + α mean Σ_m|P_m|²)`` and ``1 / (|O|² + β)``."""
        alpha, beta = self.options.alpha, self.options.beta
        return (
            Rule(1 / (1 + alpha), damping=alpha / (1 + alpha), against="mean"),
            Rule(1 / (1 + beta), damping=beta / (1 + beta), against="one"),
        )

    @property
    def sums(self) -> Sums:
        """The sums of the averages."""
        return Sums(self.object_sum.array[0], self.object_power.array[0], self.probe_sum, self.pulled, self.probe_power)

    @torch.inference_mode()
    def epoch(self) -> float:
        """A sequential pass, then the averages over it."""
        self.object_sum, self.object_power = self.canvas(self.dtype), self.canvas(self.dtype)
        self.probe_sum, self.pulled = torch.zeros_like(self.shifted.held), torch.zeros_like(self.shifted.held)
        self.probe_power = torch.zeros_like(self.shifted.held[:1])
        error = super().epoch()
        self.object.copy_(average(self.object_sum.array[0], self.object_power.array[0].real, self.object))
        if self.probe_power.any():
            probe, pulled = self.shifted.modes, self.shifted.seen_from(self.pulled)
            self.probe = average(self.probe_sum + pulled, self.probe_power.real, probe)
            self.model.count_ffts(probe, 3 if self.shifted.moves else 0)
        return error

    def object_step(self, index: int | list[int], patch: Tensor, power: Tensor, pull: Tensor) -> Tensor:
        """``w_O Σ_m P_m* Δψ_m``; adds ``Σ_m P_m* ψ'_m`` and ``Σ_m |P_m|²`` to the sums."""
        self.object_sum.add(torch.addcmul(over_modes(pull), power, patch), index)
        self.object_power.add(power, index)
        return super().object_step(index, patch, power, pull)

    def probe_step(self, power: Tensor, pull: Tensor) -> Tensor:
        """``w_P O* Δψ_m``; adds ``|O|² P_m + T^H[O* Δψ_m]`` and ``|O|²`` to the sums."""
        self.pulled += self.shifted.gathered(pull)
        weight, before = power if power.dim() == 3 else power.sum(dim=0), self.shifted.modes
        self.model.count_ffts(before, 1 if self.shifted.moves else 0)
        self.probe_sum.addcmul_(weight, before)
        self.probe_power += weight
        return super().probe_step(power, pull)


def average(numerator: Tensor, weight: Tensor, before: Tensor) -> Tensor:
    """``numerator / weight``; ``before`` where there is hardly any weight."""
    keep = KEEP * weight.max()
    return (numerator + keep * before) / (weight + keep)
