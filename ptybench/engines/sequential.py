"""The PIE family: patterns one after another, or a few at a time, object and probe updated at each."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ptybench.optics.forward import ShiftedProbe
from ptybench.solver import Solver, SolverOptions
from ptybench.types import FloatArray


class SequentialOptions(SolverOptions):
    """Options of every sequential method.

    Args:
        probe_start: epochs before the probe is updated.
        batch: patterns that are updated together, from the same object and probe; 1 is the sequential method.
        overlaps: updates of a batch where its windows overlap: ``mean`` divides each object pixel's by the number of
            windows of the batch that cover it, and the probe's by the batch; ``sum`` adds them up, which takes smaller
            steps to stay stable. Disjoint windows make no difference.

    """

    probe_start: Annotated[int, Field(ge=0)] = 0
    batch: Annotated[int, Field(ge=1)] = 1
    overlaps: Literal["mean", "sum"] = "mean"


class SequentialSolver(Solver):
    """The loop of the PIE family.

    A member says how strongly (:meth:`object_step`, :meth:`probe_step`). With several probe modes the constraint is on
    their summed intensity (Thibault & Menzel 2013, 10.1038/nature11806), the object's steps add up over the modes.
    Every field has its modes on axis -3 and may have a batch before it.
    """

    Options = SequentialOptions

    def setup(self) -> None:
        """Hold the probe so that sub-pixel visits are cheap."""
        self.threads = 1 if self.options.batch == 1 else 0
        self._cover = torch.zeros(self.model.canvas, dtype=self.model.real, device=self.device)

    @property
    def probe(self) -> Tensor:
        """The current probe modes ``(M, h, w)``, a new tensor."""
        return self.shifted.modes

    @probe.setter
    def probe(self, modes: Tensor) -> None:
        self.shifted = ShiftedProbe(self.model, modes)

    def place(self, positions_px: FloatArray) -> None:
        """Go on with these ``(K, 2)`` positions."""
        probe = self.probe
        super().place(positions_px)
        self.probe = probe

    def object_step(self, probe: Tensor) -> Tensor:
        """What the exit wave's change is multiplied with for the object, ``(..., M, h, w)``."""
        raise NotImplementedError

    def probe_step(self, patch: Tensor) -> Tensor:
        """What the exit wave's change is multiplied with for the probe, ``(..., 1, h, w)``."""
        raise NotImplementedError

    @torch.inference_mode()
    def epoch(self) -> float:
        """Visit every pattern once; both updates use the object and probe from before the visit."""
        error = self.model.amplitudes.new_zeros(())
        refine_probe = self.refine_probe and self.epochs_done >= self.options.probe_start
        order, size = self.order(), self.options.batch
        if size == 1:
            for k in order:
                error += self.visit(k, refine_probe)
        else:
            for i in range(0, len(order), size):
                error += self.visit_together(order[i : i + size], refine_probe)
        return float(error) / self.model.power

    def visit(self, k: int, refine_probe: bool) -> Tensor:
        """Update object and probe by one pattern; return its squared error."""
        probe = self.shifted.at(k)
        patch = self.object[self.model.windows[k]]
        change, squared = self.model.modulus_change(probe * patch, k)
        object_step = self.object_step(probe)
        if refine_probe:
            self.shifted.add(self.probe_step(patch[None]) * change)
        for mode in range(len(change)):
            patch.addcmul_(object_step[mode], change[mode])
        return squared

    def visit_together(self, index: list[int], refine_probe: bool) -> Tensor:
        """Update object and probe by several patterns; return their squared error."""
        probes = self.shifted.at(index)
        patches = self.model.patches(self.object, index)
        change, squared = self.model.modulus_change(probes * patches[:, None], index)
        moved = (self.object_step(probes) * change).sum(dim=1)
        mean = self.options.overlaps == "mean"
        if refine_probe:
            steps = self.probe_step(patches[:, None]) * change
            self.shifted.add(steps / len(index) if mean else steps)
        self.model.overlap_add(moved / self._covering(index) if mean else moved, self.object, index)
        return squared

    def _covering(self, index: list[int]) -> Tensor:
        """How many windows of a batch cover each pixel of its patches, ``(B, h, w)``."""
        windows = self.model.windows_of(index)
        for window in windows:
            self._cover[window] += 1
        counts = self.model.patches(self._cover, index)
        for window in windows:
            self._cover[window] = 0
        return counts
