"""Spheres of one material in a thin film: the specimen of hard X-ray ptychography's low-dose studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from ptybench.datasets.materials import PMMA, delta_beta
from ptybench.datasets.specimen import ComplexMap, FloatMap, Pixel, Specimen, low_pass, padded, transmission
from pydantic import Field, field_validator

if TYPE_CHECKING:
    from ptybench.optics.geometry import Grid
    from ptybench.task import Domain

Length = Annotated[float, Field(gt=0)]

CELL_DIAMETERS = 4
"""Side of the square cells in which spheres are drawn, in largest diameters."""


class Particles(Specimen):
    """Spheres of random diameters at random places, their projected thicknesses added.

    ``O = a exp(i 2 pi / wavelength (-delta + i beta) t)``, where ``t`` is the spheres' summed thickness and ``a`` the
    absorption of the film of PMMA. The film's phase is a constant, which ptychography cannot see, and is left out; a
    sphere makes the film bulge and not thinner.

    Args:
        material: chemical formula of the spheres.
        density_g_cm3: their mass density.
        diameter_m: smallest and largest diameter; the logarithm is uniform between them.
        coverage: mean summed area of the spheres' discs per area of film; more than one means much overlap.
        film_thickness_m: thickness of the film.

    Example:
        >>> Particles(diameter_m=(1e-7, 1e-6)).material
        'TiO2'

    """

    kind: Literal["particles"] = "particles"
    material: str = "TiO2"
    density_g_cm3: Annotated[float, Field(gt=0)] = 4.23
    diameter_m: tuple[Length, Length] = (1e-7, 1e-6)
    coverage: Annotated[float, Field(gt=0, le=10)] = 0.6
    film_thickness_m: Annotated[float, Field(ge=0)] = 2e-6

    @field_validator("diameter_m")
    @classmethod
    def _in_order(cls, diameters: tuple[float, float]) -> tuple[float, float]:
        if diameters[0] > diameters[1]:
            raise ValueError("expected the smallest diameter first")
        return diameters

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
        bounds = (y.min(), y.max(), x.min(), x.max())
        thickness = sphere_thickness(y, x, *self.spheres(rng, bounds))
        thickness = low_pass(thickness, grid.pixel_m, coarse_pixel_m, self.cutoff)[canvas]
        delta, beta = delta_beta(self.material, self.density_g_cm3, wavelength_m)
        return self._film(wavelength_m) * transmission(thickness, delta, beta, wavelength_m)

    def ranges(self, wavelength_m: float) -> tuple[float, float]:
        """Return the data ranges of amplitude and phase; see :meth:`Specimen.ranges`."""
        delta, beta = delta_beta(self.material, self.density_g_cm3, wavelength_m)
        # the more spheres, the more of them lie over each other; fewer than one pixel in a hundred is thicker
        thickest = 2 * np.pi / wavelength_m * (1 + 1.25 * self.coverage) * self.diameter_m[1]
        return float(1 - np.exp(-beta * thickest)), float(delta * thickest)

    def spheres(
        self, rng: np.random.Generator, bounds: tuple[float, float, float, float]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return centres ``(n, 2)`` and diameters ``(n,)`` in metres of all spheres that reach into the bounds.

        The plane is cut into cells, each with a random stream of its own, so that a sphere does not depend on how much
        of the plane is looked at.

        Args:
            rng: one number of it names the plane.
            bounds: ``(y_min, y_max, x_min, x_max)`` in metres.

        """
        plane = int(rng.integers(2**63))
        low, high = self.diameter_m
        cell = CELL_DIAMETERS * high
        first_y, last_y, first_x, last_x = (
            int(np.floor((edge + reach) / cell)) for edge, reach in zip(bounds, (-high, high) * 2, strict=True)
        )
        centres, diameters = [], []
        for cy in range(first_y, last_y + 1):
            for cx in range(first_x, last_x + 1):
                # seeds must not be negative: even numbers to the right of the origin, odd ones to the left
                own = np.random.default_rng([plane, *(2 * c if c >= 0 else -2 * c - 1 for c in (cy, cx))])
                count = own.poisson(self.coverage * cell**2 / self._mean_disc_m2())
                centres.append((own.random((count, 2)) + np.array([cy, cx])) * cell)
                diameters.append(low * (high / low) ** own.random(count))
        return np.concatenate(centres), np.concatenate(diameters)

    def _mean_disc_m2(self) -> float:
        low, high = self.diameter_m
        spread = np.log(high / low)
        mean_square = low**2 if spread == 0 else (high**2 - low**2) / (2 * spread)
        return float(np.pi / 4 * mean_square)

    def _film(self, wavelength_m: float) -> float:
        _, beta = delta_beta(*PMMA, wavelength_m)
        return float(np.exp(-2 * np.pi / wavelength_m * beta * self.film_thickness_m))


def sphere_thickness(
    y: FloatMap, x: FloatMap, centres: NDArray[np.float64], diameters: NDArray[np.float64]
) -> FloatMap:
    """Return the summed projected thickness ``t = sum_i 2 sqrt(r_i^2 - d_i^2)`` of spheres.

    Args:
        y: ``(H, 1)`` evenly spaced coordinates in metres.
        x: ``(1, W)`` likewise.
        centres: ``(n, 2)`` in metres.
        diameters: ``(n,)`` in metres.

    """
    thickness = np.zeros((y.shape[0], x.shape[1]))
    radii = diameters / 2
    edges = [
        np.searchsorted(along, middle + side * radii)
        for along, middle in ((y[:, 0], centres[:, 0]), (x[0], centres[:, 1]))
        for side in (-1, 1)
    ]
    for (centre_y, centre_x), radius, top, bottom, left, right in zip(centres, radii, *edges, strict=True):
        i, j = slice(top, bottom), slice(left, right)
        square = radius**2 - (y[i] - centre_y) ** 2 - (x[:, j] - centre_x) ** 2
        thickness[i, j] += 2 * np.sqrt(np.maximum(square, 0))
    return thickness
