"""What refinements of the set-up share: when they run, what the patterns see meanwhile, and how positions move."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ptybench.optics.forward import ForwardModel
from ptybench.solver import Addition
from ptybench.specs import Spec, Tunable
from ptybench.types import FloatArray


class RefinementOptions(Spec):
    """When a refinement runs.

    Args:
        start: epochs before the first refinement.
        every: epochs from one refinement to the next.

    """

    start: Annotated[int, Field(ge=1)] = 1
    every: Annotated[int, Field(ge=1)] = 1


class Refinement(Addition):
    """An addition that refines the set-up by a pass of its own over the patterns, object and probe held still."""

    Options = RefinementOptions

    @torch.inference_mode()
    def after_epoch(self) -> None:
        """Refine where it is time to."""
        late = self.solver.epochs_done + 1 - self.options.start
        if late >= 0 and late % self.options.every == 0:
            self.refine()

    @abstractmethod
    def refine(self) -> None:
        """One pass over the patterns."""


class PositionOptions(RefinementOptions):
    """How positions may move.

    Args:
        affine: whether positions may be scaled, sheared and rotated as a whole. The patterns hardly tell such a map
            from another curvature of the probe, so it drifts; ``held`` trusts the nominal positions there.

    """

    affine: Annotated[Literal["free", "held"], Tunable(choices=("free", "held"))] = "free"


class PositionRefinement(Refinement):
    """A refinement that tells each pattern how far to move.

    The mean of all moves is taken off: a translation of all positions together with the object is a gauge, in the near
    field too. ``model.place`` keeps windows on the canvas, so a position that runs off stops at its edge.
    """

    Options = PositionOptions

    @abstractmethod
    def moves(self) -> Tensor:
        """How far each position should move, ``(K, 2)`` pixels ``(y, x)``."""

    def refine(self) -> None:
        """Move all positions at once."""
        moves = self.moves().cpu().numpy().astype(np.float64)
        if not np.isfinite(moves).all():
            return  # a method that diverges is stopped by its driver
        here, nominal = self.solver.model.positions_px, self.solver.measurement.positions_px
        if self.options.affine == "held":
            there = here + moves
            self.solver.place(there - affine_part(nominal, there - nominal))
        else:
            self.solver.place(here + moves - moves.mean(axis=0))


def affine_part(points: FloatArray, values: FloatArray) -> FloatArray:
    """The affine map of points ``(K, 2)`` nearest to values ``(K, 2)`` in least squares, at those points."""
    design = np.column_stack([points - points.mean(axis=0), np.ones(len(points))])
    fitted: FloatArray = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return fitted


def views(model: ForwardModel, obj: Tensor, probe: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Chunks of patterns: which, the probe ``(B, M, h, w)`` and the object ``(B, 1, h, w)`` that they see."""
    for index in model.ahead(model.chunks(len(probe))):
        yield index, model.shifted_probes(probe, index), model.patches(obj, index)[:, None]


def pattern_errors(model: ForwardModel, obj: Tensor, probe: Tensor) -> Tensor:
    """``Σ (√I_k − |Ψ_k|)²`` of every pattern where the model's positions and distance are now, ``(K,)``."""
    return torch.cat(
        [model.amplitude_errors(probes * patches, index) for index, probes, patches in views(model, obj, probe)]
    )
