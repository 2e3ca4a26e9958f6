"""The types that travel: what a solver may see, what only the simulator and the scorer know, what a solver found.

Axes are ``(y, x)``; ``K`` positions, ``M`` probe modes, ``(H, W)`` object, ``(h, w)`` pattern and probe. Lengths are
metres, angles radians, intensities photons. A position is the top-left corner of its patch, in object pixels, sub-pixel
allowed; the centre of a patch is ``position + (h // 2, w // 2)``, as the pixel of zero frequency is of a pattern.
The solver's measurement and the truth share one physical origin, the top-left corner of the nominal canvas.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptybench.errors import InvalidData

Propagation = Literal["far_field", "near_field"]
ComplexArray = NDArray[np.complexfloating[Any, Any]]
FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]
BLOCK_BYTES = 2**22  # of patterns that are looked at together where all of them are


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a solver found, or starts from.

    Args:
        object: ``(H, W)`` complex transmission.
        probe: ``(M, h, w)`` complex modes in square-root photons, strongest first.
        positions_px: ``(K, 2)`` in pixels of this object.
        pixel_size_m: ``(dy, dx)`` of the object; ``None`` where unknown.
        distance_m: effective propagation distance; ``None`` where unknown.

    """

    object: ComplexArray
    probe: ComplexArray
    positions_px: FloatArray
    pixel_size_m: tuple[float, float] | None = None
    distance_m: float | None = None


@dataclass(frozen=True)
class Noise:
    """Photon statistics of the detector as its operator would state them.

    Args:
        background_photons: mean background per pixel, ``0`` where unknown.
        read_noise_photons: standard deviation of the read-out noise.
        saturation_photons: value at which a pixel clips; ``None`` where it does not.

    """

    background_photons: float = 0.0
    read_noise_photons: float = 0.0
    saturation_photons: float | None = None


@dataclass(frozen=True, eq=False)
class Measurement:
    """All that a solver may see.

    Args:
        intensities: ``(K, h, w)`` float32 photons, zero frequency at ``[h // 2, w // 2]`` in the far field; an array,
            or a :class:`~ptybench.io.patternfile.PatternFile`, which is read where it is asked for.
        bad_pixels: ``(h, w)`` boolean, true where the detector cannot be trusted.
        positions_px: ``(K, 2)`` nominal positions.
        initial: where to start; its object gives the canvas ``(H, W)``.
        propagation: ``"far_field"`` or ``"near_field"``.
        wavelength_m: nominal wavelength; ``None`` where unknown (far field only).
        distance_m: nominal effective distance ``z`` (``z2 / M`` in a diverging beam); ``None`` where unknown.
        pixel_size_m: nominal ``(dy, dx)`` of the object; ``None`` where unknown.
        pitch_m: detector pitch, ``None`` where unknown.
        source_distance_m: focus to specimen in a diverging beam in the near field; ``None`` in a parallel beam.
        known_probe: true where ``initial.probe`` is exact and is not to be refined.
        position_error_px: declared standard deviation of the error of the nominal positions.
        noise: photon statistics.

    Raises:
        InvalidData: where shapes, values or positions do not fit together.

    """

    intensities: NDArray[np.float32]
    bad_pixels: BoolArray
    positions_px: FloatArray
    initial: Estimate
    propagation: Propagation = "far_field"
    wavelength_m: float | None = None
    distance_m: float | None = None
    pixel_size_m: tuple[float, float] | None = None
    pitch_m: float | None = None
    source_distance_m: float | None = None
    known_probe: bool = False
    position_error_px: float = 0.0
    noise: Noise = field(default_factory=Noise)

    def __post_init__(self) -> None:
        """Refuse what does not fit together, in one sentence."""
        check_measurement(self)

    @property
    def shape(self) -> tuple[int, int]:
        """Pattern shape ``(h, w)``."""
        return self.intensities.shape[1], self.intensities.shape[2]

    @property
    def canvas(self) -> tuple[int, int]:
        """Object shape ``(H, W)``."""
        return self.initial.object.shape[0], self.initial.object.shape[1]

    def subset(self, indices: NDArray[np.intp]) -> Measurement:
        """Return the measurement with these patterns only, in this order."""
        initial = replace(self.initial, positions_px=self.initial.positions_px[indices])
        return replace(
            self,
            intensities=self.intensities[indices],
            positions_px=self.positions_px[indices],
            initial=initial,
        )

    def digest(self) -> str:
        """SHA-256 of the patterns and positions, as a name for data that has no task."""
        sha = hashlib.sha256()
        for part in blocks(self.intensities):
            sha.update(np.ascontiguousarray(self.intensities[part]).data)
        sha.update(np.ascontiguousarray(self.positions_px).tobytes())
        return sha.hexdigest()


def blocks(frames: NDArray[Any]) -> Iterator[slice]:
    """All frames ``(K, h, w)`` in pieces of about 4 MiB."""
    step = max(1, BLOCK_BYTES // max(1, math.prod(frames.shape[1:]) * 4))
    for start in range(0, len(frames), step):
        yield slice(start, min(start + step, len(frames)))


def check_measurement(m: Measurement) -> None:
    """Raise :class:`InvalidData` where a measurement contradicts itself."""
    if m.intensities.ndim != 3 or 0 in m.intensities.shape:
        raise InvalidData(f"expected patterns of shape (K, h, w), got {m.intensities.shape}")
    count, h, w = m.intensities.shape
    if m.positions_px.shape != (count, 2):
        raise InvalidData(
            f"expected one (y, x) position for each of the {count} patterns, got positions of shape "
            f"{m.positions_px.shape}"
        )
    if m.bad_pixels.shape != (h, w):
        raise InvalidData(f"expected bad pixels of the pattern's shape {(h, w)}, got {m.bad_pixels.shape}")
    good = ~m.bad_pixels
    if not good.any():
        raise InvalidData("all detector pixels are marked as bad: there is nothing to reconstruct from")
    # NaN passes through both extremes, so that no copy of the patterns is needed
    low, high = np.full((h, w), np.inf, np.float32), np.full((h, w), -np.inf, np.float32)
    for part in blocks(m.intensities):
        frames = m.intensities[part]
        np.minimum(low, frames.min(axis=0), out=low)
        np.maximum(high, frames.max(axis=0), out=high)
    lowest, highest = low[good], high[good]
    if not (np.isfinite(lowest).all() and np.isfinite(highest).all()):
        raise InvalidData("the patterns hold NaN or infinite values: mark those pixels in bad_pixels")
    if (lowest < 0).any():
        raise InvalidData("the patterns hold negative intensities: subtract less background, or clip at 0")
    if not highest.any():
        raise InvalidData("the patterns hold no photons at all")
    if not np.isfinite(m.positions_px).all():
        raise InvalidData("the positions hold NaN or infinite values")
    if m.initial.probe.ndim != 3 or m.initial.probe.shape[1:] != (h, w):
        raise InvalidData(f"expected probe modes of shape (M, {h}, {w}), got {m.initial.probe.shape}")
    first, last = m.positions_px.min(axis=0), m.positions_px.max(axis=0)
    room = np.array(m.canvas) - (h, w)
    if (first < 0).any() or (last > room).any():
        raise InvalidData(
            f"positions from {first.round(2).tolist()} to {last.round(2).tolist()} px do not fit on a canvas of "
            f"{m.canvas} with patterns of {(h, w)}"
        )
    if m.propagation == "near_field" and None in (m.wavelength_m, m.distance_m, m.pixel_size_m):
        raise InvalidData("near-field data need wavelength, distance and pixel size: give them in --geometry")


@dataclass(frozen=True)
class Gauges:
    """The ambiguities that a task leaves open; the scorer removes exactly these.

    Args:
        scale: object times ``c``, probe divided by ``c``; where false only the global phase is free.
        shift: object, probe and positions translated together.
        ramp: linear phase on the object and its inverse on the probe.

    """

    scale: bool = True
    shift: bool = True
    ramp: bool = True


@dataclass(frozen=True, eq=False)
class Truth:
    """What only the simulator and the scorer know.

    Args:
        object: ``(H, W)`` complex128, band-limited to the solver's grid (true pixel size).
        probe: ``(M, h, w)`` complex128 modes in square-root photons.
        positions_px: ``(K, 2)`` true positions.
        expected: ``(K, h, w)`` expected photons, with point spread and background, without noise.
        dose: ``(H, W)`` expected photons per object pixel over the whole scan.
        pixel_size_m: true ``(dy, dx)``.
        distance_m: true effective distance.
        wavelength_m: true wavelength.
        gauges: what scoring removes.
        amplitude_range: data range of the amplitude, a constant of the task.
        phase_range_rad: data range of the phase, a constant of the task.
        background_photons: mean background in ``expected``.
        facts: what was measured on the simulation (overlap, dose, energy on the detector, …), for cards and records.

    """

    object: NDArray[np.complex128]
    probe: NDArray[np.complex128]
    positions_px: FloatArray
    expected: NDArray[np.float64]
    dose: NDArray[np.float64]
    pixel_size_m: tuple[float, float]
    distance_m: float
    wavelength_m: float
    gauges: Gauges = field(default_factory=Gauges)
    amplitude_range: float = 1.0
    phase_range_rad: float = 1.0
    background_photons: float = 0.0
    facts: dict[str, float] = field(default_factory=dict)

    @cached_property
    def scored(self) -> BoolArray:
        """``(H, W)`` where the dose is at least 1 % of its maximum."""
        scored: BoolArray = self.dose >= 0.01 * self.dose.max()
        return scored


@dataclass(frozen=True, eq=False)
class Withheld:
    """Patterns of a measurement that its solver never sees.

    Args:
        intensities: ``(J, h, w)`` photons.
        positions_px: ``(J, 2)`` nominal positions on the same canvas.
        used: ``(K,)`` indices of the patterns that the solver saw, in the full measurement.
        indices: ``(J,)`` indices of these patterns in the full measurement.

    """

    intensities: NDArray[np.float32]
    positions_px: FloatArray
    used: NDArray[np.intp]
    indices: NDArray[np.intp]
