"""The two controls that stand beside every method: ``initial_guess`` does nothing, ``oracle`` knows the set-up.

They live on the scorer's side. The oracle alone is given the :class:`~ptybench.types.Truth`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ptybench.optics.forward import squared_modulus
from ptybench.solver import Cost, Solver, SolverOptions
from ptybench.types import Estimate, Measurement, Truth

CHUNK = 64  # patterns at a time
KEPT_BYTES = 2**31  # illuminations and waves are kept between steps up to this size, recomputed above it
MEMORY = 8  # steps that the quasi-Newton direction remembers


class InitialGuess(Solver):
    """Control: returns the initial estimate, at no cost."""

    name = "initial_guess"
    refines: ClassVar[frozenset[str]] = frozenset()

    def cost(self) -> Cost:
        """Nothing: saying how wrong the start is does not count."""
        return Cost()

    def epoch(self) -> float:
        """Do nothing but say how wrong the start is."""
        self.converged = True
        error = 0.0
        for k in range(self.model.count):
            _, squared = self.model.modulus_change(self.object[self.model.windows[k]] * self.probe, k)
            error += float(squared)
        return error / self.model.power


class Oracle(Solver):
    """Control: Poisson maximum likelihood on the object alone, everything else true, started at the truth.

    Preconditioned limited-memory quasi-Newton steps on the likelihood of Thibault & Guizar-Sicairos 2012
    (10.1088/1367-2630/14/6/063004), ``L = Σ D − I log D`` with ``D = Σ_m |Ψ_m|² + background``, in complex128, until
    ``L`` changes by less than 1e-7 of itself. A reference, not a bound: a prior or early stopping can beat maximum
    likelihood at low dose.

    Args:
        measurement: the data; nominal values are replaced by true ones.
        truth: the truth.

    """

    name = "oracle"
    refines: ClassVar[frozenset[str]] = frozenset({"object"})
    dtype: ClassVar[torch.dtype] = torch.complex128

    class Options(SolverOptions):
        """Options of the oracle.

        Args:
            tolerance: relative change of ``L`` at which it has converged.

        """

        tolerance: float = 1e-7

    def __init__(
        self,
        measurement: Measurement,
        options: SolverOptions | None = None,
        device: str | torch.device = "cpu",
        seed: int = 0,
        *,
        truth: Truth,
    ) -> None:
        true_start = Estimate(truth.object, truth.probe, truth.positions_px, truth.pixel_size_m, truth.distance_m)
        informed = replace(
            measurement,
            initial=true_start,
            positions_px=truth.positions_px,
            wavelength_m=truth.wavelength_m,
            distance_m=truth.distance_m,
            pixel_size_m=truth.pixel_size_m,
        )
        self.background = truth.background_photons
        super().__init__(informed, options, device, seed)

    def setup(self) -> None:
        """Illuminations, waves of the truth, and the memory of past steps."""
        size = self.model.count * math.prod(self.probe.shape) * 16
        self.kept = size <= KEPT_BYTES
        self.illuminations = (
            [self.model.shifted_probes(self.probe, index) for index in self._chunks()] if self.kept else []
        )
        dose = torch.zeros(self.model.canvas, dtype=self.dtype, device=self.device)
        for i, index in enumerate(self._chunks()):
            self.model.overlap_add(squared_modulus(self._probes(i, index)).sum(1).to(self.dtype), dose, index)
        self.preconditioner = 1 / (dose.real + 1e-3 * dose.real.max())
        self.waves = (
            [self._propagated(self.object, i, index) for i, index in enumerate(self._chunks())] if self.kept else []
        )
        self.history: list[tuple[Tensor, Tensor]] = []
        self.gradient: Tensor | None = None
        self.loss = math.inf

    def epoch(self) -> float:
        """One quasi-Newton step."""
        loss, gradient, error = self._gradient()
        self.converged = abs(self.loss - loss) <= self.options.tolerance * abs(loss)
        if self.gradient is not None:
            self.history[-1] = (self.history[-1][0], gradient - self.gradient)
        self.loss, self.gradient = loss, gradient
        direction = -self._newton_direction(gradient)
        there = [self._propagated(direction, i, index) for i, index in enumerate(self._chunks())] if self.kept else []
        length = self._step_length(direction, there)
        self.object = self.object + length * direction
        for here, change in zip(self.waves, there, strict=True):
            here.add_(change, alpha=length)
        self.history.append((length * direction, gradient))
        del self.history[:-MEMORY]
        return error

    def _newton_direction(self, gradient: Tensor) -> Tensor:
        """``H⁻¹ g`` by the two-loop recursion over the last steps (Nocedal 1980, 10.1090/S0025-5718-1980-0572855-7)."""
        pairs = [(s, y, _inner(s, y)) for s, y in self.history]
        pairs = [(s, y, sy) for s, y, sy in pairs if sy > 0]
        result, weights = gradient.clone(), []
        for s, y, sy in reversed(pairs):
            weights.append(_inner(s, result) / sy)
            result -= weights[-1] * y
        result = result * self.preconditioner
        if pairs:
            _, y, sy = pairs[-1]
            result *= sy / _inner(y, y * self.preconditioner)
        for (s, y, sy), weight in zip(pairs, reversed(weights), strict=True):
            result += (weight - _inner(y, result) / sy) * s
        return result

    def _chunks(self) -> list[slice]:
        return [slice(i, min(i + CHUNK, self.model.count)) for i in range(0, self.model.count, CHUNK)]

    def _probes(self, i: int, index: slice) -> Tensor:
        return self.illuminations[i] if self.kept else self.model.shifted_probes(self.probe, index)

    def _propagated(self, canvas: Tensor, i: int, index: slice) -> Tensor:
        return self.model.forward(self._probes(i, index) * self.model.patches(canvas, index)[:, None], index)

    def _compare(self, waves: Tensor, index: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Expected and measured photons of some patterns, and which pixels are silent (bad or saturated).

        Silent pixels are measured as expected, so that they pull nowhere.
        """
        expected = squared_modulus(waves).sum(1) + (self.background + 1e-9)
        measured = self.model.measured(index)[:, 0].square()
        silent = torch.zeros_like(measured, dtype=torch.bool)
        if self.model.good is not None:
            silent |= self.model.good == 0
        saturation = self.measurement.noise.saturation_photons
        if saturation is not None:
            silent |= measured >= saturation * (1 - 1e-6)
        return expected, torch.where(silent, expected, measured), silent

    def _gradient(self) -> tuple[float, Tensor, float]:
        """``L``, its gradient with respect to ``O*``, and the amplitude error."""
        gradient = torch.zeros_like(self.object)
        loss = error = 0.0
        for i, index in enumerate(self.model.ahead(self._chunks())):
            waves = self.waves[i] if self.kept else self._propagated(self.object, i, index)
            expected, measured, silent = self._compare(waves, index)
            loss += float((expected - torch.xlogy(measured, expected)).masked_fill_(silent, 0).sum())
            error += float((measured.sqrt() - expected.sqrt()).square().sum())
            back = self.model.backward(waves * (1 - measured / expected)[:, None], index)
            self.model.overlap_add((self._probes(i, index).conj() * back).sum(1), gradient, index)
        return loss, gradient, error / self.model.power

    def _step_length(self, direction: Tensor, there: list[Tensor]) -> float:
        """The minimum of the likelihood along a direction, by Newton's method.

        Along it ``D(t) = D + b t + c t²`` with ``b = 2 Re Ψ*Φ`` and ``c = |Φ|²``, so trials need no further transforms.
        """
        length = 0.0
        for _ in range(6):
            slope = curvature = fisher = 0.0
            for i, index in enumerate(self.model.ahead(self._chunks())):
                here = self.waves[i] if self.kept else self._propagated(self.object, i, index)
                change = there[i] if self.kept else self._propagated(direction, i, index)
                expected, measured, silent = self._compare(here, index)
                b = 2 * (here.conj() * change).real.sum(1)
                c = squared_modulus(change).sum(1)
                rate = b + 2 * length * c
                along = expected + length * (b + length * c)
                ratio = (measured / along).masked_fill_(silent, 1)
                bend = 2 * c * (1 - ratio) + rate.square() * ratio / along
                slope += float((rate * (1 - ratio)).sum())
                curvature += float(bend.masked_fill_(silent, 0).sum())
                fisher += float((rate.square() / along).masked_fill_(silent, 0).sum())
            # far from the minimum the likelihood may bend down; the expected curvature never does
            step = -slope / max(curvature, 0.1 * fisher, 1e-300)
            length += step
            if abs(step) <= 1e-2 * abs(length):  # exactness here does not pay
                break
        return length


def _inner(x: Tensor, y: Tensor) -> float:
    return float(torch.vdot(x.reshape(-1), y.reshape(-1)).real)


CONTROLS: dict[str, type[Any]] = {"initial_guess": InitialGuess, "oracle": Oracle}
