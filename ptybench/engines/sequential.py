"""The PIE family: patterns one after another, or a few at a time, object and probe updated at each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ptybench.optics.forward import ShiftedProbe, largest_power, over_modes
from ptybench.solver import Solver, SolverOptions
from ptybench.types import FloatArray

TINY = 1e-12  # keeps the weight of a window without any object, or of no probe, finite


class SequentialOptions(SolverOptions):
    """Options of every sequential method.

    Args:
        probe_start: epochs before the probe is updated.
        batch: patterns that are updated together, from the same object and probe; 1 is the sequential method.
        overlaps: updates of a batch where its windows overlap: ``mean`` divides each object pixel's by the number of
            windows of the batch that cover it, and the probe's by the batch; ``sum`` adds them up, which takes smaller
            steps to stay stable. For the object, disjoint windows make no difference.

    """

    probe_start: Annotated[int, Field(ge=0)] = 0
    batch: Annotated[int, Field(ge=1)] = 1
    overlaps: Literal["mean", "sum"] = "mean"


class SequentialSolver(Solver):
    """The loop of the PIE family.

    At each pattern, with the change ``Δψ`` of its exit wave that the modulus constraint asks for,
    ``O ← O + Σ_m w_O P_m* Δψ_m`` and ``P_m ← P_m + w_P O* Δψ_m``, both from the object and probe before the visit.
    A member of the family is its two weights, :meth:`object_weight` and :meth:`probe_weight` (the view of Maiden,
    Johnson & Li 2017, 10.1364/OPTICA.4.000736). With several probe modes the constraint is on their summed intensity
    (Thibault & Menzel 2013, 10.1038/nature11806), and so is the object's weight.

    Every field has its modes on axis -3 and may have a batch before it. :meth:`visit` is all that happens at a pattern
    and changes only ``object`` and ``shifted``.
    """

    Options = SequentialOptions

    def setup(self) -> None:
        """Prepare the count of windows and the constants, which as tensors cost less than as numbers."""
        self.threads = 1 if self.options.batch == 1 else 0
        self._cover = torch.zeros(self.model.canvas, dtype=self.model.real, device=self.device)
        self._tiny = self.constant(TINY)

    def constant(self, value: float) -> Tensor:
        """A number as a real tensor on the device."""
        return torch.tensor(value, dtype=self.model.real, device=self.device)

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

    def object_weight(self, power: Tensor, largest: Tensor) -> Tensor:
        """What ``Σ_m P_m* Δψ_m`` is multiplied with.

        Args:
            power: ``Σ_m |P_m|²`` of the shifted probe, ``(..., 1, h, w)``; complex with imaginary part 0.
            largest: its largest value, ``(..., 1, 1, 1)`` or a scalar; real.

        Returns:
            A real tensor that broadcasts with ``power``.

        """
        raise NotImplementedError

    def probe_weight(self, power: Tensor, largest: Tensor) -> Tensor:
        """What ``O* Δψ_m`` is multiplied with; as :meth:`object_weight`, of ``|O|²`` in the window."""
        raise NotImplementedError

    @torch.inference_mode()
    def epoch(self) -> float:
        """Visit every pattern once, in an order that depends on the seed alone."""
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
        self.observe(k, probe, patch[None], change, refine_probe)
        step = over_modes(self.weighted(probe, change, self.object_weight))
        if refine_probe:
            self.shifted.add(self.weighted(patch[None], change, self.probe_weight))
        patch += step[0]
        return squared

    def visit_together(self, index: list[int], refine_probe: bool) -> Tensor:
        """Update object and probe by several patterns; return their squared error."""
        probes = self.shifted.at(index)
        patches = self.model.patches(self.object, index)[:, None]
        change, squared = self.model.modulus_change(probes * patches, index)
        self.observe(index, probes, patches, change, refine_probe)
        mean = self.options.overlaps == "mean"
        if refine_probe:
            steps = self.weighted(patches, change, self.probe_weight)
            self.shifted.add(steps / len(index) if mean else steps)
        moves = over_modes(self.weighted(probes, change, self.object_weight))[:, 0]
        self.model.overlap_add(moves / self._covering(index) if mean else moves, self.object, index)
        return squared

    def observe(self, index: int | list[int], probe: Tensor, patch: Tensor, change: Tensor, refine_probe: bool) -> None:
        """Take note of a visit before its updates; nothing here.

        Args:
            index: the pattern or patterns.
            probe: the shifted modes, ``(..., M, h, w)``.
            patch: the object in the window, ``(..., 1, h, w)``.
            change: ``Δψ``, ``(..., M, h, w)``.
            refine_probe: whether the probe is updated.

        """

    def weighted(self, field: Tensor, change: Tensor, weight: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """``w f* Δψ`` with the weight of the power ``Σ_m |f_m|²``, ``(..., M, h, w)``."""
        conjugate = field.conj_physical()
        power = over_modes(field * conjugate)
        return (conjugate * change).mul_(weight(power, largest_power(power).add_(self._tiny)))

    def _covering(self, index: list[int]) -> Tensor:
        """How many windows of a batch cover each pixel of its patches, ``(B, h, w)``."""
        windows = self.model.windows_of(index)
        for window in windows:
            self._cover[window] += 1
        counts = self.model.patches(self._cover, index)
        for window in windows:
            self._cover[window] = 0
        return counts
