"""The two controls that stand beside every method: ``initial_guess`` does nothing, ``oracle`` knows the set-up.

They live on the scorer's side. The oracle alone is given the :class:`~ptybench.types.Truth`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ptybench.optics.forward import squared_modulus
from ptybench.solver import Solver, SolverOptions
from ptybench.types import Estimate, Measurement, Truth

CHUNK = 64  # patterns at a time, so that memory stays bounded


class InitialGuess(Solver):
    """Control: returns the initial estimate, at no cost."""

    name = "initial_guess"
    refines: ClassVar[frozenset[str]] = frozenset()

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

    Preconditioned nonlinear conjugate gradients (Polak–Ribière; Thibault & Guizar-Sicairos 2012,
    10.1088/1367-2630/14/6/063004) on ``L = Σ D − I log D`` with ``D = Σ_m |Ψ_m|² + background``, in complex128, until
    ``L`` above its minimum over all ``D`` (half the deviance) changes by less than 1e-7 of itself. A reference, not a
    bound: a prior or early stopping can beat maximum likelihood at low dose.

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
            tolerance: relative change of half the deviance at which it has converged.

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
        """Preconditioner, and the state of the conjugate gradients."""
        illumination = torch.zeros(self.model.canvas, dtype=self.dtype, device=self.device)
        for index in self._chunks():
            probes = self.model.shifted_probes(self.probe, index)
            self.model.overlap_add(squared_modulus(probes).sum(1).to(self.dtype), illumination, index)
        weight = illumination.real
        self.preconditioner = 1 / (weight + 1e-3 * weight.max())
        self.direction: Tensor | None = None
        self.gradient: Tensor | None = None
        self.preconditioned: Tensor | None = None
        self.loss: float | None = None

    def epoch(self) -> float:
        """One conjugate-gradient step."""
        loss, gradient, error = self._gradient(self.object)
        if self.loss is not None and abs(self.loss - loss) <= self.options.tolerance * abs(loss):
            self.converged = True
        self.loss = loss
        preconditioned = gradient * self.preconditioner
        if self.direction is None or self.gradient is None or self.preconditioned is None:
            self.direction = -preconditioned
        else:
            fresh = _inner(preconditioned, gradient - self.gradient)
            beta = max(0.0, fresh / max(_inner(self.preconditioned, self.gradient), 1e-300))
            self.direction = -preconditioned + beta * self.direction
            if _inner(self.direction, gradient) >= 0:
                self.direction = -preconditioned
        self.gradient, self.preconditioned = gradient, preconditioned
        self.object = self.object + self._step_length(self.direction) * self.direction
        return error

    def _chunks(self) -> list[slice]:
        return [slice(i, min(i + CHUNK, self.model.count)) for i in range(0, self.model.count, CHUNK)]

    def _waves(self, canvas: Tensor, index: slice) -> tuple[Tensor, Tensor]:
        probes = self.model.shifted_probes(self.probe, index)
        return probes, self.model.forward(probes * self.model.patches(canvas, index)[:, None])

    def _compare(self, intensity: Tensor, index: slice) -> tuple[Tensor, Tensor]:
        """Expected and measured photons of some patterns; bad and saturated pixels say nothing."""
        expected = intensity + self.background + 1e-9
        measured = self.model.amplitudes[index].square()
        silent = torch.zeros_like(measured, dtype=torch.bool)
        if self.model.good is not None:
            silent |= self.model.good == 0
        saturation = self.measurement.noise.saturation_photons
        if saturation is not None:
            silent |= measured >= saturation * (1 - 1e-6)
        return expected, torch.where(silent, expected.detach(), measured)

    def _gradient(self, canvas: Tensor) -> tuple[float, Tensor, float]:
        """Half the deviance, its gradient with respect to ``O*``, and the amplitude error."""
        gradient = torch.zeros_like(canvas)
        loss = error = 0.0
        for index in self._chunks():
            probes, waves = self._waves(canvas, index)
            expected, measured = self._compare(squared_modulus(waves).sum(1), index)
            loss += float((expected - measured + torch.xlogy(measured, measured / expected)).sum())
            error += float((measured.sqrt() - expected.sqrt()).square().sum())
            back = self.model.backward(waves * (1 - measured / expected)[:, None])
            self.model.overlap_add((probes.conj() * back).sum(1), gradient, index)
        return loss, gradient, error / self.model.power

    def _step_length(self, direction: Tensor) -> float:
        """The minimum of the likelihood along a direction, by Newton's method with a safeguard.

        Along it ``D(t) = a + b t + c t²``, so trials need no further transforms.
        """
        parts = []
        for index in self._chunks():
            _, here = self._waves(self.object, index)
            _, there = self._waves(direction, index)
            a, measured = self._compare(squared_modulus(here).sum(1), index)
            silent = measured == a
            b = 2 * (here.conj() * there).real.sum(1)
            c = squared_modulus(there).sum(1)
            parts.append((a, b.masked_fill(silent, 0), c.masked_fill(silent, 0), measured))
        length = 0.0
        for _ in range(8):
            slope = curvature = 0.0
            for a, b, c, measured in parts:
                expected = a + length * (b + length * c)
                rate = b + 2 * length * c
                ratio = measured / expected
                slope += float((rate * (1 - ratio)).sum())
                # Fisher curvature: positive, and exact where the model fits
                curvature += float((2 * c * (1 - ratio) + rate.square() * ratio / expected).sum().clamp_min(0))
                curvature += 1e-300
            change = -slope / curvature if curvature > 1e-200 else 0.0
            length += change
            if abs(change) <= 1e-6 * max(abs(length), 1e-30):
                break
        return length


def _inner(x: Tensor, y: Tensor) -> float:
    return float(torch.vdot(x.reshape(-1), y.reshape(-1)).real)


CONTROLS: dict[str, type[Any]] = {"initial_guess": InitialGuess, "oracle": Oracle}
