"""Propagators, band limits and geometry against explicit DFT matrices, analytic optics and their adjoints."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import fresnel

from ptybench.optics.geometry import Grid, effective_distance_m, magnification, object_pixel_m, wavelength_m
from ptybench.optics.waves import (
    angular_spectrum,
    axial_wavenumber,
    band,
    far_field,
    fft,
    fourier_crop,
    fourier_pad,
    fourier_shift,
    near_field,
)

WAVELENGTH = 1.55e-10
SHAPES = [(16, 16), (15, 15), (12, 17)]


def noise(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def centred_dft(n):
    index = np.arange(n) - n // 2
    return np.exp(-2j * np.pi * np.outer(index, index) / n) / math.sqrt(n)


@pytest.mark.parametrize("shape", SHAPES)
def test_far_field_is_the_centred_dft(shape):
    psi = noise(2, *shape)
    explicit = centred_dft(shape[0]) @ psi @ centred_dft(shape[1]).T
    assert np.abs(far_field(psi) - explicit).max() < 1e-12
    assert np.abs(far_field(far_field(psi), inverse=True) - psi).max() < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
def test_operators_have_the_adjoints_that_they_claim(shape):
    grid = Grid(shape, (30e-9, 40e-9))
    small = (shape[0] // 2, shape[1] // 2 + 1)
    ratio = math.prod(small) / math.prod(shape)
    pairs = [
        (far_field, lambda y: far_field(y, inverse=True), shape),
        (lambda x: fourier_shift(x, (0.3, -2.7)), lambda y: fourier_shift(y, (-0.3, 2.7)), shape),
        (lambda x: near_field(x, grid, WAVELENGTH, 3e-4), lambda y: near_field(y, grid, WAVELENGTH, -3e-4), shape),
        (
            lambda x: near_field(x, grid, WAVELENGTH, 3e-4, pad=1, band_limit=False),
            lambda y: near_field(y, grid, WAVELENGTH, -3e-4, pad=1, band_limit=False),
            shape,
        ),
    ]
    for origin in ("corner", "centre"):
        pairs.append(
            (
                lambda x, origin=origin: fourier_crop(x, small, origin),
                lambda y, origin=origin: fourier_pad(y, shape, origin) * ratio,
                small,
            )
        )
    x = noise(*shape)
    for forward, adjoint, image in pairs:
        y = noise(*image, seed=1)
        left, right = np.vdot(y, forward(x)), np.vdot(adjoint(y), x)
        assert abs(left - right) <= 1e-10 * abs(left)


@given(first=st.floats(-20, 20), second=st.floats(-20, 20))
def test_shifts_add_up_and_keep_energy(first, second):
    field = noise(9, 12)
    both = fourier_shift(fourier_shift(field, (first, second)), (second, -first))
    assert np.abs(both - fourier_shift(field, (first + second, second - first))).max() < 1e-10
    assert np.sum(np.abs(both) ** 2) == pytest.approx(np.sum(np.abs(field) ** 2), rel=1e-12)


def test_a_whole_shift_is_a_roll():
    field = noise(8, 11)
    assert np.abs(fourier_shift(field, (3, -2)) - np.roll(field, (3, -2), axis=(0, 1))).max() < 1e-12


@pytest.mark.parametrize(("fine", "coarse"), [((32, 32), (16, 16)), ((45, 30), (15, 15)), ((34, 33), (17, 11))])
def test_crop_samples_a_band_limited_field_on_the_coarser_grid(fine, coarse):
    def sample(shape, origin):
        y, x = ((np.arange(n) - (n // 2 if origin == "centre" else 0)) / n for n in shape)
        return 0.7 + np.exp(2j * np.pi * (3 * y[:, None] - 2 * x[None, :])) - 0.5j * np.exp(-10j * np.pi * y[:, None])

    for origin in ("corner", "centre"):
        assert np.abs(fourier_crop(sample(fine, origin), coarse, origin) - sample(coarse, origin)).max() < 1e-12
        assert np.abs(fourier_pad(sample(coarse, origin), fine, origin) - sample(fine, origin)).max() < 1e-12


def test_crop_refuses_a_finer_grid():
    with pytest.raises(ValueError, match="coarser grid"):
        fourier_crop(noise(8, 8), (8, 9))


def test_axial_wavenumber_does_not_cancel():
    grid = Grid((64, 64), (30e-9, 30e-9))
    fy, fx = grid.frequencies()
    square = np.asarray(WAVELENGTH**2 * (fy**2 + fx**2), dtype=np.longdouble)
    exact = (
        2 * np.pi / WAVELENGTH * np.sum([c * square**p for p, c in ((1, -1 / 2), (2, -1 / 8), (3, -1 / 16))], axis=0)
    )
    assert np.abs(axial_wavenumber(grid, WAVELENGTH) - exact).max() < 1e-14 * np.abs(exact).max()


@pytest.mark.parametrize("distance", [1e-5, 3e-4, 2e-3])
def test_propagation_is_reversible_and_keeps_energy_inside_its_band(distance):
    grid = Grid((48, 33), (30e-9, 50e-9))
    inside = band(grid, WAVELENGTH, distance)
    there, back = (angular_spectrum(grid, WAVELENGTH, z) for z in (distance, -distance))
    assert np.abs(there * back - inside).max() < 1e-12
    field = fft(fft(noise(*grid.shape)) * inside, inverse=True)
    moved = near_field(field, grid, WAVELENGTH, distance, pad=1)
    assert np.sum(np.abs(moved) ** 2) == pytest.approx(np.sum(np.abs(field) ** 2), rel=1e-6)
    assert np.abs(near_field(moved, grid, WAVELENGTH, -distance, pad=1) - field).max() < 1e-10


def test_the_band_ends_where_the_phase_of_h_is_undersampled():
    grid, distance = Grid((256, 256), (30e-9, 30e-9)), 2e-3
    phase = distance * axial_wavenumber(grid, WAVELENGTH)[0]
    steps = np.abs(np.diff(np.fft.fftshift(phase)))
    kept = np.fft.fftshift(band(grid, WAVELENGTH, distance)[0])
    assert kept.any()
    assert not kept.all()
    assert steps[kept[1:] & kept[:-1]].max() <= math.pi
    assert steps[~kept[1:] & ~kept[:-1]].min() > math.pi * 0.97


def test_square_aperture_against_fresnel_integrals():
    """U(x, y) = (1 / 2i) [F(a₂) - F(a₁)]_x [F(b₂) - F(b₁)]_y with F = C + iS (Goodman, Fourier Optics, 4.5)."""
    grid, half, distance = Grid((512, 512), (30e-9, 30e-9)), 128.5 * 30e-9, 3e-3
    y, x = grid.coordinates()
    aperture = ((np.abs(y) < half) & (np.abs(x) < half)).astype(complex)

    def edge(u):
        scale = math.sqrt(2 / (WAVELENGTH * distance))
        (s2, c2), (s1, c1) = fresnel(scale * (u + half)), fresnel(scale * (u - half))
        return (c2 - c1) + 1j * (s2 - s1)

    exact = edge(y) * edge(x) / 2j
    found = near_field(aperture, grid, WAVELENGTH, distance)
    assert np.linalg.norm(found - exact) <= 2e-2 * np.linalg.norm(exact)


@pytest.mark.parametrize(("shape", "pixel"), [((128, 128), (30e-9, 30e-9)), ((127, 200), (40e-9, 24e-9))])
def test_gaussian_beam_against_its_analytic_propagation(shape, pixel):
    grid, waist, distance = Grid(shape, pixel), 250e-9, 1e-3
    y, x = grid.coordinates()
    square = y**2 + x**2
    rayleigh = math.pi * waist**2 / WAVELENGTH
    q = 1 + 1j * distance / rayleigh
    found = near_field(np.exp(-square / waist**2).astype(complex), grid, WAVELENGTH, distance)
    exact = np.exp(-square / (waist**2 * q)) / q
    assert np.abs(found - exact).max() < 1e-6


def geometry(**changes):
    plain = {"propagation": "far_field", "energy_ev": 8000.0, "distance_m": 2.0, "pitch_m": 75e-6, "shape": (64, 48)}
    return SimpleNamespace(**(plain | {"source_distance_m": None} | changes))


def test_far_field_pixel_is_wavelength_distance_over_extent():
    dy, dx = object_pixel_m(geometry())
    assert dy == pytest.approx(wavelength_m(8000.0) * 2.0 / (64 * 75e-6), rel=1e-12)
    assert dx == pytest.approx(dy * 64 / 48, rel=1e-12)
    # a geometry that is 25 % too long has a pixel that is 25 % too large
    assert object_pixel_m(geometry(), error=0.25)[0] == pytest.approx(dy / 1.25, rel=1e-12)


def test_a_wrong_distance_in_a_parallel_near_field_leaves_the_pixel():
    parallel = geometry(propagation="near_field")
    assert object_pixel_m(parallel, error=0.2) == (75e-6, 75e-6)
    assert effective_distance_m(parallel, 0.25) == pytest.approx(1.6)


def test_diverging_beam_follows_the_scaling_theorem():
    diverging = geometry(propagation="near_field", source_distance_m=0.5)
    assert magnification(diverging) == 5.0
    assert effective_distance_m(diverging) == pytest.approx(0.4)
    assert object_pixel_m(diverging)[0] == pytest.approx(15e-6)
    # source truly at 0.4 m, where 0.5 m was written down
    assert object_pixel_m(diverging, error=0.25)[0] == pytest.approx(75e-6 / 6)
    assert effective_distance_m(diverging, 0.25) == pytest.approx(2 / 6)


def test_the_wavelength_of_copper_k_alpha():
    assert wavelength_m(8047.8) == pytest.approx(1.5406e-10, rel=1e-4)
