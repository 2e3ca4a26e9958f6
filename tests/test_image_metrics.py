"""Image metrics against scikit-image, analytic values and their invariances."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ptybench.scoring import image, metrics

SHAPE = (60, 66)
SCORED = np.hypot(*np.mgrid[-30:30, -33:33]) < 22
EVERYWHERE = np.ones(SHAPE, bool)
numbers = st.complex_numbers(min_magnitude=0.01, max_magnitude=100)


def make(seed=0, phase=0.6):
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(rng.standard_normal((2, *SHAPE)), axis=1) / 8
    return (1 - 0.2 * np.abs(np.sin(smooth[0]))) * np.exp(1j * phase * np.sin(smooth[1]))


class TestCorrelation:
    @settings(max_examples=25, deadline=None)
    @given(gain=numbers, offset=numbers)
    def test_blind_to_affine_maps_of_the_values(self, gain, offset):
        truth, other = make(), make(1)
        assert abs(image.cpcc(gain * truth + offset, truth, SCORED)) == pytest.approx(1, abs=1e-9)
        expected = image.cpcc(other, truth, SCORED) * gain / abs(gain)
        assert image.cpcc(gain * other + offset, truth, SCORED) == pytest.approx(expected, abs=1e-9)

    def test_is_pearsons_for_real_images(self):
        a, b = make(0).real, make(1).real
        expected = np.corrcoef(a[SCORED], b[SCORED])[0, 1]
        assert image.cpcc(a + 0j, b + 0j, SCORED) == pytest.approx(expected, abs=1e-12)

    def test_angle(self):
        assert np.angle(image.cpcc(make() * np.exp(0.7j), make(), SCORED)) == pytest.approx(0.7)

    def test_flat_is_zero(self):
        flat = np.full(SHAPE, 0.1 + 0.3j) * (1 + 1e-7 * np.random.default_rng(0).standard_normal(SHAPE))
        assert image.cpcc(flat, make(), SCORED) == 0
        assert image.cpcc(make(), flat, SCORED) == 0
        assert image.cpcc(0 * flat, make(), SCORED) == 0

    def test_weak_contrast_is_not_flat(self):
        truth = np.exp(1e-3j * np.angle(make()))
        assert abs(image.cpcc(truth, truth, SCORED)) == pytest.approx(1)


class TestErrors:
    def test_nrmse(self):
        truth = make()
        assert image.nrmse(1.1 * truth, truth, SCORED) == pytest.approx(0.1)
        assert image.nrmse(0 * truth, truth, SCORED) == 1
        assert image.nrmse(truth, 0 * truth, SCORED) is None

    def test_amplitude_and_phase_are_told_apart(self):
        truth = make()
        amplitude, phase = image.squared_errors((np.abs(truth) + 0.05) / np.abs(truth) * truth, truth, SCORED)
        assert (amplitude, phase) == (pytest.approx(0.05**2), pytest.approx(0, abs=1e-25))
        amplitude, phase = image.squared_errors(truth * np.exp(0.05j), truth, SCORED)
        assert (amplitude, phase) == (pytest.approx(0, abs=1e-25), pytest.approx(0.05**2))

    @settings(max_examples=25, deadline=None)
    @given(error=st.floats(-3.1, 3.1), turn=st.floats(-10, 10))
    def test_phase_errors_wrap(self, error, turn):
        truth = make(phase=3.0) * np.exp(1j * turn)
        _, phase = image.squared_errors(truth * np.exp(1j * error), truth, SCORED)
        assert phase == pytest.approx(error**2, abs=1e-12)

    def test_zero_has_no_phase_to_be_right(self):
        truth = make() * np.exp(2j)
        _, phase = image.squared_errors(0 * truth, truth, SCORED)
        _, flat = image.squared_errors(np.full(SHAPE, truth[SCORED].mean()), truth, SCORED)
        assert phase == pytest.approx(flat)
        assert phase > 0.01

    def test_psnr_is_scikit_images(self):
        truth, other = np.abs(make()), np.abs(make(1))
        mean_square = float(np.mean((truth - other) ** 2))
        expected = peak_signal_noise_ratio(truth, other, data_range=0.3)
        assert image.psnr_db(mean_square, 0.3) == pytest.approx(expected)
        assert image.psnr_db(0.0, 1.0) == 200
        assert image.psnr_db(0.1, 0.0) is None

    def test_only_scored_pixels_count(self):
        truth, other = make(), make(1)
        dirty = np.where(SCORED, other, 1e3j)
        for function in (image.cpcc, image.nrmse, image.squared_errors):
            assert function(dirty, truth, SCORED) == function(other, truth, SCORED)


class TestSimilarity:
    @pytest.mark.parametrize("scored", [SCORED, EVERYWHERE], ids=["disc", "all"])
    def test_is_scikit_images(self, scored):
        truth, other = make(), make(1)
        (a, b), (p, q) = image.amplitude_and_phase(other, truth, scored)
        for x, y, data_range in ((a, b, 0.37), (p, q, 1.9)):
            _, full = structural_similarity(
                y, x, data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
            )
            assert image.ssim(x, y, scored, data_range) == pytest.approx(full[scored].mean(), abs=1e-12)

    def test_of_itself(self):
        amplitude = np.abs(make())
        assert image.ssim(amplitude, amplitude, SCORED, 0.2) == pytest.approx(1)

    def test_range_is_the_tasks(self):
        # a bright pixel of the prediction must not widen the range and so better the score
        truth, other = np.abs(make()), np.abs(make(1))
        hot = other.copy()
        hot[30, 33] = 50
        assert image.ssim(hot, truth, SCORED, 0.2) < image.ssim(other, truth, SCORED, 0.2)

    @settings(max_examples=15, deadline=None)
    @given(turn=st.floats(-10, 10))
    def test_phase_images_do_not_depend_on_the_global_phase(self, turn):
        truth, other = make(), make(1)
        reference = image.amplitude_and_phase(other, truth, SCORED)[1]
        turned = image.amplitude_and_phase(other * np.exp(1j * turn), truth * np.exp(1j * turn), SCORED)[1]
        assert_allclose(turned, reference, atol=1e-9)
        assert_allclose(np.exp(1j * (reference[0] - reference[1])), np.exp(1j * np.angle(other / truth)), atol=1e-9)

    def test_undefined(self):
        amplitude = np.abs(make())
        assert image.ssim(amplitude, np.ones(SHAPE), SCORED, 1.0) is None
        assert image.ssim(amplitude, np.ones(SHAPE), SCORED, 0.0) is None
        assert image.ssim(amplitude, amplitude, SCORED, 0.0) is None
        small = np.zeros(SHAPE, bool)
        small[:3, :3] = True
        assert image.ssim(amplitude[:9, :9], amplitude[:9, :9], small[:9, :9], 1.0) is None


class TestDeclarations:
    def test_contract(self):
        contract = """cpcc_abs cpcc_angle_rad nrmse_complex mse_amplitude mse_phase_rad2 psnr_amplitude_db psnr_phase_db
            ssim_amplitude ssim_phase frc_truth_area frc_truth_half_nyquist frc_truth_three_quarter_nyquist
            resolution_m_frc_truth_0.5 probe_cpcc_abs position_error_median_px position_error_affine_median_px
            position_error_rms_px distance_error_relative r_factor deviance_used deviance_withheld frc_split_area
            resolution_m_frc_split_half_bit resolution_m_frc_split_one_bit resolution_m_frc_split_0.143"""
        assert set(contract.split()) <= set(metrics.METRICS)

    @pytest.mark.parametrize("metric", metrics.METRICS.values(), ids=lambda metric: metric.id)
    def test_declares_itself(self, metric):
        assert metric.direction in {"higher", "lower"}
        assert metric.title
        assert metric.needs
        assert metric.high is None or metric.low is None or metric.low < metric.high

    def test_available(self):
        assert metrics.available({"measurement"}) == ["r_factor", "deviance_used"]
        assert len(metrics.available({"truth", "measurement", "withheld", "halves"})) == len(metrics.METRICS)

    def test_rescaled(self):
        assert metrics.rescaled(0.9, 0.5, 1.0) == pytest.approx(0.8)
        assert metrics.rescaled(0.1, 0.5, 0.0) == pytest.approx(0.8)
        assert metrics.rescaled(1.1, 0.5, 1.0) > 1
        assert metrics.rescaled(None, 0.5, 1.0) is None
        assert metrics.rescaled(0.5, 0.5, 0.5) is None
        assert metrics.rescaled(0.5, 0.50, 0.51, spread=0.02) is None
        assert math.isclose(metrics.rescaled(0.505, 0.50, 0.51, spread=0.001), 0.5)
