"""Probes and scans: power, coherence, shape, diameter; density, order, pairing, overlap as asked."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ptybench.optics.geometry import Grid
from ptybench.optics.probes import (
    ApertureProbe,
    GaussianProbe,
    PinholeProbe,
    ZonePlateProbe,
    derivative_modes,
    diameter_m,
    diameter_px,
)
from ptybench.optics.scans import Scan, fermat_spiral, mean_step, overlap_area, overlap_linear
from ptybench.optics.waves import far_field, fourier_crop

WAVELENGTH = 1.55e-10
GRID = Grid((64, 64), (32e-9, 32e-9))
KINDS = [
    ApertureProbe(numerical_aperture=6e-4, defocus_m=4e-4),
    ZonePlateProbe(diameter_m=100e-6, outer_zone_m=120e-9, stop_m=40e-6, defocus_m=4e-4),
    PinholeProbe(diameter_m=7e-7, distance_m=1e-3),
    GaussianProbe(fwhm_m=4e-7, curvature_m=1e-3),
]


def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("probe", KINDS, ids=lambda probe: probe.kind)
@pytest.mark.parametrize("shape", [(64, 64), (65, 48)])
def test_modes_are_orthogonal_and_share_the_power_as_asked(probe, shape):
    probe = probe.model_copy(update={"modes": 4, "mode_power": [0.6, 0.2, 0.15, 0.05], "texture_rad": 0.5})
    modes = probe.field(Grid(shape, GRID.pixel_m), WAVELENGTH, rng()).reshape(4, -1)
    overlaps = modes.conj() @ modes.T
    assert np.abs(overlaps - np.diag([0.6, 0.2, 0.15, 0.05])).max() < 1e-10


def test_powers_default_to_a_quarter_each_time():
    modes = KINDS[0].model_copy(update={"modes": 3}).field(GRID, WAVELENGTH, rng())
    powers = np.sum(np.abs(modes) ** 2, axis=(1, 2))
    assert powers == pytest.approx(np.array([16, 4, 1]) / 21)


def test_derivative_modes_of_a_gaussian_are_hermite_gauss():
    y, x = Grid((64, 64), (1.0, 1.0)).coordinates()
    gauss = np.exp(-(y**2 + x**2) / 50.0).astype(complex)
    modes = derivative_modes(gauss, 4)
    for mode, hermite in zip(modes, [gauss, x * gauss, y * gauss, (x**2 - 12.5) * gauss], strict=True):
        assert abs(np.vdot(hermite / np.linalg.norm(hermite), mode)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("probe", KINDS, ids=lambda probe: probe.kind)
def test_a_finer_grid_samples_the_same_beam(probe):
    probe = probe.model_copy(update={"texture_rad": 0.4})
    coarse = probe.field(GRID, WAVELENGTH, rng())[0]
    fine = fourier_crop(probe.field(GRID.refined(2), WAVELENGTH, rng())[0], GRID.shape, origin="centre")
    likeness = abs(np.vdot(coarse, fine)) / np.linalg.norm(coarse) / np.linalg.norm(fine)
    assert likeness > 0.999


@pytest.mark.parametrize("probe", KINDS[:2], ids=lambda probe: probe.kind)
def test_the_defocus_factor_is_a_factor_of_the_defocus(probe):
    scaled = probe.model_copy(update={"defocus_m": 1.2 * probe.defocus_m})
    found = probe.field(GRID, WAVELENGTH, rng(), defocus_factor=1.2)
    assert np.abs(found - scaled.field(GRID, WAVELENGTH, rng())).max() < 1e-12
    assert diameter_px(found) > 1.05 * diameter_px(probe.field(GRID, WAVELENGTH, rng()))


def test_the_guess_has_the_texture_of_the_truth():
    smooth = GaussianProbe(fwhm_m=4e-7, curvature_m=1e-3)
    rough = smooth.model_copy(update={"texture_rad": 1.0})
    textures = [
        rough.field(GRID, WAVELENGTH, rng(), factor)[0] / smooth.field(GRID, WAVELENGTH, rng(), factor)[0]
        for factor in (1.0, 1.2)
    ]
    phases = [np.angle(texture * texture[32, 32].conj()) for texture in textures]
    assert np.abs(phases[0] - phases[1]).max() < 1e-6
    assert np.std(np.angle(textures[0])) > 0.5


def test_a_focused_probe_fills_its_pupil_in_the_far_field():
    aperture, zone_plate = KINDS[0], KINDS[1]
    fy, fx = GRID.frequencies()
    frequency = np.fft.fftshift(np.hypot(fy, fx))

    def light(probe, inside):
        return np.sum(np.abs(far_field(probe.field(GRID, WAVELENGTH, rng())))[0][inside] ** 2)

    edge = 6e-4 / WAVELENGTH
    assert light(aperture, frequency > 1.1 * edge) < 1e-20
    assert light(aperture, frequency < 0.5 * edge) == pytest.approx(0.25, rel=0.1)
    edge = 1 / (2 * 120e-9)
    assert light(zone_plate, frequency > 1.1 * edge) < 1e-20
    assert light(zone_plate, frequency < 0.35 * edge) < 1e-20  # the stop covers 40 % of the radius


def test_a_pinhole_at_no_distance_is_a_disc():
    field = PinholeProbe(diameter_m=1e-6, softness=0.0).field(GRID, WAVELENGTH, rng())[0]
    y, x = GRID.coordinates()
    radius = np.hypot(y, x)
    assert np.abs(field[radius > 0.5e-6]).max() < 1e-12
    assert np.ptp(np.abs(field[radius < 0.499e-6])) < 1e-12


@pytest.mark.parametrize(("fwhm", "shape"), [(8.0, (64, 64)), (21.3, (129, 100))])
def test_d95_of_a_gaussian_is_analytic(fwhm, shape):
    """1 - exp(-4 ln2 r² / fwhm²) = 0.95 at r = D/2."""
    probe = GaussianProbe(fwhm_m=fwhm).field(Grid(shape, (1.0, 1.0)), WAVELENGTH, rng())
    expected = fwhm * math.sqrt(math.log(20.0) / math.log(2.0))
    assert diameter_px(probe) == pytest.approx(expected, rel=5e-3)
    assert diameter_m(np.roll(probe, (3, -4), axis=(1, 2)), (2.0, 2.0)) == pytest.approx(2 * expected, rel=5e-3)


def test_d95_of_a_disc_on_oblong_pixels():
    grid = Grid((200, 100), (0.5, 1.0))
    y, x = grid.coordinates()
    disc = (np.hypot(y, x) < 30).astype(complex)[None]
    assert diameter_m(disc, grid.pixel_m) == pytest.approx(60 * math.sqrt(0.95), rel=5e-3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"modes": 2, "mode_power": [1.0]}, "1 shares for modes = 2"),
        ({"modes": 2, "mode_power": [0.5, 0.4]}, "add up to 0.9"),
        ({"modes": 2, "mode_power": [0.4, 0.6]}, "strongest mode first"),
        ({"stop_m": 1e-3}, "less than diameter_m"),
        ({"wavelenght": 1}, "Extra inputs"),
    ],
)
def test_impossible_probes_are_refused(changes, sentence):
    with pytest.raises(ValidationError, match=sentence):
        ZonePlateProbe(diameter_m=100e-6, outer_zone_m=120e-9, **changes)


# --- scans -----------------------------------------------------------------------------------------------------------


@given(overlap=st.floats(-0.9, 0.95), grid=st.tuples(st.integers(2, 9), st.integers(2, 9)), diameter=st.floats(5, 200))
def test_overlap_as_asked_is_overlap_as_measured(overlap, grid, diameter):
    positions = Scan(kind="raster", overlap=overlap, grid=grid).positions(diameter, rng())
    assert overlap_linear(positions, diameter) == pytest.approx(overlap, abs=1e-9)


def test_a_raster_goes_along_x_first_and_covers_its_field_of_view():
    positions = Scan(kind="raster", overlap=0.75, field_of_view_px=(30.0, 61.0)).positions(40.0, rng())
    assert positions.shape == (3 * 6, 2)
    assert np.array_equal(positions[:7].tolist(), [[0, 10 * i] for i in range(6)] + [[10, 0]])


def test_a_field_of_view_holds_at_least_two_patterns_an_axis():
    assert Scan(kind="raster", step_px=100, field_of_view_px=(30.0, 30.0)).positions(40.0, rng()).shape == (4, 2)


def test_steps_follow_oblong_pixels():
    positions = Scan(kind="raster", overlap=0.5, grid=(2, 2)).positions((40.0, 20.0), rng())
    assert np.array_equal(np.ptp(positions, axis=0), [20.0, 10.0])


def test_jitter_is_uniform_and_as_large_as_asked():
    plain = Scan(kind="raster", step_px=10, grid=(60, 50)).positions(40.0, rng())
    jittered = Scan(kind="jittered_raster", step_px=10, grid=(60, 50), randomness=0.2).positions(40.0, rng())
    offsets = (jittered - plain).ravel()
    assert np.abs(offsets).max() <= 2.0
    assert offsets.std() == pytest.approx(2.0 / math.sqrt(3), rel=0.05)
    assert abs(offsets.mean()) < 4 * 1.155 / math.sqrt(offsets.size)


def test_a_place_keeps_its_jitter_along_a_ladder():
    def offsets(step, grid):
        plain = Scan(kind="raster", step_px=step, grid=grid).positions(40.0, rng())
        jittered = Scan(step_px=step, grid=grid).positions(40.0, rng())
        return (jittered - plain).reshape(*grid, 2) / step

    few, many = offsets(20.0, (4, 3)), offsets(5.0, (9, 12))
    assert np.abs(few - many[:4, :3]).max() < 1e-12
    assert len(np.unique(many.round(9))) == many.size


@pytest.mark.parametrize(("ny", "nx"), [(10, 10), (6, 21)])
def test_a_fermat_spiral_fills_its_rectangle_evenly(ny, nx):
    points = fermat_spiral(ny, nx)
    assert points.shape == (ny * nx, 2)
    assert np.abs(points).max(axis=0) == pytest.approx([ny / 2, nx / 2], rel=0.1)
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(len(points))
    assert distance.min() > 0.7
    assert distance.min(axis=1).max() < 1.3
    assert mean_step(points) == pytest.approx(1.0, rel=0.02)


def test_overlap_area_against_counted_points():
    y, x = np.mgrid[-1:2:1501j, -1:1:1001j]
    for linear in (0.75, 0.5, 0.1):
        first, second = np.hypot(y, x) < 1, np.hypot(y - 2 * (1 - linear), x) < 1
        assert overlap_area(linear) == pytest.approx((first & second).sum() / first.sum(), abs=2e-3)
    assert overlap_area(1.0) == 1.0
    assert overlap_area(-0.5) == 0.0


def test_jitter_hardly_biases_the_measured_overlap():
    positions = Scan(overlap=0.5, grid=(12, 9)).positions(40.0, rng())
    assert overlap_linear(positions, 40.0) == pytest.approx(0.5, abs=0.01)


def test_two_patterns_and_one_have_a_step():
    assert mean_step(np.array([[0.0, 0.0], [0.0, 7.0]])) == pytest.approx(7.0)
    assert mean_step(np.zeros((1, 2))) == 0.0


@pytest.mark.parametrize(
    "fields",
    [
        {"grid": (3, 3)},
        {"overlap": 0.5, "step_px": 3.0, "grid": (3, 3)},
        {"overlap": 0.5},
        {"overlap": 0.5, "grid": (3, 3), "field_of_view_px": (9.0, 9.0)},
    ],
)
def test_a_scan_is_told_neither_too_much_nor_too_little(fields):
    with pytest.raises(ValidationError, match="exactly one"):
        Scan(**fields)
