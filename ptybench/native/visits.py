"""Visits of the PIE family, many in one call."""

from __future__ import annotations

import ctypes

import numpy as np
from torch import Tensor

from ptybench.engines.rules import Memory, Rule, Sums
from ptybench.native.library import Kernel, address


class _Rule(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_double) for name in ("step", "damping")),
        *((name, ctypes.c_int64) for name in ("trusted", "against")),
    )

    @classmethod
    def of(cls, rule: Rule) -> _Rule:
        return cls(rule.step, rule.damping, rule.trusted, ("largest", "mean", "one").index(rule.against))


class _Memory(ctypes.Structure):
    _fields_ = (("waves", ctypes.c_void_p), ("sigma", ctypes.c_double), ("keep", ctypes.c_double))


class _Sums(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_void_p) for name in Sums._fields), ("go_on", ctypes.c_int64))


_ARGUMENTS = [
    *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 4, *[ctypes.c_void_p] * 2, _Rule, _Rule, _Memory, _Sums
]  # fmt: skip


class Visits(Kernel):
    """Visits to the patterns of a model."""

    kind = "visits"

    def __call__(
        self,
        order: list[int],
        object_: Tensor,
        held: Tensor,
        rules: tuple[Rule, Rule],
        *,
        refine_probe: bool,
        batch: int,
        mean: bool,
        memory: Memory | None,
        sums: Sums | None,
        go_on: bool = False,
    ) -> float:
        """Visit patterns in this order, ``batch`` at a time; change object and held probe; return the squared error.

        Args:
            order: patterns.
            object_: ``(H, W)``, changed in place.
            held: ``(M, h, w)`` as :class:`~ptybench.optics.forward.ShiftedProbe` holds it, changed in place.
            rules: of the object and of the probe.
            refine_probe: whether the probe changes.
            batch: patterns that are updated together.
            mean: whether updates of a batch are averaged or added up.
            memory: exit waves that are remembered.
            sums: overwritten with those of these visits.
            go_on: whether the sums are those of the visits of the call before too.

        """
        index = np.array(order, np.int64)
        remembered = _Memory(None, 0, 1) if memory is None else _Memory(address(memory.waves), *memory[1:])
        visit = self.function("visits", ctypes.c_double, _ARGUMENTS)
        error: float = visit(
            self.address, index.ctypes.data, len(index), batch, mean, refine_probe,
            address(object_), address(held), *(_Rule.of(rule) for rule in rules), remembered,
            _Sums(*map(address, sums or [None] * 5), go_on),
        )  # fmt: skip
        shifts, more = 0, 0
        if self.model.ramps is not None:
            shifts = 1 + refine_probe
            if sums is not None and refine_probe:
                shifts, more = shifts + 1, -(-len(order) // batch)
        self.model.ffts += self.modes * (len(order) * (2 * self.model.propagator.ffts + shifts) + more)
        return error
