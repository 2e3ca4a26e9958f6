"""Removing the ambiguities of ptychography from an estimate, exactly those that the task leaves open and no more.

``O'(r) = c · exp(i b·r) · X(r − s)`` and ``P'(r) = exp(−i b·r) · P(r − s) / c`` explain the same patterns as ``X`` and
``P``. The gauge is the one that minimises ``Σ |O' − O|²`` over the scored pixels: ``c`` in closed form (variable
projection, Golub & Pereyra 2003, 10.1088/0266-5611/19/2/201), ``s`` and ``b`` by Levenberg–Marquardt from the best
start. Phases are never unwrapped, conjugates and flips never tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from ptybench.cores import usable_cores
from ptybench.scoring.frame import Complex, Float, Placed, continued, place
from ptybench.scoring.frc import soft_window
from ptybench.types import BoolArray, ComplexArray, Estimate, Gauges, Truth

# around the mask: pixels kept (wider than an SSIM window), then pixels over which the image fades to its mean
KEPT, FADING = 12, 24
# share of the way from the border of an image to the mask over which it fades, where there is less room
BORDER = 0.75
# contrast relative to the mean below which an image is flat: complex64 rounding is 1e-7, no dose shows 1e-5
FLAT = 1e-5
# correlation above which no other start can be better
LOCKED = 0.9
TINY = float(np.finfo(float).tiny)
SHIFT_TOLERANCE_PX, RAMP_TOLERANCE_RAD = 1e-5, 1e-6
# steps that rank the starts, and steps that bring the best of them to its end
FEW_STEPS, MAX_STEPS = 5, 25
# side of the scored pixels from which on the starts are ranked on pixels of twice the size
LARGE = 200


class Gauge(NamedTuple):
    """What moves an image: shift in pixels, linear phase in rad per pixel, each ``(y, x)``, and the complex factor."""

    shift: Float
    ramp: Float
    factor: complex = 1.0 + 0.0j


IDENTITY = Gauge(np.zeros(2), np.zeros(2))


@dataclass(frozen=True, eq=False)
class Aligned:
    """An estimate in the gauge of the truth, and what was removed.

    Args:
        object: ``(H, W)`` on the truth's canvas.
        probe: ``(M, h, w)`` modes on the truth's pixels.
        gauge: shift of object and probe against the positions, ramp about the canvas centre, complex factor.
        frame_offset_px: ``(y, x)`` by which object and positions together lay elsewhere.
        residual: ``Σ|O' − O|² / Σ|O|²`` over scored pixels.

    """

    object: Complex
    probe: Complex
    gauge: Gauge
    frame_offset_px: Float
    residual: float

    def found(self) -> dict[str, float]:
        """Return what was removed, for a record; also a ``start`` for the next alignment."""
        return {
            "shift_y_px": float(self.gauge.shift[0]),
            "shift_x_px": float(self.gauge.shift[1]),
            "ramp_y_rad_px": float(self.gauge.ramp[0]),
            "ramp_x_rad_px": float(self.gauge.ramp[1]),
            "scale": abs(self.gauge.factor),
            "phase_rad": float(np.angle(self.gauge.factor)),
            "frame_offset_y_px": float(self.frame_offset_px[0]),
            "frame_offset_x_px": float(self.frame_offset_px[1]),
        }


def align(estimate: Estimate, truth: Truth, start: Mapping[str, float] | None = None) -> Aligned:
    """Return an estimate in the truth's frame and gauge.

    The shift is capped at a quarter of the pattern, the ramp at π over the diameter that holds 95 % of the true probe.

    Args:
        estimate: what a solver found; its positions must be those of the truth, pattern by pattern.
        truth: the truth.
        start: :meth:`Aligned.found` of an earlier alignment, one more place to start from.

    Raises:
        InvalidData: where the positions do not match, or the estimate holds NaN.

    """
    from ptybench.optics.probes import diameter_px

    shape = truth.probe.shape[-2], truth.probe.shape[-1]
    centres = np.asarray(truth.positions_px) + np.array(shape) // 2
    placed, probe, offset = place(estimate, centres, truth.pixel_size_m, shape)
    caps = (np.array(shape) / 4, math.pi / max(diameter_px(truth.probe), 1.0))
    image, gauge, residual = register(placed, truth.object, truth.scored, truth.gauges, caps, start)
    return Aligned(image, moved_probe(probe, gauge), gauge, offset, residual)


def register(
    moving: Placed,
    fixed: ComplexArray,
    mask: BoolArray,
    free: Gauges,
    caps: tuple[Float, float],
    start: Mapping[str, float] | None = None,
) -> tuple[Complex, Gauge, float]:
    """Return a moving image in the gauge of a fixed one, the gauge, and the relative residual.

    Args:
        moving: the image and where it lies.
        fixed: ``(H, W)`` reference.
        mask: ``(H, W)``, the pixels that count.
        free: what may be removed.
        caps: largest shift in pixels ``(y, x)`` and largest ramp in rad/px.
        start: one more place to start from.

    """
    with scipy.fft.set_workers(len(usable_cores())):
        registration = Registration(moving, fixed, mask, free, caps)
        gauge = registration.solve(_started(start))
        image = registration.whole_canvas(gauge)
    target = np.asarray(fixed, dtype=np.complex128)[mask]
    factor = registration.factor(image[mask], target)
    image = image * factor
    error = float(np.sum(np.abs(image[mask] - target) ** 2)) / max(float(np.sum(np.abs(target) ** 2)), TINY)
    return image, gauge._replace(factor=factor), error


def moved_probe(probe: Complex, gauge: Gauge) -> Complex:
    """Return probe modes under the inverse ramp and factor and under the same shift as the object."""
    y, x = (np.arange(n) - n // 2 for n in probe.shape[1:])
    flat = probe * np.exp(-1j * (gauge.ramp[0] * y[:, None] + gauge.ramp[1] * x))
    if np.abs(gauge.shift).max() > SHIFT_TOLERANCE_PX:
        flat = scipy.fft.ifft2(scipy.fft.fft2(flat) * _translation(probe.shape[1:], gauge.shift))
    return np.asarray(flat / gauge.factor if gauge.factor != 0 else flat)


def _translation(shape: tuple[int, ...], shift: Float) -> Complex:
    """Return the spectrum of a translation."""
    y, x = (np.exp(-2j * np.pi * np.fft.fftfreq(n) * s) for n, s in zip(shape, shift, strict=True))
    return np.asarray(y[:, None] * x)


class _Fit(NamedTuple):
    """A linearised model at one gauge: misfit relative to the target's energy, gradient and curvature."""

    gauge: Gauge
    misfit: float
    correlation: float
    gradient: Float
    curvature: Float


class Registration:
    """The least-squares problem of one pair of images, on a window around the mask."""

    def __init__(
        self, moving: Placed, fixed: ComplexArray, mask: BoolArray, free: Gauges, caps: tuple[Float, float]
    ) -> None:
        self._given = moving, fixed, mask
        self.moving, self.free = moving, free
        self.max_shift, self.max_ramp = caps
        self.canvas = mask.shape
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        margin = KEPT + FADING
        self.corner = np.array([rows[0], columns[0]]) - margin
        extent = (rows[-1] - rows[0] + 1 + 2 * margin, columns[-1] - columns[0] + 1 + 2 * margin)
        self.shape = (scipy.fft.next_fast_len(int(extent[0])), scipy.fft.next_fast_len(int(extent[1])))
        self.mask = np.zeros(self.shape, dtype=bool)
        inner = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        self.mask[margin : margin + inner.shape[0], margin : margin + inner.shape[1]] = inner
        # a soft edge: at a hard one the image's noise would come and go with the shift
        self.weight = soft_window(self.mask)[self.mask]
        self.box = [(margin, margin + n - 1) for n in inner.shape]
        distance = distance_transform_edt(~self.mask)
        self.fade = np.cos(np.pi / 2 * np.clip((distance - KEPT) / FADING, 0, 1)) ** 2
        # coordinates about the centre of the canvas
        self.y, self.x = (
            (np.arange(n) + c - (size - 1) / 2)[:, None] if axis == 0 else np.arange(n) + c - (size - 1) / 2
            for axis, (n, c, size) in enumerate(zip(self.shape, self.corner, self.canvas, strict=True))
        )
        inside = np.nonzero(self.mask)
        self.inside = (self.y[inside[0], 0], self.x[inside[1]])
        self._at = np.flatnonzero(self.mask)
        # a step of one in the fit's ramp parameters turns the phase by 1 rad at this distance, in pixels
        self.reach = max(math.hypot(*(float(np.std(c)) for c in self.inside)), 1.0)
        self.truth = np.asarray(continued(fixed, self.corner, self.shape), dtype=np.complex128)
        self.filter_by(np.ones(self.shape))

    # -- the model ---------------------------------------------------------------------------------------------

    def factor(self, image: Complex, target: Complex) -> complex:
        """Return the best ``c``: any complex number, or of modulus one where the scale is no gauge."""
        overlap, power = np.vdot(image, target), np.vdot(image, image).real
        if self.free.scale:
            return complex(overlap / power) if power > 0 else 0j
        return complex(overlap / abs(overlap)) if abs(overlap) > 0 else 1 + 0j

    def _seen(self, image: Complex) -> Complex:
        """The pixels of the mask, which takes a third of the time that indexing by it does."""
        return image.ravel()[self._at]

    def window(self, gauge: Gauge) -> tuple[Complex, Float]:
        """Return the moving image over the window, ramp removed, shifted by whole pixels, and the fraction left."""
        total = self.moving.corner + gauge.shift
        whole = np.rint(total)
        fraction = total - whole
        fraction[np.abs(fraction) < 1e-12] = 0.0
        cut = continued(self.moving.array, self.corner - whole, self.shape)
        ramp_y, ramp_x = gauge.ramp
        if ramp_y or ramp_x:
            cut = cut * (np.exp(1j * ramp_y * (self.y + fraction[0])) * np.exp(1j * ramp_x * (self.x + fraction[1])))
        return np.asarray(cut, dtype=np.complex128), fraction

    def spectrum(self, gauge: Gauge) -> Complex:
        """Return the transform of the moved image, faded so that nothing rings."""
        cut, fraction = self.window(gauge)
        fade = self.fade * self._border(np.rint(self.moving.corner + gauge.shift), self.moving.array.shape)
        return np.asarray(scipy.fft.fft2(self.faded(cut, fade)) * _translation(self.shape, fraction))

    def filter_by(self, transmission: Float) -> None:
        """Compare both images through a filter, real and given in FFT order."""
        self.filter = transmission
        fade = self.fade * self._border(np.zeros(2), self.canvas)
        spectrum = scipy.fft.fft2(self.faded(self.truth, fade)) * transmission
        self.target = self._seen(scipy.fft.ifft2(spectrum)) * self.weight
        self.energy = max(float(np.sum(np.abs(self.target) ** 2)), TINY)
        self.target_jacobian = self._jacobian(spectrum, self.target)

    def wiener(self, gauge: Gauge) -> Float:
        """Return the filter ``P_O / (P_O + P_error)`` from the power spectra, ring by ring, at a gauge.

        Noise beyond the band of the truth says nothing about the gauge, but its power in the window changes with the
        shift as it crosses the edge.
        """
        truth, image = self.truth[self.mask], scipy.fft.ifft2(self.spectrum(gauge))[self.mask]
        fy, fx = (np.fft.fftfreq(n) for n in self.shape)
        ring = np.rint(np.hypot(fy[:, None], fx) * min(self.shape)).astype(np.intp)

        def power(values: Complex) -> Float:
            windowed = np.zeros(self.shape, dtype=np.complex128)
            windowed[self.mask] = values * self.weight
            sums = np.bincount(ring.ravel(), np.abs(scipy.fft.fft2(windowed)).ravel() ** 2)
            return np.asarray(sums, dtype=np.float64)

        signal = power(truth - truth.mean())
        error = power(self.factor(image, truth) * image - truth)
        share = np.divide(signal, signal + error, out=np.zeros_like(signal), where=signal > 0)
        share[0] = 1.0  # the mean anchors the ramp
        return np.asarray(share[ring])

    def faded(self, image: Complex, fade: Float) -> Complex:
        """Return an image that fades to its mean."""
        mean = image[self.mask].mean()
        return np.asarray(mean + fade * (image - mean))

    def _border(self, corner: Float, shape: tuple[int, ...]) -> Float:
        """Return a fade between the mask's bounding box and the border of an image, ``(h, w)``, product of two axes."""
        axes = []
        for n, low, size, (first, last) in zip(self.shape, corner - self.corner, shape, self.box, strict=True):
            i = np.arange(n)
            before = (i - low) / max(first - low, 1.0)
            after = (low + size - 1 - i) / max(low + size - 1 - last, 1.0)
            inside = np.where(i < first, before, np.where(i > last, after, 1.0))
            axes.append(np.sin(np.pi / 2 * np.clip(inside / BORDER, 0, 1)) ** 2)
        return np.asarray(axes[0][:, None] * axes[1])

    def linearise(self, gauge: Gauge) -> _Fit:
        """Return misfit, gradient and Gauss–Newton curvature at a gauge, ``c`` projected out (Kaufman)."""
        spectrum = self.spectrum(gauge) * self.filter
        image = self._seen(scipy.fft.ifft2(spectrum)) * self.weight
        c = self.factor(image, self.target)
        residual = c * image - self.target
        jacobian = self._jacobian(spectrum, image)
        jacobian *= c
        # the real part of a complex product is the product of the parts side by side
        slopes = jacobian.view(np.float64)
        gradient = slopes @ residual.view(np.float64) / self.energy
        curvature = slopes @ slopes.T / self.energy
        cross = slopes @ self.target_jacobian.view(np.float64).T / self.energy
        # the image's noise makes J*J too steep; against the truth's slopes it averages out (full Newton to first order)
        scale = 1 / np.sqrt(np.maximum(np.diag(curvature), 1e-14))
        cross = scale[:, None] * (cross + cross.T) / 2 * scale
        if np.linalg.eigvalsh(cross)[0] > 1e-3:
            curvature = cross / scale[:, None] / scale
        misfit = float(np.vdot(residual, residual).real) / self.energy
        return _Fit(gauge, misfit, _correlation(image, self.target), gradient, curvature)

    def _jacobian(self, spectrum: Complex, image: Complex) -> Complex:
        """Return the slopes ``(parameters, pixels)`` of an image without what the factor can make up for."""
        columns = []
        if self.free.shift:
            for axis, n in enumerate(self.shape):
                k = -2j * np.pi * np.fft.fftfreq(n)
                slope = scipy.fft.ifft2(spectrum * (k[:, None] if axis == 0 else k))
                columns.append(self._seen(slope) * self.weight)
        if self.free.ramp:
            columns += [1j * coordinate / self.reach * image for coordinate in self.inside]
        slopes = np.array(columns, dtype=np.complex128).reshape(len(columns), image.size)
        along = slopes @ image.conj() / max(float(np.vdot(image, image).real), TINY)
        # with the modulus of c fixed only a turn of the phase can be made up for
        return np.asarray(slopes - np.outer(along if self.free.scale else 1j * along.imag, image))

    def whole_canvas(self, gauge: Gauge) -> Complex:
        """Return the moved image on the whole canvas, without the factor."""
        cut, fraction = self.window(gauge)
        image = self._whole_pixels(gauge)
        if np.abs(fraction).max() == 0:
            return image
        moved = scipy.fft.ifft2(self.spectrum(gauge))
        fade = self.fade * self._border(np.rint(self.moving.corner + gauge.shift), self.moving.array.shape)
        blended = cut + fade * (moved - cut)
        low = np.maximum(self.corner, 0)
        high = np.minimum(self.corner + self.shape, self.canvas)
        here = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        there = tuple(slice(a, b) for a, b in zip(low - self.corner, high - self.corner, strict=True))
        image[here] = blended[there]
        return image

    def _whole_pixels(self, gauge: Gauge) -> Complex:
        """Return the moved image with the shift rounded, on the whole canvas."""
        whole = np.rint(self.moving.corner + gauge.shift)
        image = continued(self.moving.array, -whole, (self.canvas[0], self.canvas[1]))
        y, x = (np.arange(n) - (n - 1) / 2 for n in self.canvas)
        return np.asarray(image * np.exp(1j * (gauge.ramp[0] * y[:, None] + gauge.ramp[1] * x)))

    # -- the search --------------------------------------------------------------------------------------------

    def solve(self, starts: Sequence[Gauge]) -> Gauge:
        """Return the gauge of the lowest misfit over these starts and those found in the images."""
        if not (self.free.shift or self.free.ramp):
            return IDENTITY
        flat = self._flat(IDENTITY)
        if flat is not None:
            return flat
        best = self.refine(self.nearest(starts), MAX_STEPS)
        self.filter_by(self.wiener(best.gauge))
        return self.refine(best.gauge, MAX_STEPS).gauge

    def nearest(self, starts: Sequence[Gauge]) -> Gauge:
        """Return a gauge in the basin of the lowest misfit; of large images by way of pixels of twice the size."""
        if (half := self.halved()) is not None:
            near = half.nearest([Gauge(start.shift / 2, start.ramp * 2) for start in starts])
            return Gauge(near.shift * 2, near.ramp / 2)
        best = min((self.refine(self._capped(gauge), FEW_STEPS) for gauge in starts), key=lambda fit: fit.misfit)
        for gauge in self.candidates():
            if best.correlation >= LOCKED:
                break
            best = min(best, self.refine(gauge, FEW_STEPS), key=lambda fit: fit.misfit)
        return best.gauge

    def halved(self) -> Registration | None:
        """Return the same problem on means of 2 x 2 pixels, ``None`` of images that are not large."""
        if min(last - first + 1 for first, last in self.box) < LARGE:
            return None
        image, fixed, mask = self._given
        halves = halved(mask.astype(np.float64)) == 1.0
        if 8 * np.count_nonzero(halves) < np.count_nonzero(mask):
            return None  # no pixel of a filigree mask would be left
        moving = Placed(halved(image.array), image.corner / 2)
        return Registration(moving, halved(fixed), halves, self.free, (self.max_shift / 2, self.max_ramp * 2))

    def refine(self, gauge: Gauge, steps: int) -> _Fit:
        """Return the fit after some steps towards the nearest minimum (Levenberg–Marquardt)."""
        fit = self.linearise(gauge)
        damping = 1e-3
        for _ in range(steps):
            scale = np.maximum(np.diag(fit.curvature), 1e-14)
            step = -np.linalg.solve(fit.curvature + damping * np.diag(scale), fit.gradient)
            trial = self._stepped(fit.gauge, np.asarray(step))
            moved = np.abs(trial.shift - fit.gauge.shift).max()
            turned = np.abs(trial.ramp - fit.gauge.ramp).max() * self.reach
            if moved < SHIFT_TOLERANCE_PX and turned < RAMP_TOLERANCE_RAD:
                break
            candidate = self.linearise(trial)
            if candidate.misfit <= fit.misfit:
                fit, damping = candidate, damping / 10
            else:
                damping *= 10
        return fit

    def _stepped(self, gauge: Gauge, step: Float) -> Gauge:
        shift, ramp = gauge.shift, gauge.ramp
        if self.free.shift:
            # one pixel at a time: the model is no longer linear beyond
            shift = shift + np.clip(step[:2], -1, 1)
        if self.free.ramp:
            ramp = ramp + np.clip(step[-2:], -1, 1) / self.reach
        return self._capped(gauge._replace(shift=shift, ramp=ramp))

    def _capped(self, gauge: Gauge) -> Gauge:
        shift = np.clip(gauge.shift, -self.max_shift, self.max_shift) if self.free.shift else np.zeros(2)
        length = float(np.hypot(*gauge.ramp))
        ramp = gauge.ramp * min(1.0, self.max_ramp / max(length, 1e-300)) if self.free.ramp else np.zeros(2)
        return Gauge(shift, ramp)

    def _flat(self, identity: Gauge) -> Gauge | None:
        """Return the gauge of an image without contrast, whose own ramp is all it can have; else ``None``."""
        cut, _ = self.window(identity)
        ramp, contrast = [], 0.0
        for product, mask in self._neighbours(cut):
            values = product[mask]
            mean = values.mean() if values.size else 0.0
            power = float(np.mean(np.abs(values) ** 2)) if values.size else 0.0
            contrast = max(contrast, float(np.mean(np.abs(values - mean) ** 2)) / power if power > 0 else 0.0)
            ramp.append(-float(np.angle(mean)))
        if contrast > FLAT**2:
            return None
        return self._capped(Gauge(np.zeros(2), np.array(ramp)))

    def _neighbours(self, image: Complex) -> Iterator[tuple[Complex, BoolArray]]:
        """Yield ``image(r + e) · image(r)*`` along each axis, in which a ramp is a constant, and where it counts."""
        yield image[1:] * image[:-1].conj(), self.mask[1:] & self.mask[:-1]
        yield image[:, 1:] * image[:, :-1].conj(), self.mask[:, 1:] & self.mask[:, :-1]

    def candidates(self) -> Iterator[Gauge]:
        """Yield starts from the whole range of gauges: ramp first, then shift; and shift first, blind to ramps."""
        gauge = IDENTITY
        for _ in range(2):
            gauge = gauge._replace(ramp=self.ramp_peak(gauge))
            gauge = gauge._replace(shift=self.shift_peak(gauge))
        yield gauge
        if self.free.shift and self.free.ramp:
            gauge = IDENTITY._replace(shift=self.shift_peak(IDENTITY, blind=True))
            yield gauge._replace(ramp=self.ramp_peak(gauge))

    def ramp_peak(self, gauge: Gauge) -> Float:
        """Return the ramp of the strongest line in the spectrum of ``X* · O`` over the mask."""
        if not self.free.ramp:
            return gauge.ramp
        cut, _ = self.window(gauge._replace(ramp=np.zeros(2)))
        product = np.zeros(self.shape, dtype=np.complex128)
        product[self.mask] = cut[self.mask].conj() * self.truth[self.mask] * self.weight**2
        padded = [scipy.fft.next_fast_len(2 * n) for n in self.shape]
        power = np.abs(scipy.fft.fft2(product, s=padded))
        b_y, b_x = (2 * np.pi * np.fft.fftfreq(n) for n in padded)
        power[np.hypot(b_y[:, None], b_x) > self.max_ramp] = -1.0
        row, column = np.unravel_index(np.argmax(power), power.shape)
        sub = _parabola(power, int(row), int(column)) * 2 * np.pi / np.array(padded)
        return np.asarray(np.array([b_y[row], b_x[column]]) + sub)

    def shift_peak(self, gauge: Gauge, blind: bool = False) -> Float:
        """Return the whole-pixel shift of the lowest misfit, all of them at once by FFT.

        With ``c`` projected out the misfit at shift ``s`` falls by ``|Σ m O* X(r − s)|² / Σ m |X(r − s)|²``, both of
        them correlations.

        Args:
            gauge: the ramp to remove first; shifts are counted from its corner.
            blind: compare products of neighbouring pixels instead, in which a ramp is only a constant phase.

        """
        if not self.free.shift:
            return gauge.shift
        reach = np.floor(self.max_shift).astype(int)
        wide_shape = (self.shape[0] + 2 * int(reach[0]), self.shape[1] + 2 * int(reach[1]))
        whole = np.rint(self.moving.corner)
        wide = np.asarray(continued(self.moving.array, self.corner - whole - reach, wide_shape), dtype=np.complex128)
        if not blind:
            y, x = (np.arange(n) for n in wide_shape)
            wide = wide * np.exp(1j * (gauge.ramp[0] * y[:, None] + gauge.ramp[1] * x))
        fixed, weight = np.zeros(self.shape, dtype=np.complex128), np.zeros(self.shape)
        fixed[self.mask], weight[self.mask] = self.truth[self.mask], self.weight**2
        if blind:
            movers = [wide[1:] * wide[:-1].conj(), wide[:, 1:] * wide[:, :-1].conj()]
            targets = [(target, mask.astype(float)) for target, mask in self._neighbours(fixed)]
        else:
            movers, targets = [wide], [(fixed, weight)]
        gain = np.zeros((2 * reach[0] + 1, 2 * reach[1] + 1))
        for mover, (target, share) in zip(movers, targets, strict=True):
            overlap = np.abs(_correlate(share * target, mover, reach)) ** 2
            power = _correlate(share, np.abs(mover) ** 2, reach).real
            usable = power > 1e-9 * float(np.max(power, initial=TINY))
            energy = max(float(np.sum(share * np.abs(target) ** 2)), TINY)
            gain += np.where(usable, overlap / np.where(usable, power, 1.0), 0.0) / energy
        best = np.array(np.unravel_index(np.argmax(gain), gain.shape)) - reach
        return np.asarray(best + whole - self.moving.corner)


def _started(start: Mapping[str, float] | None) -> list[Gauge]:
    """The gauges to start from: none, and that of an earlier alignment."""
    if start is None:
        return [IDENTITY]
    shift = np.array([start["shift_y_px"], start["shift_x_px"]])
    return [IDENTITY, Gauge(shift, np.array([start["ramp_y_rad_px"], start["ramp_x_rad_px"]]))]


def halved(image: NDArray[Any]) -> NDArray[Any]:
    """Return the means of 2 x 2 pixels; an odd last row or column is left out."""
    h, w = image.shape[0] // 2, image.shape[1] // 2
    return np.asarray(image[: 2 * h, : 2 * w].reshape(h, 2, w, 2).mean(axis=(1, 3)))


def _correlate(window: Complex | Float, wide: Complex | Float, reach: NDArray[np.int_]) -> Complex:
    """Return ``C(s) = Σ_r window*(r) · wide(r + reach − s)`` for ``|s| ≤ reach``; ``wide`` has that much more room."""
    shape = [scipy.fft.next_fast_len(n) for n in wide.shape]
    product = scipy.fft.fft2(wide, s=shape) * scipy.fft.fft2(window, s=shape).conj()
    lags = scipy.fft.ifft2(product)[: 2 * reach[0] + 1, : 2 * reach[1] + 1]
    return np.asarray(lags[::-1, ::-1])


def _parabola(values: Float, row: int, column: int) -> Float:
    """Return the sub-sample offset of a peak from its neighbours on each axis (cyclic)."""
    offset = np.zeros(2)
    h, w = values.shape
    lines = (values[[row - 1, row, (row + 1) % h], column], values[row, [column - 1, column, (column + 1) % w]])
    for axis, (before, peak, after) in enumerate(lines):
        bend = before - 2 * peak + after
        if before > 0 and after > 0 and bend < 0:
            offset[axis] = np.clip(0.5 * (before - after) / bend, -0.5, 0.5)
    return offset


def _correlation(a: Complex, b: Complex) -> float:
    """Return the modulus of the mean-removed correlation, 0 for flat images."""
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(np.vdot(a, a).real * np.vdot(b, b).real)
    return float(abs(np.vdot(a, b)) / norm) if norm > 0 else 0.0
