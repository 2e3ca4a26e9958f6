"""R-factor, deviance, withheld patterns and halves, against sums written out."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ptybench.errors import InvalidData
from ptybench.scoring import data, evaluate
from ptybench.types import Estimate, Measurement, Noise, Withheld

SHAPE = (24, 20)
NEAR = {"wavelength_m": 1e-10, "distance_m": 1e-4, "pixel_size_m": (1e-7, 1e-7)}


def plane_waves(n):
    """Unitary transform as a matrix, zero frequency at n // 2 on either side."""
    k = np.arange(n) - n // 2
    return np.exp(-2j * np.pi * np.outer(k, k) / n) / np.sqrt(n)


def make(step=4, count=8, photons=1e6, modes=2, seed=0, **fields):
    """A measurement that its own ``initial`` explains, noisy."""
    rng = np.random.default_rng(seed)
    h, w = SHAPE
    y, x = np.mgrid[-h // 2 : h - h // 2, -w // 2 : w - w // 2]
    envelope = np.exp(-(y**2 + x**2) / (2 * 3.5**2) + 0.05j * y * x)
    probe = np.stack([envelope, 0.3 * envelope * x])[:modes]
    probe *= np.sqrt(photons / np.sum(np.abs(probe) ** 2))
    grid = np.mgrid[1 : 1 + step * count : step, 2 : 2 + step * count : step].reshape(2, -1).T
    positions = grid + rng.uniform(0, 0.9, grid.shape)
    canvas = (step * count + h + 2, step * count + w + 3)
    image = np.exp(0.4j * np.cumsum(rng.standard_normal(canvas), axis=0) / 4)
    initial = Estimate(image, probe, positions)
    empty = np.ones((len(positions), h, w), np.float32)
    measurement = Measurement(empty, np.zeros(SHAPE, bool), positions, initial, **fields)
    expected = data.predict(initial, measurement) + measurement.noise.background_photons
    return replace(measurement, intensities=rng.poisson(expected).astype(np.float32)), expected


class TestForwardPass:
    def test_is_the_formula(self):
        measurement, expected = make(count=2)
        initial = measurement.initial
        for k in (0, 3):
            corner = np.floor(initial.positions_px[k]).astype(int)
            rest = initial.positions_px[k] - corner
            patch = initial.object[corner[0] : corner[0] + 24, corner[1] : corner[1] + 20]
            kernels = [
                np.fft.ifft(
                    np.fft.fft(np.eye(n), axis=0) * np.exp(-2j * np.pi * np.fft.fftfreq(n) * s)[:, None], axis=0
                )
                for n, s in zip(SHAPE, rest, strict=True)
            ]
            waves = [
                plane_waves(24) @ ((kernels[0] @ mode @ kernels[1].T) * patch) @ plane_waves(20).T
                for mode in initial.probe
            ]
            assert_allclose(expected[k], sum(np.abs(wave) ** 2 for wave in waves), rtol=1e-10, atol=1e-8)

    def test_energy_and_batches(self, monkeypatch):
        measurement, expected = make()
        assert expected.sum(axis=(1, 2)).mean() == pytest.approx(1e6, rel=1e-6)
        monkeypatch.setattr(data, "BATCH", 3 * 960)
        assert_allclose(data.predict(measurement.initial, measurement), expected, rtol=1e-12, atol=1e-9)

    def test_near_field_without_distance_is_the_exit_wave(self):
        measurement, _ = make(propagation="near_field", modes=1, **NEAR)
        initial = replace(measurement.initial, positions_px=np.floor(measurement.positions_px), distance_m=0.0)
        k = 5
        y, x = initial.positions_px[k].astype(int)
        exit_wave = initial.probe[0] * initial.object[y : y + 24, x : x + 20]
        assert_allclose(data.predict(initial, measurement)[k], np.abs(exit_wave) ** 2, atol=1e-6)
        # the estimate's distance counts, and the nominal one where it names none
        far = data.predict(replace(initial, distance_m=NEAR["distance_m"]), measurement)
        assert_allclose(data.predict(replace(initial, distance_m=None), measurement), far)
        assert np.abs(far[k] - np.abs(exit_wave) ** 2).max() > 1

    @pytest.mark.parametrize("propagation", ["far_field", "near_field"])
    def test_solvers_agree(self, propagation):
        torch = pytest.importorskip("torch")
        from ptybench.optics.forward import ForwardModel

        fields = {} if propagation == "far_field" else NEAR
        measurement, expected = make(count=3, propagation=propagation, **fields)
        model = ForwardModel(measurement, torch.device("cpu"), dtype=torch.complex128)
        probe, canvas = (torch.as_tensor(a) for a in (measurement.initial.probe, measurement.initial.object))
        every = slice(0, model.count)
        exit_waves = model.shifted_probes(probe, every) * model.patches(canvas, every)[:, None]
        predicted = (model.forward(exit_waves, every).abs() ** 2).sum(dim=1).numpy()
        if propagation == "far_field":
            predicted = np.fft.fftshift(predicted, axes=(1, 2))
        assert_allclose(predicted, expected, rtol=1e-9, atol=1e-7)

    def test_other_shape_is_refused(self):
        measurement, _ = make(count=2)
        other = replace(measurement.initial, probe=np.ones((1, 8, 8), complex))
        with pytest.raises(InvalidData, match="patterns' shape"):
            data.predict(other, measurement)


class TestMisfit:
    def test_deviance_of_the_truth_is_one_a_pixel(self):
        # without dark corners: 1000 counts in each pixel on average
        rng = np.random.default_rng(0)
        expected = rng.uniform(100, 2000, (40, 50, 50))
        deviance = data.poisson_deviance(rng.poisson(expected).astype(float), expected)
        assert deviance.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / expected.size))
        assert (deviance >= 0).all()

    def test_truth_on_its_data(self):
        measurement, _ = make(photons=1e9, noise=Noise(background_photons=100.0))
        fit = data.fit(measurement.initial, measurement)
        assert fit.pixels == measurement.intensities.size
        assert fit.deviance == pytest.approx(1, abs=5 * np.sqrt(2 / fit.pixels))
        worse = replace(measurement.initial, object=measurement.initial.object**1.02)
        assert data.fit(worse, measurement).deviance > 2

    def test_sums_written_out(self):
        measurement, expected = make(count=3, photons=3e3)
        bad = np.zeros(SHAPE, bool)
        bad[3:5] = True
        intensities = measurement.intensities.copy()
        intensities[:, bad] = np.nan
        measurement = replace(measurement, intensities=intensities, bad_pixels=bad)
        fit = data.fit(measurement.initial, measurement)
        measured, model = intensities[:, ~bad].astype(float), expected[:, ~bad]
        r_factor = np.abs(np.sqrt(model) - np.sqrt(measured)).sum() / np.sqrt(measured).sum()
        assert fit.r_factor == pytest.approx(r_factor)
        floored = np.maximum(model, 1e-3)
        terms = [
            2 * (d - i + (i * np.log(i / d) if i > 0 else 0)) for i, d in zip(measured.flat, floored.flat, strict=True)
        ]
        assert fit.deviance == pytest.approx(np.mean(terms))

    def test_dark_prediction_is_finite(self):
        measurement, _ = make(count=2)
        dark = replace(measurement.initial, object=0 * measurement.initial.object)
        fit = data.fit(dark, measurement)
        assert fit.r_factor == 1
        assert np.isfinite(fit.deviance)

    def test_saturated_pixels_are_left_out(self):
        measurement, _ = make()
        limit = float(np.quantile(measurement.intensities, 0.99))
        clipped = replace(
            measurement,
            intensities=np.minimum(measurement.intensities, limit).astype(np.float32),
            noise=Noise(saturation_photons=limit),
        )
        fit = data.fit(measurement.initial, clipped)
        assert fit.pixels == (measurement.intensities < limit).sum()
        assert fit.r_factor < 1.3 * data.fit(measurement.initial, measurement).r_factor

    def test_saturation_that_float32_rounds_down_is_still_saturation(self):
        measurement, _ = make()
        limit = 330.3
        assert float(np.float32(limit)) < limit
        clipped = np.minimum(measurement.intensities, limit).astype(np.float32)
        fit = data.fit(
            measurement.initial, replace(measurement, intensities=clipped, noise=Noise(saturation_photons=limit))
        )
        assert 0 < fit.pixels == (measurement.intensities < limit).sum() < clipped.size

    def test_background_is_part_of_the_model(self):
        measurement, _ = make(noise=Noise(background_photons=5.0))
        honest = data.fit(measurement.initial, measurement)
        blind = data.fit(measurement.initial, replace(measurement, noise=Noise()))
        assert honest.deviance < 0.5 * blind.deviance
        assert honest.r_factor < blind.r_factor


class TestWithheld:
    def test_is_disjoint_and_deterministic(self):
        measurement, _ = make(step=2, count=12)
        used, withheld = data.split_withheld(measurement, 0.05)
        again, same = data.split_withheld(measurement, 0.05)
        assert len(withheld.indices) == round(0.05 * 144)
        assert_array_equal(same.indices, withheld.indices)
        assert_array_equal(again.intensities, used.intensities)
        assert_array_equal(np.sort(np.concatenate([withheld.used, withheld.indices])), np.arange(144))
        assert_array_equal(measurement.intensities[withheld.used], used.intensities)
        assert_array_equal(measurement.positions_px[withheld.indices], withheld.positions_px)
        assert used.initial.positions_px.shape == (len(withheld.used), 2)

    def test_depends_on_the_data(self):
        one, other = make(step=2, count=12, seed=0)[0], make(step=2, count=12, seed=1)[0]
        chosen = [data.split_withheld(m, 0.1)[1].indices for m in (one, other)]
        assert not np.array_equal(*chosen)

    @pytest.mark.parametrize(("fraction", "step"), [(0.05, 3), (0.5, 3), (0.5, 5), (0.9, 2)])
    def test_the_others_cover_them(self, fraction, step):
        measurement, _ = make(step=step, count=10)
        used, withheld = data.split_withheld(measurement, fraction)
        intensity = np.sum(np.abs(measurement.initial.probe) ** 2, axis=0)
        footprint = intensity >= 0.01 * intensity.max()
        cover = np.zeros(measurement.canvas, int)
        for y, x in np.rint(used.positions_px).astype(int):
            cover[y : y + 24, x : x + 20] += footprint
        for y, x in np.rint(withheld.positions_px).astype(int):
            assert (cover[y : y + 24, x : x + 20] > 0)[footprint].mean() >= 0.99
        assert len(withheld.indices) <= round(fraction * 100)

    def test_nothing_to_withhold(self):
        measurement, _ = make(step=4, count=3)
        assert data.split_withheld(measurement, 0.0) == (measurement, None)
        sparse, _ = make(step=20, count=3)
        assert data.split_withheld(sparse, 0.2)[1] is None

    def test_positions_follow_the_median_correction(self):
        measurement, _ = make(step=2, count=12)
        used, withheld = data.split_withheld(measurement, 0.05)
        found = used.initial.positions_px + np.array([2.5, -1.25])
        found[0] += 30
        estimate = replace(used.initial, positions_px=found)
        assert_allclose(
            data.withheld_positions(estimate, used, withheld), withheld.positions_px + np.array([2.5, -1.25])
        )

    def test_positions_follow_the_pixel_size(self):
        measurement, _ = make(step=2, count=12, pixel_size_m=(1e-8, 1e-8))
        used, withheld = data.split_withheld(measurement, 0.05)
        half = np.array([12, 10])
        smaller = (used.positions_px + half) * 1.25 - half
        estimate = replace(used.initial, positions_px=smaller, pixel_size_m=(0.8e-8, 0.8e-8))
        expected = (withheld.positions_px + half) * 1.25 - half
        assert_allclose(data.withheld_positions(estimate, used, withheld), expected, atol=1e-9)

    def test_truth_explains_what_it_never_saw(self):
        measurement, _ = make(step=2, count=12, photons=1e8, noise=Noise(background_photons=50.0))
        used, withheld = data.split_withheld(measurement, 0.1)
        scores = evaluate(used.initial, None, used, withheld).values
        assert scores["deviance_withheld"] == pytest.approx(1, abs=0.1)
        # the whole measurement means the same
        assert evaluate(used.initial, None, measurement, withheld).values == scores
        shuffled = replace(used.initial, object=np.roll(used.initial.object, 2, 0))
        assert evaluate(shuffled, None, used, withheld).values["deviance_withheld"] > 10


class TestHalves:
    def test_one_of_each_pair(self):
        measurement, _ = make(count=5)
        a, b = data.split_halves(measurement)
        assert_array_equal(np.sort(np.concatenate([a, b])), np.arange(25))
        assert_array_equal(a[:12] // 2, b // 2)
        assert 0 < np.mean(a[:12] % 2) < 1
        assert_array_equal(a, data.split_halves(measurement)[0])

    @staticmethod
    def halves(measurement, noise, **fields):
        rng = np.random.default_rng(3)
        found = []
        for indices in data.split_halves(measurement):
            initial = replace(measurement.subset(indices).initial, **fields)
            dirt = rng.standard_normal(initial.object.shape) + 1j * rng.standard_normal(initial.object.shape)
            found.append(replace(initial, object=initial.object + noise * dirt))
        return found[0], found[1]

    def test_equal_halves(self):
        measurement, _ = make()
        a, b = self.halves(measurement, 0.0)
        turned = replace(b, object=2 * np.exp(1j) * np.roll(b.object, (1, -1), (0, 1)))
        scores = evaluate(measurement.initial, None, measurement, halves=(a, turned))
        assert scores.values["frc_split_area"] == pytest.approx(1, abs=1e-6)
        assert scores.censored["resolution_px_frc_split_half_bit"]
        assert scores.values["resolution_px_frc_split_half_bit"] is None

    def test_noisy_halves_have_a_resolution(self):
        measurement, _ = make()
        a, b = self.halves(measurement, 0.3, pixel_size_m=(1e-8, 1e-8))
        scores = evaluate(measurement.initial, None, measurement, halves=(a, b))
        half, one = (scores.values[f"resolution_m_frc_split_{name}"] for name in ("half_bit", "one_bit"))
        assert 1e-8 < half <= one < 1e-6
        assert not scores.censored["resolution_m_frc_split_one_bit"]
        assert len(scores.curves["frc_split"]) == len(scores.curves["frc_split_threshold_half_bit"])

    def test_unrelated_halves(self):
        measurement, _ = make()
        a, b = self.halves(measurement, 100.0)
        values = evaluate(measurement.initial, None, measurement, halves=(a, b)).values
        assert abs(values["frc_split_area"]) < 0.1

    def test_other_canvas_is_refused(self):
        measurement, _ = make()
        a, b = self.halves(measurement, 0.0)
        with pytest.raises(InvalidData, match="one canvas"):
            evaluate(measurement.initial, None, measurement, halves=(a, replace(b, object=b.object[1:])))


def test_withheld_patterns_of_a_simulation():
    """Truth and scores pair up by the patterns that were used."""
    measurement, _ = make(step=2, count=12)
    used, withheld = data.split_withheld(measurement, 0.05)
    assert isinstance(withheld, Withheld)
    from ptybench.types import Truth

    initial = measurement.initial
    dose = data.dose(initial)
    truth = Truth(
        object=initial.object,
        probe=initial.probe,
        positions_px=measurement.positions_px,
        expected=np.zeros(1),
        dose=dose,
        pixel_size_m=(1e-8, 1e-8),
        distance_m=1.0,
        wavelength_m=1e-10,
    )
    values = evaluate(used.initial, truth, used, withheld).values
    assert values["position_error_rms_px"] == 0
    assert values["cpcc_abs"] == pytest.approx(1)
    assert values["distance_error_relative"] is None
