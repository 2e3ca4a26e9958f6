"""Positions by random trials whose reach decays."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from ptybench.engines.refinement import Refinement, RefinementOptions, pattern_errors
from ptybench.seeds import named_rng
from ptybench.specs import Tunable


class Annealing(Refinement):
    """Annealing (Maiden, Humphry, Sarahan, Kraus & Rodenburg 2012, 10.1016/j.ultramic.2012.06.001).

    Each pattern tries random places around its own and goes wherever ``Σ(√I − |Ψ|)²`` is smaller with the object and
    probe as they are. Trial shifts are even in a square whose half-width falls linearly to zero at the end of the
    budget. Nothing else moves a position, so a pass never raises the error; the mean shift therefore stays, which is a
    gauge, and the object holds it.
    """

    adds = "annealing"
    refines: ClassVar = {"positions"}
    bases = ("epie", "rpie")

    class Options(RefinementOptions):
        """Size and number of the trials.

        Args:
            amplitude: largest first shift along an axis, in declared standard deviations of the positions' error; in
                pixels where none is declared.
            trials: places that each pattern tries in one pass.
            every: epochs from one pass to the next.

        """

        every: Annotated[int, Field(ge=1)] = 2
        amplitude: Annotated[float, Field(gt=0), Tunable(0.25, 2.0, log=True)] = 1.0
        trials: Annotated[int, Field(ge=1), Tunable(choices=(1, 2, 4, 8))] = 4

    def setup(self) -> None:
        """Random numbers of its own, so that the method visits the patterns as it would without."""
        self.rng = named_rng("annealing", self.solver.generator.initial_seed())
        self.largest_px = self.options.amplitude * (self.solver.measurement.position_error_px or 1.0)

    def refine(self) -> None:
        """Try, and keep what fits better."""
        solver, model = self.solver, self.solver.model
        obj, probe = solver.object, solver.probe
        reach = self.largest_px * (1 - solver.progress)
        best, least = model.positions_px.copy(), pattern_errors(model, obj, probe)
        for _ in range(self.options.trials):
            model.place(best + self.rng.uniform(-reach, reach, best.shape))
            error = pattern_errors(model, obj, probe)
            better = (error < least).cpu().numpy()
            best[better] = model.positions_px[better]
            least = torch.minimum(error, least)
        solver.place(np.ascontiguousarray(best))
