"""A first probe for a measurement: the file's own, or the mean amplitude sent back to the specimen.

The modulus of a probe's field at the detector is close to the square root of the mean pattern, as the specimen averages
out over a scan; what is missing is its phase.

Near field: the phase is flat, ``P = D_{-z}[√⟨I⟩]``, as the illumination is smooth on the detector.

Far field: a flat phase would be the focus, while scans are made out of focus. The phase is that of a defocus,
``P = F⁻¹[√⟨I⟩ · exp(−iπ λ Δz q²)]`` with the specimen ``Δz`` behind the focus. Where ``Δz`` is not told it is such that
neighbouring positions overlap by 70 % (linear): a ray at ``q`` meets the specimen at ``λ Δz q``, so that the mean
pattern's diameter ``D_q`` becomes a probe of diameter ``λ Δz D_q``. The true defocus may have the other sign.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from ptybench.errors import InvalidData
from ptybench.optics.geometry import Grid
from ptybench.optics.probes import diameter_px
from ptybench.optics.scans import mean_step
from ptybench.optics.waves import far_field, near_field
from ptybench.specs import Spec
from ptybench.types import BoolArray, ComplexArray, FloatArray, blocks

ASSUMED_OVERLAP = 0.7
WIDEST_PROBE = 0.5  # of the window: what is wider wraps around in the far field


class Start(Spec):
    """Where the first probe comes from.

    Args:
        key: dataset of the file that holds a probe ``(h, w)`` or ``(M, h, w)``, in the patterns' orientation.
        unit: ``"sqrt_photons"`` where its scale is right; else it is scaled to the brightest pattern.
        defocus_m: specimen behind the focus, far field without a probe in the file.
        numerical_aperture: half angle outside which a probe made from the mean pattern has no light.

    """

    key: str | None = None
    unit: Literal["arbitrary", "sqrt_photons"] = "arbitrary"
    defocus_m: float | None = None
    numerical_aperture: float | None = Field(default=None, gt=0)


def first_probe(
    intensities: NDArray[np.float32],
    bad_pixels: BoolArray,
    positions_px: NDArray[np.float64],
    start: Start,
    stored: ComplexArray | None,
    near: bool,
    pixel_m: tuple[float, float] | None,
    wavelength_m: float | None,
    distance_m: float | None,
) -> ComplexArray:
    """Return ``(M, h, w)`` complex64 modes whose power is that of the brightest pattern, ``max_k Σ I_k``.

    Args:
        intensities: ``(K, h, w)`` photons.
        bad_pixels: ``(h, w)``.
        positions_px: ``(K, 2)``.
        start: what the file or its manifest says.
        stored: ``(M, h, w)`` from the file, or ``None``.
        near: near field.
        pixel_m: of the object; the near field and a told defocus need it, with the wavelength.
        wavelength_m: wavelength.
        distance_m: effective distance, for the near field.

    Raises:
        InvalidData: where the file's probe is empty, or a length is missing that the start needs.

    """
    if stored is not None:
        if not np.isfinite(stored).all() or not np.any(stored):
            raise InvalidData("the file's probe is zero or not finite: leave it out of --geometry")
        if start.unit == "sqrt_photons":
            return stored.astype(np.complex64)
        probe = stored
    else:
        amplitude = mean_amplitude(intensities, bad_pixels)
        if near:
            assert pixel_m is not None
            assert wavelength_m is not None
            assert distance_m is not None
            h, w = bad_pixels.shape
            grid = Grid((h, w), pixel_m)
            # without padding, as the solvers' model is: a flat object then reproduces the mean pattern
            probe = near_field(amplitude.astype(complex), grid, wavelength_m, -distance_m, pad=1)[None]
        else:
            probe = _defocused(amplitude, positions_px, start, pixel_m, wavelength_m)[None]
    power = max(float(intensities[one].sum(axis=(1, 2), dtype=np.float64).max()) for one in blocks(intensities))
    scaled: ComplexArray = (probe * math.sqrt(power / np.sum(np.abs(probe) ** 2))).astype(np.complex64)
    return scaled


def mean_amplitude(intensities: NDArray[np.float32], bad_pixels: BoolArray) -> FloatArray:
    """``√⟨I⟩`` ``(h, w)``; bad pixels take the value of the nearest good one."""
    total = sum(intensities[one].sum(axis=0, dtype=np.float64) for one in blocks(intensities))
    amplitude: FloatArray = np.sqrt(total / len(intensities))
    if bad_pixels.any():
        nearest = ndimage.distance_transform_edt(bad_pixels, return_distances=False, return_indices=True)
        amplitude = amplitude[tuple(nearest)]
    return amplitude


def _defocused(
    amplitude: FloatArray,
    positions_px: NDArray[np.float64],
    start: Start,
    pixel_m: tuple[float, float] | None,
    wavelength_m: float | None,
) -> ComplexArray:
    """The far field's probe, with every length in pixels of the object and ``q`` in cycles per pixel."""
    (h, w), (dy, dx) = amplitude.shape, pixel_m or (1.0, 1.0)
    unit = math.sqrt(dy * dx)
    qy = (np.arange(h)[:, None] - h // 2) / h * (unit / dy)
    qx = (np.arange(w)[None, :] - w // 2) / w * (unit / dx)
    if start.numerical_aperture is not None:
        _, wavelength = _lengths(pixel_m, wavelength_m, "a numerical aperture")
        amplitude = np.where(np.hypot(qy, qx) <= start.numerical_aperture / wavelength * unit, amplitude, 0)
        if not amplitude.any():
            raise InvalidData("no light lies within the numerical_aperture: check it, the pitch and the distance")
    if start.defocus_m is not None:
        _, wavelength = _lengths(pixel_m, wavelength_m, "a defocus")
        blur = wavelength * start.defocus_m / unit**2
    else:
        wanted = mean_step(positions_px) / (1 - ASSUMED_OVERLAP)
        wanted = min(wanted, WIDEST_PROBE * min(h, w))
        blur = wanted * min(h, w) / diameter_px(amplitude[None].astype(complex))
    return far_field(amplitude * np.exp(-1j * np.pi * blur * (qy**2 + qx**2)), inverse=True)


def _lengths(
    pixel_m: tuple[float, float] | None, wavelength_m: float | None, what: str
) -> tuple[tuple[float, float], float]:
    if pixel_m is None or wavelength_m is None:
        raise InvalidData(f"{what} of the first probe needs wavelength and object pixel: give them in --geometry")
    return pixel_m, wavelength_m
