"""Detector and stage: statistics against theory, each error against its own definition."""

import math
from functools import partial

import numpy as np
import pytest

from ptybench.errors import InvalidOption
from ptybench.optics.detector import bad_pixels, blur, detect
from ptybench.optics.disturbances import (
    affine_error,
    backlash,
    declared_error_px,
    drift,
    fly_scan_offsets,
    true_positions,
)
from ptybench.optics.scans import Scan
from ptybench.seeds import named_rng
from ptybench.task import Detector, Dose, Errors

STREAMS = partial(named_rng, "test", "dev", 0)
DOSE = Dose(photons=1.0)
DRAWS = (10, 100, 100)  # 1e5


def measure(mean, shape=DRAWS, dose=DOSE, **detector):
    return detect(np.full(shape, float(mean)), Detector(**detector), dose, STREAMS)


@pytest.mark.parametrize("mean", [0.02, 1.0, 37.5, 1e4, 1e9])
def test_photons_have_poisson_mean_and_variance(mean):
    counts = measure(mean)[0].astype(np.float64)
    n = counts.size
    assert abs(counts.mean() - mean) < 4 * math.sqrt(mean / n)
    # the variance of the sample variance of Poisson numbers is (μ + 2μ²) / n for large n
    assert abs(counts.var(ddof=1) - mean) < 4 * math.sqrt((mean + 2 * mean**2) / n)


def test_huge_means_are_no_trouble():
    assert measure(1e15, (1, 8, 8))[0].mean() == pytest.approx(1e15, rel=1e-6)


def test_read_noise_adds_its_variance_and_never_turns_negative():
    counts = measure(400.0, read_noise_photons=15.0)[0].astype(np.float64)
    assert counts.var() == pytest.approx(400 + 225, rel=0.02)
    assert counts.mean() == pytest.approx(400, abs=4 * math.sqrt(625 / counts.size))
    assert measure(0.5, read_noise_photons=15.0)[0].min() == 0.0


def test_saturation_clips():
    counts = measure(100.0, saturation_photons=105.0)[0]
    assert counts.max() == 105.0
    assert 0.2 < (counts == 105.0).mean() < 0.4


def test_without_noise_the_expectation_itself_is_measured():
    dose = Dose(photons=1.0, noise_free=True)
    counts, bad = measure(2.25, dose=dose, read_noise_photons=3.0, dead_fraction=0.1)
    assert np.array_equal(np.unique(counts[:, ~bad]), [2.25])
    assert np.array_equal(np.unique(counts[:, bad]), [0.0])


def test_detection_leaves_the_expectation_alone_and_repeats():
    expected = np.full((3, 9, 9), 5.0)
    first = detect(expected, Detector(read_noise_photons=1.0), DOSE, STREAMS)[0]
    assert np.array_equal(expected, np.full((3, 9, 9), 5.0))
    assert np.array_equal(first, detect(expected, Detector(read_noise_photons=1.0), DOSE, STREAMS)[0])
    assert first.dtype == np.float32


def test_dead_pixels_are_as_many_as_asked_and_nested():
    few, many = (
        bad_pixels((40, 50), Detector(dead_fraction=fraction), STREAMS("dead_pixels")) for fraction in (0.005, 0.1)
    )
    assert few.sum() == 10
    assert many.sum() == 200
    assert (many | ~few).all()


@pytest.mark.parametrize("shape", [(64, 64), (33, 48)])
def test_the_gap_is_a_cross_that_spares_the_zero_frequency(shape):
    bad = bad_pixels(shape, Detector(gap_px=3), STREAMS("dead_pixels"))
    assert bad.all(axis=1).sum() == 3
    assert bad.all(axis=0).sum() == 3
    assert bad.sum() == 3 * sum(shape) - 9
    assert not bad[shape[0] // 2, shape[1] // 2]


def test_too_wide_a_gap_is_refused():
    with pytest.raises(InvalidOption, match="gap_px = 40"):
        bad_pixels((64, 64), Detector(gap_px=40), STREAMS("dead_pixels"))


def test_point_spread_is_a_gaussian_of_the_width_asked():
    pattern = np.zeros((1, 41, 41))
    pattern[0, 20, 20] = 7.0
    blur(pattern, 1.7)
    x = np.arange(41) - 20
    assert pattern.sum() == pytest.approx(7.0, rel=1e-4)
    assert (pattern[0].sum(axis=0) * x**2).sum() / pattern.sum() == pytest.approx(1.7**2, rel=0.01)
    untouched = np.ones((1, 4, 4))
    blur(untouched, 0.0)
    assert np.array_equal(untouched, np.ones((1, 4, 4)))


# --- stage -----------------------------------------------------------------------------------------------------------

NOMINAL = Scan(kind="raster", step_px=8.0, grid=(60, 80)).positions(32.0, STREAMS("scan"))


def test_position_errors_have_the_stated_sigma():
    errors = (true_positions(NOMINAL, Errors(position_error_px=2.0), STREAMS) - NOMINAL).ravel()
    assert abs(errors.mean()) < 4 * 2.0 / math.sqrt(errors.size)
    assert errors.std() == pytest.approx(2.0, abs=4 * 2.0 / math.sqrt(2 * errors.size))
    assert np.abs(errors).max() <= 8.0


def test_a_larger_sigma_scales_the_same_errors():
    small, large = (true_positions(NOMINAL, Errors(position_error_px=sigma), STREAMS) - NOMINAL for sigma in (0.5, 5.0))
    assert np.abs(10 * small - large).max() < 1e-9


def test_drift_is_linear_and_as_long_as_asked():
    path = drift(101, 5.0, STREAMS("drift"))
    assert np.linalg.norm(path[-1] - path[0]) == pytest.approx(5.0)
    assert np.abs(np.diff(path, axis=0) - np.diff(path, axis=0)[0]).max() < 1e-12
    assert np.abs(path.mean(axis=0)).max() < 1e-12


def test_backlash_separates_the_two_directions():
    x = np.array([0.0, 10, 20, 20, 10, 0, 0, 10])
    lag = backlash(np.stack([np.arange(8.0), x], axis=1), 3.0)
    assert np.array_equal(lag[:, 1], -1.5 * np.array([1, 1, 1, 1, -1, -1, -1, 1]))
    assert not lag[:, 0].any()


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ((0.01, 0.0, 0.0), lambda y, x: (0.01 * y, 0.01 * x)),
        (
            (0.0, 0.1, 0.0),
            lambda y, x: (y * math.cos(0.1) + x * math.sin(0.1) - y, x * math.cos(0.1) - y * math.sin(0.1) - x),
        ),
        ((0.0, 0.0, 0.02), lambda y, x: (0 * y, 0.02 * y)),
    ],
    ids=["scale", "rotation", "shear"],
)
def test_affine_errors_turn_about_the_middle_of_the_scan(parameters, expected):
    y, x = (NOMINAL - [59 * 4.0, 79 * 4.0]).T
    assert np.abs(affine_error(NOMINAL, *parameters) - np.stack(expected(y, x), axis=1)).max() < 1e-10


@pytest.mark.parametrize(
    "errors",
    [
        Errors(position_error_px=3.0, drift_px=10.0, backlash_px=4.0, rotation_rad=0.02, scale=0.01),
        Errors(drift_px=7.0),
        Errors(scale=-0.05, shear=0.05),
    ],
)
def test_the_canvas_has_room_for_every_error(errors):
    true = true_positions(NOMINAL, errors, STREAMS)
    assert np.abs(true - NOMINAL).max() <= 4 * declared_error_px(NOMINAL, errors) + 1e-9
    alone = errors.model_copy(update={"position_error_px": 0.0})
    unclipped = affine_error(NOMINAL, errors.scale, errors.rotation_rad, errors.shear)
    unclipped += drift(len(NOMINAL), errors.drift_px, STREAMS("drift")) + backlash(NOMINAL, errors.backlash_px)
    assert np.abs(true_positions(NOMINAL, alone, STREAMS) - NOMINAL - unclipped).max() < 1e-9


def test_a_fly_scan_averages_over_its_path():
    offsets = fly_scan_offsets(3.3)
    assert np.array_equal(fly_scan_offsets(0.0), [[0.0, 0.0]])
    assert np.abs(offsets.mean(axis=0)).max() < 1e-12
    assert np.diff(offsets[:, 1]).max() <= 0.5
    assert np.ptp(offsets[:, 1]) + np.diff(offsets[:, 1])[0] == pytest.approx(3.3)
