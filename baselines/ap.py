"""Alternating projections."""

from __future__ import annotations

from ptybench.engines.projection import ReflectionSolver


class AP(ReflectionSolver):
    """Alternating projections, ``ψ ← Π_F Π_O ψ``."""

    name = "ap"
    reflection = 0.0
