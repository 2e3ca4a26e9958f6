"""Specimens against what is known of them: volumes of spheres, counts of spokes, band limits, ranges, domains."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from ptybench.datasets.materials import delta_beta
from ptybench.datasets.particles import Particles, sphere_thickness
from ptybench.datasets.pictures import PICTURES, Pictures, read_picture, view
from ptybench.datasets.siemens import SiemensStar, star_coverage
from ptybench.datasets.specimen import Specimen, low_pass
from pydantic import ValidationError
from scipy.special import jv

from ptybench.errors import InvalidOption
from ptybench.optics.geometry import Grid, wavelength_m
from ptybench.seeds import named_rng
from ptybench.task import DOMAINS, Domain

WAVELENGTH = wavelength_m(8000.0)
PIXEL = (32e-9, 32e-9)
SPECIMENS = [Particles(), Pictures(), SiemensStar()]
KINDS = [specimen.kind for specimen in SPECIMENS]


def draw(specimen: Specimen, seed: int = 0, domain: Domain = "dev", shape: tuple[int, int] = (120, 140)) -> np.ndarray:
    rng = named_rng("test", domain, seed, "specimen")
    return specimen.draw(rng, Grid(shape, PIXEL).refined(2), PIXEL, WAVELENGTH, domain)


@pytest.mark.parametrize("specimen", SPECIMENS, ids=KINDS)
def test_matter_absorbs_and_retards(specimen: Specimen) -> None:
    for seed in range(4):
        transmission = draw(specimen, seed)
        assert transmission.shape == (240, 280)
        assert transmission.dtype == np.complex128
        assert np.abs(transmission).max() <= 1 + 1e-12
        phase = np.angle(transmission)
        assert phase.max() <= 1e-12
        assert -3.1 < phase.min() < -0.3  # enough contrast, no wrapping
        assert phase.std() > 0.02


@pytest.mark.parametrize("specimen", SPECIMENS, ids=KINDS)
def test_same_seed_same_bits_and_another_seed_another_specimen(specimen: Specimen) -> None:
    first = draw(specimen, 3)
    np.testing.assert_array_equal(first, draw(specimen, 3))
    others = [first, draw(specimen, 4), draw(specimen, 3, "train"), draw(specimen, 3, "release")]
    for a, b in combinations(others, 2):
        assert np.abs(a - b).max() > 0.05


@pytest.mark.parametrize("cutoff", [1.0, 0.6])
@pytest.mark.parametrize("specimen", SPECIMENS, ids=KINDS)
def test_nothing_beyond_the_cutoff(specimen: Specimen, cutoff: float) -> None:
    specimen = specimen.model_copy(update={"cutoff": cutoff})
    transmission = draw(specimen, 1, shape=(160, 160))
    # a smooth window keeps the canvas's edges out of the spectrum; it widens it by two lines
    window = np.hanning(320)[:, None] * np.hanning(320)
    power = np.abs(np.fft.fft2((transmission - transmission.mean()) * window)) ** 2
    frequency = np.fft.fftfreq(320, 0.5)  # cycles per solver pixel; Nyquist is 0.5
    beyond = np.hypot(frequency[:, None], frequency) > 0.5 * cutoff + 2.5 / 160
    # the thin-specimen exponential is not linear, so that its harmonics go a little further
    assert power[beyond].sum() < 2e-4 * power.sum()
    assert power[~beyond].sum() > 0


@pytest.mark.parametrize("specimen", [Particles(coverage=0.8), Particles(coverage=2.0), Pictures()], ids=str)
def test_ranges_span_what_is_drawn(specimen: Specimen) -> None:
    amplitude_range, phase_range = specimen.ranges(WAVELENGTH)
    amplitudes, phases = [], []
    for seed in range(8):
        transmission = draw(specimen, seed)
        amplitudes.append(np.abs(transmission).ravel())
        phases.append(np.angle(transmission).ravel())
    together = np.concatenate(amplitudes), np.concatenate(phases)
    for values, extent in zip(together, (amplitude_range, phase_range), strict=True):
        assert np.mean(values < values.max() - extent) < 0.01
        assert np.ptp(values) > 0.4 * extent


def test_larger_canvas_shows_more_of_the_same_specimen() -> None:
    for specimen in (Particles(), Pictures()):
        small, large = draw(specimen, 2, shape=(100, 100)), draw(specimen, 2, shape=(160, 140))
        middle = large[60:260, 40:240]
        # the low-pass of a larger map differs at the margins alone, and little
        assert np.abs(middle - small).max() < 0.02
        assert np.abs(middle - small)[40:-40, 40:-40].max() < 0.005


# --- the low-pass ----------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cutoff=st.floats(0.2, 1.0))
def test_low_pass_keeps_mean_and_range(seed: int, cutoff: float) -> None:
    values = np.random.default_rng(seed).random((48, 60)) ** 6
    filtered = low_pass(values, (0.5, 0.5), (1.0, 1.0), cutoff)
    assert filtered.min() >= values.min()
    assert filtered.max() <= values.max()
    assert filtered.mean() == pytest.approx(values.mean(), rel=1e-10)


def test_low_pass_of_a_point_is_the_airy_pattern() -> None:
    point = np.zeros((256, 256))
    point[128, 128] = 1.0
    kernel = low_pass(point, (0.25, 0.25), (1.0, 1.0), 1.0)
    radius = np.arange(1, 24) * 0.25  # solver pixels, in which the band ends at 0.5
    v = np.pi * 0.5 * radius
    airy = (2 * jv(1, v) / v) ** 2
    np.testing.assert_allclose(kernel[128, 129:152] / kernel[128, 128], airy, atol=2e-3)


def test_low_pass_with_pixels_that_are_not_square() -> None:
    values = np.random.default_rng(0).random((64, 64))
    spectrum = np.abs(np.fft.fft2(low_pass(values, (0.5, 1.0), (1.0, 2.0), 1.0)))
    f = np.fft.fftfreq(64, 0.5)  # both axes in their own solver pixels
    assert spectrum[np.hypot(f[:, None], f) >= 0.5].max() < 1e-10 * spectrum[0, 0]


# --- particles -------------------------------------------------------------------------------------------------------


def test_refractive_index_of_titania() -> None:
    delta, beta = delta_beta("TiO2", 4.23, WAVELENGTH)
    assert delta == pytest.approx(1.314e-5, rel=2e-3)
    assert beta == pytest.approx(6.47e-7, rel=2e-3)
    with pytest.raises(InvalidOption, match="chemical formula"):
        delta_beta("NoSuchStuff", 1.0, WAVELENGTH)


def test_thickness_of_spheres_has_their_volume_and_height() -> None:
    step = 4e-9
    axis = (np.arange(600) - 300) * step
    centres, diameters = np.array([[0.0, 0.0], [1.3e-7, -2e-7]]), np.array([9e-7, 4e-7])
    thickness = sphere_thickness(axis[:, None], axis[None, :], centres, diameters)
    volume = np.pi / 6 * (diameters**3).sum()
    assert thickness.sum() * step**2 == pytest.approx(volume, rel=1e-3)
    alone = sphere_thickness(axis[:, None], axis[None, :], centres[:1], diameters[:1])
    assert alone[300, 300] == pytest.approx(9e-7, rel=1e-12)
    assert alone[300, 300 + 50] == pytest.approx(2 * np.sqrt(4.5e-7**2 - 2e-7**2), rel=1e-12)
    assert alone[300, 300 + 113] == 0.0


def test_coverage_is_the_mean_area_of_discs() -> None:
    specimen = Particles(coverage=0.7, diameter_m=(1e-7, 6e-7))
    side = 60e-6
    centres, diameters = specimen.spheres(np.random.default_rng(5), (0.0, side, 0.0, side))
    inside = ((centres >= 0) & (centres < side)).all(axis=1)
    discs = np.pi / 4 * (diameters[inside] ** 2).sum() / side**2
    assert discs == pytest.approx(0.7, rel=0.03)
    assert diameters.min() >= 1e-7
    assert diameters.max() <= 6e-7
    # log-uniform: as many below the geometric mean as above
    assert np.mean(diameters < np.sqrt(1e-7 * 6e-7)) == pytest.approx(0.5, abs=0.02)


def test_spheres_reach_in_from_outside() -> None:
    specimen = Particles(diameter_m=(1e-6, 1e-6))
    centres, _ = specimen.spheres(np.random.default_rng(1), (-2e-6, 9e-6, -9e-6, 2e-6))
    more, _ = specimen.spheres(np.random.default_rng(1), (-3e-5, 3e-5, -3e-5, 3e-5))
    near = (np.abs(more - np.array([3.5e-6, -3.5e-6])) < 5.5e-6 + 5e-7).all(axis=1)
    found = {tuple(centre) for centre in centres}
    assert near.sum() > 20
    assert {tuple(centre) for centre in more[near]} <= found


def test_transmission_of_a_sphere_follows_from_its_thickness() -> None:
    """Phase and absorption go together, and the film is a constant factor."""
    specimen = Particles(diameter_m=(8e-7, 8e-7), coverage=0.3, film_thickness_m=0.0)
    transmission = draw(specimen, 1)
    delta, beta = delta_beta("TiO2", 4.23, WAVELENGTH)
    np.testing.assert_allclose(np.log(np.abs(transmission)), np.angle(transmission) * beta / delta, atol=1e-12)
    film = draw(specimen.model_copy(update={"film_thickness_m": 5e-6}), 1) / transmission
    _, beta_film = delta_beta("C5H8O2", 1.18, WAVELENGTH)
    np.testing.assert_allclose(film, np.exp(-2 * np.pi / WAVELENGTH * beta_film * 5e-6), rtol=1e-12)


# --- pictures --------------------------------------------------------------------------------------------------------


def test_no_picture_in_two_domains_and_all_ship_with_scikit_image() -> None:
    assert set(PICTURES) == set(DOMAINS)
    names = [name for domain in DOMAINS for name in PICTURES[domain]]
    assert len(names) == len(set(names))
    folder = Path(skimage.__file__).parent / "data"
    assert all((folder / f"{name}.png").is_file() for name in names)
    for name in names:
        grey = read_picture(name)
        assert grey.ndim == 2
        assert (grey.min(), grey.max()) == (0.0, 1.0)


def test_a_pair_is_two_pictures_of_the_domain() -> None:
    for domain in DOMAINS:
        pairs = [Pictures().pair(named_rng("test", domain, seed), domain) for seed in range(40)]
        assert all(a != b and {a, b} <= set(PICTURES[domain]) for a, b in pairs)
        assert {name for pair in pairs for name in pair} == set(PICTURES[domain])


def test_picture_values_stay_in_the_ranges() -> None:
    transmission = draw(Pictures(amplitude=(0.8, 0.9), phase_rad=(-0.4, -0.1)), 2)
    assert np.abs(transmission).min() >= 0.8 - 1e-12
    assert np.abs(transmission).max() <= 0.9 + 1e-12
    assert np.angle(transmission).min() >= -0.4 - 1e-12
    assert np.angle(transmission).max() <= -0.1 + 1e-12


def test_a_constant_picture_stays_constant() -> None:
    u = np.arange(40.0)[:, None] - 20
    seen = view(np.full((50, 70), 0.3), u, u.T, 1.0, (1.5, 3.0), np.random.default_rng(0))
    np.testing.assert_allclose(seen, 0.3, atol=1e-12)


def test_view_does_not_alias() -> None:
    """A pattern finer than the grid becomes its mean, not a coarse stripe."""
    stripes = np.tile([0.0, 1.0], (256, 128))
    u = np.arange(40.0)[:, None] - 20
    seen = view(stripes, u, u.T, 1.0, (3.03, 3.03), np.random.default_rng(0))
    np.testing.assert_allclose(seen, 0.5, atol=0.02)


# --- Siemens star ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spokes", [16, 33])
def test_star_has_its_spokes(spokes: int) -> None:
    axis = np.arange(400) - 200.0
    covered = star_coverage(axis[:, None], axis[None, :], 180.0, spokes, 0.4, rings=0)
    angle = np.arange(2048) * 2 * np.pi / 2048
    ring = covered[np.round(200 + 150 * np.sin(angle)).astype(int), np.round(200 + 150 * np.cos(angle)).astype(int)]
    spectrum = np.abs(np.fft.rfft(ring - ring.mean()))
    assert np.argmax(spectrum) == spokes
    inside = np.hypot(axis[:, None], axis) < 175
    assert covered[inside].mean() == pytest.approx(0.5, abs=0.01)  # spokes as wide as gaps
    assert covered[np.hypot(axis[:, None], axis) > 182].max() == 0
    edges = (covered > 0) & (covered < 1)
    assert 0.01 < edges[inside].mean() < 0.3  # anti-aliased


def test_star_turns_with_its_angle_and_rings_are_open() -> None:
    axis = np.arange(200) - 99.5
    quarter = star_coverage(axis[:, None], axis[None, :], 90.0, 18, 0.3, rings=2)
    turned = star_coverage(axis[:, None], axis[None, :], 90.0, 18, 0.3 + np.pi / 2, rings=2)
    np.testing.assert_allclose(turned, np.rot90(quarter, -1), atol=0.07)
    radius = np.hypot(axis[:, None], axis)
    assert quarter[np.abs(radius - 30) < 0.5].max() == 0
    assert quarter[np.abs(radius - 60) < 0.5].max() == 0


def test_star_is_as_thick_as_told_and_varies() -> None:
    specimen = SiemensStar(spokes=(8, 8), rings=0)
    phase = np.angle(draw(specimen, 0, shape=(160, 160)))
    assert phase.min() == pytest.approx(-specimen.ranges(WAVELENGTH)[1], rel=0.05)
    many = SiemensStar(spokes=(10, 30))
    stars = [draw(many, seed) for seed in range(3)]
    assert all(np.abs(a - b).max() > 0.3 for a, b in combinations(stars, 2))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Particles, {"diameter_m": (2e-6, 1e-6)}),
        (Particles, {"coverage": -1.0}),
        (Pictures, {"phase_rad": (0.0, 1.0)}),
        (Pictures, {"amplitude": (0.5, 1.5)}),
        (Pictures, {"zoom": (2.0, 1.0)}),
        (SiemensStar, {"spokes": (30, 20)}),
        (SiemensStar, {"cutoff": 1.5}),
        (SiemensStar, {"spoke": 3}),
    ],
)
def test_impossible_specimens_are_refused(kind: type[Specimen], fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        kind(**fields)
