"""The solvers' forward model on a torch device: patches, sub-pixel shifts, propagators and the modulus constraint.

The model is ``I_k = Σ_m |D_z[P_m(r - s_k) · O_k]|²`` with the integer part of a position as a crop of the object and
its fraction ``s_k`` as a Fourier shift of the probe. Beam and detector stand still while the specimen moves, so in the
near field the wave is shifted back by ``-s_k`` behind the propagator (a factor of its kernel); in the far field that
shift is a phase, which no detector sees. Every operator is unitary inside its band, so its adjoint is its
inverse. Far-field patterns are held with zero frequency at ``[0, 0]``, so that no iteration shifts anything.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ptybench.types import FloatArray, Measurement

KEPT_BYTES = 2**28  # phase ramps of all positions are kept up to this size, made anew at each visit above it
TINY = 1e-12  # square-root photons; gives a pixel without light the phase 0, see modulus_change

Slices: TypeAlias = tuple[slice, slice]


def squared_modulus(field: Tensor) -> Tensor:
    """``|field|²``, the cheapest way in torch on a CPU (a lazy ``conj`` would cost a slow copy)."""
    intensity: Tensor = (field * field.conj_physical()).real
    return intensity


def largest_intensity(field: Tensor) -> Tensor:
    """``max Σ_m |field_m|²`` over pixels of ``(M, h, w)`` or ``(h, w)``, as a scalar tensor."""
    intensity = field * field.conj_physical()
    if intensity.ndim == 3 and len(intensity) > 1:
        intensity = intensity.sum(dim=0)
    # a contiguous view reduces ten times faster than the strided real part; imaginary parts are 0
    largest: Tensor = torch.view_as_real(intensity).amax()
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
        amplitudes: ``(K, h, w)`` square roots of the patterns, in the order of the propagator's output.
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
        self.propagator = make_propagator(measurement, device, dtype)
        self.centred = measurement.propagation == "far_field"
        self.amplitudes = self.detector_order(np.sqrt(np.where(measurement.bad_pixels, 0, measurement.intensities)))
        self._amplitudes = self.amplitudes.unbind()  # indexing a tuple costs nothing, selecting from a tensor does
        self.power = float(np.square(self.amplitudes.cpu().numpy(), dtype=np.float64).sum())
        self.good = None if not measurement.bad_pixels.any() else self.detector_order(~measurement.bad_pixels)
        self.ffts = 0
        self.subpixel = subpixel
        self.place(measurement.positions_px)

    def detector_order(self, frames: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
        """Frames ``(..., h, w)`` on the device, with zero frequency at ``[0, 0]`` in the far field."""
        if self.centred:
            frames = np.fft.ifftshift(frames, axes=(-2, -1))
        return torch.as_tensor(np.ascontiguousarray(frames), dtype=self.real, device=self.device)

    def place(self, positions_px: FloatArray) -> None:
        """Take these ``(K, 2)`` positions: windows from the integer part, phase ramps from the fraction."""
        corner = np.floor(positions_px + 1e-6) if self.subpixel else np.round(positions_px)
        room = np.array(self.canvas) - self.shape
        corner = np.clip(corner, 0, room)
        self.corners = [(int(y), int(x)) for y, x in corner]
        h, w = self.shape
        self.windows: list[Slices] = [(slice(y, y + h), slice(x, x + w)) for y, x in self.corners]
        fraction = positions_px - corner
        self.ramps: tuple[Tensor, Tensor] | None = None
        self._kept_ramps: list[Tensor] | None = None
        if self.subpixel and np.abs(fraction).max() > 1e-4:
            phase = [
                -2j * np.pi * np.fft.fftfreq(n)[None, :] * fraction[:, i : i + 1] for i, n in enumerate(self.shape)
            ]
            ramp_y, ramp_x = (torch.as_tensor(np.exp(p), dtype=self.dtype, device=self.device) for p in phase)
            self.ramps = ramp_y[:, :, None], ramp_x[:, None, :]
        size = self.count * self.shape[0] * self.shape[1] * self.dtype.itemsize
        kept = self.ramps is not None and size <= KEPT_BYTES
        self._kept_ramps = list(self.ramp(slice(None)).unbind()) if kept else None

    def ramp(self, index: int | slice) -> Tensor:
        """The phase ramp ``(..., h, w)`` that shifts a probe spectrum by the fraction of position ``index``."""
        if self._kept_ramps is not None and isinstance(index, int):
            return self._kept_ramps[index]
        assert self.ramps is not None
        return self.ramps[0][index] * self.ramps[1][index]

    def forward(self, exit_wave: Tensor, index: int | slice) -> Tensor:
        """Propagate to the detector: ``(M, h, w)`` of one position, or ``(B, M, h, w)`` of several."""
        self.ffts += self.propagator.ffts * math.prod(exit_wave.shape[:-2])
        return self.propagator.forward(exit_wave, self._undo(index))

    def backward(self, wave: Tensor, index: int | slice) -> Tensor:
        """Adjoint of :meth:`forward`."""
        self.ffts += self.propagator.ffts * math.prod(wave.shape[:-2])
        return self.propagator.backward(wave, self._undo(index))

    def _undo(self, index: int | slice) -> Tensor | None:
        """The ramp of a shift of the beam that the detector did not follow; none in the far field."""
        if self.centred or self.ramps is None:
            return None
        ramp = self.ramp(index)
        return ramp[:, None] if isinstance(index, slice) else ramp

    def modulus_change(self, exit_wave: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return ``ψ' − ψ`` of the modulus constraint on pattern ``k``, and its squared norm.

        ``ψ' = D⁻¹[√I Ψ / √(Σ_m |Ψ_m|²)]``; where the detector is bad the modelled value stays, where there is no light
        the phase is 0.

        Args:
            exit_wave: ``(M, h, w)``.
            k: index of the pattern.

        """
        wave = self.forward(exit_wave, k).add_(TINY)
        intensity = squared_modulus(wave)
        if len(wave) > 1:
            intensity = intensity.sum(dim=0)
        factor = intensity.rsqrt().mul_(self._amplitudes[k]).sub_(1)
        if self.good is not None:
            factor.mul_(self.good)
        wave.mul_(factor)
        flat = wave.view(-1)
        return self.backward(wave, k), torch.vdot(flat, flat).real

    def shifted_probes(self, probe: Tensor, index: slice) -> Tensor:
        """The probe ``(M, h, w)`` at the fractions of several positions, ``(B, M, h, w)``."""
        size = len(self.corners[index])
        if self.ramps is None:
            return probe.expand(size, *probe.shape)
        self.ffts += len(probe) * (1 + size)
        moved: Tensor = torch.fft.ifft2(torch.fft.fft2(probe) * self.ramp(index)[:, None])
        return moved

    def patches(self, canvas: Tensor, index: slice) -> Tensor:
        """Windows ``(B, h, w)`` of an object ``(H, W)``."""
        return torch.stack([canvas[window] for window in self.windows[index]])

    def overlap_add(self, patches: Tensor, canvas: Tensor, index: slice) -> None:
        """Adjoint of :meth:`patches`: add ``(B, h, w)`` into an object ``(H, W)``, in place."""
        # a loop of slices is faster than index_add_ on a CPU and sums overlaps in a fixed order
        for window, patch in zip(self.windows[index], patches, strict=True):
            canvas[window] += patch


class ShiftedProbe:
    """A probe that is seen, and updated, at sub-pixel positions.

    Holds the spectrum, so that a visit costs one transform to look and one to update instead of two each.

    Args:
        model: the forward model with the positions.
        probe: ``(M, h, w)``.

    """

    def __init__(self, model: ForwardModel, probe: Tensor) -> None:
        self.model = model
        self._moves = model.ramps is not None
        self._held = torch.fft.fft2(probe) if self._moves else probe.clone()
        self._ramp: Tensor | None = None

    def at(self, k: int) -> Tensor:
        """The modes ``(M, h, w)`` shifted by the fraction of position ``k``."""
        if not self._moves:
            return self._held
        self._ramp = self.model.ramp(k)
        self.model.ffts += len(self._held)
        seen: Tensor = torch.fft.ifft2(self._held * self._ramp)
        return seen

    def add(self, change: Tensor) -> None:
        """Add a change ``(M, h, w)``, given at the position last looked at, shifted back."""
        if self._ramp is None:
            self._held += change
            return
        self.model.ffts += len(self._held)
        self._held.addcmul_(torch.fft.fft2(change), self._ramp.conj_physical())

    @property
    def modes(self) -> Tensor:
        """The modes ``(M, h, w)`` at fraction zero, a new tensor."""
        return torch.fft.ifft2(self._held) if self._moves else self._held.clone()


def make_propagator(measurement: Measurement, device: torch.device, dtype: torch.dtype) -> FarField | NearField:
    """The propagator of a measurement's nominal geometry."""
    if measurement.propagation == "far_field":
        return FarField()
    m = measurement
    assert m.pixel_size_m is not None
    assert m.wavelength_m is not None
    assert m.distance_m is not None
    return NearField(m.shape, m.pixel_size_m, m.wavelength_m, m.distance_m, device, dtype)
