"""The Siemens star: spokes that get finer towards the centre, the resolution target of the beamlines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from ptybench.datasets.materials import delta_beta
from ptybench.datasets.specimen import ComplexMap, FloatMap, Pixel, Specimen, low_pass, padded, transmission
from pydantic import Field, field_validator

if TYPE_CHECKING:
    from ptybench.optics.geometry import Grid
    from ptybench.task import Domain

SUBPIXELS = 4
"""Samples per axis and fine pixel, whose mean is a pixel's coverage."""
RING_WIDTH = 0.03
"""Width of the open rings that cut the spokes, in outer radii."""


class SiemensStar(Specimen):
    """A star of one material on an empty support, with random orientation and number of spokes.

    Args:
        material: chemical formula.
        density_g_cm3: mass density.
        thickness_m: height of the structure.
        spokes: least and most spokes.
        outer_radius: in shorter sides of the canvas.
        rings: open rings that cut the spokes, evenly spaced.

    """

    kind: Literal["siemens_star"] = "siemens_star"
    material: str = "Au"
    density_g_cm3: Annotated[float, Field(gt=0)] = 19.3
    thickness_m: Annotated[float, Field(gt=0)] = 5e-7
    spokes: tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=2)]] = (16, 36)
    outer_radius: Annotated[float, Field(gt=0)] = 0.45
    rings: Annotated[int, Field(ge=0, le=10)] = 2

    @field_validator("spokes")
    @classmethod
    def _in_order(cls, spokes: tuple[int, int]) -> tuple[int, int]:
        if spokes[0] > spokes[1]:
            raise ValueError("expected the smallest number of spokes first")
        return spokes

    def draw(
        self,
        rng: np.random.Generator,
        grid: Grid,
        coarse_pixel_m: Pixel,
        wavelength_m: float,
        domain: Domain,
    ) -> ComplexMap:
        """Return a transmission on the fine grid; see :meth:`Specimen.draw`."""
        y, x, canvas = padded(grid, coarse_pixel_m)
        spokes = int(rng.integers(self.spokes[0], self.spokes[1], endpoint=True))
        radius = self.outer_radius * min(n * d for n, d in zip(grid.shape, grid.pixel_m, strict=True))
        covered = star_coverage(y, x, radius, spokes, rng.uniform(0, 2 * np.pi), self.rings)
        thickness = self.thickness_m * low_pass(covered, grid.pixel_m, coarse_pixel_m, self.cutoff)[canvas]
        delta, beta = delta_beta(self.material, self.density_g_cm3, wavelength_m)
        return transmission(thickness, delta, beta, wavelength_m)

    def ranges(self, wavelength_m: float) -> tuple[float, float]:
        """Return the data ranges of amplitude and phase; see :meth:`Specimen.ranges`."""
        delta, beta = delta_beta(self.material, self.density_g_cm3, wavelength_m)
        wave_numbers = 2 * np.pi / wavelength_m * self.thickness_m
        return float(1 - np.exp(-beta * wave_numbers)), float(delta * wave_numbers)


def star_coverage(y: FloatMap, x: FloatMap, radius: float, spokes: int, angle: float, rings: int) -> FloatMap:
    """Return which fraction of each pixel is covered by a star centred at zero.

    Args:
        y: ``(H, 1)`` pixel centres, evenly spaced, in the radius's unit.
        x: ``(1, W)`` likewise.
        radius: outer radius.
        spokes: number of spokes, as wide as the gaps between them.
        angle: orientation in radians.
        rings: number of open rings.

    """
    dy, dx = y[1, 0] - y[0, 0], x[0, 1] - x[0, 0]
    offsets = (np.arange(SUBPIXELS) + 0.5) / SUBPIXELS - 0.5
    covered = np.zeros((y.shape[0], x.shape[1]))
    for offset_y in offsets:
        for offset_x in offsets:
            v, u = y + offset_y * dy, x + offset_x * dx
            r = np.hypot(v, u) / radius
            inside = (np.sin(spokes * (np.arctan2(v, u) - angle)) > 0) & (r < 1)
            for ring in range(1, rings + 1):
                inside &= np.abs(r - ring / (rings + 1)) > RING_WIDTH / 2
            covered += inside
    return covered / SUBPIXELS**2
