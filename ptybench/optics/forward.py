"""The solvers' forward model on a torch device: patches, sub-pixel shifts, propagators and the modulus constraint.

The model is ``I_k = Σ_m |D_z[P_m(r - s_k) · O_k]|²`` with the integer part of a position as a crop of the object and
its fraction ``s_k`` as a Fourier shift of the probe. Beam and detector stand still while the specimen moves, so in the
near field the wave is shifted back by ``-s_k`` behind the propagator (a factor of its kernel); in the far field that
shift is a phase, which no detector sees. Every operator is unitary inside its band, so its adjoint is its
inverse. Far-field patterns are held with zero frequency at ``[0, 0]``, so that no iteration shifts anything.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ptybench.cuda import fused
from ptybench.optics.patterns import Index, patterns_of
from ptybench.team import Team
from ptybench.types import FloatArray, Measurement

KEPT_BYTES = 2**28  # fields of all positions that could be made anew at each visit are kept up to this size
TINY = 1e-12  # square-root photons; gives a pixel without light the phase 0, see modulus_change

CHUNK_BYTES = 2**21  # exit waves that a CPU's cache holds while a chunk is worked on; a GPU takes 64 times as many
PART_BYTES = 2**19  # exit waves of a mini-batch that are worked on at a time, as was fastest with 0.5 MiB of L2

Slices: TypeAlias = tuple[slice, slice]


def squared_modulus(field: Tensor) -> Tensor:
    """``|field|²``, the cheapest way in torch on a CPU (a lazy ``conj`` would cost a slow copy)."""
    intensity: Tensor = (field * field.conj_physical()).real
    return intensity


def over_modes(field: Tensor) -> Tensor:
    """The sum over the axis of modes, which is kept: ``(..., M, h, w)`` to ``(..., 1, h, w)``."""
    return field if field.size(-3) == 1 else field.sum(dim=-3, keepdim=True)


def total_intensity(wave: Tensor) -> Tensor:
    """``Σ_m |Ψ_m|²`` with the axis of modes kept: ``(..., M, h, w)`` to ``(..., 1, h, w)``, a new tensor."""
    # a sum over complex numbers takes half the time of one over their strided real parts
    intensity: Tensor = over_modes(wave * wave.conj_physical()).real
    return intensity


def largest_power(power: Tensor) -> Tensor:
    """The maximum of ``Σ_m f_m f_m*``, given as a complex tensor: ``(1, h, w)`` or ``(B, 1, h, w)``.

    Returns:
        A new real tensor: a scalar, or ``(B, 1, 1, 1)``.

    """
    # a contiguous view reduces faster than the strided real part; imaginary parts are 0
    flat = torch.view_as_real(power)
    largest: Tensor = flat.max() if flat.dim() == 4 else flat.amax(dim=(-4, -3, -2, -1))[:, None, None, None]
    return largest


class FarField:
    """Unitary Fourier transform of an exit wave; zero frequency at ``[0, 0]``."""

    ffts = 1

    def forward(self, exit_wave: Tensor, ramp: Tensor | None = None) -> Tensor:
        """``Ψ = F ψ`` over the last two axes; the ramp of a shift needs no undoing."""
        wave: Tensor = torch.fft.fft2(exit_wave, norm="ortho")
        return wave

    def backward(self, wave: Tensor, ramp: Tensor | None = None) -> Tensor:
        """``F⁻¹``, which is also the adjoint."""
        exit_wave: Tensor = torch.fft.ifft2(wave, norm="ortho")
        return exit_wave


class NearField:
    """Band-limited angular spectrum over a distance (Matsushima & Shimobaba 2009, 10.1364/OE.17.019662, eq. 20).

    Args:
        shape: ``(h, w)`` of the window.
        pixel_m: ``(dy, dx)``.
        wavelength_m: wavelength.
        distance_m: effective distance, of either sign.
        device: where the kernel lives.
        dtype: complex type of the kernel; its phase is always computed in float64.

    """

    ffts = 2

    def __init__(
        self,
        shape: tuple[int, int],
        pixel_m: tuple[float, float],
        wavelength_m: float,
        distance_m: float,
        device: torch.device,
        dtype: torch.dtype = torch.complex64,
    ) -> None:
        self.transfer = torch.as_tensor(
            transfer_function(shape, pixel_m, wavelength_m, distance_m), dtype=dtype, device=device
        )

    def forward(self, exit_wave: Tensor, ramp: Tensor | None = None) -> Tensor:
        """``F⁻¹ H R* F ψ`` over the last two axes, with the ramp ``R`` by which the beam was shifted."""
        kernel = self.transfer if ramp is None else self.transfer * ramp.conj()
        wave: Tensor = torch.fft.ifft2(torch.fft.fft2(exit_wave) * kernel)
        return wave

    def backward(self, wave: Tensor, ramp: Tensor | None = None) -> Tensor:
        """The adjoint ``F⁻¹ H* R F``, inside the band also the inverse."""
        kernel = self.transfer.conj() if ramp is None else self.transfer.conj() * ramp
        exit_wave: Tensor = torch.fft.ifft2(torch.fft.fft2(wave) * kernel)
        return exit_wave


def transfer_function(
    shape: tuple[int, int], pixel_m: tuple[float, float], wavelength_m: float, distance_m: float
) -> np.ndarray[tuple[int, int], np.dtype[np.complex128]]:
    """``H = exp(i k z (√(1 − λ²f²) − 1))`` in FFT order, zero where it would be undersampled or evanescent.

    The constant phase ``exp(ikz)`` is left out; the bracket is evaluated as ``−λ²f² / (1 + √(1 − λ²f²))``, which does
    not cancel.
    """
    fy, fx = (np.fft.fftfreq(n, d) for n, d in zip(shape, pixel_m, strict=True))
    squared = wavelength_m**2 * (fy[:, None] ** 2 + fx[None, :] ** 2)
    root = np.sqrt(np.maximum(1 - squared, 0))
    phase = -2 * np.pi * distance_m / wavelength_m * squared / (1 + root)
    limits = [
        1 / (wavelength_m * math.sqrt((2 * abs(distance_m) / (n * d)) ** 2 + 1))
        for n, d in zip(shape, pixel_m, strict=True)
    ]
    inside = (np.abs(fy)[:, None] <= limits[0]) & (np.abs(fx)[None, :] <= limits[1]) & (squared < 1)
    transfer: np.ndarray[tuple[int, int], np.dtype[np.complex128]] = np.where(inside, np.exp(1j * phase), 0)
    return transfer


class ForwardModel:
    """A measurement's data and geometry on a device.

    Args:
        measurement: what was measured.
        device: where tensors live.
        subpixel: whether fractions of positions are Fourier shifts of the probe; otherwise positions are rounded.
        dtype: complex type of all waves.

    Attributes:
        patterns: square roots of the patterns, in the order of the propagator's output, wherever they are kept.
        power: photons in all patterns; ``pixels`` and ``strongest``, the photons of the brightest, are of all too.
        positions_px: ``(K, 2)`` positions that the windows and ramps stand for.
        distance_m: distance of the propagator, ``None`` where unknown.
        good: ``(h, w)`` 1 where the detector can be trusted, or ``None`` where it can everywhere.
        ffts: two-dimensional transforms done so far, each of one pattern and mode.

    """

    def __init__(
        self,
        measurement: Measurement,
        device: torch.device,
        subpixel: bool = True,
        dtype: torch.dtype = torch.complex64,
    ) -> None:
        self.device, self.dtype, self.real = device, dtype, dtype.to_real()
        self.shape, self.canvas = measurement.shape, measurement.canvas
        self.count = len(measurement.intensities)
        self.pixels = self.count * math.prod(self.shape)
        self.propagator = make_propagator(measurement, device, dtype)
        self.centred = measurement.propagation == "far_field"
        self.distance_m = measurement.distance_m
        self._measurement = measurement
        self.patterns = patterns_of(measurement, device, self.real)
        self.ahead, self.runs, self.at_hand = self.patterns.ahead, self.patterns.runs, self.patterns.at_hand
        self.measured = self.patterns.at
        self.power, self.strongest = self.patterns.power, self.patterns.strongest
        self.good = None if not measurement.bad_pixels.any() else self.detector_order(~measurement.bad_pixels)
        self.ffts = 0
        self.subpixel = subpixel
        self._pixels = math.prod(self.shape)
        # an operation takes a constant twice as fast as a tensor than as a number
        self._tiny = torch.tensor(TINY, dtype=dtype, device=device)
        self._minus_one = torch.tensor(-1, dtype=self.real, device=device)
        self.place(measurement.positions_px)

    def join(self, team: Team) -> None:
        """Take power, pixels and the brightest pattern from all processes that share the patterns."""
        self.power, self.pixels = team.total(self.power), round(team.total(self.pixels))
        self.strongest = team.largest(self.patterns.strongest)

    @property
    def amplitudes(self) -> Tensor:
        """``(K, h, w)`` square roots of all patterns; made anew where they do not lie on the device."""
        return self.patterns.whole()

    def detector_order(self, frames: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
        """Frames ``(..., h, w)`` on the device, with zero frequency at ``[0, 0]`` in the far field."""
        if self.centred:
            frames = np.fft.ifftshift(frames, axes=(-2, -1))
        return torch.as_tensor(np.ascontiguousarray(frames), dtype=self.real, device=self.device)

    def place(self, positions_px: FloatArray) -> None:
        """Take these ``(K, 2)`` positions: windows from the integer part, phase ramps from the fraction.

        A position beyond the canvas is moved to its edge.
        """
        room = np.array(self.canvas) - self.shape
        self.positions_px: FloatArray = np.clip(positions_px, 0, room)
        positions_px = self.positions_px
        corner = np.floor(positions_px + 1e-6) if self.subpixel else np.round(positions_px)
        corner = np.clip(corner, 0, room)
        self.corners = [(int(y), int(x)) for y, x in corner]
        h, w = self.shape
        self.windows: list[Slices] = [(slice(y, y + h), slice(x, x + w)) for y, x in self.corners]
        fraction = positions_px - corner
        self.ramps: tuple[Tensor, Tensor] | None = None
        if self.subpixel and np.abs(fraction).max() > 1e-4:
            phase = [
                -2j * np.pi * np.fft.fftfreq(n)[None, :] * fraction[:, i : i + 1] for i, n in enumerate(self.shape)
            ]
            ramp_y, ramp_x = (torch.as_tensor(np.exp(p), dtype=self.dtype, device=self.device) for p in phase)
            self.ramps = ramp_y[:, :, None], ramp_x[:, None, :]
            back = [ramp.conj_physical() for ramp in self.ramps]
            self._factors = list(zip(*(ramp.unbind() for ramp in (*self.ramps, *back)), strict=True))

    def refocus(self, distance_m: float) -> None:
        """Propagate over another distance from now on (near field)."""
        m = self._measurement
        assert m.pixel_size_m is not None
        assert m.wavelength_m is not None
        self.propagator = NearField(m.shape, m.pixel_size_m, m.wavelength_m, distance_m, self.device, self.dtype)
        self.distance_m = distance_m

    def chunks(self, modes: int = 1) -> list[slice]:
        """All patterns in order, in pieces whose exit waves fit the device's cache."""
        budget = CHUNK_BYTES * (64 if self.device.type == "cuda" else 1)
        size = max(1, budget // (modes * self._pixels * self.dtype.itemsize))
        return [slice(i, min(i + size, self.count)) for i in range(0, self.count, size)]

    def parts(self, index: list[int] | Tensor, modes: int = 1) -> list[list[int] | Tensor]:
        """Several patterns in their order, in pieces small enough for every field of a piece to stay in the cache."""
        budget = PART_BYTES * (1024 if self.device.type == "cuda" else 1)
        size = max(1, budget // (modes * self._pixels * self.dtype.itemsize))
        return [index[i : i + size] for i in range(0, len(index), size)]

    def ramp(self, index: Index) -> Tensor:
        """The phase ramp ``(..., h, w)`` that shifts a probe spectrum by the fraction of position ``index``."""
        assert self.ramps is not None
        return self.ramps[0][index] * self.ramps[1][index]

    def ramp_factors(self, index: Index) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The factors of :meth:`ramp` along y and x, and their conjugates, which shift back.

        They broadcast with ``(M, h, w)`` of one position, or ``(B, M, h, w)`` of several. To multiply by both of them
        costs less than by the whole ramp, which would not be in the cache.
        """
        assert self.ramps is not None
        if isinstance(index, int):
            return self._factors[index]
        y, x = self.ramps[0][index][:, None], self.ramps[1][index][:, None]
        return y, x, y.conj_physical(), x.conj_physical()

    def count_ffts(self, fields: Tensor, times: int = 1) -> None:
        """Count transforms of fields ``(..., h, w)``."""
        self.ffts += times * (fields.numel() // self._pixels)

    def forward(self, exit_wave: Tensor, index: Index) -> Tensor:
        """Propagate to the detector: ``(M, h, w)`` of one position, or ``(B, M, h, w)`` of several."""
        self.count_ffts(exit_wave, self.propagator.ffts)
        return self.propagator.forward(exit_wave, self._undo(index))

    def backward(self, wave: Tensor, index: Index) -> Tensor:
        """Adjoint of :meth:`forward`."""
        self.count_ffts(wave, self.propagator.ffts)
        return self.propagator.backward(wave, self._undo(index))

    def _undo(self, index: Index) -> Tensor | None:
        """The ramp of a shift of the beam that the detector did not follow; none in the far field."""
        if self.centred or self.ramps is None:
            return None
        ramp = self.ramp(index)
        return ramp if isinstance(index, int) else ramp[:, None]

    def modulus_change(self, exit_wave: Tensor, index: Index) -> tuple[Tensor, Tensor]:
        """Return ``ψ' − ψ`` of the modulus constraint, and its squared norm summed over all patterns.

        ``ψ' = D⁻¹[√I Ψ / √(Σ_m |Ψ_m|²)]``; where the detector is bad the modelled value stays, where there is no light
        the phase is 0.

        Args:
            exit_wave: ``(M, h, w)`` of one pattern, or ``(B, M, h, w)`` of several.
            index: which patterns.

        """
        self.count_ffts(exit_wave, 2 * self.propagator.ffts)
        undo = self._undo(index)
        wave, measured = self.propagator.forward(exit_wave, undo), self.measured(index)

        def by_torch() -> Tensor:
            factor = torch.addcmul(self._minus_one, total_intensity(wave.add_(self._tiny)).rsqrt(), measured)
            if self.good is not None:
                factor.mul_(self.good)
            flat = wave.mul_(factor).view(-1)
            return torch.vdot(flat, flat).real

        squared = fused.modulus(wave, measured, self.good, TINY, by_torch) if fused.able(wave) else by_torch()
        return self.propagator.backward(wave, undo), squared

    def amplitude_errors(self, exit_wave: Tensor, index: Index) -> Tensor:
        """``Σ (√I − √Σ_m |Ψ_m|²)²`` over good pixels: a scalar, or ``(B,)``."""
        difference = total_intensity(self.forward(exit_wave, index)).sqrt_().sub_(self.measured(index)).square_()
        if self.good is not None:
            difference.mul_(self.good)
        return difference.sum(dim=(-3, -2, -1))

    def shifted_probes(self, probe: Tensor, index: Index) -> Tensor:
        """The probe ``(M, h, w)`` at the fractions of several positions, ``(B, M, h, w)``."""
        size = self.size(index)
        if self.ramps is None:
            return probe.expand(size, *probe.shape)
        self.ffts += len(probe) * (1 + size)
        moved: Tensor = torch.fft.ifft2(torch.fft.fft2(probe) * self.ramp(index)[:, None])
        return moved

    def shifted_back(self, fields: Tensor, index: Index) -> Tensor:
        """Adjoint of :meth:`shifted_probes`: ``(B, M, h, w)`` shifted back and added up, ``(M, h, w)``."""
        if self.ramps is None:
            return fields.sum(dim=0)
        self.ffts += math.prod(fields.shape[:-2]) + fields.shape[1]
        spectra = torch.fft.fft2(fields).mul_(self.ramp(index).conj_physical()[:, None])
        back: Tensor = torch.fft.ifft2(spectra.sum(dim=0))
        return back

    def size(self, index: Index) -> int:
        """How many patterns an index stands for."""
        if isinstance(index, int):
            return 1
        return len(index) if isinstance(index, Tensor) else len(self.windows_of(index))

    def windows_of(self, index: slice | list[int]) -> list[Slices]:
        """The windows of several positions."""
        return self.windows[index] if isinstance(index, slice) else [self.windows[k] for k in index]

    def patches(self, canvas: Tensor, index: slice | list[int]) -> Tensor:
        """Windows ``(B, h, w)`` of an object ``(H, W)``."""
        return torch.stack([canvas[window] for window in self.windows_of(index)])

    def overlap_add(self, patches: Tensor, canvas: Tensor, index: slice | list[int]) -> None:
        """Adjoint of :meth:`patches`: add ``(B, h, w)`` into an object ``(H, W)``, in place."""
        # a loop of slices is faster than index_add_ on a CPU and sums overlaps in a fixed order
        for window, patch in zip(self.windows_of(index), patches, strict=True):
            canvas[window] += patch


class Windowed:
    """An array on the object's canvas with a view of every pattern's window; slicing anew costs thrice the arithmetic.

    Args:
        array: ``(..., H, W)``.
        windows: window of each pattern.

    Attributes:
        views: ``(..., h, w)`` of each pattern.

    """

    def __init__(self, array: Tensor, windows: list[Slices]) -> None:
        self.array, self._windows = array, windows
        self.views = [array[..., y, x] for y, x in windows]

    def of(self, index: slice | list[int]) -> list[Tensor]:
        """The views of several patterns."""
        return self.views[index] if isinstance(index, slice) else [self.views[k] for k in index]

    @cached_property
    def corners(self) -> Tensor:
        """``(K, 2)`` first row and column of each window, on the device."""
        found = [(y.start, x.start) for y, x in self._windows]
        return upload(torch.tensor(found, dtype=torch.int64).view(-1, 2), self.array.device)

    @cached_property
    def _grid(self) -> tuple[Tensor, Tensor]:
        y, x = self._windows[0]
        rows, columns = (torch.arange(s.stop - s.start, device=self.array.device) for s in (y, x))
        return rows[:, None], columns

    def _pixels(self, corners: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns of windows ``(..., 2)``, which index ``(..., h, w)`` pixels."""
        rows, columns = self._grid
        return corners[..., 0, None, None] + rows, corners[..., 1, None, None] + columns

    def at(self, index: Index) -> Tensor:
        """The window of a pattern ``(..., h, w)``, a view, or those of several ``(B, ..., h, w)``, a new tensor."""
        if isinstance(index, int):
            return self.views[index]
        if isinstance(index, Tensor) or (isinstance(index, slice) and self.array.is_cuda):
            return self.array[..., *self._pixels(self.corners[index])].movedim(-3, 0)
        return torch.stack(self.of(index))

    def add(self, patches: Tensor, index: Index) -> None:
        """Add ``(..., h, w)`` to the window of a pattern, or ``(B, ..., h, w)`` to those of several, in their order."""
        if isinstance(index, int):
            self.views[index].add_(patches)
        elif isinstance(index, list) or not fused.able(self.array) or self.array.dim() > 3:
            self._add(patches, index)
        else:
            corners, (y, x) = self.corners[index], self._windows[0]
            shape = y.stop - y.start, x.stop - x.start
            fused.overlap_add(self.array, patches, corners, shape, lambda: self._add(patches, index))

    def _add(self, patches: Tensor, index: slice | list[int] | Tensor) -> None:
        if isinstance(index, Tensor):
            for corner, patch in zip(self.corners[index].unbind(), patches.unbind(), strict=True):
                self.array[..., *self._pixels(corner)] += patch
            return
        for view, patch in zip(self.of(index), patches.unbind(), strict=True):
            view.add_(patch)

    def waves(self, probes: Tensor, index: Index, less: Tensor | None = None, factor: float = 1) -> Tensor:
        """``P O − factor f`` of fields ``f`` where there are any, a new tensor: ``(M, h, w)``, or ``(B, M, h, w)``."""

        def by_torch() -> Tensor:
            waves = probes * self.at(index)
            return waves if less is None else waves.sub_(less, alpha=factor)

        if not isinstance(index, slice | Tensor) or not fused.able(self.array):
            return by_torch()
        return fused.exit_waves(self.array, self.corners[index], probes, less, factor, by_torch)


def add_overlaps(pull: Windowed, light: Windowed | None, probes: Tensor, fields: Tensor, index: slice) -> None:
    """Add ``Σ_m P_m* f_m`` to the windows of one canvas, and ``Σ_m |P_m|²`` to those of another where there is one.

    Args:
        pull: canvas ``(1, H, W)``, changed.
        light: canvas ``(1, H, W)`` of real numbers, changed.
        probes: ``(B, M, h, w)``.
        fields: ``f``, ``(B, M, h, w)``.
        index: which patterns.

    """

    def by_torch() -> None:
        conjugate = probes.conj_physical()
        pull.add(over_modes(conjugate * fields), index)
        if light is not None:
            light.add(over_modes(conjugate.mul_(probes)).real, index)

    if fused.able(fields):
        array = None if light is None else light.array
        fused.overlap_products(pull.array, array, probes, fields, pull.corners[index], by_torch)
    else:
        by_torch()


def upload(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device, without waiting for the device."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


class ShiftedProbe:
    """A probe that is seen, and updated, at sub-pixel positions.

    Holds the spectrum, so that a visit costs one transform to look and one to update instead of two each.

    Args:
        model: the forward model with the positions.
        probe: ``(M, h, w)``.

    Attributes:
        held: spectrum of the modes ``(M, h, w)``, or the modes themselves where no position has a fraction. It may be
            changed in place; sums of such tensors stand for sums of probes.

    """

    def __init__(self, model: ForwardModel, probe: Tensor) -> None:
        self.model = model
        self.moves = model.ramps is not None
        self.held = torch.fft.fft2(probe) if self.moves else probe.clone()
        self._factors: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def at(self, index: Index) -> Tensor:
        """The modes ``(M, h, w)`` shifted by the fraction of one position, or ``(B, M, h, w)`` by those of several."""
        if not self.moves:
            return self.held if isinstance(index, int) else self.held.expand(self.model.size(index), -1, -1, -1)
        self._factors = self.model.ramp_factors(index)
        return self._look(self.held)

    def _look(self, spectrum: Tensor) -> Tensor:
        assert self._factors is not None
        y, x, _, _ = self._factors
        moved = (spectrum * y).mul_(x)
        self.model.count_ffts(moved)
        seen: Tensor = torch.fft.ifft2(moved)
        return seen

    def gathered(self, change: Tensor) -> Tensor:
        """A change ``(..., M, h, w)`` at the position or positions last looked at, shifted back, as it is held here.

        The adjoint of :meth:`at`: changes at several positions are added up.
        """
        if self._factors is not None:
            _, _, y, x = self._factors
            self.model.count_ffts(change)
            change = torch.fft.fft2(change).mul_(y).mul_(x)
        return change if change.dim() == 3 else change.sum(dim=0)

    def add(self, change: Tensor) -> None:
        """Add a change, given at the position or positions last looked at, shifted back (and added up)."""
        self.held += self.gathered(change)

    def seen(self, direction: Tensor) -> Tensor:
        """What was :meth:`gathered`, at the positions last looked at, ``(B, M, h, w)`` or ``(1, M, h, w)`` for all."""
        return direction[None] if self._factors is None else self._look(direction)

    def move(self, direction: Tensor, length: Tensor) -> None:
        """Go along what was :meth:`gathered`, ``length`` times."""
        self.held += direction * length

    def seen_from(self, held: Tensor) -> Tensor:
        """Modes ``(M, h, w)`` at fraction zero, a new tensor, of what would be held for them."""
        return torch.fft.ifft2(held) if self.moves else held.clone()

    @property
    def modes(self) -> Tensor:
        """The modes ``(M, h, w)`` at fraction zero, a new tensor."""
        return self.seen_from(self.held)


def make_propagator(measurement: Measurement, device: torch.device, dtype: torch.dtype) -> FarField | NearField:
    """The propagator of a measurement's nominal geometry."""
    if measurement.propagation == "far_field":
        return FarField()
    m = measurement
    assert m.pixel_size_m is not None
    assert m.wavelength_m is not None
    assert m.distance_m is not None
    return NearField(m.shape, m.pixel_size_m, m.wavelength_m, m.distance_m, device, dtype)
