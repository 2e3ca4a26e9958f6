"""The PIE family: patterns one after another, or a few at a time, object and probe updated at each."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ptybench.engines.rules import TINY_POWER, Memory, Rule, Sums
from ptybench.native import library
from ptybench.native.visits import Visits
from ptybench.optics.forward import ShiftedProbe, Windowed, largest_power, over_modes
from ptybench.solver import Solver, SolverOptions
from ptybench.types import FloatArray


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
    A member of the family is its two weights, which most state as a pair of :class:`Rule` in :meth:`rules` (the view of
    Maiden, Johnson & Li 2017, 10.1364/OPTICA.4.000736), others by :meth:`object_weight` and :meth:`probe_weight`. With
    several probe modes the constraint is on their summed intensity (Thibault & Menzel 2013, 10.1038/nature11806), and
    so is the object's weight.

    Every field has its modes on axis -3 and may have a batch before it. :meth:`visit` is all that happens at a pattern
    and changes only ``object``, ``shifted`` and what is in ``memory``. Where a member leaves all that happens at a
    pattern as it is here, compiled kernels do the same for many patterns in one call.
    """

    Options = SequentialOptions
    statement: ClassVar[str] = "rules"  # the method that tells a kernel all it needs to know

    def setup(self) -> None:
        """Prepare constants, which cost less as tensors than as numbers."""
        self._kernel: library.Kernel | None = None
        self.threads = 1 if self.options.batch == 1 else 0
        self._laid_out: tuple[Tensor, object] | None = None
        self._tiny, self._one = self.constant(TINY_POWER).real, self.constant(1).real

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

    @property
    def memory(self) -> Memory | None:
        """The exit waves that a method remembers from visit to visit, see :meth:`exit_change`; none in most."""
        return None

    @property
    def sums(self) -> Sums | None:
        """What all patterns ask for, where a method needs its sums; none in most."""
        return None

    def rules(self) -> tuple[Rule, Rule]:
        """What ``Σ_m P_m* Δψ_m`` and ``O* Δψ_m`` are multiplied with, of ``Σ_m |P_m|²`` and ``|O|²``."""
        raise NotImplementedError

    def object_weight(self, power: Tensor, largest: Tensor) -> Tensor:
        """What ``Σ_m P_m* Δψ_m`` is multiplied with; unless overridden, as :meth:`rules` says.

        Args:
            power: ``Σ_m |P_m|²`` of the shifted probe, ``(..., 1, h, w)``; complex with imaginary part 0.
            largest: its largest value, ``(..., 1, 1, 1)`` or a scalar; real.

        Returns:
            A real tensor that broadcasts with ``power``.

        """
        return weight(self.rules()[0], power, largest)

    def probe_weight(self, power: Tensor, largest: Tensor) -> Tensor:
        """What ``O* Δψ_m`` is multiplied with; as :meth:`object_weight`, of ``|O|²`` in the window."""
        return weight(self.rules()[1], power, largest)

    @torch.inference_mode()
    def epoch(self) -> float:
        """Visit every pattern once, in an order that depends on the seed alone."""
        refine_probe = self.refine_probe and self.epochs_done >= self.options.probe_start
        return float(self.visits(self.order(), refine_probe)) / self.model.power

    def visits(self, order: list[int], refine_probe: bool) -> float | Tensor:
        """Visit these patterns in their order, a batch at a time; return their squared error."""
        if library.able(self.model) and library.settled(type(self), self.statement, _HOOKS):
            threads = 1 if self.options.batch == 1 else torch.get_num_threads()
            return self.by_kernel(order, refine_probe, threads)
        self.lay_out()
        size = self.options.batch
        if size == 1:
            errors = [self.visit(k, refine_probe) for k in order]
        else:
            errors = [self.visit_together(batch, refine_probe) for batch in batches(order, size)]
        return torch.stack(errors).sum()

    def by_kernel(self, order: list[int], refine_probe: bool, threads: int) -> float:
        """What :meth:`visits` does, by compiled kernels."""
        self._kernel = kernel = Visits.on(self.model, len(self.shifted.held), threads, self._kernel)
        return kernel(
            order,
            self.object,
            self.shifted.held,
            self.rules(),
            refine_probe=refine_probe,
            batch=self.options.batch,
            mean=self.options.overlaps == "mean",
            memory=self.memory,
            sums=self.sums,
        )

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
        """``Δψ`` of ``P O`` and the squared error of the modulus, summed; the modulus constraint.

        With a :attr:`memory` of ``ψ`` the constraint is applied to ``ψ̂ = (1+σ) P O − σ ψ``, its change times ``keep``
        is ``Δψ``, and ``ψ ← P O + Δψ``.
        """
        if (memory := self.memory) is None:
            return self.model.modulus_change(waves, index)
        remembered, sigma, keep = memory
        change, squared = self.model.modulus_change(torch.lerp(waves, remembered[index], -sigma), index)
        remembered[index] = waves + change.mul_(keep)
        return change, squared

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


# where none of these is changed, a method is its rules and its memory
_HOOKS = (
    *("visit", "visit_together", "exit_change", "object_step", "probe_step", "object_weight", "probe_weight"),
    *("wave_change", "precondition"),
)


def batches(order: list[int], size: int) -> list[list[int]]:
    """Patterns in pieces of a size; the last may be smaller."""
    return [order[i : i + size] for i in range(0, len(order), size)]


def weight(rule: Rule, power: Tensor, largest: Tensor) -> Tensor:
    """What a rule says of a power, complex with imaginary part 0, and its largest value."""
    if rule.against == "largest" and rule.damping == 1 and not rule.trusted:
        return rule.step / largest
    intensity, reference = power.real, largest
    if rule.against == "mean":
        reference = intensity.mean(dim=(-2, -1), keepdim=True)
    elif rule.against == "one":
        reference = torch.ones_like(largest)
    found = torch.lerp(intensity, reference, rule.damping).reciprocal_().mul_(rule.step)
    return found.mul_((intensity / reference).sqrt_()) if rule.trusted else found


def pulled(field: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """``Σ_m |f_m|²`` as a complex tensor ``(..., 1, h, w)``, and ``f* Δψ``, ``(..., M, h, w)``."""
    conjugate = field.conj_physical()
    return over_modes(field * conjugate), conjugate * change
