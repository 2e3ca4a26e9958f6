"""Weighted average of sequential projections."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ptybench.engines.sequential import SequentialOptions, SequentialSolver
from ptybench.optics.forward import over_modes, squared_modulus, total_intensity
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

    def object_weight(self, power: Tensor, largest: Tensor) -> Tensor:
        """``1 / (Σ_m|P_m|² + α mean Σ_m|P_m|²)``."""
        intensity = power.real
        mean = intensity.mean(dim=(-2, -1), keepdim=True)
        return torch.add(intensity, mean, alpha=self.options.alpha).reciprocal_()

    def probe_weight(self, power: Tensor, largest: Tensor) -> Tensor:
        """``1 / (|O|² + β)``."""
        return power.real.add(self.options.beta).reciprocal_()

    @torch.inference_mode()
    def epoch(self) -> float:
        """A sequential pass, then the averages over it."""
        self.object_sum = self.windowed(torch.zeros_like(self.object))
        self.object_power = self.windowed(torch.zeros_like(self.object.real))
        self.probe_sum = torch.zeros_like(self.shifted.held)
        self.pulled = torch.zeros_like(self.shifted.held)
        self.probe_power = torch.zeros_like(self.probe_sum[:1].real)
        error = super().epoch()
        self.object = average(self.object_sum.array[0], self.object_power.array[0], self.object)
        if self.probe_power.any():
            self.model.ffts += 2 * len(self.pulled) if self.shifted.moves else 0
            total = self.probe_sum + self.shifted.seen_from(self.pulled)
            self.probe = average(total, self.probe_power, self.shifted.modes)
        return error

    def observe(self, index: int | list[int], probe: Tensor, patch: Tensor, change: Tensor, refine_probe: bool) -> None:
        """Add a visit to the sums."""
        wanted, power = over_modes(probe.conj_physical() * (probe * patch + change)), total_intensity(probe)
        if isinstance(index, int):
            self.object_sum.views[index] += wanted
            self.object_power.views[index] += power
        else:
            self.object_sum.add(wanted, index)
            self.object_power.add(power, index)
        if refine_probe:
            power = squared_modulus(patch)
            power = power if isinstance(index, int) else power.sum(dim=0)
            self.model.ffts += len(self.pulled) if self.shifted.moves else 0
            self.probe_sum.addcmul_(self.shifted.modes, power)
            self.probe_power += power
            self.pulled += self.shifted.gathered(patch.conj_physical() * change)


def average(numerator: Tensor, weight: Tensor, before: Tensor) -> Tensor:
    """``numerator / weight``; ``before`` where there is hardly any weight."""
    keep = KEEP * weight.max()
    return (numerator + keep * before) / (weight + keep)
