"""Fourier ring correlation of complex images, and where it crosses a threshold.

``FRC(f) = Re Σ_ring F₁ F₂* / √(Σ_ring |F₁|² · Σ_ring |F₂|²)`` (Saxton & Baumeister 1982,
10.1111/j.1365-2818.1982.tb00405.x) of the complex images, real part, not clipped. Each image first loses its
window-weighted mean and is multiplied by the same soft window. Without that the common edge and the common vacuum
correlate, and unrelated objects score high.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.ndimage import distance_transform_edt

from ptybench.scoring.frame import Complex, Float
from ptybench.types import BoolArray

EDGE_PX = 8.0
# share of the reference's power below which a ring is left out
LEAST_POWER = 1e-6
# contrast relative to the modulus below which an image is flat, see align.FLAT
FLAT = 1e-5


@dataclass(frozen=True, eq=False)
class RingCorrelation:
    """A curve of correlation over spatial frequency.

    Args:
        frequency: ``(R,)`` in cycles per unit of the pixel size, without zero frequency.
        value: ``(R,)``, 0 where 0/0.
        counted: ``(R,)`` false where the reference has no power.
        samples: ``(R,)`` effective number of independent complex samples.
        nyquist: Nyquist frequency, the lower of the two axes.

    """

    frequency: Float
    value: Float
    counted: BoolArray
    samples: Float
    nyquist: float

    def area(self) -> float | None:
        """Return the mean over frequency up to Nyquist of the rings that count; ``None`` where none does."""
        f, v = self.frequency[self.counted], self.value[self.counted]
        if len(f) == 0:
            return None
        if len(f) == 1:
            return float(v[0])
        return float(np.dot(np.diff(f), (v[1:] + v[:-1]) / 2) / (f[-1] - f[0]))

    def at(self, share: float) -> float | None:
        """Return the value at a share of Nyquist, linearly between rings; ``None`` beyond the rings that count."""
        f, v = self.frequency[self.counted], self.value[self.counted]
        target = share * self.nyquist
        if len(f) == 0 or not f[0] <= target <= f[-1]:
            return None
        return float(np.interp(target, f, v))

    def resolution(self, threshold: float | Float) -> tuple[float | None, bool]:
        """Return the half period where the curve first falls below a threshold, and whether it never does.

        Between rings both are linear. Zero frequency counts as correlated, so that a curve which starts below the
        threshold has a resolution of the order of the field of view.

        Args:
            threshold: a constant, or one value a ring.

        Returns:
            The half period in units of the pixel size, or ``None``; true where the curve stays above (censored).

        """
        keep = self.counted
        excess = (self.value - np.broadcast_to(threshold, self.value.shape))[keep]
        below = np.flatnonzero(excess < 0)
        if len(excess) == 0:
            return None, False
        if len(below) == 0:
            return None, True
        f, i = self.frequency[keep], below[0]
        f0, e0 = (f[i - 1], excess[i - 1]) if i > 0 else (0.0, excess[0] - self.value[keep][0] + 1.0)
        crossing = f0 + (f[i] - f0) * e0 / (e0 - excess[i])
        return 0.5 / float(crossing), False

    def half_bit(self) -> Float:
        """Return the half-bit threshold for two independent halves (van Heel & Schatz 2005, eq. 17).

        10.1016/j.jsb.2005.05.009, with the effective number of complex samples.
        """
        root = np.sqrt(self.samples)
        return np.asarray((0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root))

    def one_bit(self) -> Float:
        """Return the one-bit threshold for two independent halves (as :meth:`half_bit`)."""
        root = np.sqrt(self.samples)
        return np.asarray((0.5 + 2.4142 / root) / (1.5 + 1.4142 / root))

    def noise(self) -> Float:
        """Return the standard deviation of the curve of two images without anything in common, ``1 / √(2n)``."""
        return np.asarray(1.0 / np.sqrt(2.0 * self.samples))


def soft_window(mask: BoolArray, edge_px: float = EDGE_PX) -> Float:
    """Return a window that rises inside a mask over ``edge_px`` (less in a small mask) and is 0 outside.

    Args:
        mask: ``(H, W)``.
        edge_px: width of the squared-sine edge.

    """
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    edge = max(min(edge_px, float(depth.max()) / 2), 1.0)
    return np.asarray(np.sin(np.pi / 2 * np.minimum(depth / edge, 1.0)) ** 2)


def ring_correlation(
    image: Complex, reference: Complex, mask: BoolArray, pixel: tuple[float, float] = (1.0, 1.0)
) -> RingCorrelation:
    """Return the Fourier ring correlation of an image with a reference.

    Rings are one Fourier pixel wide, of the coarser axis, on the bounding box of the mask. Those with less than 1e-6
    of the reference's power are not counted.

    Args:
        image: ``(H, W)`` complex.
        reference: ``(H, W)`` complex, a truth or the other half.
        mask: ``(H, W)``, the pixels that count.
        pixel: pixel size ``(dy, dx)``.

    """
    box = tuple(
        slice(int(np.flatnonzero(line)[0]), int(np.flatnonzero(line)[-1]) + 1) for line in (mask.any(1), mask.any(0))
    )
    window = soft_window(mask)[box]
    first, second = _spectrum(image[box], window), _spectrum(reference[box], window)

    fy, fx = (np.fft.fftfreq(n, d) for n, d in zip(window.shape, pixel, strict=True))
    width = max(1 / (n * d) for n, d in zip(window.shape, pixel, strict=True))
    nyquist = min(0.5 / d for d in pixel)
    ring = np.rint(np.hypot(fy[:, None], fx) / width).astype(np.intp).ravel()
    rings = math.floor(nyquist / width * (1 + 1e-9))

    def total(values: Float) -> Float:
        sums = np.bincount(ring, values.ravel(), minlength=rings + 1)[1 : rings + 1]
        return np.asarray(sums, dtype=np.float64)

    cross = total((first * second.conj()).real)
    power_first, power_second = total(np.abs(first) ** 2), total(np.abs(second) ** 2)
    norm = np.sqrt(power_first) * np.sqrt(power_second)
    value = np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 0)
    counted = power_second >= LEAST_POWER * float(np.sum(np.abs(second) ** 2))
    counted &= power_second > 0
    # the variance of a ring's sum under white noise follows from the spectrum of window² (Parseval)
    effective = float(np.sum(window**2) ** 2 / (window.size * np.sum(window**4)))
    samples = total(np.ones(window.shape)) * effective
    return RingCorrelation(np.arange(1, rings + 1) * width, value, counted, np.maximum(samples, 1e-9), nyquist)


def _spectrum(image: Complex, window: Float) -> Complex:
    """Return the transform of ``window · (image − weighted mean)``; zeros for a flat image."""
    image = np.asarray(image, dtype=np.complex128)
    varying = window * (image - np.sum(window * image) / np.sum(window))
    if np.sum(np.abs(varying) ** 2) <= FLAT**2 * np.sum(np.abs(window * image) ** 2):
        return np.zeros_like(image)
    return np.asarray(scipy.fft.fft2(varying))
