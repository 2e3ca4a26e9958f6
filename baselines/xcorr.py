"""Positions by cross-correlation of the object before and after its update."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ptybench.engines.refinement import PositionOptions, PositionRefinement, views
from ptybench.optics.forward import total_intensity
from ptybench.specs import Tunable
from ptybench.types import FloatArray

REACH_PX = 1.0  # the largest shift between a patch before and after; a single update moves it by much less
UPSAMPLING = 8  # of the correlation's grid; a parabola through its peak does the rest
ALIKE = 0.3  # correlation of successive shifts above which the feedback grows, and below whose negative it shrinks
GROWTH = 1.1


class CrossCorrelation(PositionRefinement):
    """Serial cross-correlation (Zhang et al. 2013, 10.1364/OE.21.013592).

    Where the position of pattern ``k`` is wrong, its update ``O' = O_k + P* χ_k / max|P|²`` pulls the object towards a
    shifted place. The shift ``e_k`` that correlates ``O'(r)`` best with ``O_k(r + e_k)`` inside the illuminated region
    is far too small, because the update is partial, and is fed back strongly: ``r_k ← r_k + β e_k``. For each axis
    ``β`` grows by 10 % where the shifts of all patterns correlate with those of the pass before, and shrinks by as much
    where they alternate.

    The correlation is sampled by a matrix Fourier transform around zero (Guizar-Sicairos, Thurman & Fienup 2008,
    10.1364/OL.33.000156). Ours: each patch is taken without its mean, else the rim of the illuminated region pins the
    peak to zero (``β`` then has to reach 30 to 60, and the positions of ``position_jitter`` end half as good); the
    limit of a step.
    """

    adds = "xcorr"
    refines: ClassVar = {"positions"}
    bases = ("epie", "rpie")

    class Options(PositionOptions):
        """Feedback of the shifts.

        Args:
            beta: feedback at the start.
            clip_px: largest step along an axis, in pixels.
            threshold: edge of the illuminated region, as a share of the probe's largest amplitude.

        """

        beta: Annotated[float, Field(gt=0), Tunable(1.0, 100.0, log=True)] = 10.0
        clip_px: Annotated[float, Field(gt=0), Tunable(0.1, 2.0, log=True)] = 1.0
        threshold: Annotated[float, Field(ge=0, lt=1)] = 0.1

    def setup(self) -> None:
        """Start with one feedback for both axes."""
        self.beta: FloatArray = np.full(2, self.options.beta)
        self._last: FloatArray | None = None

    def moves(self) -> Tensor:
        """The shifts fed back and clipped, ``(K, 2)``."""
        shifts = self._shifts()
        self._adapt(shifts.cpu().numpy().astype(np.float64))
        beta = torch.as_tensor(self.beta, dtype=shifts.dtype, device=shifts.device)
        return (shifts * beta).clamp_(-self.options.clip_px, self.options.clip_px)

    def _shifts(self) -> Tensor:
        """``e_k`` of every pattern, ``(K, 2)``."""
        solver, model = self.solver, self.solver.model
        found = []
        for index, probes, patches in views(model, solver.object, solver.probe):
            change, _ = model.modulus_change(probes * patches, index)
            light = total_intensity(probes)[:, 0]
            brightest = light.amax(dim=(-2, -1), keepdim=True)
            region = (light > self.options.threshold**2 * brightest).to(light.dtype)
            before = patches[:, 0]
            after = before + change.mul_(probes.conj_physical()).sum(dim=1) / brightest
            mean = (before * region).sum(dim=(-2, -1), keepdim=True) / region.sum(dim=(-2, -1), keepdim=True)
            found.append(shifts_between((before - mean) * region, (after - mean) * region))
            model.ffts += 2 * len(before)
        return torch.cat(found)

    def _adapt(self, shifts: FloatArray) -> None:
        """Change the feedback of an axis by how alike the shifts ``(K, 2)`` of two passes are."""
        last, self._last = self._last, shifts
        if last is None:
            return
        for axis in (0, 1):
            alike = correlation(shifts[:, axis], last[:, axis])
            if abs(alike) > ALIKE:
                self.beta[axis] *= GROWTH if alike > 0 else 1 / GROWTH


def correlation(a: FloatArray, b: FloatArray) -> float:
    """Pearson's correlation of two lists; 0 where one is constant."""
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm > 0 else 0.0


def shifts_between(before: Tensor, after: Tensor) -> Tensor:
    """Shifts ``e`` of at most ``REACH_PX`` along an axis for which ``after(r)`` is most like ``before(r + e)``.

    The peak of ``|Σ_r before(r + e) after*(r)|`` on a grid of ``1 / UPSAMPLING`` pixel, then of a parabola along each
    axis through its neighbours.

    Args:
        before: patches ``(B, h, w)``.
        after: patches ``(B, h, w)``.

    Returns:
        ``(B, 2)`` pixels ``(y, x)``.

    """
    steps = round(REACH_PX * UPSAMPLING)
    grid = torch.arange(-steps, steps + 1, device=before.device, dtype=torch.float64) / UPSAMPLING
    to_y, to_x = (
        torch.exp(2j * math.pi * grid[:, None] * torch.fft.fftfreq(n, device=before.device)).to(before.dtype)
        for n in before.shape[-2:]
    )
    spectrum = torch.fft.fft2(before) * torch.fft.fft2(after).conj_physical()
    surface = (to_y @ spectrum @ to_x.mT).abs()
    peak = surface.flatten(1).argmax(dim=1)
    y, x = (place.clamp(1, 2 * steps - 1) for place in (peak // len(grid), peak % len(grid)))
    row = torch.arange(len(surface), device=before.device)
    at = surface[row, y, x]
    off_y = vertex(surface[row, y - 1, x], at, surface[row, y + 1, x])
    off_x = vertex(surface[row, y, x - 1], at, surface[row, y, x + 1])
    return torch.stack([y + off_y - steps, x + off_x - steps], dim=-1) / UPSAMPLING


def vertex(left: Tensor, middle: Tensor, right: Tensor) -> Tensor:
    """Where a parabola through three equidistant samples peaks, in samples from the middle one, at most 1 away."""
    bend = (2 * middle - left - right).clamp_min(torch.finfo(middle.dtype).tiny)
    return ((right - left) / (2 * bend)).clamp(-1, 1)
