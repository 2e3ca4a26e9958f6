"""Ring correlation against analytic cases, Monte-Carlo, and the mistakes that other packages made."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ptybench.scoring.frc import RingCorrelation, ring_correlation, soft_window

SHAPE = (80, 80)
DISC = np.hypot(*np.mgrid[-40:40, -40:40]) < 33
BLOBS = np.hypot(*(np.mgrid[0:80, 0:80] % 27 - 13)) < 9
MASKS = {"disc": DISC, "blobs": BLOBS, "all": np.ones(SHAPE, bool), "oblong": np.pad(np.ones((40, 60), bool), 10)}


def noise(rng, shape=SHAPE):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def coloured(rng, shape=SHAPE):
    """A complex object with power at all frequencies and a strong mean."""
    f = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1]))
    return 3 + np.fft.ifft2(np.fft.fft2(noise(rng, shape)) / (0.05 + f))


def specimen(rng, shape=SHAPE):
    """A weak phase object, as of vacuum with something in it."""
    return np.exp(0.1j * coloured(rng, shape).real)


class TestCurve:
    @settings(max_examples=20, deadline=None)
    @given(
        seed=st.integers(0, 10**6),
        mask=st.sampled_from(sorted(MASKS)),
        factor=st.complex_numbers(min_magnitude=0.1, max_magnitude=10),
    )
    def test_of_itself_is_one_on_all_rings(self, seed, mask, factor):
        image = coloured(np.random.default_rng(seed))
        curve = ring_correlation(image, image, MASKS[mask])
        assert curve.counted.all()
        assert_allclose(curve.value, 1, atol=1e-12)
        # a factor turns the curve by its phase and nothing else
        assert_allclose(ring_correlation(factor * image, image, MASKS[mask]).value, np.cos(np.angle(factor)), atol=1e-9)

    def test_is_symmetric_and_ignores_a_constant(self):
        rng = np.random.default_rng(0)
        a, b = coloured(rng), coloured(rng)
        forward, backward = ring_correlation(a, b, DISC), ring_correlation(b, a, DISC)
        assert_allclose(forward.value, backward.value, atol=1e-12)
        assert_allclose(ring_correlation(a + 7 - 3j, b, DISC).value, forward.value, atol=1e-12)

    def test_opposite_images_are_not_clipped(self):
        image = coloured(np.random.default_rng(1))
        assert_allclose(ring_correlation(-image, image, DISC).value, -1, atol=1e-12)

    def test_known_mixture(self):
        rng = np.random.default_rng(2)
        a, b = noise(rng), noise(rng)
        for share in (0.3, 0.8):
            curve = ring_correlation(share * a + np.sqrt(1 - share**2) * b, a, DISC)
            assert np.all(np.abs(curve.value - share) < 5 * curve.noise())

    def test_by_hand(self):
        # one plane wave on each of two rings, the second of opposite sign
        y, x = np.mgrid[0:64, 0:64] / 64
        mask = np.ones((64, 64), bool)
        wave = [np.exp(2j * np.pi * (5 * y + 2 * x)), np.exp(2j * np.pi * 20 * x)]
        curve = ring_correlation(wave[0] - wave[1], wave[0] + wave[1], mask)
        assert_allclose(curve.frequency, np.arange(1, 33) / 64)
        assert curve.value[4] == pytest.approx(1, abs=1e-3)
        assert curve.value[19] == pytest.approx(-1, abs=1e-3)
        # rings far from the only wave hold less than 1e-6 of the power
        single = ring_correlation(wave[0], wave[0], mask)
        assert single.counted[4]
        assert not single.counted[28:].any()

    def test_rings_are_physical_where_pixels_are_not_square(self):
        # the same wave in metres on pixels of 1 by 2
        y, x = np.mgrid[0:64, 0:32]
        wave = np.exp(2j * np.pi * (y * 1.0 * 0.15 + x * 2.0 * 0.12))
        curve = ring_correlation(wave, wave, np.ones((64, 32), bool), (1.0, 2.0))
        assert curve.nyquist == 0.25
        power = curve.counted & (np.abs(curve.frequency - np.hypot(0.15, 0.12)) < 1 / 64)
        assert power.any()
        assert curve.frequency[-1] <= 0.25
        assert_allclose(curve.value[curve.counted], 1, atol=1e-12)

    def test_empty_rings(self):
        rng = np.random.default_rng(3)
        image = coloured(rng)
        flat = np.full(SHAPE, 2 - 1j) * (1 + 1e-7 * rng.standard_normal(SHAPE))
        against_truth = ring_correlation(flat, image, DISC)
        assert set(against_truth.value) == {0.0}
        assert against_truth.area() == 0
        nothing = ring_correlation(image, flat, DISC)
        assert not nothing.counted.any()
        assert nothing.area() is None
        assert nothing.at(0.5) is None
        assert nothing.resolution(0.5) == (None, False)


class TestMistakesOfOthers:
    """Each of these was somebody's FRC; the tests would fail with it."""

    @pytest.mark.parametrize("seed", range(3))
    def test_unrelated_objects_do_not_correlate(self, seed):
        # filled with vacuum, or with a common hard edge, unrelated specimens reach 0.8 on the low rings
        rng = np.random.default_rng(seed)
        a, b = specimen(rng), specimen(rng)
        curve = ring_correlation(a, b, DISC)
        assert np.all(np.abs(curve.value) < 4.5 * curve.noise())

        filled = [np.where(DISC, image, 1) for image in (0.7 * a, 0.7 * b)]
        spectra = [np.fft.fft2(image) for image in filled]
        low = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(80) * 80], indexing="ij")) < 6
        low[0, 0] = False
        vacuum = np.sum((spectra[0] * spectra[1].conj())[low]).real / np.sqrt(
            np.prod([np.sum(np.abs(s[low]) ** 2) for s in spectra])
        )
        assert vacuum > 0.7
        assert abs(np.mean(curve.value[:5])) < 0.3

    def test_conjugate_is_not_the_same(self):
        # a second transform conjugated twice would sum F1·F2
        image = noise(np.random.default_rng(4))
        assert np.abs(ring_correlation(image.conj(), image, DISC).value[3:]).max() < 0.5
        wrong = np.fft.fft2(image) ** 2
        assert abs(wrong.sum() / np.abs(wrong).sum()) < 0.1

    def test_phase_counts(self):
        # a correlation of moduli would not see that the phase is gone
        rng = np.random.default_rng(5)
        image = np.exp(1j * 0.3 * coloured(rng).real)
        assert ring_correlation(np.abs(image) + 0j, image, DISC).area() < 0.1

    def test_independent_noise_has_no_bias(self):
        # |sum| instead of the real part would be positive everywhere
        rng = np.random.default_rng(6)
        values = np.mean([ring_correlation(noise(rng), noise(rng), DISC).value for _ in range(40)], axis=0)
        assert abs(values.mean()) < 0.01
        assert (values < 0).mean() > 0.25


class TestConfidence:
    @pytest.mark.parametrize("name", sorted(MASKS))
    def test_independent_noises_stay_in_the_band(self, name):
        rng = np.random.default_rng(7)
        curves = [ring_correlation(noise(rng), noise(rng), MASKS[name]) for _ in range(60)]
        sigmas = np.array([curve.value / curve.noise() for curve in curves])
        assert np.abs(sigmas).max() < 4.5
        assert (np.abs(sigmas) > 2).mean() < 0.06
        # the band is of the right width in a compact mask, wide among isolated spots
        assert sigmas.std() > (0.4 if name == "blobs" else 0.75)

    def test_samples_scale_with_the_area(self):
        rng = np.random.default_rng(8)
        image = noise(rng, (120, 120))
        whole = np.zeros((120, 120), bool)
        whole[10:110, 10:110] = True
        holes = whole.copy()
        holes[40:80:20, 10:110] = False
        n = ring_correlation(image, image, whole).samples
        full = np.bincount(
            np.rint(np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(100) * 100], indexing="ij"))).astype(int).ravel()
        )[1 : len(n) + 1]
        window = soft_window(whole)
        share = (window**2).sum() ** 2 / (window**4).sum() / 100**2
        assert_allclose(n, full * share, rtol=1e-12)
        assert 0.7 < share < 1
        assert (ring_correlation(image, image, holes).samples < n).all()

    def test_thresholds_of_van_heel_and_schatz(self):
        curve = RingCorrelation(np.ones(2), np.ones(2), np.ones(2, bool), np.array([1000.0, 1e12]), 1.0)
        # at n = 1000 half-bit is 0.216; 2/sqrt(n/2) = 0.089 is something else
        assert_allclose(curve.half_bit(), [0.21645, 0.17157], atol=1e-5)
        assert_allclose(curve.one_bit(), [0.37310, 1 / 3], atol=1e-5)


class TestNumbers:
    @staticmethod
    def curve(value, counted=None):
        value = np.asarray(value, dtype=float)
        frequency = np.arange(1, len(value) + 1) / 10
        counted = np.ones(len(value), bool) if counted is None else np.asarray(counted)
        return RingCorrelation(frequency, value, counted, np.full(len(value), 1e9), 0.5)

    def test_crossing_is_linear(self):
        assert self.curve([1, 0.8, 0.2, 0.9, 0.1]).resolution(0.5) == (pytest.approx(0.5 / 0.25), False)

    def test_crossing_of_a_curved_threshold(self):
        # 0.9 − 0.5 = 0.4 on the first ring, 0.1 − 0.3 = −0.2 on the second
        assert self.curve([0.9, 0.1]).resolution(np.array([0.5, 0.3]))[0] == pytest.approx(0.5 / (0.1 + 0.1 * 2 / 3))

    def test_never_crossing_is_censored(self):
        assert self.curve([1, 0.9, 0.5]).resolution(0.5) == (None, True)

    def test_starting_below_is_the_field_of_view(self):
        assert self.curve([0, 0, 0]).resolution(0.5) == (pytest.approx(0.5 / 0.05), False)
        assert self.curve([0, 0, 0]).resolution(np.full(3, 0.5)) == (pytest.approx(0.5 / 0.05), False)

    def test_area_and_points(self):
        curve = self.curve([1, 0.8, 0.6, 0.2, 0.0])
        assert curve.area() == pytest.approx((0.9 + 0.7 + 0.4 + 0.1) / 4)
        assert curve.at(0.5) == pytest.approx(0.7)
        assert curve.at(0.75) == pytest.approx(0.6 - 0.75 * 0.4)
        assert curve.at(0.1) is None

    def test_rings_that_do_not_count_are_left_out(self):
        curve = self.curve([1, -1, 0.6, 0.2, -1], [True, False, True, True, False])
        assert curve.area() == pytest.approx((0.8 * 2 + 0.4) / 3)
        assert curve.at(0.4) == pytest.approx(0.8)
        assert curve.at(0.95) is None
        assert curve.resolution(0.1) == (None, True)


class TestWindow:
    @pytest.mark.parametrize("name", sorted(MASKS))
    def test_is_soft_and_inside(self, name):
        window = soft_window(MASKS[name])
        assert not window[~MASKS[name]].any()
        assert (window[MASKS[name]] > 0).all()
        assert window.max() == pytest.approx(1)
        assert np.abs(np.diff(np.pad(window, 1), axis=0)).max() < 0.45

    def test_pixels_outside_do_not_matter(self):
        rng = np.random.default_rng(9)
        a, b = coloured(rng), coloured(rng)
        dirty = np.where(DISC, a, 1e6 * noise(rng))
        assert_allclose(ring_correlation(dirty, b, DISC).value, ring_correlation(a, b, DISC).value, atol=1e-12)
