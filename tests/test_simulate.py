"""The simulator against the same formulas written out with DFT matrices, and the promises that it makes."""

import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ptybench.datasets.specimen import Specimen

import ptybench.simulation as module
from ptybench import memory
from ptybench.errors import InvalidOption, NotEnoughMemory
from ptybench.optics import layout
from ptybench.optics.exposure import dose_map
from ptybench.optics.scans import overlap_linear
from ptybench.scoring.data import fit
from ptybench.simulation import simulate
from ptybench.task import parse_task
from ptybench.types import Estimate, Gauges

TEXT = """
name = "simulated"
title = "A task of the tests"
asks = "Nothing"
source = "tests"
primary_metric = "frc_truth_area"
[ladder]
name = "overlap"
field = "scan.overlap"
values = [0.75, 0.5]
[specimen]
kind = "pictures"
[probe]
kind = "gaussian"
fwhm_m = 1.8e-7
curvature_m = 1.5e-3
[scan]
overlap = 0.75
field_of_view_px = [24, 24]
[geometry]
distance_m = 0.5
shape = [32, 32]
[dose]
photons = 1e6
[budget]
epochs = 10
"""
NEAR = {"geometry.propagation": "near_field", "pitch_m": 32e-9, "geometry.distance_m": 1.5e-4}
MODES = {"probe.modes": 2, "probe.mode_power": [0.7, 0.3]}


class Waves(Specimen):
    """Three plane waves: a specimen whose value at every point is known."""

    kind: Literal["waves"] = "waves"

    def at(self, y, x):
        """Return the transmission at points in metres."""
        return 0.6 + 0.2 * np.exp(2j * np.pi * (3e6 * y + 1e6 * x)) + 0.15j * np.exp(2j * np.pi * (5e6 * x - 2e6 * y))

    def draw(self, rng, grid, coarse_pixel_m, wavelength_m, domain):
        """Return them on a grid."""
        return self.at(*grid.coordinates())

    def ranges(self, wavelength_m):
        """Return any constants."""
        return 1.0, 1.0


def task(**changes):
    loaded = parse_task(TEXT, "tests", overrides=changes)
    return loaded.model_copy(update={"specimen": Waves()})


def dft(n):
    return np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / math.sqrt(n)


def shift_matrix(n, distance):
    forward = dft(n)
    return forward.conj().T @ np.diag(np.exp(-2j * np.pi * np.fft.fftfreq(n) * distance)) @ forward


def detector_shift(n):
    return np.roll(np.eye(n), n // 2, axis=0)


def written_out(truth, near):
    """``I_k = Σ_m |D[P_m(r - s_k) · O(r + [r_k])]|²`` by matrices, on the solver's grid."""
    _, h, w = truth.probe.shape
    fy, fx = (np.fft.fftfreq(n, d) for n, d in zip((h, w), truth.pixel_size_m, strict=True))
    patterns = np.zeros((len(truth.positions_px), h, w))
    for k, (y, x) in enumerate(truth.positions_px):
        iy, ix = math.floor(y), math.floor(x)
        for mode in truth.probe:
            seen = shift_matrix(h, y - iy) @ mode @ shift_matrix(w, x - ix).T
            exit_wave = seen * truth.object[iy : iy + h, ix : ix + w]
            if near:
                spectrum = dft(h) @ exit_wave @ dft(w).T
                square = truth.wavelength_m**2 * (fy[:, None] ** 2 + fx[None, :] ** 2)
                phase = 2 * np.pi / truth.wavelength_m * truth.distance_m * (np.sqrt(1 - square) - 1)
                spectrum = spectrum * np.exp(1j * phase)
                wave = dft(h).conj().T @ spectrum @ dft(w).conj()
                wave = shift_matrix(h, iy - y) @ wave @ shift_matrix(w, ix - x).T
            else:
                wave = detector_shift(h) @ dft(h) @ exit_wave @ dft(w).T @ detector_shift(w).T
            patterns[k] += np.abs(wave) ** 2
    return patterns


@pytest.mark.parametrize("shape", [[32, 32], [33, 28]])
@pytest.mark.parametrize("near", [False, True])
def test_the_simulator_is_its_formula(near, shape):
    changes = MODES | (NEAR if near else {}) | {"inverse_crime": True, "geometry.shape": shape}
    _, truth = simulate(task(**changes), seed=3)
    expected = written_out(truth, near)
    assert np.linalg.norm(truth.expected - expected) <= 1e-6 * np.linalg.norm(expected)
    assert truth.facts["r_factor_truth_noise_free"] < 1e-9


def written_out_fine(truth, near, s, rim):
    """Exit waves at every point of a finer grid straight from the formulas of specimen and beam, then DFT matrices."""
    h, w = truth.probe.shape[1:]
    height, width = truth.object.shape
    (dy, dx), waves, z = truth.pixel_size_m, Waves(), truth.distance_m
    y, x = (np.arange(s * n) - (s * n) // 2 for n in (h, w))
    y, x = y[:, None] * dy / s, x[None, :] * dx / s
    beam = np.exp(
        -2 * math.log(2) * (y**2 + x**2) / 1.8e-7**2 + 1j * np.pi * (y**2 + x**2) / (truth.wavelength_m * 1.5e-3)
    )
    origin_y, origin_x = ((s * (n + 2 * rim)) // 2 / s - rim for n in (height, width))
    patterns = []
    for r_y, r_x in truth.positions_px:
        exit_wave = beam * waves.at(y + (r_y + h // 2 - origin_y) * dy, x + (r_x + w // 2 - origin_x) * dx)
        if near:
            # exp(2πi f·r) summed at the pixels' middles, frequencies of a window twice as large
            fy, fx = ((np.arange(2 * n) - n) / (2 * n * d) for n, d in ((h, dy), (w, dx)))
            to_y, to_x = (np.exp(-2j * np.pi * np.outer(f, u.ravel())) for f, u in ((fy, y), (fx, x)))
            v, u = (np.arange(h) - h // 2) * dy, (np.arange(w) - w // 2) * dx
            square = truth.wavelength_m**2 * (fy[:, None] ** 2 + fx[None, :] ** 2)
            transfer = np.exp(2j * np.pi * z / truth.wavelength_m * (np.sqrt(1 - square) - 1))
            back_y, back_x = (np.exp(2j * np.pi * np.outer(p, f)) for f, p in ((fy, v), (fx, u)))
            wave = back_y @ (transfer * (to_y @ exit_wave @ to_x.T)) @ back_x.T
        else:
            fy, fx = ((np.arange(n) - n // 2) / (n * d) for n, d in ((h, dy), (w, dx)))
            to_y, to_x = (np.exp(-2j * np.pi * np.outer(f, u.ravel())) for f, u in ((fy, y), (fx, x)))
            wave = to_y @ exit_wave @ to_x.T
        patterns.append(np.abs(wave) ** 2)
    return np.array(patterns)


@pytest.mark.parametrize(("shape", "s"), [([32, 32], 2), ([33, 28], 2), ([31, 32], 3)])
@pytest.mark.parametrize("near", [False, True])
def test_the_finer_simulation_sees_the_specimen_where_the_stage_is(near, shape, s):
    changes = (NEAR if near else {}) | {"geometry.shape": shape, "oversampling": s, "position_error_px": 0.7}
    _, truth = simulate(task(**changes), seed=1)
    expected = written_out_fine(truth, near, s, module.RIM_PX)
    scale = (expected * truth.expected).sum() / (expected**2).sum()
    assert np.linalg.norm(truth.expected - scale * expected) <= 1e-4 * np.linalg.norm(truth.expected)


@pytest.mark.parametrize("shape", [[32, 32], [33, 28]])
def test_the_truth_is_the_band_limited_specimen(shape):
    _, truth = simulate(task(**{"geometry.shape": shape}))
    (height, width), s, rim = truth.object.shape, 2, module.RIM_PX
    y, x = (
        (np.arange(n) + rim) * d - (s * (n + 2 * rim)) // 2 * d / s
        for n, d in zip((height, width), truth.pixel_size_m, strict=True)
    )
    exact = Waves().at(y[:, None], x[None, :])
    h, w = truth.probe.shape[1:]
    inside = (slice(h // 4, -h // 4), slice(w // 4, -w // 4))
    assert np.abs(truth.object - exact)[inside].max() < 1e-3


def test_same_seed_same_bits_other_seed_other_bits():
    first, again, other = (simulate(task(), seed=seed) for seed in (5, 5, 6))
    for name in ("intensities", "positions_px", "bad_pixels"):
        assert np.array_equal(getattr(first[0], name), getattr(again[0], name))
    for name in ("object", "probe", "expected", "positions_px", "dose"):
        assert np.array_equal(getattr(first[1], name), getattr(again[1], name))
    assert np.array_equal(first[0].initial.probe, again[0].initial.probe)
    assert first[1].facts == again[1].facts
    assert not np.array_equal(first[0].intensities, other[0].intensities)
    assert not np.array_equal(first[0].intensities, simulate(task(), seed=5, domain="train")[0].intensities)


def test_the_points_of_a_ladder_are_paired():
    errors = []
    for sigma in (0.5, 2.0):
        measurement, truth = simulate(parse_task(TEXT, "tests", overrides={"position_error_px": sigma}))
        errors.append((truth.positions_px - measurement.positions_px) / sigma)
    assert np.abs(errors[0] - errors[1]).max() < 1e-12
    assert np.abs(errors[0]).max() > 0.5
    dim, bright = (simulate(parse_task(TEXT, "tests", overrides={"photons": p}))[1] for p in (1e3, 1e5))
    assert np.array_equal(dim.object, bright.object)
    assert np.abs(100 * dim.expected - bright.expected).max() < 1e-9 * bright.expected.max()
    assert np.array_equal(dim.positions_px, bright.positions_px)


def test_the_brightest_pattern_has_the_photons_asked():
    _, truth = simulate(task(photons=1234.5, background_photons=0.25))
    sums = (truth.expected - 0.25).sum(axis=(1, 2))
    assert sums.max() == pytest.approx(1234.5)
    assert truth.facts["photons_total"] == pytest.approx(sums.sum())
    # the specimen absorbs: the probe holds more light than any pattern, and patterns differ
    assert np.sum(np.abs(truth.probe) ** 2) > 1234.5
    assert np.ptp(sums) > 1e-3


def test_a_fixed_total_dose_is_that_of_the_default_point():
    default = simulate(task(fixed_total_dose=True))[1]
    sparse = simulate(task(fixed_total_dose=True, overlap=0.25))[1]
    assert len(sparse.expected) < len(default.expected) / 2
    brightest = [t.expected.sum(axis=(1, 2)).max() * len(t.expected) for t in (default, sparse)]
    assert brightest[0] == pytest.approx(brightest[1])
    assert brightest[0] == pytest.approx(1e6 * len(default.expected))


def test_energy_on_the_detector_is_counted():
    facts = simulate(task())[1].facts
    assert 0.999 < facts["energy_on_detector"] <= 1 + 1e-12
    lost = simulate(task(**{"geometry.distance_m": 3.0}))[1].facts
    assert lost["energy_on_detector"] < 0.9


def test_a_raster_overlaps_as_asked():
    raster = parse_task(TEXT.replace("[scan]", '[scan]\nkind = "raster"'), "tests", overrides={"overlap": 0.6})
    _, truth = simulate(raster)
    assert truth.facts["overlap_linear"] == pytest.approx(0.6, abs=1e-9)
    measured = overlap_linear(truth.positions_px, truth.facts["probe_diameter_px"])
    assert measured == pytest.approx(0.6, abs=1e-9)


def test_a_wrong_distance_in_the_far_field_is_a_wrong_pixel_about_one_origin():
    errors = []
    for seed in range(6):
        measurement, truth = simulate(task(**{"errors.distance": 0.2}), seed=seed)
        relative = measurement.distance_m / truth.distance_m - 1
        errors.append(relative)
        ratio = np.array(measurement.pixel_size_m) / truth.pixel_size_m
        assert ratio == pytest.approx([1 + relative] * 2)
        nominal, true = ((t.positions_px + 16) * t.pixel_size_m for t in (measurement, truth))
        assert np.abs(nominal - true).max() < 1e-15
        assert truth.positions_px.min() >= 1
        assert (truth.positions_px.max(axis=0) <= np.array(truth.object.shape) - 32).all()
    sizes = np.abs(errors)
    assert sizes.min() >= 0.16 - 1e-12
    assert sizes.max() <= 0.24 + 1e-12
    assert min(errors) < 0 < max(errors)


def test_a_wrong_distance_in_a_parallel_near_field_is_nothing_else():
    measurement, truth = simulate(task(**NEAR, **{"errors.distance": 0.2}))
    assert 0.16 <= abs(measurement.distance_m / truth.distance_m - 1) <= 0.24
    assert measurement.pixel_size_m == truth.pixel_size_m
    assert np.array_equal(measurement.positions_px, truth.positions_px)
    assert measurement.canvas == truth.object.shape


def test_a_wrong_wavelength_is_a_wrong_pixel_in_the_far_field():
    measurement, truth = simulate(task(**{"errors.wavelength": 0.05}))
    ratio = measurement.wavelength_m / truth.wavelength_m
    assert 0.04 <= abs(ratio - 1) <= 0.06
    assert measurement.pixel_size_m[0] / truth.pixel_size_m[0] == pytest.approx(ratio)
    assert measurement.distance_m == truth.distance_m


def test_a_diverging_beam_is_a_parallel_one_on_scaled_lengths():
    parallel = simulate(task(**NEAR))[1]
    diverging = simulate(
        task(**NEAR | {"pitch_m": 320e-9, "geometry.distance_m": 1.5e-3, "source_distance_m": 1.5e-3 / 9})
    )[1]
    assert diverging.distance_m == pytest.approx(parallel.distance_m)
    assert diverging.pixel_size_m == pytest.approx(parallel.pixel_size_m)
    assert np.abs(diverging.expected - parallel.expected).max() < 1e-6 * parallel.expected.max()


def test_the_start_is_flat_right_in_power_and_wrong_in_defocus():
    measurement, truth = simulate(task(**MODES))
    start = measurement.initial
    assert np.array_equal(np.unique(start.object), [1 + 0j])
    assert start.object.dtype == start.probe.dtype == np.complex64
    assert start.probe.shape == (1, 32, 32)
    assert np.sum(np.abs(start.probe) ** 2) == pytest.approx(np.sum(np.abs(truth.probe) ** 2), rel=1e-5)
    y, x = ((np.arange(32) - 16) * d for d in truth.pixel_size_m)
    square = y[:, None] ** 2 + x[None, :] ** 2
    curvature = np.pi * square / truth.wavelength_m * (1 / 1.8e-3 - 1 / 1.5e-3)  # 20 % too far from the focus
    turned = truth.probe[0] * np.exp(1j * curvature)
    likeness = np.vdot(start.probe[0], turned) / np.linalg.norm(start.probe) / np.linalg.norm(turned)
    assert likeness == pytest.approx(1, abs=1e-5)
    assert truth.gauges.scale


def test_a_known_probe_is_the_truth_and_leaves_only_the_phase():
    measurement, truth = simulate(task(known_probe=True, **MODES))
    assert measurement.known_probe
    assert np.array_equal(measurement.initial.probe, truth.probe.astype(np.complex64))
    assert truth.gauges == Gauges(scale=False, shift=False, ramp=False)


def test_what_the_operator_knows_is_declared():
    measurement, truth = simulate(
        task(position_error_px=1.5, background_photons=0.1, read_noise_photons=2.0, saturation_photons=5e4)
    )
    assert measurement.position_error_px == 1.5
    assert measurement.noise.background_photons == truth.background_photons == 0.1
    assert measurement.noise.read_noise_photons == 2.0
    assert measurement.intensities.max() <= 5e4
    margin = measurement.positions_px.min(axis=0)
    assert (margin == 7).all()
    assert measurement.canvas == truth.object.shape


def test_a_fly_scan_is_the_mean_of_short_exposures(monkeypatch):
    crime = {"geometry.inverse_crime": True}
    blurred = simulate(task(fly_scan_px=1.0, **crime))[1].expected
    true_positions = layout.true_positions
    # the canvas of a fly scan has more room: look at the patterns alone, each scaled by its own brightest
    total = np.zeros_like(blurred)
    monkeypatch.setattr(layout, "fly_scan_offsets", lambda length: np.zeros((1, 2)))
    for offset in (-0.25, 0.25):
        monkeypatch.setattr(layout, "true_positions", lambda *a, o=offset: true_positions(*a) + np.array([0, o]))
        seen = simulate(task(fly_scan_px=1.0, **crime))[1]
        total += seen.expected / np.sum(np.abs(seen.probe) ** 2)
    assert np.abs(blurred / blurred.max() - total / total.max()).max() < 1e-9


@settings(max_examples=20)
@given(
    shape=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    places=st.lists(st.tuples(st.floats(0, 8), st.floats(0, 8)), min_size=1, max_size=6),
)
def test_the_dose_is_the_sum_of_the_beams(shape, places):
    intensity = np.random.default_rng(0).random(shape)
    dose = dose_map(np.array(places), intensity, (18, 19))
    assert dose.sum() == pytest.approx(len(places) * intensity.sum())
    whole = np.floor(np.array(places)).astype(int)
    explicit = np.zeros((18, 19))
    for y, x in whole:
        explicit[y : y + shape[0], x : x + shape[1]] += intensity
    assert np.abs(dose_map(whole.astype(float), intensity, (18, 19)) - explicit).max() < 1e-12


def test_dose_and_scored_area_follow_the_scan():
    _, truth = simulate(task())
    assert truth.dose.sum() == pytest.approx(len(truth.expected) * np.sum(np.abs(truth.probe) ** 2), rel=1e-9)
    assert truth.scored[truth.object.shape[0] // 2, truth.object.shape[1] // 2]
    assert 0.1 < truth.scored.mean() < 0.95


def test_wrong_use_is_one_sentence():
    with pytest.raises(InvalidOption, match="override when loading"):
        simulate(task(), overlap=0.5)
    with pytest.raises(InvalidOption, match="domain"):
        simulate(task(), domain="test")


def test_what_does_not_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(NotEnoughMemory, match="take a smaller tier"):
        simulate(task())


@pytest.mark.parametrize("wrong", [{"errors.distance": 0.2}, {"errors.wavelength": 0.1}])
def test_the_nominal_scan_does_not_tell_what_is_true(wrong):
    """Number, step, canvas and declared error are those of the task, whichever way the true pixel lies off."""
    stage = {"position_error_px": 1.5, "fly_scan_px": 2.0, "drift_px": 3.0}
    signs = set()
    for seed in range(4):
        nominal, right = simulate(task(**stage), seed=seed)
        measurement, truth = simulate(task(**stage, **wrong), seed=seed)
        ratio = measurement.pixel_size_m[0] / truth.pixel_size_m[0]
        signs.add(ratio > 1)
        assert measurement.position_error_px == nominal.position_error_px
        steps, plain_steps = (m.positions_px - m.positions_px[0] for m in (measurement, nominal))
        assert steps == pytest.approx(plain_steps, abs=1e-9)
        # the stage errs by as many metres as without the wrong pixel
        errors = (truth.positions_px + 16) / ratio - 16 - measurement.positions_px
        assert errors == pytest.approx(right.positions_px - nominal.positions_px, abs=1e-9)
        assert truth.positions_px.min() >= 1
        assert (truth.positions_px.max(axis=0) <= np.array(truth.object.shape) - 33).all()
    assert signs == {True, False}


def test_the_r_factor_of_the_truth_counts_the_pixels_that_scoring_counts():
    """The truth as an estimate has the R-factor that the card states, clipped and bad pixels left out."""
    measurement, truth = simulate(task(saturation_photons=3000.3, dead_fraction=0.01, background_photons=0.5))
    assert (measurement.intensities == np.float32(3000.3)).any()
    estimate = Estimate(truth.object, truth.probe, truth.positions_px, truth.pixel_size_m, truth.distance_m)
    assert truth.facts["r_factor_truth"] == pytest.approx(fit(estimate, measurement).r_factor, rel=1e-6)


SPECIMENS = [{"kind": "siemens_star"}, {"kind": "pictures"}, {"kind": "particles", "diameter_m": [1e-7, 3e-7]}]
PROBES = [
    {"kind": "pinhole", "diameter_m": 3e-7, "distance_m": 1e-4, "modes": 2},
    {"kind": "zone_plate", "diameter_m": 1e-4, "outer_zone_m": 1e-7, "stop_m": 2e-5, "defocus_m": 1e-4},
    {"kind": "aperture", "numerical_aperture": 9e-4, "defocus_m": 1e-4, "modes": 3, "mode_power": [0.7, 0.2, 0.1]},
]


@pytest.mark.parametrize(("specimen", "probe"), list(zip(SPECIMENS, PROBES, strict=True)))
def test_another_kind_of_specimen_and_probe_by_override(specimen, probe):
    changed = parse_task(TEXT, "tests", overrides={"specimen": specimen, "probe": probe, "scan.overlap": 0.6})
    assert changed.specimen.kind == specimen["kind"]
    assert changed.probe.kind == probe["kind"]
    measurement, truth = simulate(changed)
    assert len(truth.probe) == probe.get("modes", 1)
    assert measurement.intensities.sum() == pytest.approx(truth.facts["photons_total"], rel=1e-2)
    with pytest.raises(InvalidOption, match="probe"):
        parse_task(TEXT, "tests", overrides={"probe": probe | {"fwhm_m": 1e-7}})
