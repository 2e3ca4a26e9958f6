"""Full-batch projection methods: exit waves of all patterns between the overlap and the modulus constraint."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import deque
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ptybench.engines.rules import Step
from ptybench.memory import require
from ptybench.native import library
from ptybench.native.projections import Projections
from ptybench.optics.forward import KEPT_BYTES, Windowed, add_overlaps
from ptybench.solver import Solver, SolverOptions, orthogonal_modes
from ptybench.specs import Tunable
from ptybench.types import Estimate, FloatArray


class ProjectionOptions(SolverOptions):
    """Options of every projection method.

    Args:
        probe_start: epochs before the probe is updated.
        inner: rounds of probe and object updates with which an epoch approaches the overlap constraint.
        object_inertia: weight of the old object in its weighted average, in units of the mean intensity of a detector
            pixel; it keeps the object where there is no light.
        probe_inertia: weight of the old probe in its weighted average, for each pattern.
        average: epochs whose objects and probes are averaged into the estimate; ``0`` takes the last one.

    """

    probe_start: Annotated[int, Field(ge=0)] = 0
    inner: Annotated[int, Field(ge=1, le=20)] = 1
    object_inertia: Annotated[float, Field(gt=0), Tunable(1e-4, 10.0, log=True)] = 1e-4
    probe_inertia: Annotated[float, Field(gt=0)] = 1e-9
    average: Annotated[int, Field(ge=0)] = 0


def exit_waves(solver: Solver) -> Tensor:
    """Exit waves of all patterns and modes, ``(J, M, h, w)``, all 0.

    Raises:
        NotEnoughMemory: where the host has no room for them.

    """
    shape = solver.model.count, *solver.probe.shape
    if solver.device.type == "cpu":
        require(math.prod(shape) * solver.dtype.itemsize, f"{solver.name}, which keeps all exit waves,")
    return torch.zeros(shape, dtype=solver.dtype, device=solver.device)


def keep_in_place(waves: Tensor, before: list[tuple[int, int]], after: list[tuple[int, int]]) -> None:
    """Roll ``(K, ..., h, w)`` where windows have moved by whole pixels, so that waves stay where the probe is.

    A position that passes a whole pixel moves the window by it and the probe inside the window back.
    """
    for k, (old, new) in enumerate(zip(before, after, strict=True)):
        if old != new:
            waves[k] = waves[k].roll((old[0] - new[0], old[1] - new[1]), dims=(-2, -1))


class ProjectionSolver(Solver):
    """Exit waves ``ψ_jm`` of all patterns and modes as state, and their projection onto the overlap constraint.

    The overlap constraint asks for one object and one probe, ``ψ_jm = P_m(r − s_j) O_j``. An epoch changes the exit
    waves as its method says (:meth:`advance`), then approaches the nearest such product by weighted averages
    (Thibault et al. 2009, 10.1016/j.ultramic.2008.12.011), the probe before the object:

    ``P_m = (Σ_j O_j* ψ_jm + κ_P P_m) / (Σ_j |O_j|² + κ_P)``, ``O = (Σ_jm P_m* ψ_jm + κ_O O) / (Σ_jm |P_m|² + κ_O)``.

    So object and probe are always those of the overlap constraint. What is kept is the residual ``ψ_jm − P_m O_j``:
    in it both averages are increments, exact at the truth also where positions are fractions of a pixel, and the state
    survives when positions, object or probe are changed from outside.

    The residuals take ``8 J M h w`` bytes for ``J`` patterns of ``h × w`` pixels and ``M`` modes. The probes shifted to
    sub-pixel positions are kept beside them up to 256 MiB and made anew above.

    Attributes:
        base: ``(H, W)`` object before the last average.
        seen: the current object, through the windows of the patterns.

    """

    Options = ProjectionOptions

    def setup(self) -> None:
        """Start with exit waves that are the product of the initial object and probe."""
        self._residual = exit_waves(self)
        self._owed: Tensor | None = None
        self.base = self.object.clone()
        self.chunks = self.model.chunks(len(self._probe))
        self.object_inertia = self.options.object_inertia * self.model.power / self.model.pixels
        self.probe_inertia = self.options.probe_inertia * self.team.count(self.model.count)
        self._kernel: Projections | None = None
        self._recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=self.options.average or None)
        self._lay_out()

    def _lay_out(self) -> None:
        """Make the canvases that patterns look at and add to, at the positions of the model."""
        self.seen, self._pull = self.canvas(self.dtype), self.canvas(self.dtype)
        self._light = self.canvas(self.model.real)
        self._lit = False

    def undivided(self) -> None:
        """Every process has its own exit waves, and the averages are sums."""

    def canvas(self, dtype: torch.dtype) -> Windowed:
        """An empty canvas ``(1, H, W)`` with the windows of all patterns."""
        return Windowed(torch.zeros(1, *self.model.canvas, dtype=dtype, device=self.device), self.model.windows)

    @property
    def probe(self) -> Tensor:
        """The current probe modes ``(M, h, w)``."""
        return self._probe

    @probe.setter
    def probe(self, modes: Tensor) -> None:
        self._probe = modes
        self._shifted: Tensor | None = None
        self._lit = False

    def place(self, positions_px: FloatArray) -> None:
        """Go on with these ``(K, 2)`` positions; the residuals move along with their windows."""
        # what the residuals still owe is owed where the windows were
        corners, states = self.model.corners, self.states()
        super().place(positions_px)
        for waves in states:
            keep_in_place(waves, corners, self.model.corners)
        self.probe = self._probe
        self._lay_out()

    @property
    def residual(self) -> Tensor:
        """``(J, M, h, w)`` difference of the exit waves from the product of the probe and ``base``."""
        if self._owed is not None:
            for chunk in self.chunks:
                moved = self._owed * self.model.patches(self.base, chunk)[:, None]
                self._residual[chunk] -= moved
            self._owed = None
        return self._residual

    def states(self) -> list[Tensor]:
        """Everything of the shape of all exit waves that lasts from epoch to epoch."""
        return [self.residual]

    @abstractmethod
    def advance(self, chunk: slice, probes: Tensor) -> Tensor:
        """Change the residuals of some patterns as the method says, now counted from the current object.

        Args:
            chunk: which patterns.
            probes: the probe as they see it, ``(B, M, h, w)``.

        Returns:
            the squared error of the modulus, summed.

        """

    def stated(self) -> Step:
        """What :meth:`advance` does, for the compiled kernels; methods that they do not know have no statement."""
        raise NotImplementedError

    @torch.inference_mode()
    def epoch(self) -> float:
        """Change all exit waves, then approach the overlap constraint.

        The data error is that of the waves which the method took to the modulus constraint.
        """
        refine_probe = self.refine_probe and self.epochs_done >= self.options.probe_start
        kernel = self._compiled(self.options.inner if refine_probe else 1)
        squared = self._rounds(refine_probe) if kernel is None else self._by_kernel(kernel, refine_probe)
        if self.options.average:
            self._recent.append((self.object.clone(), self._probe.clone()))
        return self.team.total(float(squared)) / self.model.power

    def _rounds(self, refine_probe: bool) -> Tensor:
        """An epoch in torch; the squared error of the modulus."""
        error = torch.zeros((), dtype=self.model.real, device=self.device)
        for rounds in range(self.options.inner if refine_probe else 1):
            self.seen.array.copy_(self.object)
            pull, weight = torch.zeros_like(self._probe), torch.zeros_like(self._probe[:1])
            for chunk in self.model.ahead(self.chunks) if rounds == 0 else self.chunks:
                if rounds == 0:
                    error += self.advance(chunk, self.probes(chunk))
                else:
                    self._count_from_current(chunk)
                if refine_probe:
                    patches = self.seen.at(chunk)
                    conjugate = patches.conj_physical()
                    pull += self.model.shifted_back(conjugate * self.residual[chunk], chunk)
                    weight += conjugate.mul_(patches).sum(dim=0)
            self.base.copy_(self.object)
            self._average_object(self._average_probe(pull, weight.real.clone()) if refine_probe else None)
        return error

    def _compiled(self, rounds: int) -> Projections | None:
        """The compiled kernels for the model as it is now, where they do just what this method does."""
        if rounds > 1 or not library.settled(type(self), "stated", _HOOKS) or not library.able(self.model):
            return None
        self._kernel = Projections.on(self.model, len(self._probe), torch.get_num_threads(), self._kernel)
        return self._kernel

    def _by_kernel(self, kernel: Projections, refine_probe: bool) -> float:
        """An epoch of one round by compiled kernels; the squared error of the modulus."""
        step, shifted = self.stated(), self._kept_probes()
        mirrored = self.mirrored()
        error, pull, weight = kernel.advance(
            step, self._residual, shifted, self.object, mirrored, self._probe, self.base, self._owed, refine_probe
        )
        self.base.copy_(self.object)
        change = self._average_probe(pull, weight) if refine_probe else None
        self._pull.array.zero_()
        light = None if self._lit else self._light.array.zero_()
        kernel.average(step, self._residual, shifted, self.object, self._probe, change, self._pull.array, light)
        # to write all residuals for a probe that has changed would cost a third of the time that memory takes
        self._owed = change if self.model.ramps is None else None
        self._divide()
        return error

    def mirrored(self) -> Tensor:
        """The object ``(H, W)`` in whose product with the probe a method applies the modulus constraint."""
        return self.object

    def _count_from_current(self, chunk: slice) -> None:
        """Count the residuals of some patterns from the current object instead of from ``base``."""
        moved = self.seen.at(chunk) - self.model.patches(self.base, chunk)[:, None]
        self.residual[chunk].addcmul_(self.probes(chunk), moved, value=-1)

    def _average_probe(self, pull: Tensor, weight: Tensor) -> Tensor:
        """Add ``Σ_j O_j* (ψ_jm − P_m O_j) / (Σ_j |O_j|² + κ_P)`` to the probe; return this change."""
        self.team.add_up(pull, weight)
        change = pull / weight.add_(self.probe_inertia)
        self._probe += change
        self._lit = False
        return change

    def _average_object(self, probe_change: Tensor | None) -> None:
        """Add ``Σ_jm P_m* (ψ_jm − P_m O_j) / (Σ_jm |P_m|² + κ_O)`` to the object, after a change of the probe."""
        self._pull.array.zero_()
        if not self._lit:
            self._light.array.zero_()
        for chunk in self.chunks:
            probes = self.probes(chunk) if probe_change is None else self._follow(chunk, probe_change)
            add_overlaps(self._pull, None if self._lit else self._light, probes, self.residual[chunk], chunk)
        self._divide()

    def _divide(self) -> None:
        """Add the sums over all patterns, divided, to the object."""
        self.team.add_up(self._pull.array, None if self._lit else self._light.array)
        if not self._lit:
            self._light.array += self.object_inertia
        self._lit = True
        self.object += (self._pull.array / self._light.array)[0]

    def probes(self, chunk: slice) -> Tensor:
        """The probe as some patterns see it, ``(B, M, h, w)``."""
        kept = self._kept_probes()
        return self.model.shifted_probes(self._probe, chunk) if kept is None else kept[chunk]

    def _kept_probes(self) -> Tensor | None:
        """The probe as every pattern sees it, ``(J, M, h, w)``, where it is kept."""
        if self.model.ramps is None or self._residual.nbytes > KEPT_BYTES:
            return None
        if self._shifted is None:
            self._shifted = torch.empty_like(self._residual)
            for part in self.chunks:
                self._shifted[part] = self.model.shifted_probes(self._probe, part)
        return self._shifted

    def _follow(self, chunk: slice, probe_change: Tensor) -> Tensor:
        """Count the residuals of some patterns from the changed probe; return the probe as they see it now."""
        moved = self.model.shifted_probes(probe_change, chunk)
        self.residual[chunk].addcmul_(moved, self.seen.at(chunk), value=-1)
        if self._shifted is None:
            return self.probes(chunk)
        return self._shifted[chunk].add_(moved)

    def estimate(self) -> Estimate:
        """What has been found so far, averaged where that was asked for."""
        estimate = super().estimate()
        if not self._recent:
            return estimate
        objects, probes = (torch.stack(list(found)).mean(dim=0) for found in zip(*self._recent, strict=True))
        return replace(
            estimate,
            object=objects.cpu().numpy().astype(np.complex64),
            probe=orthogonal_modes(probes.cpu().numpy()).astype(np.complex64),
        )


class ReflectionOptions(ProjectionOptions):
    """Options of the methods that alternate two projections.

    Args:
        fourier_relax: factor ``f`` of the relaxed modulus constraint: a pattern counts as met up to a squared deviation
            of ``f²/4`` times the photons of the strongest pattern, and one beyond is taken to this deviation instead of
            to 0, as in ptypy. Photon noise amounts to ``f = √(pixels / photons)`` where no pixel is nearly empty.

    """

    fourier_relax: Annotated[float, Field(ge=0, le=2), Tunable(0.0, 0.4)] = 0.0


class ReflectionSolver(ProjectionSolver):
    """``ψ ← Π_O ψ + b (Π_F − 1)(Π_O ψ − γ (ψ − Π_O ψ))``: reflect at the overlap by ``γ``, apply the modulus by ``b``.

    With residuals ``δ = ψ − Π_O ψ`` this is ``δ ← b (Π_F − 1)(Π_O ψ − γ δ)``. Written out it is the common form
    ``[(1−a−b) + a Π_O + b Π_F (c Π_O + 1 − c)] ψ`` with ``c = 1 + γ`` and ``a = 1 − b c``; ``(γ, b)`` is ``(α, 1)`` for
    the difference map, ``(1, β)`` for RAAR and ``(0, 1)`` for alternating projections.

    Attributes:
        reflection: ``γ``.
        relaxation: ``b``.

    """

    Options = ReflectionOptions
    reflection = 1.0
    relaxation = 1.0

    def setup(self) -> None:
        """Find the deviation up to which a pattern counts as met."""
        super().setup()
        self.bound = self.options.fourier_relax**2 / 4 * self.model.strongest

    def _lay_out(self) -> None:
        super()._lay_out()
        self._mirrored = self.canvas(self.dtype)

    def stated(self) -> Step:
        """``δ ← b (Π_F − 1)(P O − γ δ)``."""
        return Step(self.reflection, self.relaxation, self.bound)

    def mirrored(self) -> Tensor:
        """``O + γ (O − base)``, as ``P O − γ (ψ − P O) = P (O + γ (O − base)) − γ δ`` where ``ψ = P base + δ``."""
        return torch.add(self.object, self.object - self.base, alpha=self.reflection)

    def _rounds(self, refine_probe: bool) -> Tensor:
        self._mirrored.array[0] = self.mirrored()
        return super()._rounds(refine_probe)

    def advance(self, chunk: slice, probes: Tensor) -> Tensor:
        """``δ ← b (Π_F − 1)(P O − γ δ)``."""
        waves = self._mirrored.waves(probes, chunk, self.residual[chunk], self.reflection)
        change, squared = self.model.modulus_change(waves, chunk)
        if self.bound:
            deviation = torch.view_as_real(change).square().sum(dim=(1, 2, 3, 4))
            change *= (1 - (self.bound / deviation.clamp_min(1e-30)).sqrt().clamp_max(1))[:, None, None, None]
        torch.mul(change, self.relaxation, out=self.residual[chunk])
        return squared


# where none of these is changed, a method is what it states
_HOOKS = ("advance", "probes", "_average_object", "_average_probe", "_follow", "_count_from_current")
