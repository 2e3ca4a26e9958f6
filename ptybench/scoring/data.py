"""How well an estimate explains the patterns, those that its solver saw and those that were withheld."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ptybench.cores import usable_cores
from ptybench.errors import InvalidData
from ptybench.optics.geometry import Grid
from ptybench.optics.waves import far_field, fft, fourier_shift, near_field, ramp
from ptybench.scoring.frame import Complex, Float, continued
from ptybench.seeds import named_rng
from ptybench.types import BoolArray, ComplexArray, Estimate, FloatArray, Measurement, Withheld

# expected photons of a pixel below which a model is not believed: no detector is darker
LEAST_EXPECTED = 1e-3
# share of the probe's peak intensity that makes its footprint, and share of a footprint that others must cover
FOOTPRINT, COVERED = 0.01, 0.99
# share by which a clipped value may lie below the saturation: patterns are float32
SATURATION_ROUNDING = 1e-6
# complex numbers in one batch of exit waves, for all of it to stay in a cache
BATCH = 2**17

T = TypeVar("T")


@dataclass(frozen=True)
class DataFit:
    """Misfit of a forward pass.

    Args:
        r_factor: ``Σ|√D − √I| / Σ√I``; ``None`` where there are no photons.
        deviance: ``2 Σ[D − I + I ln(I/D)] / n``; about 1 for the truth at high counts, less below one photon a pixel.
        pixels: number ``n`` of pixels that count.

    """

    r_factor: float | None
    deviance: float | None
    pixels: int


def predict(estimate: Estimate, measurement: Measurement) -> Float:
    """Return the intensities ``(K, h, w)`` that an estimate predicts at its own positions, without background.

    ``I_k = Σ_m |D_z[P_m(r − s_k) · O_k]|²`` in complex128: the integer part of a position crops the object, its
    fraction ``s_k`` shifts the probe (Fourier), and in the near field the wave back. Beyond the canvas the object's
    border is continued.

    Raises:
        InvalidData: where the estimate's probe has another shape than the patterns.

    """
    parts, forward = _forward(estimate, measurement, np.asarray(estimate.positions_px, dtype=np.float64))
    return np.concatenate(_shared_out(forward, parts)) if parts else np.zeros((0, *measurement.shape))


def fit(
    estimate: Estimate,
    measurement: Measurement,
    intensities: FloatArray | None = None,
    positions_px: FloatArray | None = None,
) -> DataFit:
    """Return amplitude R-factor and Poisson deviance per pixel of one forward pass.

    The background that the measurement states is added to the prediction. Bad and saturated pixels are left out; the
    prediction is floored at 1e-3 photons a pixel.

    Args:
        estimate: what a solver found.
        measurement: detector and geometry, and the patterns unless others are given.
        intensities: ``(J, h, w)`` other patterns.
        positions_px: ``(J, 2)`` their positions in pixels of the estimate.

    Raises:
        InvalidData: where numbers or shapes do not fit together.

    """
    data = measurement.intensities if intensities is None else intensities
    positions = np.asarray(estimate.positions_px if positions_px is None else positions_px, dtype=np.float64)
    if len(positions) != len(data):
        raise InvalidData(f"expected one position for each of the {len(data)} patterns, got {len(positions)}")
    good = ~measurement.bad_pixels
    saturation = measurement.noise.saturation_photons
    parts, forward = _forward(estimate, measurement, positions)

    def sums(part: slice) -> tuple[float, float, float, int]:
        measured, predicted = np.asarray(data[part], dtype=np.float64), forward(part)
        counts = np.broadcast_to(good, measured.shape)
        if saturation is not None:
            counts = counts & (measured < saturation * (1 - SATURATION_ROUNDING))
        photons, model = measured[counts], predicted[counts] + measurement.noise.background_photons
        amplitudes = np.sqrt(photons)
        return (
            float(np.sum(np.abs(np.sqrt(model) - amplitudes))),
            float(np.sum(amplitudes)),
            float(np.sum(poisson_deviance(photons, model))),
            photons.size,
        )

    found = _shared_out(sums, parts)
    difference, amplitude, deviance = (math.fsum(one[i] for one in found) for i in range(3))
    pixels = sum(one[3] for one in found)
    return DataFit(difference / amplitude if amplitude > 0 else None, deviance / pixels if pixels else None, pixels)


def poisson_deviance(photons: Float, expected: Float) -> Float:
    """Return ``2 [D − I + I ln(I/D)]`` of each pixel, ``D`` floored at 1e-3 photons; never negative."""
    model = np.maximum(expected, LEAST_EXPECTED)
    ratio = np.divide(photons, model, out=np.ones_like(model), where=photons > 0)
    return np.asarray(2 * np.maximum(model - photons + photons * np.log(ratio), 0.0))


def _shared_out(work: Callable[[slice], T], parts: Sequence[slice]) -> list[T]:
    """The results of some work on each part, in order, done on all processors."""
    with ThreadPoolExecutor(len(usable_cores())) as pool:
        return list(pool.map(work, parts))


def _forward(
    estimate: Estimate, measurement: Measurement, positions: Float
) -> tuple[list[slice], Callable[[slice], Float]]:
    """Return parts of the positions, and what predicts the patterns of a part."""
    probe = np.asarray(estimate.probe, dtype=np.complex128)
    shape = measurement.shape
    if probe.shape[1:] != shape:
        raise InvalidData(
            f"expected probe modes of the patterns' shape {shape}, got {probe.shape[1:]}: the reconstruction cannot be "
            "compared with the data"
        )
    image = np.asarray(estimate.object, dtype=np.complex128)
    spectrum = fft(probe)
    # a whole number that was rounded down is still that number
    corner = np.floor(positions + 1e-6)
    fraction = positions - corner

    def predict(part: slice) -> Float:
        patches = np.stack([continued(image, c, shape) for c in corner[part]])
        moved = fraction[part]
        probes = probe
        if np.abs(moved).max() > 0:
            probes = fft(spectrum * ramp(shape, moved)[:, None], inverse=True)
        waves = _propagated(probes * patches[:, None], moved, estimate, measurement)
        intensity: Float = np.sum(waves.real**2 + waves.imag**2, axis=1)
        return intensity

    size = max(1, BATCH // max(probe.size, 1))
    return [slice(i, min(i + size, len(positions))) for i in range(0, len(positions), size)], predict


def _propagated(exit_waves: Complex, fraction: Float, estimate: Estimate, measurement: Measurement) -> Complex:
    """Return exit waves ``(B, M, h, w)`` at the detector, which stands still where the beam was shifted."""
    if measurement.propagation == "far_field":
        return far_field(exit_waves)
    pixel = estimate.pixel_size_m or measurement.pixel_size_m
    distance = measurement.distance_m if estimate.distance_m is None else estimate.distance_m
    # a measurement in the near field has all three, see check_measurement
    assert pixel is not None
    assert distance is not None
    assert measurement.wavelength_m is not None
    waves = near_field(exit_waves, Grid(measurement.shape, pixel), measurement.wavelength_m, distance, pad=1)
    return fourier_shift(waves, -fraction[:, None])


def withheld_positions(estimate: Estimate, measurement: Measurement, withheld: Withheld) -> Float:
    """Return ``(J, 2)`` where the withheld patterns lie in the estimate: nominal plus its median correction.

    Args:
        estimate: what a solver found on the patterns used.
        measurement: the patterns used, in the estimate's order.
        withheld: the others.

    """
    own, nominal = estimate.pixel_size_m, measurement.pixel_size_m
    ratio = np.divide(nominal, own) if own is not None and nominal is not None else np.ones(2)
    half = np.array(measurement.shape) // 2

    def in_estimate(positions: FloatArray) -> Float:
        return np.asarray((positions + half) * ratio - half)

    correction = np.median(estimate.positions_px - in_estimate(measurement.positions_px), axis=0)
    return in_estimate(withheld.positions_px) + correction


def all_positions(estimate: Estimate, measurement: Measurement, withheld: Withheld) -> Float:
    """Return ``(K, 2)`` where every pattern of the whole measurement lies in the estimate, used or withheld."""
    positions = np.empty((len(withheld.used) + len(withheld.indices), 2))
    positions[withheld.used] = estimate.positions_px
    positions[withheld.indices] = withheld_positions(estimate, measurement, withheld)
    return positions


def split_withheld(measurement: Measurement, fraction: float) -> tuple[Measurement, Withheld | None]:
    """Return the measurement without some of its patterns, and these.

    They are chosen by a hash of the data, among patterns whose footprint (initial probe at 1 % of its peak intensity)
    the patterns left cover to 99 %.

    Args:
        measurement: all patterns.
        fraction: share to withhold; less is withheld where the scan does not overlap enough.

    Returns:
        What a solver may see, and what it may not; ``None`` where nothing is withheld.

    """
    count = len(measurement.intensities)
    wanted = max(1, round(fraction * count)) if fraction > 0 else 0
    footprint, cover = _coverage(measurement)
    views = [_view(position, measurement.shape) for position in measurement.positions_px]
    taken: list[int] = []
    for k in named_rng(measurement.digest(), "withheld").permutation(count).tolist() if wanted else []:
        if len(taken) == wanted:
            break
        cover[views[k]] -= footprint
        near = [j for j in taken if _touch(measurement, j, k)]
        if all(np.mean(cover[views[j]][footprint] > 0) >= COVERED for j in [k, *near]):
            taken.append(k)
        else:
            cover[views[k]] += footprint
    if not taken:
        return measurement, None
    out = np.sort(np.array(taken, dtype=np.intp))
    used = np.setdiff1d(np.arange(count, dtype=np.intp), out)
    withheld = Withheld(measurement.intensities[out], measurement.positions_px[out], used, out)
    return measurement.subset(used), withheld


def split_halves(measurement: Measurement) -> tuple[np.ndarray[tuple[int], np.dtype[np.intp]], ...]:
    """Return the indices of two halves of the patterns: of each pair of neighbours in the scan, one goes to either.

    A hash of the data decides which, so that both halves cover the field and no regular grid is thinned to another.
    """
    count = len(measurement.intensities)
    first = np.arange(0, count - 1, 2)
    swap = named_rng(measurement.digest(), "halves").integers(0, 2, size=len(first))
    a, b = first + swap, first + 1 - swap
    if count % 2:
        a = np.append(a, count - 1)
    return np.asarray(a, dtype=np.intp), np.asarray(b, dtype=np.intp)


def dose(estimate: Estimate) -> Float:
    """Return ``(H, W)`` the photons per object pixel over the scan, ``Σ_k |P(r − r_k)|²``, at rounded positions."""
    intensity = np.sum(np.abs(np.asarray(estimate.probe, dtype=np.complex128)) ** 2, axis=0)
    h, w = intensity.shape
    total = np.zeros((estimate.object.shape[0] + 2 * h, estimate.object.shape[1] + 2 * w))
    for y, x in np.rint(estimate.positions_px).astype(int):
        # positions may have run away from the canvas: what lies outside is cut off
        y, x = int(np.clip(y + h, 0, total.shape[0] - h)), int(np.clip(x + w, 0, total.shape[1] - w))
        total[y : y + h, x : x + w] += intensity
    return total[h:-h, w:-w]


def _view(position: Float, shape: tuple[int, int]) -> tuple[slice, slice]:
    y, x = (round(float(p)) for p in position)
    return slice(y, y + shape[0]), slice(x, x + shape[1])


def _touch(measurement: Measurement, j: int, k: int) -> bool:
    """Return whether two patterns' windows overlap."""
    apart = np.abs(measurement.positions_px[j] - measurement.positions_px[k])
    return bool((apart < np.array(measurement.shape)).all())


def _coverage(measurement: Measurement) -> tuple[BoolArray, np.ndarray[tuple[int, int], np.dtype[np.intp]]]:
    """Return the footprint ``(h, w)`` and the number of patterns that cover each object pixel."""
    footprint = _footprint(measurement.initial.probe)
    cover = np.zeros((measurement.canvas[0] + 1, measurement.canvas[1] + 1), dtype=np.intp)
    for position in measurement.positions_px:
        cover[_view(position, measurement.shape)] += footprint
    return footprint, cover


def _footprint(probe: ComplexArray) -> BoolArray:
    intensity = np.sum(np.abs(probe) ** 2, axis=0)
    return np.asarray(intensity >= FOOTPRINT * float(intensity.max()))
