"""Small problems that many tests share, made without the simulator so that solvers are tested apart from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ptybench.types import Estimate, Measurement


@dataclass(frozen=True)
class Problem:
    """A measurement with its object and probe, in complex128."""

    measurement: Measurement
    object: NDArray[np.complex128]
    probe: NDArray[np.complex128]


def make_problem(
    shape: tuple[int, int] = (32, 32),
    grid: tuple[int, int] = (5, 5),
    step: float = 4.0,
    *,
    modes: int = 1,
    subpixel: bool = True,
    near_field: bool = False,
    photons: float = 1e6,
    noise: bool = False,
    start: str = "wrong",
    bad_pixels: bool = False,
    seed: int = 0,
) -> Problem:
    """Make a small problem by explicit numpy, with the same formula as the solvers (an inverse crime on purpose)."""
    rng = np.random.default_rng(seed)
    h, w = shape
    corner = np.stack(np.meshgrid(*(np.arange(n) * step + 1 for n in grid), indexing="ij"), -1).reshape(-1, 2)
    jitter = rng.uniform(0, 2, corner.shape) if subpixel else rng.integers(0, 3, corner.shape)
    positions = corner + jitter
    canvas = tuple(int(np.ceil(positions[:, i].max())) + shape[i] + 2 for i in (0, 1))
    phase = gaussian_filter(rng.standard_normal(canvas), 1.5)
    amplitude = gaussian_filter(rng.standard_normal(canvas), 1.5)
    obj = (0.8 + 0.1 * amplitude / amplitude.std()) * np.exp(0.4j * phase / phase.std())

    def bump(width: float, curvature: float) -> NDArray[np.complex128]:
        y, x = np.arange(h)[:, None] - h // 2, np.arange(w)[None, :] - w // 2
        r2 = (y * y + x * x).astype(float)
        first = np.exp(-r2 / (2 * width**2) + 1j * r2 / curvature)
        found = [first, first * x * 0.1, first * y * 0.1][:modes]
        probe = np.stack(found)
        return probe * np.sqrt(photons / np.sum(np.abs(probe) ** 2))

    probe = bump(min(h, w) / 8, 30.0)
    first = bump(min(h, w) / 7, 38.0) if start == "wrong" else probe
    initial_object = np.ones(canvas) if start == "wrong" else obj
    bad = np.zeros(shape, bool)
    if bad_pixels:
        bad[3, 4] = bad[h // 2 + 3] = True
    geometry = (
        {"propagation": "near_field", "wavelength_m": 1.55e-10, "distance_m": 0.1, "pixel_size_m": (1e-6, 1e-6)}
        if near_field
        else {}
    )
    expected = np.stack([intensity(obj, probe, r, near_field) for r in positions])
    measured = rng.poisson(expected) if noise else expected
    measured = np.where(bad, 0, measured)
    measurement = Measurement(
        intensities=measured.astype(np.float32),
        bad_pixels=bad,
        positions_px=positions.astype(np.float64),
        initial=Estimate(initial_object.astype(np.complex64), first.astype(np.complex64), positions.astype(float)),
        **geometry,  # type: ignore[arg-type]
    )
    return Problem(measurement, obj, probe)


def intensity(
    obj: NDArray[np.complex128], probe: NDArray[np.complex128], position: NDArray[np.float64], near_field: bool = False
) -> NDArray[np.float64]:
    """``Σ_m |D[P_m(r − s) O]|²`` of one position, with numpy only and zero frequency in the centre."""
    h, w = probe.shape[1:]
    corner = np.floor(position).astype(int)
    fraction = position - corner
    fy, fx = np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None, :]
    ramp = np.exp(-2j * np.pi * (fy * fraction[0] + fx * fraction[1]))
    patch = obj[corner[0] : corner[0] + h, corner[1] : corner[1] + w]
    total = np.zeros((h, w))
    for mode in probe:
        exit_wave = np.fft.ifft2(np.fft.fft2(mode) * ramp) * patch
        if near_field:
            k = 2 * np.pi / 1.55e-10
            squared = (1.55e-10) ** 2 * ((fy / 1e-6) ** 2 + (fx / 1e-6) ** 2)
            kernel = np.exp(1j * k * 0.1 * (-squared / (1 + np.sqrt(1 - squared))))
            wave = np.fft.ifft2(np.fft.fft2(exit_wave) * kernel * ramp.conj())  # the detector does not move
        else:
            wave = np.fft.fftshift(np.fft.fft2(exit_wave, norm="ortho"))
        total += np.abs(wave) ** 2
    return total


def correlation(a: NDArray[np.complexfloating], b: NDArray[np.complexfloating]) -> float:
    """Modulus of the mean-removed complex correlation of two arrays."""
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    return float(abs(np.vdot(a, b)) / (np.linalg.norm(a) * np.linalg.norm(b)))
