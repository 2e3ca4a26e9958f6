"""What follows from a distance: pixel size, positions in pixels, and the propagator's kernel with its derivative.

A distance is counted in units ``ζ`` of the nominal one. In a parallel beam in the near field it changes the kernel
alone. In the far field it changes the pixel, ``p = λ z / (N pitch)``, and with it the positions in pixels. In a
diverging beam in the near field it is that of the focus from the specimen, ``z1``: magnification, pixel, positions and
the effective distance all follow from it (Fresnel scaling theorem; Paganin, Coherent X-Ray Optics, 2006, appendix B).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ptybench.errors import InvalidOption
from ptybench.optics.forward import transfer_function
from ptybench.types import Measurement

SIDE_PRIMES = (2, 3, 5, 7)


@dataclass(frozen=True)
class Sight:
    """The set-up at one distance.

    Args:
        pixel_m: object pixel ``(dy, dx)``; ``None`` where unknown.
        distance_m: effective propagation distance; ``None`` where unknown.
        shrinkage: nominal pixel over this pixel, by which positions grow; its derivative by ``ζ`` beside it.
        transfer: ``(ph, pw)`` kernel of the near field, ``None`` in the far field.
        bend: ``(ph, pw)`` derivative of the kernel's phase by ``ζ``.

    """

    pixel_m: tuple[float, float] | None
    distance_m: float | None
    shrinkage: tuple[float, float]
    transfer: Tensor | None
    bend: Tensor | None


class Setting:
    """The set-up as a function of the distance.

    Args:
        measurement: whose nominal set-up it is.
        device: where kernels live.
        dtype: complex type of kernels; their phases are computed in float64.
        padding: whether a near-field wave is padded so that none of it comes back at the other side.

    Attributes:
        padded: ``(ph, pw)`` that the window ``(h, w)`` is padded to. Light of frequency ``f`` moves by ``λ z f``, which
            is at most ``λ z / 2 p`` in the band, and more than a window where the band limit of Matsushima & Shimobaba
            (2009, 10.1364/OE.17.019662) cuts it off: so ``N + λ z / p²`` pixels are enough, and ``2 N`` always are.

    """

    def __init__(self, measurement: Measurement, device: torch.device, dtype: torch.dtype, padding: bool) -> None:
        self.measurement, self.device, self.dtype = measurement, device, dtype
        self.near = measurement.propagation == "near_field"
        self.padded = measurement.shape
        self._at: tuple[float, Sight] | None = None
        if not self.near:
            return
        m = measurement
        assert m.wavelength_m is not None
        assert m.distance_m is not None
        assert m.pixel_size_m is not None
        if padding:
            reach = [1.5 * abs(m.distance_m) * m.wavelength_m / p**2 for p in m.pixel_size_m]
            h, w = (smooth(min(2 * n, n + math.ceil(r))) for n, r in zip(m.shape, reach, strict=True))
            self.padded = (h, w)

    def refinable(self) -> None:
        """Raise :class:`InvalidOption` where the distance cannot be refined because the set-up is not known."""
        m = self.measurement
        if m.distance_m is None or m.pixel_size_m is None:
            raise InvalidOption(
                "refining the distance needs the nominal distance and pixel size: give them in --geometry"
            )

    @property
    def scales(self) -> bool:
        """Whether the distance changes the pixel."""
        return not self.near or self.measurement.source_distance_m is not None

    def at(self, distance: float) -> Sight:
        """The set-up at ``ζ``; the last one is kept."""
        if self._at is None or self._at[0] != distance:
            self._at = distance, self._sight(distance)
        return self._at[1]

    def of(self, distance_m: float) -> float:
        """The ``ζ`` at which the effective propagation distance is this one."""
        m = self.measurement
        assert m.distance_m is not None
        source = m.source_distance_m if self.near else None
        if source is None:
            return distance_m / m.distance_m
        away = m.distance_m * source / (source - m.distance_m)
        return distance_m * away / (away - distance_m) / source

    def _sight(self, distance: float) -> Sight:
        m = self.measurement
        if not self.near:
            pixel = None if m.pixel_size_m is None else (m.pixel_size_m[0] * distance, m.pixel_size_m[1] * distance)
            length = None if m.distance_m is None else m.distance_m * distance
            return Sight(pixel, length, (1 / distance, -1 / distance**2), None, None)
        assert m.distance_m is not None
        assert m.pixel_size_m is not None
        z, growth, dz, dgrowth = distance * m.distance_m, 1.0, m.distance_m, 0.0
        if (source := m.source_distance_m) is not None:
            away = m.distance_m * source / (source - m.distance_m)  # z2 of z_eff = z1 z2 / (z1 + z2)
            total, nominal = distance * source + away, source + away
            z, dz = distance * source * away / total, source * away**2 / total**2
            growth, dgrowth = distance * nominal / total, nominal * away / total**2
        pixel = (m.pixel_size_m[0] * growth, m.pixel_size_m[1] * growth)
        transfer, bend = self._kernel(pixel, z, dz, dgrowth / growth)
        return Sight(pixel, z, (1 / growth, -dgrowth / growth**2), transfer, bend)

    def _kernel(self, pixel: tuple[float, float], z: float, dz: float, growth: float) -> tuple[Tensor, Tensor]:
        """The kernel at a distance, and the derivative of its phase where ``z`` and ``log p`` change at these rates."""
        length = self.measurement.wavelength_m
        assert length is not None
        transfer = transfer_function(self.padded, pixel, length, z)
        fy, fx = (np.fft.fftfreq(n, d) for n, d in zip(self.padded, pixel, strict=True))
        squared = length**2 * (fy[:, None] ** 2 + fx**2)
        root = np.sqrt(np.maximum(1 - squared, 1e-18))
        bend = 2 * np.pi / length * squared * (z * growth / root - dz / (1 + root))
        return (
            torch.as_tensor(transfer, dtype=self.dtype, device=self.device),
            torch.as_tensor(np.where(transfer != 0, bend, 0), dtype=self.dtype.to_real(), device=self.device),
        )


def smooth(length: int) -> int:
    """The least number not below ``length`` whose transform is fast: a product of small primes, and even."""
    while True:
        rest = length
        for prime in SIDE_PRIMES:
            while rest % prime == 0:
                rest //= prime
        if rest == 1 and length % 2 == 0:
            return length
        length += 1
