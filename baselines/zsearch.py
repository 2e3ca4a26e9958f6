"""The propagation distance of the near field, by search."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ptybench.engines.refinement import Refinement, RefinementOptions, pattern_errors
from ptybench.errors import InvalidOption
from ptybench.optics.forward import NearField, squared_modulus, total_intensity
from ptybench.specs import Tunable

NARROWEST = 0.2  # of the first distance between trials


class DistanceSearch(Refinement):
    """Search of the distance ``z`` on the error or on sharpness.

    Exit waves that explain the patterns at ``z`` explain them at ``z'`` once they are propagated by ``z - z'``, and
    nearly so do the product of an object and a probe that are both propagated. Along this valley the error says which
    distance is right, which it does not while object and probe stay as they are: those were made for ``z``. So a trial
    distance is judged with both propagated to it, by

    * ``error``: the data error ``Σ(√I − |Ψ|)² / ΣI``;
    * ``sharpness``: the total variation of the object, weighed by the dose, which is least in focus (zPIE: Loetgering,
      Du, Eikema & Witte 2020, 10.1364/OL.389492); it costs hardly anything and fits specimens with edges only.

    A parabola through three distances gives the step, and object and probe move along with it. Ours: the valley, the
    parabola (zPIE takes the mean of trial distances weighed by their sharpness, with momentum), and the numbers below.
    """

    adds = "zsearch"
    refines: ClassVar = {"distance"}
    bases = ("epie", "rpie")

    class Options(RefinementOptions):
        """Where and how to search.

        Args:
            start: epochs before the first search.
            every: epochs from one search to the next, in which object and probe settle.
            criterion: what is least at the right distance.
            width: distance between trials, in depths of field ``4 p² / λ`` of the pixel ``p``.
            step: how far to go, in steps to the minimum of the parabola; above 3 it overshoots.
            reach: largest relative change of the nominal distance.

        """

        start: Annotated[int, Field(ge=1)] = 10
        every: Annotated[int, Field(ge=1), Tunable(choices=(2, 5, 10))] = 5
        criterion: Annotated[Literal["error", "sharpness"], Tunable(choices=("error", "sharpness"))] = "error"
        width: Annotated[float, Field(gt=0), Tunable(0.1, 1.0, log=True)] = 0.5
        step: Annotated[float, Field(gt=0, le=5), Tunable(0.5, 3.0)] = 2.0
        reach: Annotated[float, Field(gt=0, lt=1)] = 0.5

    def setup(self) -> None:
        """Start at the nominal distance.

        Raises:
            InvalidOption: in the far field, where the distance is but the size of a pixel.

        """
        m = self.solver.measurement
        if m.propagation != "near_field":
            raise InvalidOption(
                f"zsearch needs a near-field measurement, got {m.propagation}: "
                "in the far field the distance changes the pixel alone"
            )
        assert m.distance_m is not None
        assert m.pixel_size_m is not None
        assert m.wavelength_m is not None
        self.nominal_m = m.distance_m
        self.widest_m = self.options.width * 4 * m.pixel_size_m[0] * m.pixel_size_m[1] / m.wavelength_m
        self.apart_m = self.widest_m

    def refine(self) -> None:
        """Judge three distances and go to the best between or beside them."""
        solver, here, apart = self.solver, self.solver.model.distance_m, self.apart_m
        assert here is not None
        value = self._error if self.options.criterion == "error" else self._variation
        below, at, above = (float(value(*self._moved(shift), here + shift)) for shift in (-apart, 0.0, apart))
        step = apart * lowest(below, at, above)
        there = self._within(here + self.options.step * step)
        solver.object, probe = self._moved(there - here)
        if solver.refine_probe:
            solver.probe = probe
        solver.refocus(there)
        # nearer trials where the lowest point is near, for the valley is no exact parabola
        self.apart_m = min(max(2 * abs(step), apart / 2, NARROWEST * self.widest_m), self.widest_m)

    def _within(self, distance_m: float) -> float:
        """The nearest distance that is within reach of the nominal one."""
        reach: float = self.options.reach
        low, high = sorted((self.nominal_m * (1 - reach), self.nominal_m * (1 + reach)))
        return min(max(distance_m, low), high)

    def _moved(self, shift_m: float) -> tuple[Tensor, Tensor]:
        """Object and probe as they fit a distance that is larger by ``shift_m``; a known probe stays."""
        solver = self.solver
        obj = self._propagated(solver.object, -shift_m)
        return obj, self._propagated(solver.probe, -shift_m) if solver.refine_probe else solver.probe

    def _propagated(self, field: Tensor, distance_m: float) -> Tensor:
        """A field ``(..., h, w)`` at another distance."""
        m, model = self.solver.measurement, self.solver.model
        if distance_m == 0:
            return field
        assert m.pixel_size_m is not None
        assert m.wavelength_m is not None
        shape = field.shape[-2], field.shape[-1]
        model.ffts += NearField.ffts * (field.numel() // (shape[0] * shape[1]))
        return NearField(shape, m.pixel_size_m, m.wavelength_m, distance_m, model.device, field.dtype).forward(field)

    def _error(self, obj: Tensor, probe: Tensor, distance_m: float) -> Tensor:
        """The data error at a distance."""
        self.solver.model.refocus(distance_m)
        return pattern_errors(self.solver.model, obj, probe).sum() / self.solver.model.power

    def _variation(self, obj: Tensor, probe: Tensor, distance_m: float) -> Tensor:
        """``Σ w |∇O| / Σ w`` with the dose ``w = Σ_k |P_k|²``."""
        model = self.solver.model
        light = total_intensity(self.solver.probe)[0]
        dose = torch.zeros(model.canvas, dtype=model.real, device=model.device)
        for window in model.windows:
            dose[window] += light
        down, right = obj[1:, :-1] - obj[:-1, :-1], obj[:-1, 1:] - obj[:-1, :-1]
        steep = (squared_modulus(down) + squared_modulus(right)).sqrt_()
        return (steep * dose[:-1, :-1]).sum() / dose.sum()


def lowest(below: float, at: float, above: float) -> float:
    """Where the parabola through values at -1, 0 and 1 is lowest, within [-1, 1]; the lower end where it has no low."""
    bend = below - 2 * at + above
    if bend > 0:
        return min(max((below - above) / (2 * bend), -1.0), 1.0)
    return 1.0 if above < below else -1.0
