"""Least-squares maximum-likelihood ptychography."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ptybench.engines.leastsquares import LeastSquaresSolver
from ptybench.engines.likelihood import FLOOR, STEP_TRIALS, poisson_change
from ptybench.engines.rules import LeastSquaresRule
from ptybench.optics.forward import Index, over_modes, total_intensity
from ptybench.solver import SolverOptions
from ptybench.specs import Tunable

DAMPING = 0.1  # of the diagonal of the least-squares systems, relative to its mean over the batch
TRIMMED = 0.05  # share of a batch's object steps that is left out of their mean at either end


class LSQML(LeastSquaresSolver):
    """Least-squares maximum likelihood (Odstrčil, Menzel & Guizar-Sicairos 2018, 10.1364/OE.26.003108).

    For a batch of patterns at a time, all from the same object and probe, the exit waves should change by ``χ``
    (eq. 19): the full step to the measured amplitudes, or for the Poisson likelihood the most likely step along its
    gradient (eqs. 12, 14 and 16). Object and probe have one direction each,

        ``ΔO = Σ_k P_k* χ_k / √((Σ|P|²)² + (δ max Σ|P|²)²)`` and ``ΔP = Σ_k O_k* χ_k`` (eqs. 24 and 25),

    with ``Σ|P|²`` over the whole scan, and every pattern says by least squares how far it would go along both,

        ``min ‖χ_k - α_k P_k ΔO - β_k O_k ΔP‖²`` (eq. 22).

    Then ``O ← O + s ⟨α⟩ ΔO`` and ``P ← P + s ⟨β⟩ ΔP``. As in the authors' package PtychoShelves, and unlike eqs. 25 and
    27, the probe's direction is not divided by ``Σ|O|²`` and one mean of the steps serves all pixels (for the object
    without the extreme 5 % at either end); the constants are PtychoShelves' too. The steps are real and heed all probe
    modes, so that a unitary mixing of the modes changes nothing; PtychoShelves and Pty-Chi heed the first mode alone
    and divide the object's step by the number of modes. Equations are numbered as the sources of Pty-Chi cite them.
    """

    name = "lsqml"
    variants: ClassVar = {"poisson": {"likelihood": "poisson"}}

    class Options(SolverOptions):
        """Steps of LSQ-ML.

        Args:
            likelihood: of the photons: ``gaussian`` with one variance for all amplitudes, or ``poisson``.
            batch: patterns that are updated together, drawn anew each epoch; 1 goes from pattern to pattern.
            object_scale: share of the least-squares step that the object takes.
            probe_scale: share of the least-squares step that the probe takes.
            damping: of the object where the dose is below this share of its maximum, ``δ``.
            probe_start: epochs before the probe is updated.

        """

        likelihood: Literal["gaussian", "poisson"] = "gaussian"
        batch: Annotated[int, Field(ge=1), Tunable(choices=(1, 8, 32, 128))] = 32
        object_scale: Annotated[float, Field(gt=0, le=2), Tunable(0.3, 1.0)] = 0.9
        probe_scale: Annotated[float, Field(gt=0, le=2), Tunable(0.3, 1.0)] = 0.9
        damping: Annotated[float, Field(gt=0, le=1), Tunable(0.01, 1.0, log=True)] = 0.1
        probe_start: Annotated[int, Field(ge=0)] = 0

    def stated(self) -> LeastSquaresRule:
        """The constants of what happens to a batch."""
        options = self.options
        poisson = options.likelihood == "poisson"
        return LeastSquaresRule(
            options.object_scale, options.probe_scale, DAMPING, TRIMMED, FLOOR, poisson, STEP_TRIALS
        )

    def precondition(self) -> None:
        """Set ``weight`` to ``1 / √(d² + (δ max d)²)`` with the dose ``d = Σ_k |P_k|²`` at whole pixels."""
        dose, intensity = self.weight.array.zero_(), total_intensity(self.probe)
        for view in self.weight.views:
            view.add_(intensity)
        dose.square_().add_(self.options.damping**2 * dose.max()).rsqrt_()

    def wave_change(self, exit_wave: Tensor, index: Index) -> tuple[Tensor, Tensor]:
        """How the exit waves should change, ``χ`` (eq. 19), and the squared amplitude error."""
        if self.options.likelihood == "poisson":
            return poisson_change(self.model, exit_wave, index)
        return self.model.modulus_change(exit_wave, index)

    def visit(self, k: int, refine_probe: bool) -> Tensor:
        """Update object and probe by one pattern: its window alone takes part."""
        probe, patch = self.shifted.at(k), self.seen.views[k]
        change, squared = self.wave_change(probe * patch, k)
        direction = over_modes(probe.conj_physical().mul_(change)).mul_(self.weight.views[k])
        moves = [direction * probe]
        if refine_probe:
            probe_direction = patch.conj_physical() * change
            moves.append(probe_direction * patch)
        steps = least_squares_steps(torch.stack([*moves, change])[None])[0]
        if refine_probe:
            self.shifted.add(probe_direction.mul_(self.options.probe_scale * steps[1]))
        patch += direction.mul_(self.options.object_scale * steps[0])
        return squared

    def visit_together(self, index: list[int], refine_probe: bool) -> Tensor:
        """Update object and probe by several patterns."""
        probes, patches = self.shifted.at(index), self.seen.at(index)
        change, squared = self.wave_change(probes * patches, index)
        self.moves.array.zero_()
        self.moves.add(over_modes(probes.conj_physical().mul_(change)), index)
        self.moves.array.mul_(self.weight.array)
        fields = change.new_empty((len(index), 2 + refine_probe, *change.shape[1:]))
        torch.mul(self.moves.at(index), probes, out=fields[:, 0])
        if refine_probe:
            turn = self.shifted.gathered(patches.conj_physical().mul(change))
            torch.mul(self.shifted.seen(turn), patches, out=fields[:, 1])
        fields[:, -1] = change
        steps = least_squares_steps(fields)
        if refine_probe:
            self.shifted.move(turn, self.options.probe_scale * steps[:, 1].mean())
        self.object.addcmul_(self.moves.array[0], self.options.object_scale * trimmed_mean(steps[:, 0]))
        return squared


def least_squares_steps(fields: Tensor) -> Tensor:
    """Return the steps ``(B, n)`` along ``n`` moves that come nearest to a change, none below 0 (eq. 22).

    Args:
        fields: ``(B, n + 1, M, h, w)``, the ``n`` moves of each exit wave and, last, the change they should make.

    """
    parts = torch.view_as_real(fields).flatten(2)
    products = torch.bmm(parts, parts.mT).double()  # the real parts of all inner products
    system, towards = products[:, :-1, :-1], products[:, :-1, -1:]
    diagonal = system.diagonal(dim1=1, dim2=2)
    diagonal += diagonal.mean(dim=0).mul_(DAMPING).add_(1e-30)  # a move of nothing takes no step
    steps: Tensor = torch.linalg.solve_ex(system, towards).result.squeeze(-1)
    return steps.clamp_min_(0).to(parts.dtype)


def trimmed_mean(values: Tensor) -> Tensor:
    """The mean of a vector without its extremes."""
    out = int(TRIMMED * len(values))
    return values.sort().values[out : len(values) - out].mean()
