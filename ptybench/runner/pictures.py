"""From complex fields to what a picture shows: crops, colour ranges, phases, probes as colour, lengths with units.

Nothing here draws; :mod:`ptybench.runner.panels` does. Everything takes NaN and flat fields without a warning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import hsv_to_rgb
from numpy.typing import NDArray

from ptybench.types import BoolArray, ComplexArray, FloatArray

#: A picture of more pixels a side than this is averaged down: no screen shows them, and drawing would take seconds.
LARGEST = 640

UNITS = (("mm", 1e-3), ("µm", 1e-6), ("nm", 1e-9))

Box = tuple[slice, slice]


@dataclass(frozen=True)
class Range:
    """Colour limits of a picture; ``cyclic`` where a phase fills the circle."""

    low: float
    high: float
    cyclic: bool = False

    def widened(self, other: Range) -> Range:
        """Return this range with what ``other`` needs beyond it, by half of its width at most at either end."""
        room = (self.high - self.low) / 2
        low, high = max(min(self.low, other.low), self.low - room), min(max(self.high, other.high), self.high + room)
        return Range(low, high)


def bounding_box(mask: BoolArray, margin: int = 1) -> Box:
    """Return the slices of the smallest rectangle around ``mask`` (everything where it is empty)."""
    if not mask.any():
        return slice(None), slice(None)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + 1 + margin),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + 1 + margin),
    )


def shrink(field: NDArray[Any], largest: int = LARGEST) -> NDArray[Any]:
    """Return the field block-averaged so that neither side is longer than ``largest``; remainders are cut off."""
    factor = math.ceil(max(field.shape) / largest)
    if factor <= 1:
        return field
    h, w = field.shape[0] // factor * factor, field.shape[1] // factor * factor
    blocks = field[:h, :w].reshape(h // factor, factor, w // factor, factor)
    averaged: NDArray[Any] = blocks.mean(axis=(1, 3))
    return averaged > 0.5 if field.dtype == np.bool_ else averaged


def tamed(field: ComplexArray) -> ComplexArray:
    """Return the field with NaN for everything that is not finite, so that arithmetic on it is silent."""
    finite: ComplexArray = np.where(np.isfinite(field), field, complex(math.nan, math.nan))
    return finite


def phase(field: ComplexArray, reference: float = 0.0) -> FloatArray:
    """Return the phase of a field minus ``reference``, in ``[-π, π]``; NaN stays NaN."""
    angle: FloatArray = np.angle(field * np.exp(-1j * reference))
    return angle


def mean_phase(field: ComplexArray, mask: BoolArray) -> float:
    """Return the phase of the mean of a field inside ``mask``, ``0`` where that is undefined."""
    inside = field[mask & np.isfinite(field)]
    total = complex(inside.sum()) if inside.size else 0j
    return math.atan2(total.imag, total.real)


def without_ramp(field: ComplexArray, mask: BoolArray) -> ComplexArray:
    """Return the field without its mean linear phase, a gauge of ptychography that hides the object on real data.

    The slope along each axis is the phase of the autocorrelation at lag one inside ``mask``.
    """
    clean = np.where(mask & np.isfinite(field), field, 0)
    step_y = complex(np.vdot(clean[:-1], clean[1:]))
    step_x = complex(np.vdot(clean[:, :-1], clean[:, 1:]))
    y, x = np.arange(field.shape[0])[:, None], np.arange(field.shape[1])
    slope_y, slope_x = math.atan2(step_y.imag, step_y.real), math.atan2(step_x.imag, step_x.real)
    flat: ComplexArray = field * np.exp(-1j * (slope_y * y + slope_x * x))
    return flat


def limits(values: FloatArray, mask: BoolArray, robust: float = 0.0, default: Range = Range(0.0, 1.0)) -> Range:
    """Return colour limits of ``values`` inside ``mask``, never empty.

    Args:
        values: ``(H, W)``.
        mask: ``(H, W)`` what counts.
        robust: fraction left out at either end.
        default: where nothing is finite.

    """
    inside = values[mask & np.isfinite(values)]
    if inside.size == 0:
        return default
    low, high = (float(v) for v in np.quantile(inside, [robust, 1 - robust]))
    if high - low < 1e-3:
        middle = (low + high) / 2
        low, high = middle - 5e-3, middle + 5e-3
    return Range(low, high)


def phase_limits(values: FloatArray, mask: BoolArray, robust: float = 0.0) -> Range:
    """Return colour limits of a phase: the whole circle where its values fill most of it."""
    found = limits(values, mask, robust)
    if found.high - found.low > 0.8 * 2 * math.pi:
        return Range(-math.pi, math.pi, cyclic=True)
    return found


def symmetric_limits(values: FloatArray, mask: BoolArray, smallest: float) -> Range:
    """Return limits ``±v`` of a difference, at least ``smallest``, with 0.5 % of the pixels outside."""
    inside = np.abs(values[mask & np.isfinite(values)])
    high = max(smallest, float(np.quantile(inside, 0.995)) if inside.size else 0.0)
    return Range(-high, high)


def complex_colours(field: ComplexArray) -> FloatArray:
    """Return ``(h, w, 3)`` colours of a complex field: brightness is amplitude, hue is phase.

    The phase is taken relative to the power-weighted mean, the amplitude to its maximum.
    """
    clean = np.nan_to_num(field)
    amplitude = np.abs(clean)
    reference = mean_phase(clean * amplitude, np.ones(clean.shape, dtype=np.bool_))
    hue = phase(clean, reference) / (2 * math.pi) % 1.0
    peak = float(amplitude.max())
    value = amplitude / peak if peak > 0 else amplitude
    colours: FloatArray = hsv_to_rgb(np.stack([hue, np.full(hue.shape, 0.85), value], axis=-1))
    return colours


@dataclass(frozen=True)
class LengthScale:
    """Pixels to a readable unit: ``value_in_unit = pixels * per_pixel``."""

    unit: str
    per_pixel: float


def length_scale(pixel_m: float | None, extent_px: float) -> LengthScale:
    """Return the unit in which ``extent_px`` pixels read well: nm, µm or mm, or px where the pixel size is unknown."""
    if pixel_m is None:
        return LengthScale("px", 1.0)
    extent_m = pixel_m * extent_px
    for unit, metres in UNITS:
        if extent_m >= 2 * metres:
            return LengthScale(unit, pixel_m / metres)
    return LengthScale("nm", pixel_m / 1e-9)


def round_length(length: float) -> float:
    """Return the largest of 1, 2, 5 × a power of ten that is not longer than ``length``."""
    power = 10.0 ** math.floor(math.log10(length))
    return next(step * power for step in (5.0, 2.0, 1.0) if step * power <= length * (1 + 1e-9))


def bar_length(pixel_m: float | None, pixels: int) -> tuple[float, str]:
    """Return a scale bar of a round length, a quarter to a third of a picture's width.

    Args:
        pixel_m: pixel size; ``None`` where unknown.
        pixels: the picture's width.

    Returns:
        Its length in pixels and its label.

    """
    if pixel_m is None:
        length = max(1.0, round_length(pixels / 3))
        return length, f"{length:g} px"
    length = round_length(pixels * pixel_m / 3)
    unit, size = next((u, v) for u, v in (*UNITS, ("nm", 0.0)) if length >= v * (1 - 1e-9))
    return length / pixel_m, f"{length / (size or 1e-9):g} {unit}"
