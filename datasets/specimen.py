"""What every specimen is: a complex transmission drawn anew for each seed, band-limited to the solver's pixel."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from pydantic import Field

from ptybench.specs import Spec

if TYPE_CHECKING:
    from ptybench.optics.geometry import Grid
    from ptybench.task import Domain

FloatMap = NDArray[np.float64]
ComplexMap = NDArray[np.complex128]
Pixel = tuple[float, float]

PAD_PX = 24
"""Solver pixels by which a map is drawn larger than the canvas, so that its filter wraps round outside it."""


class Specimen(Spec):
    """The base of all specimens.

    A specimen is a random field on an endless plane, of which the canvas cuts out a window about the plane's origin: a
    larger canvas (another ladder point, a wider margin) shows more of the same specimen.

    Args:
        cutoff: where the specimen's maps end in frequency, as a fraction of the solver pixel's Nyquist frequency.

    """

    cutoff: Annotated[float, Field(gt=0, le=1)] = 1.0

    @abstractmethod
    def draw(
        self,
        rng: np.random.Generator,
        grid: Grid,
        coarse_pixel_m: Pixel,
        wavelength_m: float,
        domain: Domain,
    ) -> ComplexMap:
        """Return a transmission ``(H', W')`` on the simulator's grid; ``|O| <= 1``, the phase of matter negative.

        Args:
            rng: the stream of this specimen; one draw uses it up.
            grid: the fine grid of the canvas; its zero is the specimen's origin.
            coarse_pixel_m: ``(dy, dx)`` of the solver's pixel, for the low-pass.
            wavelength_m: true wavelength.
            domain: the seed domain; it decides which pictures may be used.

        """

    @abstractmethod
    def ranges(self, wavelength_m: float) -> tuple[float, float]:
        """Return the data ranges of amplitude and of phase (radians): constants of the recipe, not of a draw."""


def padded(grid: Grid, coarse_pixel_m: Pixel) -> tuple[Any, Any, tuple[slice, slice]]:
    """Return the coordinates ``(y, x)`` in metres of a grid enlarged for :func:`low_pass`, and the canvas in it.

    The enlarged grid has the canvas's pixels and origin; ``y`` is a column and ``x`` a row.
    """
    axes, window = [], []
    for size, pixel, coarse in zip(grid.shape, grid.pixel_m, coarse_pixel_m, strict=True):
        margin = round(PAD_PX * coarse / pixel)
        full: int = scipy.fft.next_fast_len(size + 2 * margin, real=True)
        axes.append((np.arange(full) - margin - size // 2) * pixel)
        window.append(slice(margin, margin + size))
    return axes[0][:, None], axes[1][None, :], (window[0], window[1])


def low_pass(values: FloatMap, pixel_m: Pixel, coarse_pixel_m: Pixel, cutoff: float) -> FloatMap:
    """Return the map as an ideal incoherent lens would image it.

    The transfer function of a diffraction-limited lens in incoherent light,
    ``H(q) = 2/pi (arccos q - q sqrt(1 - q^2))`` with ``q = f / (cutoff f_Nyquist)``, ends at ``q = 1``; its kernel, the
    Airy pattern, is nowhere negative. So the result is strictly band-limited and still never leaves the range of the
    input: thickness stays positive, amplitude at most one.

    Args:
        values: ``(H', W')`` map on the fine grid, treated as periodic.
        pixel_m: its pixel.
        coarse_pixel_m: the solver's pixel, whose Nyquist frequency counts.
        cutoff: end of the band, as a fraction of that Nyquist frequency.

    Source: J. W. Goodman, Introduction to Fourier Optics, 3rd ed., eq. 6-31.

    """
    fy = scipy.fft.fftfreq(values.shape[0], pixel_m[0]) * 2 * coarse_pixel_m[0] / cutoff
    fx = scipy.fft.rfftfreq(values.shape[1], pixel_m[1]) * 2 * coarse_pixel_m[1] / cutoff
    q = np.minimum(np.hypot(fy[:, None], fx[None, :]), 1.0)
    transfer = 2 / np.pi * (np.arccos(q) - q * np.sqrt(1 - q**2))
    filtered: FloatMap = scipy.fft.irfft2(scipy.fft.rfft2(values) * transfer, s=values.shape)
    # the kernel is not negative, so what leaves the range is rounding
    return np.clip(filtered, values.min(), values.max())


def transmission(thickness_m: FloatMap, delta: float, beta: float, wavelength_m: float) -> ComplexMap:
    """Return ``O = exp(i 2 pi / wavelength (-delta + i beta) t)``: a thin specimen of ``n = 1 - delta + i beta``."""
    wave_number = 2 * np.pi / wavelength_m
    result: ComplexMap = np.exp(wave_number * (-beta - 1j * delta) * thickness_m)
    return result
