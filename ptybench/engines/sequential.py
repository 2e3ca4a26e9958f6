"""The PIE family: patterns one after another, or a few at a time, object and probe updated at each."""

from __future__ import annotations

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
        """Prepare constants, which cost less as tensors than as numbers."""
        self.threads = 1 if self.options.batch == 1 else 0
        self._laid_out: tuple[Tensor, object] | None = None
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
        self.lay_out()
        if size == 1:
            errors = [self.visit(k, refine_probe) for k in order]
        else:
            batches = [order[i : i + size] for i in range(0, len(order), size)]
            errors = [self.visit_together(batch, refine_probe) for batch in batches]
        return float(torch.stack(errors).sum()) / self.model.power

    def lay_out(self) -> None:
        """Make the views of every window, unless the object and the positions are still those of the last epoch."""
        if (
            self._laid_out is None
            or self._laid_out[0] is not self.object
            or self._laid_out[1] is not self.model.windows
        ):
            self._laid_out = self.object, self.model.windows
            self.seen = Windowed(self.object[None], self.model.windows)
            if self.options.batch > 1:
                self.moves, self.cover = self.canvas(self.dtype), self.canvas(self.model.real)

    def canvas(self, dtype: torch.dtype) -> Windowed:
        """An empty canvas ``(1, H, W)`` with the window of every pattern, ``(1, h, w)`` each."""
        return Windowed(torch.zeros(1, *self.model.canvas, dtype=dtype, device=self.device), self.model.windows)

    def visit(self, k: int, refine_probe: bool) -> Tensor:
        """Update object and probe by one pattern; return its squared error."""
        probe, patch = self.shifted.at(k), self.seen.views[k]
        change, squared = self.exit_change(probe * patch, k)
        step = self.object_step(k, patch, *pulled(probe, change))
        if refine_probe:
            self.shifted.add(self.probe_step(*pulled(patch, change)))
        patch += step
        return squared

    def visit_together(self, index: list[int], refine_probe: bool) -> Tensor:
        """Update object and probe by several patterns; return their squared error."""
        squared = self.model.amplitudes.new_zeros(())
        self.moves.array.zero_()
        turn = torch.zeros_like(self.shifted.held)
        for part in self.model.parts(index, len(turn)):
            probes, patches = self.shifted.at(part), self.seen.at(part)
            change, error = self.exit_change(probes * patches, part)
            squared += error
            self.moves.add(self.object_step(part, patches, *pulled(probes, change)), part)
            if refine_probe:
                turn += self.shifted.gathered(self.probe_step(*pulled(patches, change)))
        mean = self.options.overlaps == "mean"
        self.object.addcmul_(self.moves.array[0], self._share(index) if mean else self._one)
        self.shifted.held.add_(turn, alpha=1 / len(index) if mean else 1)
        return squared

    def exit_change(self, waves: Tensor, index: int | list[int]) -> tuple[Tensor, Tensor]:
        """``Δψ`` of ``P O`` and the squared error of the modulus, summed; the modulus constraint."""
        return self.model.modulus_change(waves, index)

    def object_step(self, index: int | list[int], patch: Tensor, power: Tensor, pull: Tensor) -> Tensor:
        """``w_O Σ_m P_m* Δψ_m``, ``(..., 1, h, w)``.

        Args:
            index: the pattern or patterns.
            patch: the object in their windows, ``(..., 1, h, w)``.
            power: ``Σ_m |P_m|²``, ``(..., 1, h, w)``.
            pull: ``P_m* Δψ_m``, ``(..., M, h, w)``; overwritten.

        """
        return over_modes(pull).mul_(self.object_weight(power, largest_power(power).add_(self._tiny)))

    def probe_step(self, power: Tensor, pull: Tensor) -> Tensor:
        """``w_P O* Δψ_m``, ``(..., M, h, w)``, of ``|O|²`` and ``O* Δψ_m``, which is overwritten."""
        return pull.mul_(self.probe_weight(power, largest_power(power).add_(self._tiny)))

    def _share(self, index: list[int]) -> Tensor:
        """One by the number of windows of a batch that cover a pixel of the object, ``(H, W)``."""
        self.cover.array.zero_()
        for view in self.cover.of(index):
            view.add_(self._one)
        return self.cover.array[0].clamp_min(1).reciprocal_()


def pulled(field: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """``Σ_m |f_m|²`` as a complex tensor ``(..., 1, h, w)``, and ``f* Δψ``, ``(..., M, h, w)``."""
    conjugate = field.conj_physical()
    return over_modes(field * conjugate), conjugate * change
