"""Epochs of the projection methods, all patterns in one call."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from ptybench.engines.rules import Step
from ptybench.native.library import Kernel, address


class _Projection(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("residual", "multiplier", "shifted", "base", "owed")),
        *((name, ctypes.c_double) for name in ("reflection", "relaxation", "bound", "beta")),
        ("poisson", ctypes.c_int64),
    )


class Projections(Kernel):
    """Both halves of an epoch: the exit waves take their step, then the object is averaged.

    The state is that of :class:`~ptybench.engines.projection.ProjectionSolver`, changed in place. ``shifted``
    ``(K, M, h, w)`` is the probe as each pattern sees it; where it is ``None`` and positions have fractions, the probe
    is shifted anew.
    """

    kind = "projections"

    def advance(
        self, step: Step, residual: Tensor, shifted: Tensor | None, object_: Tensor, mirrored: Tensor, probe: Tensor,
        base: Tensor, owed: Tensor | None, refine_probe: bool,
    ) -> tuple[float, Tensor, Tensor]:  # fmt: skip
        """Change the residuals.

        Args:
            step: what the method does.
            residual: ``(K, M, h, w)``, changed in place.
            shifted: see above.
            object_: ``(H, W)``.
            mirrored: ``(H, W)``, the object as a reflection method sees it.
            probe: ``(M, h, w)``.
            base: ``(H, W)``, the object that the residuals are counted from.
            owed: ``(M, h, w)``, change of the probe that they have yet to be counted from; whole pixels only.
            refine_probe: whether the sums for the probe's average are needed.

        Returns:
            squared error; ``Σ_j O_j* δ_j`` ``(M, h, w)``; ``Σ_j |O_j|²`` ``(h, w)``.

        """
        pull, weight = torch.zeros_like(probe), torch.zeros_like(probe[0], dtype=self.model.real)
        moving, each = self.model.ramps is not None, self.model.count * self.modes
        held = self._held(probe, shifted)
        run = self.function("advance", ctypes.c_double, [ctypes.c_void_p] * 7)
        error: float = run(
            self.address, _described(step, residual, shifted, base, owed), address(object_), address(mirrored),
            address(held), address(pull if refine_probe else None), address(weight),
        )  # fmt: skip
        self.model.ffts += each * (2 * self.model.propagator.ffts + moving * (refine_probe + (shifted is None)))
        if moving and refine_probe:
            pull = torch.fft.ifft2(pull)
            self.model.ffts += self.modes
        return error, pull, weight

    def average(
        self, step: Step, residual: Tensor, shifted: Tensor | None, object_: Tensor, probe: Tensor,
        probe_change: Tensor | None, pull: Tensor, light: Tensor | None,
    ) -> None:  # fmt: skip
        """Add up what the object's average needs, with residuals counted from a changed probe.

        Where positions have fractions the residuals themselves, and ``shifted``, are counted from it; elsewhere they
        owe it, see :meth:`advance`.

        Args:
            step: what the method does.
            residual: ``(K, M, h, w)``, changed in place.
            shifted: see above; changed in place.
            object_: ``(H, W)``.
            probe: ``(M, h, w)``, changed already.
            probe_change: by how much, ``(M, h, w)``; ``None`` where it has not changed.
            pull: ``(H, W)``; ``Σ_jm P_m* δ_jm`` is added.
            light: ``(H, W)`` real; ``Σ_jm |P_m|²`` is added, where it is given.

        """
        moving, each = self.model.ramps is not None, self.model.count * self.modes
        change = probe_change if probe_change is None or not moving else self._spectrum(probe_change)
        held = self._held(probe, shifted)
        run = self.function("average", None, [ctypes.c_void_p] * 7)
        run(
            self.address, _described(step, residual, shifted), address(object_), address(held), address(change),
            address(pull), address(light),
        )  # fmt: skip
        self.model.ffts += each * moving * ((change is not None) + (shifted is None))

    def _held(self, probe: Tensor, shifted: Tensor | None) -> Tensor:
        return self._spectrum(probe) if self.model.ramps is not None and shifted is None else probe

    def _spectrum(self, modes: Tensor) -> Tensor:
        self.model.ffts += self.modes
        spectrum: Tensor = torch.fft.fft2(modes)
        return spectrum


def _described(
    step: Step, residual: Tensor, shifted: Tensor | None, base: Tensor | None = None, owed: Tensor | None = None
) -> object:
    waves = (residual, step.multiplier, shifted, base, owed)
    return ctypes.byref(
        _Projection(*map(address, waves), step.reflection, step.relaxation, step.bound, step.beta, step.poisson)
    )
