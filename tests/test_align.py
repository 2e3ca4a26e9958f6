"""Every gauge × every metric: what a task leaves open is removed, what is a difference stays."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.fft
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ptybench.errors import InvalidData, UnknownName
from ptybench.optics.probes import diameter_px
from ptybench.scoring import evaluate, score
from ptybench.scoring.align import align
from ptybench.scoring.metrics import METRICS
from ptybench.types import Estimate, Gauges, Truth

KNOWN = Gauges(scale=False, shift=False, ramp=False)
PIXEL = (2e-8, 2e-8)
quick = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # an example takes a fifth of a second: do not shrink
    suppress_health_check=list(HealthCheck),
)
turns = st.floats(-np.pi, np.pi)
shifts = st.tuples(st.floats(-5, 5), st.floats(-5, 5))
ramps = st.tuples(st.floats(-0.08, 0.08), st.floats(-0.08, 0.08))
scales = st.floats(0.2, 5)


def band_limited(rng, shape, cutoff=0.35):
    """Real noise below a cutoff in cycles per pixel, periodic, of standard deviation 1."""
    fy, fx = (np.fft.fftfreq(n) for n in shape)
    f = np.hypot(fy[:, None], fx)
    spectrum = np.fft.fft2(rng.standard_normal(shape)) * np.exp(-((f / 0.12) ** 2)) * (f < cutoff)
    noise = np.fft.ifft2(spectrum).real
    return noise / noise.std()


def make_truth(contrast=0.5, seed=0, gauges=None, canvas=(104, 110)):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-20:20, -20:20]
    envelope = np.exp(-(y**2 + x**2) / (2 * 5.0**2))
    probe = np.stack([30 * envelope * np.exp(0.02j * (y**2 + 0.7 * x**2)), 6 * envelope * x * np.exp(0.1j * y)])
    grid = np.mgrid[4 : canvas[0] - 44 : 7, 4 : canvas[1] - 44 : 7]
    positions = grid.reshape(2, -1).T + rng.uniform(-0.5, 0.5, (grid[0].size, 2))
    dose = np.zeros(canvas)
    for r, c in np.rint(positions).astype(int):
        dose[r : r + 40, c : c + 40] += np.sum(np.abs(probe) ** 2, axis=0)
    amplitude = np.exp(-0.3 * contrast * np.abs(band_limited(rng, canvas)))
    # fades to vacuum at the border: only a periodic image can be shifted exactly
    edge = [np.minimum(np.arange(n), np.arange(n)[::-1]) for n in canvas]
    fade = [np.sin(np.pi / 2 * np.minimum(e / 12, 1)) ** 2 for e in edge]
    image = amplitude * np.exp(1j * contrast * band_limited(rng, canvas)) - 1
    image = 1 + low_pass(image * fade[0][:, None] * fade[1], 0.4)
    return Truth(
        object=image,
        probe=probe,
        positions_px=positions,
        expected=np.zeros((len(positions), 40, 40)),
        dose=dose,
        pixel_size_m=PIXEL,
        distance_m=1.0,
        wavelength_m=1e-10,
        gauges=gauges or Gauges(),
        amplitude_range=1.0,
        phase_range_rad=4 * contrast,
    )


def low_pass(image, cutoff):
    fy, fx = (np.fft.fftfreq(n) for n in image.shape)
    return np.fft.ifft2(np.fft.fft2(image) * (np.hypot(fy[:, None], fx) < cutoff))


def shifted(image, shift):
    fy, fx = (np.fft.fftfreq(n) for n in image.shape[-2:])
    return scipy.fft.ifft2(scipy.fft.fft2(image) * np.exp(-2j * np.pi * (fy[:, None] * shift[0] + fx * shift[1])))


def perfect(truth):
    return Estimate(truth.object, truth.probe, truth.positions_px, truth.pixel_size_m, truth.distance_m)


def disguised(truth, shift=(0.0, 0.0), ramp=(0.0, 0.0), scale=1.0, phase=0.0):
    """The truth in another gauge, such that alignment must find exactly these numbers."""
    c = scale * np.exp(1j * phase)
    (h, w), (height, width) = truth.object.shape, truth.probe.shape[1:]
    y, x = np.arange(h)[:, None] - (h - 1) / 2, np.arange(w) - (w - 1) / 2
    v, u = np.arange(height)[:, None] - height // 2, np.arange(width) - width // 2
    back = -np.asarray(shift)
    image = shifted(truth.object, back) * np.exp(-1j * (ramp[0] * (y + shift[0]) + ramp[1] * (x + shift[1]))) / c
    probe = shifted(truth.probe, back) * np.exp(1j * (ramp[0] * (v + shift[0]) + ramp[1] * (u + shift[1]))) * c
    return replace(perfect(truth), object=image, probe=probe)


def assert_perfect(scores, tolerance=1.0):
    """All metrics at their best, to the tolerance stated in the docs: 1e-3 in FRC rings, 2e-4 in the object."""
    values = scores.values
    assert set(values) == {name for name, metric in METRICS.items() if metric.needs == {"truth"}}
    assert values["cpcc_abs"] == pytest.approx(1, abs=1e-5 * tolerance)
    assert values["cpcc_angle_rad"] == pytest.approx(0, abs=1e-5 * tolerance)
    assert values["nrmse_complex"] < 2e-4 * tolerance
    assert values["mse_amplitude"] < 1e-7 * tolerance
    assert values["mse_phase_rad2"] < 1e-7 * tolerance
    assert values["psnr_amplitude_db"] > 70 - 10 * np.log10(tolerance)
    assert values["psnr_phase_db"] > 70 - 10 * np.log10(tolerance)
    assert values["ssim_amplitude"] == pytest.approx(1, abs=1e-4 * tolerance)
    assert values["ssim_phase"] == pytest.approx(1, abs=1e-4 * tolerance)
    assert_allclose(scores.curves["frc_truth"], 1, atol=1e-3 * tolerance)
    for name in ("frc_truth_area", "frc_truth_half_nyquist"):
        assert values[name] == pytest.approx(1, abs=1e-4 * tolerance)
    assert values["resolution_m_frc_truth_0.5"] is None
    assert scores.censored["resolution_m_frc_truth_0.5"]
    assert values["probe_cpcc_abs"] == pytest.approx(1, abs=1e-4 * tolerance)
    for name in ("position_error_median_px", "position_error_affine_median_px", "position_error_rms_px"):
        assert values[name] == pytest.approx(0, abs=1e-9)
    assert values["distance_error_relative"] == 0


class TestGauges:
    def test_truth_itself(self):
        truth = make_truth()
        scores = evaluate(perfect(truth), truth)
        assert_perfect(scores, 1e-3)
        assert scores.gauges["shift_y_px"] == pytest.approx(0, abs=1e-9)

    @quick
    @given(shift=shifts, ramp=ramps, scale=scales, phase=turns)
    def test_any_allowed_gauge_scores_perfect(self, shift, ramp, scale, phase):
        truth = make_truth()
        scores = evaluate(disguised(truth, shift, ramp, scale, phase), truth)
        assert_perfect(scores)
        found = scores.gauges
        assert_allclose([found["shift_y_px"], found["shift_x_px"]], shift, atol=1e-3)
        assert_allclose([found["ramp_y_rad_px"], found["ramp_x_rad_px"]], ramp, atol=1e-5)
        assert found["scale"] == pytest.approx(scale, rel=1e-4)
        assert np.exp(1j * found["phase_rad"]) == pytest.approx(np.exp(1j * phase), abs=1e-3)

    @quick
    @given(offset=shifts, phase=turns)
    def test_object_and_positions_moved_together(self, offset, phase):
        truth = make_truth()
        moved = replace(
            perfect(truth),
            object=shifted(truth.object, offset) * np.exp(1j * phase),
            positions_px=truth.positions_px + offset,
        )
        assert_perfect(evaluate(moved, truth))
        # nobody can see it in the data, so it is no difference with a known probe either
        assert_perfect(evaluate(moved, replace(truth, gauges=KNOWN)))

    @pytest.mark.parametrize("corner", [(-13, 9), (6, -4)])
    def test_foreign_canvas(self, corner):
        truth = make_truth()
        h, w = truth.object.shape
        rows, columns = np.arange(corner[0], h + 8), np.arange(corner[1], w + 15)
        foreign = replace(
            perfect(truth),
            object=3j * truth.object[np.ix_(rows % h, columns % w)],
            positions_px=truth.positions_px - corner,
        )
        scores = evaluate(foreign, truth)
        assert_perfect(scores)
        assert_allclose([scores.gauges["frame_offset_y_px"], scores.gauges["frame_offset_x_px"]], np.negative(corner))

    @quick
    @given(phase=turns)
    def test_known_probe_leaves_the_phase_alone(self, phase):
        truth = make_truth(gauges=KNOWN)
        assert_perfect(evaluate(disguised(truth, phase=phase), truth), 1e-3)

    @pytest.mark.parametrize("change", [{"shift": (0.4, 0)}, {"ramp": (0.05, 0)}, {"scale": 1.1}])
    def test_known_probe_absorbs_nothing_else(self, change):
        truth = make_truth(gauges=KNOWN)
        assert evaluate(disguised(truth, **change), truth).values["nrmse_complex"] > 0.02

    def test_scale_without_shift_and_ramp(self):
        truth = make_truth(gauges=Gauges(scale=True, shift=False, ramp=False))
        assert_perfect(evaluate(disguised(truth, scale=0.3, phase=1.0), truth), 1e-3)
        assert evaluate(disguised(truth, shift=(1, 0)), truth).values["nrmse_complex"] > 0.02

    def test_aligning_twice_changes_nothing(self):
        truth = make_truth()
        rng = np.random.default_rng(1)
        estimate = disguised(truth, (2.3, -3.6), (0.03, 0.05), 0.4, 2.0)
        noise = 0.05 / 0.4 * rng.standard_normal(truth.object.shape)
        once = align(replace(estimate, object=estimate.object + noise), truth)
        twice = align(replace(perfect(truth), object=once.object, probe=once.probe), truth)
        assert_allclose(twice.gauge.shift, 0, atol=1e-3)
        assert_allclose(twice.gauge.ramp, 0, atol=1e-5)
        assert twice.gauge.factor == pytest.approx(1, abs=1e-4)
        assert twice.residual == pytest.approx(once.residual, rel=1e-2)

    @pytest.mark.parametrize(("contrast", "noise"), [(0.5, 0.02), (0.05, 0.002), (0.01, 0.0004)])
    def test_subpixel_shift_of_noisy_and_weak_objects(self, contrast, noise):
        truth = make_truth(contrast)
        rng = np.random.default_rng(2)
        for shift in ((0.25, -0.5), (3.37, 4.81)):
            estimate = disguised(truth, shift, (0.04, -0.06), 0.7, 1.0)
            dirt = rng.standard_normal(truth.object.shape) + 1j * rng.standard_normal(truth.object.shape)
            found = align(replace(estimate, object=estimate.object + noise / 0.7 * dirt), truth)
            assert_allclose(found.gauge.shift, shift, atol=0.01)

    def test_probe_goes_the_other_way(self):
        truth = make_truth()
        aligned = align(disguised(truth, (1.3, -2.6), (0.03, -0.02), 0.4, 2.0), truth)
        # what is left is a global phase: that of the ramp at the corner of a patch
        turn = np.exp(1j * np.angle(np.vdot(aligned.probe, truth.probe)))
        error = np.abs(turn * aligned.probe - truth.probe).max() / np.abs(truth.probe).max()
        assert error < 1e-3

    def test_start_changes_nothing(self):
        truth = make_truth()
        estimate = disguised(truth, (4.2, -3.1), (0.05, 0.05))
        cold = align(estimate, truth)
        warm = align(estimate, truth, start=cold.found())
        assert_allclose(warm.gauge.shift, cold.gauge.shift, atol=1e-4)

    def test_caps(self):
        truth = make_truth()
        most = np.pi / diameter_px(truth.probe)
        far = align(disguised(truth, ramp=(2 * most, 0)), truth)
        assert np.hypot(*far.gauge.ramp) <= most * (1 + 1e-9)
        assert score(disguised(truth, ramp=(2 * most, 0)), truth)["cpcc_abs"] < 0.9
        rolled = replace(perfect(truth), object=np.roll(truth.object, (25, 0), (0, 1)))
        assert np.abs(align(rolled, truth).gauge.shift).max() <= 10
        assert score(rolled, truth)["cpcc_abs"] < 0.5


class TestPixelSize:
    @pytest.mark.parametrize("ratio", [(1 / 1.2, 1 / 1.2), (1.15, 1.15), (0.9, 1.1)])
    def test_magnified_object_is_resampled(self, ratio):
        truth = make_truth()
        (h, w), half = truth.object.shape, np.array([20, 20])
        shape = [int(n / r) + 1 for n, r in zip((h, w), ratio, strict=True)]

        def interpolation(n, m, r, origin=0.0, target=0.0):
            k = np.fft.fftfreq(n) * n
            return np.exp(2j * np.pi * np.outer((np.arange(m) - target) * r + origin, k) / n)

        spectrum = np.fft.fft2(truth.object) / truth.object.size
        image = interpolation(h, shape[0], ratio[0]) @ spectrum @ interpolation(w, shape[1], ratio[1]).T
        spectrum = np.fft.fft2(truth.probe) / 1600
        kernels = [interpolation(40, 40, r, 20, 20) for r in ratio]
        found = Estimate(
            image,
            kernels[0] @ spectrum @ kernels[1].T,
            (truth.positions_px + half) / ratio - half,
            (PIXEL[0] * ratio[0], PIXEL[1] * ratio[1]),
            1.25,
        )
        scores = evaluate(found, truth)
        assert scores.values["cpcc_abs"] > 0.9995
        assert scores.values["frc_truth_half_nyquist"] > 0.999
        assert scores.values["probe_cpcc_abs"] > 0.999
        assert scores.values["position_error_rms_px"] < 1e-9
        assert scores.values["distance_error_relative"] == pytest.approx(0.25)

    def test_wrong_pixel_size_is_seen(self):
        truth = make_truth()
        wrong = replace(perfect(truth), pixel_size_m=(PIXEL[0] * 1.05, PIXEL[1] * 1.05))
        scores = evaluate(wrong, truth)
        assert scores.values["cpcc_abs"] < 0.9
        assert scores.values["position_error_median_px"] > 0.5
        assert scores.values["position_error_affine_median_px"] < 1e-6


class TestRealDifferences:
    """None of these is a gauge, and every metric that should see it does."""

    @pytest.mark.parametrize(
        ("change", "metrics"),
        [
            (np.conj, ["cpcc_abs", "frc_truth_area", "ssim_phase", "nrmse_complex", "mse_phase_rad2"]),
            (np.flipud, ["cpcc_abs", "frc_truth_area", "ssim_phase", "ssim_amplitude", "nrmse_complex"]),
            (lambda o: np.conj(o[::-1, ::-1]), ["cpcc_abs", "frc_truth_area", "nrmse_complex"]),
            (np.abs, ["cpcc_abs", "frc_truth_area", "ssim_phase", "psnr_phase_db"]),
            (lambda o: o / np.abs(o), ["mse_amplitude", "psnr_amplitude_db", "ssim_amplitude", "nrmse_complex"]),
            (lambda o: low_pass(o, 0.12), ["cpcc_abs", "frc_truth_area", "resolution_m_frc_truth_0.5"]),
            (lambda o: o + 0.1 * band_limited(np.random.default_rng(9), o.shape), ["cpcc_abs", "frc_truth_area"]),
        ],
        ids=["conjugate", "flip", "twin", "modulus only", "phase only", "blur", "noise"],
    )
    def test_is_not_absorbed(self, change, metrics):
        truth = make_truth()
        changed = replace(perfect(truth), object=change(truth.object).astype(complex))
        scores = evaluate(changed, truth)
        best = evaluate(perfect(truth), truth).values
        for name in metrics:
            value = scores.values[name]
            if name.startswith("resolution"):
                assert value is not None
                continue
            worse = best[name] - value if METRICS[name].direction == "higher" else value - best[name]
            assert worse > 5e-4, name

    def test_extra_feature(self):
        truth = make_truth()
        image = truth.object.copy()
        image[50:53, 50:53] *= np.exp(1j)
        scores = evaluate(replace(perfect(truth), object=image), truth)
        difference = np.abs(scores.object_aligned - truth.object)
        assert difference[51, 51] > 0.5
        assert np.median(difference) < 0.01
        assert scores.values["nrmse_complex"] > 0.01

    def test_affine_map_of_positions_stays_in_the_images(self):
        truth = make_truth()
        centre = truth.positions_px.mean(axis=0)
        positions = centre + 1.03 * (truth.positions_px - centre)
        values = score(replace(perfect(truth), positions_px=positions), truth)
        assert values["position_error_affine_median_px"] < 1e-6
        assert values["position_error_median_px"] > 0.3

    def test_values_outside_the_mask_do_not_matter(self):
        truth = make_truth()
        estimate = disguised(truth, phase=1.0)
        outside = truth.dose == 0
        rubbish = np.where(outside, 40.0, estimate.object)
        a, b = score(estimate, truth), score(replace(estimate, object=rubbish), truth)
        assert outside.any()
        for name in ("cpcc_abs", "nrmse_complex", "frc_truth_area", "mse_phase_rad2", "ssim_phase"):
            assert a[name] == pytest.approx(b[name], abs=2e-3)


class TestDegenerate:
    @pytest.mark.parametrize("value", [1.0, 0.3j, 1e-20])
    def test_flat_scores_zero(self, value):
        truth = make_truth()
        rng = np.random.default_rng(0)
        rounding = (1 + 1e-7 * rng.standard_normal(truth.object.shape)).astype(np.complex64)
        flat = replace(perfect(truth), object=(value * rounding).astype(np.complex64))
        scores = evaluate(flat, truth)
        assert scores.values["cpcc_abs"] == 0
        assert scores.values["cpcc_angle_rad"] is None
        assert scores.values["frc_truth_area"] == 0
        assert set(scores.curves["frc_truth"]) == {0.0}
        assert scores.values["nrmse_complex"] < 1
        # nothing smaller than the field of view is resolved
        rows = np.flatnonzero(truth.scored.any(axis=1))
        columns = np.flatnonzero(truth.scored.any(axis=0))
        field = min(np.ptp(rows), np.ptp(columns)) + 1
        assert scores.values["resolution_m_frc_truth_0.5"] == pytest.approx(field * PIXEL[0], rel=0.02)

    def test_flat_under_a_ramp_is_flat(self):
        truth = make_truth()
        flat = replace(truth, object=np.ones(truth.object.shape, dtype=complex))
        values = score(disguised(flat, ramp=(0.05, -0.03), scale=2.0), truth)
        assert values["cpcc_abs"] == 0
        assert values["frc_truth_area"] == 0

    def test_zero_scores_nothing(self):
        truth = make_truth()
        values = score(replace(perfect(truth), object=np.zeros(truth.object.shape, dtype=complex)), truth)
        assert values["cpcc_abs"] == 0
        assert values["nrmse_complex"] == 1
        assert values["mse_phase_rad2"] > 0.1

    @settings(quick, max_examples=6)
    @given(seed=st.integers(0, 1000), size=st.sampled_from([1e-15, 1.0, 1e15]))
    def test_rubbish_does_not_crash(self, seed, size):
        truth = make_truth()
        rng = np.random.default_rng(seed)
        rubbish = size * (rng.standard_normal(truth.object.shape) + 1j * rng.standard_normal(truth.object.shape))
        values = score(replace(perfect(truth), object=rubbish, probe=size * truth.probe), truth)
        assert all(v is None or np.isfinite(v) for v in values.values())
        assert values["cpcc_abs"] < 0.2
        assert abs(values["frc_truth_area"]) < 0.2

    def test_nan_is_refused(self):
        truth = make_truth()
        with pytest.raises(InvalidData, match="NaN"):
            score(replace(perfect(truth), object=np.full(truth.object.shape, np.nan)), truth)

    def test_other_number_of_positions_is_refused(self):
        truth = make_truth()
        with pytest.raises(InvalidData, match="row k must belong to pattern k"):
            score(replace(perfect(truth), positions_px=truth.positions_px[:-1]), truth)

    def test_unknown_metric_is_refused(self):
        truth = make_truth()
        with pytest.raises(UnknownName, match="did you mean 'cpcc_abs'"):
            evaluate(perfect(truth), truth, metrics=["cpcc_ab"])

    def test_only_what_is_asked_for(self):
        truth = make_truth()
        assert set(evaluate(perfect(truth), truth, metrics=["frc_truth_area"]).values) == {"frc_truth_area"}
