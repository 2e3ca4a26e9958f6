"""From what a file holds to a :class:`Measurement`: orientation, crop, binning, units, canvas and a first probe.

Patterns are brought into the frame of the solvers: zero frequency at ``[h // 2, w // 2]``, and a position whose first
(second) number grows when the patch's rows (columns) move to larger indices of the object.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ptybench import memory
from ptybench.errors import InvalidData
from ptybench.io.frames import Window, middle, turn_frames, turn_positions, widest
from ptybench.io.patternfile import for_a_file, spooled
from ptybench.io.raw import Frames, Geometry, Pair, Raw, pair
from ptybench.io.start import first_probe
from ptybench.optics.waves import far_field
from ptybench.types import BoolArray, ComplexArray, Estimate, FloatArray, Measurement, Noise, blocks

CANVAS_LIMIT_PX = 50_000
CHUNK_BYTES = 2**26
ABSURD = 1e15  # metres or pixels; what is larger overflows sooner or later


def prepare(raw: Raw, turns: tuple[str, ...] = (), crop: int | None = None, bin: int | None = None) -> Measurement:
    """Return the measurement of a file's contents.

    In the far field a crop makes the object pixel larger, ``dx = λz / (N p)``, and a bin the window smaller; in the
    near field a crop makes the window smaller and a bin the pixel larger. Positions follow.

    Args:
        raw: what the file holds.
        turns: see :func:`parse_orientation`.
        crop: central pixels to keep along both axes.
        bin: detector pixels to sum along both axes.

    Raises:
        InvalidData: where what the file holds does not fit together.
        InvalidOption: where crop or bin ask for too much.
        NotEnoughMemory: where the patterns do not fit.

    """
    _check_shapes(raw)
    cut, geometry = _Cut(raw, turns, crop, bin), raw.geometry
    bad_pixels, intensities = cut.bad_pixels(), cut.intensities()
    if bad_pixels.all():
        raise InvalidData("all detector pixels are marked as bad: there is nothing to reconstruct from")
    if not any(intensities[one].any() for one in blocks(intensities)):
        raise InvalidData("the patterns hold no photons at all: check their key, and whether good is marked as bad")
    positions, canvas, pixel = _placed(raw, cut)
    wavelength, distance = geometry.wavelength, geometry.effective_distance_m
    if geometry.near_field and None in (wavelength, distance, pixel):
        raise InvalidData("near-field data need wavelength_m, distance_m and pitch_m: give them in --geometry")
    probe = first_probe(
        intensities, bad_pixels, positions, raw.start, cut.probe(), geometry.near_field, pixel, wavelength, distance
    )
    obj = raw.initial_object
    if obj is None or obj.shape != canvas:
        obj = np.ones(canvas, np.complex64)
    return Measurement(
        intensities,
        bad_pixels,
        positions,
        Estimate(obj, probe, positions, pixel, distance),
        propagation=geometry.propagation or "far_field",
        wavelength_m=wavelength,
        distance_m=distance,
        pixel_size_m=pixel,
        pitch_m=_pitch(geometry, cut.window.bin),
        source_distance_m=geometry.source_distance_m if geometry.near_field else None,
        known_probe=raw.known_probe,
        position_error_px=raw.position_error_px,
        noise=_binned(raw.noise, cut.window.bin),
    )


def _pitch(geometry: Geometry, bin: int) -> float | None:
    """The pitch of the bins; ``None`` where it is not the same along both axes."""
    pitch = pair(geometry.pitch_m)
    return pitch[0] * bin if pitch is not None and math.isclose(*pitch, rel_tol=1e-6) else None


def _binned(noise: Noise, bin: int) -> Noise:
    """Statistics of ``bin²`` pixels summed; where one of them saturates is no longer a value of the sum."""
    saturation = noise.saturation_photons if bin == 1 else None
    return Noise(noise.background_photons * bin**2, noise.read_noise_photons * bin, saturation)


def _placed(raw: Raw, cut: _Cut) -> tuple[NDArray[np.float64], tuple[int, int], Pair | None]:
    """Positions on a canvas, its ``(H, W)``, and the object pixel in metres where known.

    Raises:
        InvalidData: where positions make no sense in pixels.
        NotEnoughMemory: where the canvas does not fit.

    """
    scale, pixel = _position_scale(raw, cut)
    # to 1e-9 px, so that metres give back whole numbers where there were whole numbers
    positions = np.round(turn_positions(np.asarray(raw.positions, np.float64), cut.turns) * scale, 9)
    check_scan(positions, cut.window.shape)
    if raw.canvas is not None and cut.untouched:
        canvas = raw.canvas
    else:
        positions, canvas = on_canvas(positions, cut.window.shape, raw.position_error_px)
    memory.require(8 * canvas[0] * canvas[1], f"an object of {canvas[0]} × {canvas[1]} px")
    return positions, canvas, pixel


def _swapped(two: Pair | None) -> Pair | None:
    return None if two is None else (two[1], two[0])


def _check_shapes(raw: Raw) -> None:
    shape = raw.patterns.shape
    if len(shape) != 3 or 0 in shape:
        raise InvalidData(
            f"expected patterns of shape (K, h, w), got {tuple(shape)}: check the keys and axes in --geometry"
        )
    if raw.patterns.dtype.kind not in "biuf":
        raise InvalidData(f"expected patterns of counts, got {raw.patterns.dtype}: check the key in --geometry")
    if raw.positions.ndim != 2 or raw.positions.shape[1] != 2:
        raise InvalidData(f"expected positions of shape (K, 2), got {raw.positions.shape}: check their key")
    if len(raw.positions) != shape[0]:
        raise InvalidData(
            f"expected one position for each of the {shape[0]} patterns, got {len(raw.positions)}: check the keys and "
            "axes in --geometry"
        )
    if not (np.abs(raw.positions) < ABSURD).all():
        raise InvalidData("some positions are NaN or beyond all reason: leave those patterns out of the file")
    for name, image in (("bad pixels", raw.bad_pixels), ("a probe", raw.probe)):
        if image is not None and image.shape[-2:] != shape[1:]:
            raise InvalidData(f"expected {name} of the patterns' shape {tuple(shape[1:])}, got {image.shape}")


def _position_scale(raw: Raw, cut: _Cut) -> tuple[FloatArray, Pair | None]:
    """Final object pixels per unit of the positions, and the final object pixel in metres where known."""
    stored = (raw.patterns.shape[1], raw.patterns.shape[2])
    sampling = raw.geometry.sampling(stored)
    if cut.turns.count("transpose") % 2:
        stored, sampling = stored[::-1], _swapped(sampling)
    n, b, near = np.array(cut.window.shape), cut.window.bin, raw.geometry.near_field
    pixel = None
    if sampling is not None:
        y, x = np.array(sampling) * b if near else 1 / (n * np.array(sampling) * b)
        pixel = float(y), float(x)
    if raw.position_unit == "px":
        return (np.full(2, 1 / b) if near else n * b / np.array(stored)), pixel
    if pixel is None:
        raise InvalidData(
            "the positions are in metres and the object pixel is unknown: give wavelength_m, distance_m and pitch_m, "
            "or pixel_size_m, in --geometry"
        )
    return 1 / np.array(pixel), pixel


class _Cut:
    """The way of one frame from the file to the solver: centring, turns, crop, bin."""

    def __init__(self, raw: Raw, turns: tuple[str, ...], crop: int | None, bin: int | None) -> None:
        self.raw, self.turns, self.near = raw, turns, raw.geometry.near_field
        self.full = self.turned(np.zeros(raw.patterns.shape[1:], np.bool_)).shape
        self.window = Window.about_zero((self.full[0], self.full[1]), crop, bin)
        self.untouched = not turns and crop is None and bin is None

    def turned(self, frames: Frames) -> Frames:
        """Frames with zero frequency in the middle, after the turns."""
        zero = self.raw.zero_frequency
        if zero == "corner":
            frames = np.fft.fftshift(frames, axes=(-2, -1))
        elif zero is not None:
            (y, h), (x, w) = (widest(n, c) for n, c in zip(frames.shape[-2:], zero, strict=True))
            frames = frames[..., y : y + h, x : x + w]
        return turn_frames(frames, self.turns, about_zero=not self.near)

    def bad_pixels(self) -> BoolArray:
        """``(h, w)``; a bin is bad where one of its pixels is."""
        stored = self.raw.bad_pixels
        if stored is None:
            return np.zeros(self.window.shape, np.bool_)
        bad = self.window.blocks(self.turned(stored)).any(axis=(-3, -1))
        return np.asarray(bad, np.bool_)

    def intensities(self) -> NDArray[np.float32]:
        """``(K, h, w)`` photons, 0 on bad pixels, read a few patterns at a time.

        Where they would fill more than a part of the memory they are written to a file, which goes with them.
        """
        count = self.raw.patterns.shape[0]
        shape = count, *self.window.shape
        if not for_a_file(shape):
            memory.require(4 * math.prod(shape), f"{count} patterns")
            photons = np.empty(shape, np.float32)
            for part, some in self._read():
                photons[part] = some
            return photons
        raw = self.raw
        whole = raw.patterns.dtype.kind in "bu" and raw.gain == 1 and not raw.offset and self.window.bin == 1
        kept = raw.patterns.dtype if whole and raw.patterns.dtype.itemsize <= 4 else np.dtype(np.float32)
        found: Any = spooled(shape, np.dtype(np.uint8) if kept.kind == "b" else kept, self._read())
        return found  # type: ignore[no-any-return]

    def _read(self) -> Iterator[tuple[slice, Frames]]:
        """Photons a few patterns at a time, and which."""
        count, h, w = self.raw.patterns.shape
        stored_bad = np.zeros((h, w), np.bool_) if self.raw.bad_pixels is None else self.raw.bad_pixels
        step = max(1, CHUNK_BYTES // (8 * h * w))
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large is found as infinite
            for start in range(0, count, step):
                part = slice(start, min(start + step, count))
                frames = self._photons(np.asarray(self.raw.patterns[part]), stored_bad)
                yield part, self.window.blocks(self.turned(frames)).sum(axis=(-3, -1))

    def _photons(self, frames: Frames, bad: BoolArray) -> Frames:
        raw = self.raw
        frames = frames.astype(np.float32 if self.window.bin == 1 and raw.gain == 1 and raw.offset == 0 else np.float64)
        frames[:, bad] = 0
        if not np.isfinite(frames).all():
            raise InvalidData("the patterns hold NaN or infinite values: mark those pixels with --bad-pixels")
        if raw.offset:
            frames = np.maximum(frames - raw.offset, 0)
            frames[:, bad] = 0
        elif (frames < 0).any():
            raise InvalidData(
                "the patterns hold negative intensities: mark those pixels with --bad-pixels, or give the patterns' "
                "offset in --geometry"
            )
        return frames * raw.gain if raw.gain != 1 else frames

    def probe(self) -> ComplexArray | None:
        """The file's probe in the window, ``(M, h, w)``."""
        if self.raw.probe is None:
            return None
        probe = np.asarray(self.raw.probe).reshape(-1, *self.raw.probe.shape[-2:])
        window = self.window
        if self.near:
            # the mean of a bin's field, times the bin for the same number of photons
            binned: ComplexArray = window.blocks(turn_frames(probe, self.turns, False)).mean(axis=(-3, -1)) * window.bin
            return binned
        probe = turn_frames(probe, self.turns, about_zero=True)
        full = (window.bin * window.shape[0], window.bin * window.shape[1])
        if full != probe.shape[-2:]:
            spectrum = far_field(probe.astype(np.complex128))
            probe = far_field(middle(spectrum, full), inverse=True)
        if window.bin == 1:
            return probe
        probe = middle(probe, window.shape)
        ramps = (
            np.exp(-2j * np.pi * offset * (np.arange(n) - n // 2) / n)
            for offset, n in zip(window.zero_offset((self.full[0], self.full[1])), window.shape, strict=True)
        )
        ramp: ComplexArray = np.multiply.outer(*ramps)
        return probe * ramp.conj()


def on_canvas(
    positions: FloatArray, shape: tuple[int, int], error_px: float
) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """Positions shifted onto a canvas with a margin of four standard deviations and one pixel, and its ``(H, W)``."""
    margin = math.ceil(4 * error_px) + 1
    placed = positions - positions.min(axis=0) + margin
    height, width = np.ceil(placed.max(axis=0)).astype(int) + shape + margin
    return placed, (int(height), int(width))


def check_scan(positions: NDArray[np.float64], shape: tuple[int, int]) -> None:
    """Raise where a scan can hardly be in pixels of the object.

    Raises:
        InvalidData: where all positions fall onto one pixel, or lie further apart than patterns are wide.

    """
    extent = np.ptp(positions, axis=0)
    hint = "check their unit, wavelength_m, distance_m and pitch_m in --geometry"
    if len(positions) > 1 and extent.max() < 1:
        raise InvalidData(f"all {len(positions)} positions lie within {extent.max():.2g} px of the object: {hint}")
    if extent.max() + max(shape) > CANVAS_LIMIT_PX:
        raise InvalidData(f"the positions span {extent[0]:.3g} × {extent[1]:.3g} px of the object: {hint}")
    if len(positions) > 1:
        apart = np.median(cKDTree(positions).query(positions, k=2)[0][:, 1])
        if apart >= max(shape):
            raise InvalidData(
                f"neighbouring positions are {apart:.3g} px apart and patterns span {shape}, so none overlap: {hint}"
            )
