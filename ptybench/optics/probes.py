"""Probes: the beam on the specimen as incoherent modes on a grid, and the diameter of overlaps."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.optimize import brentq

from ptybench.optics.geometry import Grid
from ptybench.optics.waves import axial_wavenumber, fft, fourier_pad, near_field
from ptybench.specs import Spec
from ptybench.types import ComplexArray, FloatArray

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Probe(Spec):
    """What all probes share: partial coherence and texture.

    Args:
        modes: number of mutually incoherent modes. Mode 0 is the coherent field, the others are its derivatives
            (x, y, xx, xy, …) made orthonormal: what a source of finite size adds by moving the beam.
        mode_power: share of the power for each mode, strongest first; empty: each a quarter of the one before.
        texture_rad: standard deviation of the phase of a random smooth diffuser in the beam.
        texture_px: correlation length of that diffuser, in pixels of the solver's grid.
        softness: half width of an aperture's edge, as a fraction of its radius.

    """

    modes: Annotated[int, Field(ge=1, le=10)] = 1
    mode_power: list[Annotated[float, Field(gt=0)]] = Field(default_factory=list)
    texture_rad: Annotated[float, Field(ge=0)] = 0.0
    texture_px: Positive = 4.0
    softness: Fraction = 0.1

    @model_validator(mode="after")
    def _powers_fit(self) -> Probe:
        powers = self.mode_power
        if powers and len(powers) != self.modes:
            raise ValueError(f"mode_power has {len(powers)} shares for modes = {self.modes}, give one for each")
        if powers and abs(sum(powers) - 1.0) > 1e-6:
            raise ValueError(f"the shares of mode_power add up to {sum(powers):g}, they must add up to 1")
        if powers != sorted(powers, reverse=True):
            raise ValueError("mode_power must list the strongest mode first")
        return self

    def field(
        self, grid: Grid, wavelength_m: float, rng: np.random.Generator, defocus_factor: float = 1.0
    ) -> NDArray[np.complex128]:
        """Return the modes of the beam on the specimen.

        Args:
            grid: where to sample them; the beam's axis is its origin.
            wavelength_m: in metres.
            rng: for the texture: the same stream gives the same texture whatever the defocus.
            defocus_factor: what the defocus is multiplied by; 1.2 is a guess that is wrong by 20 %.

        Returns:
            ``(M, h, w)`` with ``Σ|probe|² = 1``, orthogonal modes, strongest first.

        """
        coherent = self._coherent(grid, wavelength_m, self._diffuser(grid, rng), defocus_factor)
        basis = derivative_modes(coherent, self.modes)
        powers = np.array(self.mode_power or [0.25**m for m in range(self.modes)])
        modes: NDArray[np.complex128] = basis * np.sqrt(powers / powers.sum())[:, None, None]
        return modes

    def _diffuser(self, grid: Grid, rng: np.random.Generator) -> NDArray[np.complex128]:
        """Return the texture's transmission, drawn on the solver's grid so that every refinement shares it."""
        if self.texture_rad == 0.0:
            return np.ones((1, 1), dtype=np.complex128)
        s = grid.refinement
        coarse = Grid((grid.shape[0] // s, grid.shape[1] // s), (1.0, 1.0))
        fy, fx = coarse.frequencies()
        filtered = fft(rng.standard_normal(coarse.shape).astype(np.complex128))
        filtered = filtered * np.exp(-(math.pi**2) * self.texture_px**2 * (fy**2 + fx**2))
        filtered[0, 0] = 0.0
        phase = fourier_pad(fft(filtered, inverse=True), grid.shape, origin="centre").real
        diffuser: NDArray[np.complex128] = np.exp(1j * self.texture_rad * phase / phase.std())
        return diffuser

    @abstractmethod
    def _coherent(
        self, grid: Grid, wavelength_m: float, diffuser: NDArray[np.complex128], defocus_factor: float
    ) -> NDArray[np.complex128]:
        """Return the fully coherent field ``(h, w)`` at any scale."""


class _Focused(Probe):
    """A pupil in the far field of the specimen, its focus ``defocus_m`` upstream of the specimen."""

    defocus_m: float = 0.0

    @abstractmethod
    def _pupil(self, frequency: FloatArray, wavelength_m: float) -> FloatArray:
        """Return the transmission of the pupil at a spatial frequency in 1/m."""

    def _coherent(
        self, grid: Grid, wavelength_m: float, diffuser: NDArray[np.complex128], defocus_factor: float
    ) -> NDArray[np.complex128]:
        fy, fx = grid.frequencies()
        flight = np.exp(1j * self.defocus_m * defocus_factor * axial_wavenumber(grid, wavelength_m))
        field = fft(self._pupil(np.hypot(fy, fx), wavelength_m) * flight, inverse=True)
        centred: NDArray[np.complex128] = np.fft.fftshift(field) * diffuser
        return centred


class ApertureProbe(_Focused):
    """A beam focused by a lens with a round aperture, on a specimen ``defocus_m`` behind the focus.

    Args:
        numerical_aperture: sine of the half angle of convergence.
        defocus_m: focus to specimen.

    """

    kind: Literal["aperture"] = "aperture"
    numerical_aperture: Positive

    def _pupil(self, frequency: FloatArray, wavelength_m: float) -> FloatArray:
        return soft_disc(frequency, self.numerical_aperture / wavelength_m, self.softness)


class ZonePlateProbe(_Focused):
    """The first order of a Fresnel zone plate with a central stop.

    Its highest spatial frequency is ``1 / (2 Δr)``, whatever the wavelength (Attwood, Soft X-Rays and Extreme
    Ultraviolet Radiation, 1999, chapter 9); the other orders are taken to be stopped.

    Args:
        diameter_m: of the zone plate.
        outer_zone_m: width ``Δr`` of the outermost zone.
        stop_m: diameter of the central stop.
        defocus_m: focus to specimen.

    """

    kind: Literal["zone_plate"] = "zone_plate"
    diameter_m: Positive
    outer_zone_m: Positive
    stop_m: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _stop_fits(self) -> ZonePlateProbe:
        if self.stop_m >= self.diameter_m:
            raise ValueError(f"stop_m is {self.stop_m:g}, it must be less than diameter_m = {self.diameter_m:g}")
        return self

    def _pupil(self, frequency: FloatArray, wavelength_m: float) -> FloatArray:
        edge = 0.5 / self.outer_zone_m
        annulus = soft_disc(frequency, edge, self.softness)
        if self.stop_m > 0:
            annulus = annulus - soft_disc(frequency, edge * self.stop_m / self.diameter_m, self.softness)
        return annulus


class PinholeProbe(Probe):
    """A wave through a round pinhole (and its texture), ``distance_m`` upstream of the specimen.

    Args:
        diameter_m: of the pinhole.
        distance_m: pinhole to specimen.
        wavefront_m: radius of the wavefront in the pinhole, positive where the beam diverges; ``None`` is a plane wave.

    """

    kind: Literal["pinhole"] = "pinhole"
    diameter_m: Positive
    distance_m: Annotated[float, Field(ge=0)] = 0.0
    wavefront_m: float | None = None

    @model_validator(mode="after")
    def _wavefront_is_no_point(self) -> PinholeProbe:
        if self.wavefront_m == 0:
            raise ValueError("wavefront_m is 0, leave it out for a plane wave")
        return self

    def _coherent(
        self, grid: Grid, wavelength_m: float, diffuser: NDArray[np.complex128], defocus_factor: float
    ) -> NDArray[np.complex128]:
        y, x = grid.coordinates()
        pinhole = soft_disc(np.hypot(y, x), self.diameter_m / 2, self.softness) * diffuser
        if self.wavefront_m is not None:
            pinhole = pinhole * spherical(y**2 + x**2, wavelength_m, self.wavefront_m * defocus_factor)
        return near_field(pinhole, grid, wavelength_m, self.distance_m * defocus_factor)


class GaussianProbe(Probe):
    """A Gaussian beam with a spherical wavefront.

    Args:
        fwhm_m: full width at half maximum of the intensity.
        curvature_m: radius of the wavefront, positive where the beam diverges; ``None`` is a flat one.

    """

    kind: Literal["gaussian"] = "gaussian"
    fwhm_m: Positive
    curvature_m: float | None = None

    @model_validator(mode="after")
    def _curvature_is_no_point(self) -> GaussianProbe:
        if self.curvature_m == 0:
            raise ValueError("curvature_m is 0, leave it out for a flat wavefront")
        return self

    def _coherent(
        self, grid: Grid, wavelength_m: float, diffuser: NDArray[np.complex128], defocus_factor: float
    ) -> NDArray[np.complex128]:
        y, x = grid.coordinates()
        square = y**2 + x**2
        field = np.exp(-2.0 * math.log(2.0) * square / self.fwhm_m**2) * diffuser
        if self.curvature_m is not None:
            field = field * spherical(square, wavelength_m, self.curvature_m * defocus_factor)
        return field


def spherical(square_m2: FloatArray, wavelength_m: float, radius_m: float) -> NDArray[np.complex128]:
    """Return the paraxial spherical wavefront ``exp(i pi r^2 / (wavelength radius))`` at ``r^2``."""
    wavefront: NDArray[np.complex128] = np.exp(1j * math.pi * square_m2 / (wavelength_m * radius_m))
    return wavefront


def soft_disc(radius: FloatArray, edge: float, softness: float) -> FloatArray:
    """Return 1 inside ``edge`` and 0 outside, with a raised cosine over ``(1 ± softness) edge`` between them."""
    depth = (edge - radius) / max(softness * edge, 1e-12 * edge)
    disc: FloatArray = 0.5 + 0.5 * np.sin(0.5 * math.pi * np.clip(depth, -1.0, 1.0))
    return disc


def derivative_modes(field: NDArray[np.complex128], count: int) -> NDArray[np.complex128]:
    """Return orthonormal modes: the field, then what its derivatives x, y, xx, xy, yy, … add to those before.

    Args:
        field: ``(h, w)``.
        count: how many.

    Returns:
        ``(count, h, w)``; the first is the field over its norm.

    """
    h, w = field.shape
    spectrum = fft(field)
    fy, fx = np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None, :]
    orders = [(a, total - a) for total in range(count) for a in range(total + 1)][:count]
    scale = math.sqrt(2.0) * 2j * math.pi
    columns = [fft(spectrum * (scale * fy) ** a * (scale * fx) ** b, inverse=True).ravel() for a, b in orders]
    columns = [column / np.linalg.norm(column) for column in columns]
    basis, triangle = np.linalg.qr(np.stack(columns, axis=1))
    # QR leaves the sign of a column open: keep the field's own phase
    phases = np.diag(triangle) / np.abs(np.diag(triangle))
    modes = (basis * phases).T.reshape(count, h, w)
    return modes.astype(np.complex128, copy=False)


def diameter_m(probe: ComplexArray, pixel_m: tuple[float, float], share: float = 0.95) -> float:
    """Return D95: the diameter of the circle about the intensity's centroid that holds 95 % of the energy.

    A pixel on the circle counts by how far it reaches inside: the diameter is continuous in the probe.

    Args:
        probe: ``(M, h, w)``.
        pixel_m: ``(dy, dx)``.
        share: of the energy.

    """
    intensity = np.sum(np.abs(probe) ** 2, axis=0)
    intensity = intensity / intensity.sum()
    (h, w), (dy, dx) = intensity.shape, pixel_m
    y, x = np.arange(h)[:, None] * dy, np.arange(w)[None, :] * dx
    radius = np.hypot(y - np.sum(intensity * y), x - np.sum(intensity * x))
    width = math.sqrt(dy * dx)

    def missing(edge: float) -> float:
        return float(np.sum(intensity * np.clip((edge - radius) / width + 0.5, 0.0, 1.0)) - share)

    return 2.0 * float(brentq(missing, -width, float(radius.max()) + width, xtol=1e-6 * width))


def diameter_px(probe: ComplexArray) -> float:
    """Return :func:`diameter_m` in pixels, for square pixels.

    Args:
        probe: ``(M, h, w)``.

    """
    return diameter_m(probe, (1.0, 1.0))
