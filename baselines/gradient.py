"""Positions by least squares along the gradient of the object."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ptybench.engines.refinement import PositionOptions, PositionRefinement, views
from ptybench.optics.forward import squared_modulus, total_intensity
from ptybench.specs import Tunable


class Gradient(PositionRefinement):
    """Positions from the gradient of the exit wave (Guizar-Sicairos & Fienup 2008, 10.1364/OE.16.007264).

    The step is that of LSQ-ML (Odstrčil, Menzel & Guizar-Sicairos 2018, 10.1364/OE.26.003108; Dwivedi, Konijnenberg,
    Pereira & Urbach 2018, 10.1016/j.ultramic.2018.04.004), for each axis

        ``Δr_k = Re⟨χ_k, P ∂O_k⟩ / ‖P ∂O_k‖²``,

    with ``χ_k`` the change that the modulus constraint makes to the exit wave; ``−2 Re⟨χ_k, P ∂O_k⟩`` is the gradient
    of the amplitude error. ``∂O`` are central differences, which need no transform and know no noise at the highest
    frequency. Products and norms add up over the probe modes.
    """

    adds = "gradient"
    refines: ClassVar = {"positions"}
    bases = ("epie", "rpie", "lsqml")

    class Options(PositionOptions):
        """Steps along the gradient.

        Args:
            step: share of the least-squares step that is taken.
            clip_px: largest step along an axis, in pixels.

        """

        step: Annotated[float, Field(gt=0, le=5), Tunable(0.3, 3.0, log=True)] = 1.0
        clip_px: Annotated[float, Field(gt=0), Tunable(0.1, 2.0, log=True)] = 0.5

    def moves(self) -> Tensor:
        """The clipped steps, ``(K, 2)``."""
        solver, model, limit = self.solver, self.solver.model, self.options.clip_px
        slopes = [central_difference(solver.object, axis) for axis in (0, 1)]
        steps = []
        for index, probes, patches in views(model, solver.object, solver.probe):
            change, _ = model.modulus_change(probes * patches, index)
            pull = change.mul_(probes.conj_physical()).sum(dim=1)
            light = total_intensity(probes)[:, 0]
            seen = [model.patches(slope, index) for slope in slopes]
            steps.append(torch.stack([least_squares(pull, light, one) for one in seen], dim=-1))
        return torch.cat(steps).mul_(self.options.step).clamp_(-limit, limit)


def least_squares(pull: Tensor, light: Tensor, slope: Tensor) -> Tensor:
    """``Re⟨P*χ, ∂O⟩ / Σ|P|²|∂O|²`` of patterns ``(B, h, w)``, ``(B,)``; 0 where the object is flat."""
    along = (pull * slope.conj_physical()).real.sum(dim=(-2, -1))
    return along / (light * squared_modulus(slope)).sum(dim=(-2, -1)).clamp_min(1e-12)


def central_difference(canvas: Tensor, axis: int) -> Tensor:
    """``(O(r + 1) − O(r − 1)) / 2`` along an axis of ``(H, W)``, 0 at its ends."""
    slope = torch.zeros_like(canvas)
    inner = slope.narrow(axis, 1, canvas.shape[axis] - 2)
    inner += canvas.narrow(axis, 2, canvas.shape[axis] - 2)
    inner -= canvas.narrow(axis, 0, canvas.shape[axis] - 2)
    return slope.div_(2)
