"""Batches of LSQ-ML, an epoch in one call."""

from __future__ import annotations

import ctypes

import numpy as np
from torch import Tensor

from ptybench.engines.rules import LeastSquaresRule
from ptybench.native.library import Kernel, address


class _How(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_double) for name in ("object_scale", "probe_scale", "damping", "trimmed", "floor")),
        *((name, ctypes.c_int64) for name in ("poisson", "trials")),
    )


_ARGUMENTS = [*[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, *[ctypes.c_void_p] * 3, _How]


class LeastSquares(Kernel):
    """Batches of patterns that take their least-squares steps together."""

    kind = "leastsquares"

    def __call__(
        self,
        order: list[int],
        object_: Tensor,
        held: Tensor,
        weight: Tensor,
        rule: LeastSquaresRule,
        *,
        refine_probe: bool,
        batch: int,
    ) -> float:
        """Visit patterns in this order, ``batch`` at a time; change object and held probe; return the squared error.

        Args:
            order: patterns.
            object_: ``(H, W)``, changed in place.
            held: ``(M, h, w)`` as :class:`~ptybench.optics.forward.ShiftedProbe` holds it, changed in place.
            weight: ``(H, W)`` real, by which the object's direction is multiplied.
            rule: the constants of the method.
            refine_probe: whether the probe changes.
            batch: patterns that are updated together.

        """
        index = np.array(order, np.int64)
        run = self.function("batches", ctypes.c_double, _ARGUMENTS)
        error: float = run(
            self.address, index.ctypes.data, len(index), batch, refine_probe,
            address(object_), address(held), address(weight), _How(*rule),
        )  # fmt: skip
        shifts = 0 if self.model.ramps is None else 1 + 2 * refine_probe
        self.model.ffts += len(order) * self.modes * (2 * self.model.propagator.ffts + shifts)
        return error
