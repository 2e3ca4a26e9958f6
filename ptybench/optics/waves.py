"""Propagators and band limits of the simulator: complex128, unitary, independent of the solvers' code.

The angular spectrum method multiplies the plane waves ``exp(2πi f·r)`` of a field by ``H(f) = exp(i q(f) z)``
with ``q = k (√(1 - λ²f²) - 1)``; the phase ``k z`` of the undeflected wave is left out. ``H`` is cut where its
phase changes by more than π from one frequency to the next (Matsushima & Shimobaba, Opt. Express 17, 19662,
2009, 10.1364/OE.17.019662).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ptybench.optics.geometry import Grid
from ptybench.types import FloatArray

Field = NDArray[np.complex128]
PLANE = (-2, -1)


def fft(field: Field, *, inverse: bool = False) -> Field:
    """Return the unitary transform over the last two axes, zero frequency first on either side."""
    transform = scipy.fft.ifft2 if inverse else scipy.fft.fft2
    result: Field = transform(field, norm="ortho", workers=1)
    return result


def far_field(psi: Field, *, inverse: bool = False) -> Field:
    """Return the Fraunhofer field, unitary, origin at ``(h // 2, w // 2)`` on either side.

    Args:
        psi: ``(..., h, w)`` exit waves.
        inverse: go back instead.

    """
    transformed = fft(scipy.fft.ifftshift(psi, axes=PLANE), inverse=inverse)
    centred: Field = scipy.fft.fftshift(transformed, axes=PLANE)
    return centred


def axial_wavenumber(grid: Grid, wavelength: float) -> FloatArray:
    """Return ``q(f) = k (√(1 - λ²f²) - 1)`` in rad/m, FFT order, as ``-k λ²f² / (1 + √(1 - λ²f²))``.

    The second form has no difference of nearly equal numbers. Evanescent waves (``λ f > 1``) get ``-k``.
    """
    fy, fx = grid.frequencies()
    square = np.minimum(wavelength**2 * (fy**2 + fx**2), 1.0)
    wavenumber: FloatArray = -2.0 * math.pi / wavelength * square / (1.0 + np.sqrt(1.0 - square))
    return wavenumber


def band(grid: Grid, wavelength: float, distance: float) -> NDArray[np.bool_]:
    """Return the frequencies that the band-limited angular spectrum keeps, ``(h, w)`` in FFT order.

    ``|f| ≤ 1 / (λ √(1 + (2 Δf z)²))`` on each axis, with ``Δf`` the spacing of the frequencies on that axis.
    """
    kept = []
    for frequency, count, pixel in zip(grid.frequencies(), grid.shape, grid.pixel_m, strict=True):
        spacing = 1.0 / (count * pixel)
        kept.append(np.abs(frequency) <= 1.0 / (wavelength * math.hypot(1.0, 2.0 * spacing * distance)))
    both: NDArray[np.bool_] = kept[0] & kept[1]
    return both


def angular_spectrum(grid: Grid, wavelength: float, distance: float, *, band_limit: bool = True) -> Field:
    """Return the transfer function ``H(f)``, ``(h, w)`` in FFT order.

    Args:
        grid: of the field.
        wavelength: in metres.
        distance: in metres; negative goes back, and ``H(z) H(-z) = 1`` inside the band.
        band_limit: cut what the grid cannot sample.

    """
    transfer: Field = np.exp(1j * distance * axial_wavenumber(grid, wavelength))
    return transfer * band(grid, wavelength, distance) if band_limit else transfer


def near_field(
    psi: Field, grid: Grid, wavelength: float, distance: float, *, band_limit: bool = True, pad: int = 2
) -> Field:
    """Return the field after free flight, by the band-limited angular spectrum.

    Args:
        psi: ``(..., h, w)`` on ``grid``.
        grid: sampling of ``psi`` and of the result.
        wavelength: in metres.
        distance: in metres, either sign.
        band_limit: cut what the (padded) grid cannot sample.
        pad: zero padding, as a multiple of the extent; 1 lets the field wrap around.

    Returns:
        ``(..., h, w)``; what flies out of the window is lost when ``pad > 1``.

    """
    h, w = grid.shape
    wide = grid.padded(pad)
    padding = [(0, 0)] * (psi.ndim - 2) + [(0, n - m) for n, m in zip(wide.shape, grid.shape, strict=True)]
    transfer = angular_spectrum(wide, wavelength, distance, band_limit=band_limit)
    return fft(fft(np.pad(psi, padding)) * transfer, inverse=True)[..., :h, :w]


def ramp(shape: Sequence[int], shift_px: FloatArray) -> Field:
    """Return ``exp(-2πi f·shift)``, the spectrum of a translation by ``shift_px``.

    Args:
        shape: ``(h, w)``.
        shift_px: ``(..., 2)`` in pixels ``(y, x)``.

    Returns:
        ``(..., h, w)`` in FFT order.

    """
    shift = np.asarray(shift_px, dtype=np.float64)
    along_y = np.exp(-2j * math.pi * shift[..., 0, None] * np.fft.fftfreq(shape[0]))
    along_x = np.exp(-2j * math.pi * shift[..., 1, None] * np.fft.fftfreq(shape[1]))
    product: Field = along_y[..., :, None] * along_x[..., None, :]
    return product


def fourier_shift(field: Field, shift_px: Sequence[float] | FloatArray) -> Field:
    """Return the field translated by ``shift_px``, periodic; unitary, its adjoint is the shift back.

    Args:
        field: ``(..., h, w)``.
        shift_px: ``(2,)`` in pixels ``(y, x)``, any real numbers.

    """
    return fft(fft(field) * ramp(field.shape[-2:], np.asarray(shift_px)), inverse=True)


def central(spectrum: Field, count: int, axis: int) -> Field:
    """Return the ``count`` lowest frequencies of an axis; FFT order before and after."""
    upper = (count + 1) // 2
    size = spectrum.shape[axis]
    index = np.r_[0:upper, size - (count - upper) : size]
    kept: Field = np.take(spectrum, index, axis=axis)
    return kept


def fourier_crop(field: Field, shape: tuple[int, int], origin: Literal["corner", "centre"] = "corner") -> Field:
    """Return the field band-limited to a coarser grid of the same extent; a constant keeps its value.

    The energy ``Σ|field|²`` inside the band shrinks by the ratio of the numbers of pixels.

    Args:
        field: ``(..., H, W)``.
        shape: ``(h, w)``, not larger than ``(H, W)``.
        origin: what stays in its place: pixel ``(0, 0)``, or the one at half the size (probes).

    """
    size = field.shape[-2:]
    if shape[0] > size[0] or shape[1] > size[1]:
        raise ValueError(f"expected a coarser grid than {size}, got {shape}")
    spectrum = fft(scipy.fft.ifftshift(field, axes=PLANE) if origin == "centre" else field)
    spectrum = central(central(spectrum, shape[0], -2), shape[1], -1)
    result = fft(spectrum, inverse=True) * math.sqrt(shape[0] * shape[1] / (size[0] * size[1]))
    centred: Field = scipy.fft.fftshift(result, axes=PLANE) if origin == "centre" else result
    return centred


def fourier_pad(field: Field, shape: tuple[int, int], origin: Literal["corner", "centre"] = "corner") -> Field:
    """Return the field interpolated to a finer grid of the same extent; a constant keeps its value.

    Right inverse of :func:`fourier_crop`, and its adjoint times the ratio of the numbers of pixels.

    Args:
        field: ``(..., h, w)``.
        shape: ``(H, W)``, not smaller than ``(h, w)``.
        origin: what stays in its place: pixel ``(0, 0)``, or the one at half the size (probes).

    """
    size = field.shape[-2:]
    spectrum = fft(scipy.fft.ifftshift(field, axes=PLANE) if origin == "centre" else field)
    wide = np.zeros((*field.shape[:-2], *shape), dtype=np.complex128)
    rows, columns = (np.r_[0 : (n + 1) // 2, wide_n - n // 2 : wide_n] for n, wide_n in zip(size, shape, strict=True))
    wide[..., rows[:, None], columns[None, :]] = spectrum
    result = fft(wide, inverse=True) * math.sqrt(shape[0] * shape[1] / (size[0] * size[1]))
    centred: Field = scipy.fft.fftshift(result, axes=PLANE) if origin == "centre" else result
    return centred
