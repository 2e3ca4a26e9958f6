"""Wavelengths, grids, and the object pixel that a detector at a distance implies.

Far field: ``dx = λ z / (N pitch)`` for each axis. Near field, parallel beam: ``dx = pitch``. Near field, diverging
beam (focus to specimen ``z1``, specimen to detector ``z2``): the Fresnel scaling theorem makes it a parallel beam with
the magnification ``M = (z1 + z2) / z1``, the distance ``z2 / M`` and the pixel ``pitch / M`` (Paganin, Coherent
X-Ray Optics, 2006, appendix B; 10.1093/acprof:oso/9780198567288.001.0001).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ptybench.types import FloatArray

if TYPE_CHECKING:
    from ptybench.task import Geometry

PLANCK_TIMES_LIGHT_EV_M = 1.239841984332003e-6  # exact in the SI of 2019


def wavelength_m(energy_ev: float) -> float:
    """Return the wavelength of a photon of ``energy_ev`` electronvolts: ``λ = h c / E``.

    Example:
        >>> round(wavelength_m(8000.0) * 1e10, 4)
        1.5498

    """
    return PLANCK_TIMES_LIGHT_EV_M / energy_ev


@dataclass(frozen=True)
class Grid:
    """A rectangular sampling grid whose origin is the pixel ``(h // 2, w // 2)``.

    Args:
        shape: ``(h, w)`` in pixels.
        pixel_m: ``(dy, dx)``.
        refinement: how many of its pixels make one pixel of the solver's grid, along an axis.

    """

    shape: tuple[int, int]
    pixel_m: tuple[float, float]
    refinement: int = 1

    def coordinates(self) -> tuple[FloatArray, FloatArray]:
        """Return ``(y (h, 1), x (1, w))`` in metres, zero at ``(h // 2, w // 2)``."""
        y, x = ((np.arange(n) - n // 2) * d for n, d in zip(self.shape, self.pixel_m, strict=True))
        return y[:, None], x[None, :]

    def frequencies(self) -> tuple[FloatArray, FloatArray]:
        """Return ``(fy (h, 1), fx (1, w))`` in 1/m, zero frequency first (FFT order)."""
        fy, fx = (np.fft.fftfreq(n, d) for n, d in zip(self.shape, self.pixel_m, strict=True))
        return fy[:, None], fx[None, :]

    def refined(self, factor: int) -> Grid:
        """Return the grid of the same extent with ``factor`` times as many pixels along each axis."""
        (h, w), (dy, dx) = self.shape, self.pixel_m
        return Grid((h * factor, w * factor), (dy / factor, dx / factor), self.refinement * factor)

    def padded(self, factor: int) -> Grid:
        """Return the grid of the same pixel with ``factor`` times the extent along each axis."""
        h, w = self.shape
        return Grid((h * factor, w * factor), self.pixel_m, self.refinement)


def magnification(geometry: Geometry, source_distance_m: float | None = None) -> float:
    """Return ``M = (z1 + z2) / z1`` of a diverging beam in the near field, else 1.

    Args:
        geometry: the task's geometry; its ``distance_m`` is ``z2``.
        source_distance_m: the ``z1`` to take instead of the geometry's.

    """
    if geometry.propagation == "far_field" or geometry.source_distance_m is None:
        return 1.0
    z1 = geometry.source_distance_m if source_distance_m is None else source_distance_m
    return (z1 + geometry.distance_m) / z1


def effective_distance_m(geometry: Geometry, error: float = 0.0) -> float:
    """Return the propagation distance of the equivalent parallel beam, ``z2 / M``; in a parallel beam ``z``.

    Args:
        geometry: the task's geometry.
        error: relative error by which the geometry's distance exceeds the one that is asked for. It acts on ``z``,
            in a diverging beam on the source distance ``z1``: the focus is elsewhere, specimen and detector stay.

    """
    if magnification(geometry) == 1.0:
        return geometry.distance_m / (1.0 + error)
    assert geometry.source_distance_m is not None
    return geometry.distance_m / magnification(geometry, geometry.source_distance_m / (1.0 + error))


def object_pixel_m(geometry: Geometry, wavelength: float | None = None, error: float = 0.0) -> tuple[float, float]:
    """Return the object pixel ``(dy, dx)`` that detector, distance and wavelength imply.

    Args:
        geometry: the task's geometry.
        wavelength: in metres, instead of the geometry's.
        error: relative error of the geometry's distance, as in :func:`effective_distance_m`.

    """
    if geometry.propagation == "far_field":
        length = wavelength_m(geometry.energy_ev) if wavelength is None else wavelength
        scale = length * effective_distance_m(geometry, error) / geometry.pitch_m
        return scale / geometry.shape[0], scale / geometry.shape[1]
    source = geometry.source_distance_m
    pixel = geometry.pitch_m / magnification(geometry, None if source is None else source / (1.0 + error))
    return pixel, pixel
