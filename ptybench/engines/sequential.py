"""The PIE family: patterns one after another, or a few at a time, object and probe updated at each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ptybench.optics.forward import ShiftedProbe, Windowed, largest_power, over_modes
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
        self._tiny, self._one = self.constant(TINY).real, self.constant(1).real

    def constant(self, value: float) -> Tensor:
        """A number as a complex tensor on the device, by which complex fields are scaled fastest."""
        return torch.tensor(value, dtype=self.dtype, device=self.device)

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
        refine_probe = self.refine_probe and self.epochs_done >= self.options.probe_start
        order, size = self.order(), self.options.batch
        self.seen = self.windowed(self.object)
        if size == 1:
            errors = [self.visit(k, refine_probe) for k in order]
        else:
            self.moves = self.windowed(torch.zeros_like(self.object))
            self.cover = self.windowed(torch.zeros_like(self.object.real))
            batches = [order[i : i + size] for i in range(0, len(order), size)]
            errors = [self.visit_together(batch, refine_probe) for batch in batches]
        return float(torch.stack(errors).sum()) / self.model.power

    def windowed(self, canvas: Tensor) -> Windowed:
        """The windows of a canvas with an axis of modes, ``(1, h, w)`` each."""
        return Windowed(canvas[None], self.model.windows)

    def visit(self, k: int, refine_probe: bool) -> Tensor:
        """Update object and probe by one pattern; return its squared error."""
        probe, patch = self.shifted.at(k), self.seen.views[k]
        change, squared = self.model.modulus_change(probe * patch, k)
        self.observe(k, probe, patch, change, refine_probe)
        step = over_modes(self.weighted(probe, change, self.object_weight))
        if refine_probe:
            self.shifted.add(self.weighted(patch, change, self.probe_weight))
        patch += step
        return squared

    def visit_together(self, index: list[int], refine_probe: bool) -> Tensor:
        """Update object and probe by several patterns; return their squared error."""
        self.moves.array.zero_()
        pull = torch.zeros_like(self.shifted.held) if refine_probe else None
        squared = self.model.amplitudes.new_zeros(())
        for part in self.model.parts(index, len(self.shifted.held)):
            probes, patches = self.shifted.at(part), self.seen.at(part)
            change, error = self.model.modulus_change(probes * patches, part)
            squared += error
            self.observe(part, probes, patches, change, refine_probe)
            if pull is not None:
                pull += self.shifted.gathered(self.weighted(patches, change, self.probe_weight))
            self.moves.add(over_modes(self.weighted(probes, change, self.object_weight)), part)
        mean = self.options.overlaps == "mean"
        self.object.addcmul_(self.moves.array[0], self._share(index) if mean else self._one)
        if pull is not None:
            self.shifted.held.add_(pull, alpha=1 / len(index) if mean else 1)
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

    def _share(self, index: list[int]) -> Tensor:
        """One by the number of windows of a batch that cover a pixel of the object, ``(H, W)``."""
        self.cover.array.zero_()
        for view in self.cover.of(index):
            view.add_(self._one)
        return self.cover.array[0].clamp_min(1).reciprocal_()
