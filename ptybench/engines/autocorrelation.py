"""A start from autocorrelations (Wu et al. 2024, 10.1364/OPTICA.522380, eqs. 1 and 2; DAP).

The inverse transform of a pattern is the autocorrelation of its exit wave: it is wide where the specimen lets light
through. It has twice the support of the exit wave, so that an envelope is all that it gives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ptybench.types import ComplexArray, Measurement

WIDTH_PX = 2.0  # of the Gaussian g, which the paper does not state
PHASE_RAD = 1.0  # for a relative envelope of 1, β2
NOISE = 0.01  # of the object's amplitude, ξ1
CHUNK = 64  # patterns at a time


def object_start(measurement: Measurement, rng: np.random.Generator) -> ComplexArray:
    """Return ``O = a e^{iβ(a - 1)} + ξ`` with ``a = g ⊗ Σ_k φ_k / Σ_k Φ``, ``(H, W)``.

    ``φ_k = |F⁻¹ I_k|`` stands at position ``k``, and so does ``Φ = |F⁻¹ ⟨I⟩|``; ``a`` has the mean 1 where the scan has
    been. The paper prints a real exponent, which would be no phase; ours is imaginary.
    """
    m = measurement
    h, w = m.shape
    corners = np.clip(np.round(m.positions_px).astype(int), 0, np.array(m.canvas) - m.shape)
    mean = np.abs(autocorrelation(good(m, slice(None)).mean(axis=0, dtype=np.float64)))
    top, bottom = np.zeros(m.canvas), np.zeros(m.canvas)
    for begin in range(0, len(corners), CHUNK):
        part = slice(begin, begin + CHUNK)
        for one, (y, x) in zip(np.abs(autocorrelation(good(m, part))), corners[part], strict=True):
            top[y : y + h, x : x + w] += one
            bottom[y : y + h, x : x + w] += mean
    seen = bottom > 1e-3 * bottom.max()
    envelope = np.where(seen, top / np.maximum(bottom, 1e-300), 1.0)
    envelope = gaussian_filter(envelope, WIDTH_PX)
    envelope /= envelope[seen].mean()
    noise = rng.standard_normal((2, *m.canvas))
    found: ComplexArray = envelope * np.exp(1j * PHASE_RAD * (envelope - 1)) + NOISE * (noise[0] + 1j * noise[1])
    return found


def probe_start(measurement: Measurement, modes: int) -> ComplexArray:
    """Return ``P = ζ ⟨|F⁻¹ √I|⟩`` as the first of some modes ``(M, h, w)``; ``ζ`` gives it the patterns' photons.

    With a start object of modulus about 1 that is the least-squares scale of the paper; others have 5 % of the power.
    """
    from ptybench.solver import with_modes

    found = np.zeros(measurement.shape)
    photons = 0.0
    for begin in range(0, len(measurement.positions_px), CHUNK):
        patterns = good(measurement, slice(begin, begin + CHUNK))
        found += np.abs(autocorrelation(np.sqrt(patterns))).sum(axis=0)
        photons += float(patterns.sum(dtype=np.float64))
    found *= np.sqrt(photons / len(measurement.positions_px) / np.sum(found**2))
    return with_modes(found[None].astype(np.complex64), modes)


def good(measurement: Measurement, part: slice) -> NDArray[np.float32]:
    """Some patterns without their bad pixels."""
    patterns: NDArray[np.float32] = np.where(measurement.bad_pixels, 0, measurement.intensities[part])
    return patterns


def autocorrelation(patterns: NDArray[np.floating]) -> NDArray[np.complexfloating]:
    """``F⁻¹`` of centred patterns ``(..., h, w)``, its origin at ``[h // 2, w // 2]``."""
    axes = (-2, -1)
    found: NDArray[np.complexfloating] = np.fft.fftshift(
        np.fft.ifft2(np.fft.ifftshift(patterns, axes), axes=axes), axes
    )
    return found
