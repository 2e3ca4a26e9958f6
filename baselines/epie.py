"""Extended ptychographic iterative engine."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ptybench.optics.forward import ShiftedProbe, largest_intensity
from ptybench.solver import Solver, SolverOptions


class SequentialSolver(Solver):
    """The PIE family: patterns one after another, object and probe updated at each.

    A member says how strongly (:meth:`object_step`, :meth:`probe_step`). With several probe modes the constraint is on
    their summed intensity (Thibault & Menzel 2013, 10.1038/nature11806), the object's steps add up over the modes.
    """

    threads = 1

    def setup(self) -> None:
        """Hold the probe so that sub-pixel visits are cheap."""
        self.shifted = ShiftedProbe(self.model, self.initial_probe)

    @property
    def probe(self) -> Tensor:
        """The current probe modes ``(M, h, w)``."""
        return self.shifted.modes

    def object_step(self, probe: Tensor) -> Tensor:
        """What the exit wave's change is multiplied with for the object, ``(M, h, w)``."""
        raise NotImplementedError

    def probe_step(self, patch: Tensor) -> Tensor:
        """What the exit wave's change is multiplied with for the probe, ``(h, w)``."""
        raise NotImplementedError

    @torch.inference_mode()
    def epoch(self) -> float:
        """Visit every pattern once; both updates use the object and probe from before the visit."""
        error = self.model.amplitudes.new_zeros(())
        refine_probe = self.refine_probe and self.epochs_done >= self.options.probe_start
        for k in self.order():
            probe = self.shifted.at(k)
            patch = self.object[self.model.windows[k]]
            change, squared = self.model.modulus_change(probe * patch, k)
            error += squared
            object_step = self.object_step(probe)
            if refine_probe:
                self.shifted.add(self.probe_step(patch) * change)
            for mode in range(len(change)):
                patch.addcmul_(object_step[mode], change[mode])
        return float(error) / self.model.power


class EPIE(SequentialSolver):
    """Extended ptychographic iterative engine (Maiden & Rodenburg 2009, 10.1016/j.ultramic.2009.05.012).

    ``O ← O + α P* Δψ / max|P|²`` and ``P ← P + β O* Δψ / max|O|²``, maxima over the current window; written as in
    Yamada et al. 2024 (10.1107/S1600576724006897, eqs. 18 and 19).
    """

    name = "epie"

    class Options(SolverOptions):
        """Steps of ePIE.

        Args:
            alpha: object step.
            beta: probe step.
            probe_start: epochs before the probe is updated.

        """

        alpha: Annotated[float, Field(gt=0, le=2)] = 1.0
        beta: Annotated[float, Field(gt=0, le=2)] = 1.0
        probe_start: Annotated[int, Field(ge=0)] = 0

    def object_step(self, probe: Tensor) -> Tensor:
        """``α P* / max|P|²`` (eq. 18)."""
        alpha: float = self.options.alpha
        return probe.conj_physical() * (alpha / largest_intensity(probe))

    def probe_step(self, patch: Tensor) -> Tensor:
        """``β O* / max|O|²`` (eq. 19)."""
        beta: float = self.options.beta
        return patch.conj_physical() * (beta / largest_intensity(patch).clamp_min(1e-12))
