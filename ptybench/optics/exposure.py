"""Patterns without noise, in complex128: the simulator's own forward model, on the solver's grid or a finer one.

For a pattern at ``r`` the window of the finer object, whose pixel is ``1 / s`` of the solver's, has its corner at
``s (r + n // 2) - (s n) // 2``: its middle pixel is that of the solver's window. The integer part crops the object, the
fraction shifts the probe; in the near field the wave is shifted back, because beam and detector stand still and the
specimen moves. The detector sees the lowest ``(h, w)`` frequencies in the far field; in the near field the wave, padded
so that nothing wraps around, at the middles of its pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ptybench.optics.geometry import Grid
from ptybench.optics.waves import Field, angular_spectrum, central, fft, ramp
from ptybench.types import FloatArray

CHUNK_BYTES = 2**25


@dataclass(frozen=True)
class Bench:
    """What lies between exit wave and detector.

    Args:
        grid: the solver's grid of a pattern: shape ``(h, w)`` and object pixel.
        wavelength_m: wavelength.
        distance_m: of free flight in the near field; ``None`` is the far field.
        oversampling: ``s``; 1 is the solver's own formula.
        pad: zero padding in the near field, as a multiple of the window; 1 lets the wave wrap around as solvers do.

    """

    grid: Grid
    wavelength_m: float
    distance_m: float | None = None
    oversampling: int = 1
    pad: int = 1

    def corners(self, positions: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
        """Return whole and fractional corner ``(K, 2)`` of the windows, in pixels of the finer object."""
        s, shape = self.oversampling, np.array(self.grid.shape)
        corner = s * (positions + shape // 2) - (s * shape) // 2
        whole = np.floor(corner + 1e-6).astype(np.intp)
        return whole, corner - whole


def patterns(
    bench: Bench, obj: Field, probe: Field, positions: FloatArray
) -> Iterator[tuple[slice, FloatArray, float]]:
    """Yield intensities, some positions at a time.

    Args:
        bench: the optics.
        obj: ``(s H, s W)`` transmission.
        probe: ``(M, s h, s w)``.
        positions: ``(K, 2)`` in the solver's pixels; every window lies on ``obj``.

    Yields:
        The positions done, their intensities ``(B, h, w)``, zero frequency in the middle in the far field, and the
        energy ``Σ|exit wave|²`` that went in. Both energies are in the units of ``Σ|probe|²``.

    """
    modes, h, w = probe.shape
    whole, fraction = bench.corners(positions)
    moves = bool(np.abs(fraction).max() > 1e-9)
    spectrum = fft(probe)
    transfer = _transfer(bench)
    chunk = max(1, CHUNK_BYTES // (32 * modes * h * w * bench.pad**2))
    for start in range(0, len(positions), chunk):
        part = slice(start, min(start + chunk, len(positions)))
        windows = np.stack([obj[y : y + h, x : x + w] for y, x in whole[part]])
        seen = probe
        if moves:
            seen = fft(spectrum * ramp((h, w), fraction[part])[:, None], inverse=True)
        exit_waves = seen * windows[:, None]
        wave = _detector_wave(bench, exit_waves, fraction[part], transfer)
        yield part, _squared(wave).sum(axis=1), float(_squared(exit_waves).sum())


def _squared(wave: Field) -> NDArray[np.float64]:
    squared: NDArray[np.float64] = wave.real**2 + wave.imag**2
    return squared


def _transfer(bench: Bench) -> Field | None:
    if bench.distance_m is None:
        return None
    return angular_spectrum(bench.grid.padded(bench.pad), bench.wavelength_m, bench.distance_m)


def _detector_wave(bench: Bench, exit_waves: Field, fraction: FloatArray, transfer: Field | None) -> Field:
    """Return the wave on the detector ``(B, M, h, w)`` of exit waves ``(B, M, s h, s w)``."""
    h, w = bench.grid.shape
    if transfer is None:
        far: Field = scipy.fft.fftshift(_low_frequencies(exit_waves, bench.grid.shape, 1), axes=(-2, -1))
        return far
    wide = bench.grid.padded(bench.pad).shape
    s = bench.oversampling
    # the middles of the detector's pixels lie `lead` finer pixels into the window (0 for even sizes)
    lead = (s * np.array(bench.grid.shape)) // 2 - s * (np.array(bench.grid.shape) // 2)
    back = ramp(wide, -(fraction + lead) / s)
    spectrum = _low_frequencies(exit_waves, wide, bench.pad) * (transfer * back)[:, None]
    return fft(spectrum, inverse=True)[..., :h, :w]


def _low_frequencies(field: Field, shape: tuple[int, int], pad: int) -> Field:
    """Return the ``shape`` lowest frequencies of the field zero-padded ``pad`` times, FFT order, energy kept.

    Cropping after each axis spares the transforms whose result nobody looks at.
    """
    for axis, count in ((-1, shape[1]), (-2, shape[0])):
        size = pad * field.shape[axis]
        field = central(scipy.fft.fft(field, n=size, axis=axis, norm="ortho", workers=1), count, axis)
    return field


def dose_map(positions: FloatArray, intensity: FloatArray, canvas: tuple[int, int]) -> NDArray[np.float64]:
    """Return the photons that fall on each object pixel, the sum of the probe's intensity at all positions.

    Args:
        positions: ``(K, 2)`` in pixels; fractions are shared out among the four pixels around.
        intensity: ``(h, w)`` photons.
        canvas: ``(H, W)``.

    """
    (h, w), (height, width) = intensity.shape, canvas
    whole = np.floor(positions).astype(np.intp)
    fy, fx = (positions - whole).T
    places = np.zeros((height - h + 2, width - w + 2))
    for dy, weight_y in ((0, 1 - fy), (1, fy)):
        for dx, weight_x in ((0, 1 - fx), (1, fx)):
            np.add.at(places, (whole[:, 0] + dy, whole[:, 1] + dx), weight_y * weight_x)
    size = [scipy.fft.next_fast_len(n + 1, real=True) for n in canvas]
    product = scipy.fft.rfft2(places, size) * scipy.fft.rfft2(intensity, size)
    dose: NDArray[np.float64] = np.maximum(scipy.fft.irfft2(product, size)[:height, :width], 0.0)
    return dose


def amplitude_r_factor(modelled: FloatArray, measured: FloatArray) -> float:
    """Return ``Σ|√D - √I| / Σ√I`` over all values (modelled ``D``, measured ``I``)."""
    amplitude = np.sqrt(measured, dtype=np.float64)
    total = float(amplitude.sum())
    return float(np.abs(np.sqrt(modelled) - amplitude).sum()) / total if total > 0 else math.nan
