"""From a task to files to a score, by the paths that a user takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import ptybench
from ptybench.io.cxi import read_cxi, write_cxi
from ptybench.io.hdf5 import load_reconstruction
from ptybench.io.manifest import load_measurement
from ptybench.registry import load_task
from ptybench.runner.cells import plan
from ptybench.runner.run import run_cells
from ptybench.scoring import evaluate
from ptybench.simulation import simulate
from ptybench.types import Gauges

FEW = {"scan.field_of_view_px": [36, 36], "dose.photons": 1e6}


def test_a_record_can_be_recomputed_from_its_reconstruction(tmp_path: Path) -> None:
    record = ptybench.run(
        task="low_dose", method="epie", epochs=5, device="cpu", task_overrides=FEW, results=tmp_path, report=False
    )
    assert record.status == "ok", record.error
    assert record.metrics["cpcc_abs"] is not None
    with h5py.File(Path(record.artifacts["reconstruction"])) as file:
        aligned, truth, scored = file["object_aligned"][()], file["truth"][()], file["scored"][()]
        ranges = {name: float(file["truth"].attrs[name]) for name in ("amplitude_range", "phase_range_rad")}
        pixel = file["truth"].attrs["pixel_size_m"]
    a, b = aligned[scored] - aligned[scored].mean(), truth[scored] - truth[scored].mean()
    by_hand = np.vdot(b, a) / (np.linalg.norm(a) * np.linalg.norm(b))
    assert abs(by_hand) == pytest.approx(record.metrics["cpcc_abs"], abs=1e-9)
    difference = np.abs(aligned[scored]) - np.abs(truth[scored])
    assert np.mean(difference**2) == pytest.approx(record.metrics["mse_amplitude"], rel=1e-6)
    psnr = 10 * np.log10(ranges["amplitude_range"] ** 2 / np.mean(difference**2))
    assert psnr == pytest.approx(record.metrics["psnr_amplitude_db"], abs=1e-4)
    assert pixel.shape == (2,)

    # and the estimate in the same file scores the same through the scorer
    _, known = simulate("low_dose", 0, **FEW)
    values = evaluate(load_reconstruction(Path(record.artifacts["reconstruction"])), known).values
    for metric in ("cpcc_abs", "frc_truth_area", "ssim_phase", "mse_phase_rad2", "probe_cpcc_abs"):
        assert values[metric] == pytest.approx(record.metrics[metric], abs=1e-5)


def test_simulated_data_leave_as_cxi_and_their_reconstruction_is_scored(tmp_path: Path) -> None:
    measurement, truth = simulate("low_dose", 0, **FEW)
    write_cxi(tmp_path / "scan.cxi", measurement)
    assert np.array_equal(read_cxi(tmp_path / "scan.cxi").intensities, measurement.intensities)
    settled = plan(data=load_measurement(tmp_path / "scan.cxi"), method="epie", epochs=10, device="cpu", split=False)
    (result,) = run_cells([settled], results=tmp_path, report=False)
    assert result.record.status == "ok", result.record.error
    assert result.record.facts["patterns_withheld"]
    found = load_reconstruction(Path(result.record.artifacts["reconstruction"]))
    # row k belongs to pattern k as exported, also where the solver did not see it
    assert np.allclose(
        found.positions_px - found.positions_px[0], truth.positions_px - truth.positions_px[0], atol=1e-6
    )
    assert (evaluate(found, truth).values["cpcc_abs"] or 0) > 0.3


def test_the_python_interface_of_the_readme() -> None:
    measurement, truth = ptybench.simulate("low_dose", seed=0, **FEW)
    start = ptybench.score(measurement.initial, truth)
    estimate = ptybench.reconstruct(measurement, "epie", epochs=5, alpha=0.5)
    assert start["cpcc_abs"] == 0
    assert (ptybench.score(estimate, truth)["cpcc_abs"] or 0) > 0.3


def test_in_the_near_field_object_and_probe_cannot_move_together() -> None:
    _, truth = simulate("wrong_distance", 0, **{"scan.grid": [4, 4]})
    assert truth.gauges == Gauges(scale=True, shift=False, ramp=True)


def test_a_wrong_far_field_distance_is_a_wrong_pixel_that_the_scorer_resamples() -> None:
    """A solver that knows nothing of the wrong distance still gets a fair image score, and its distance error."""
    few = FEW | {"errors.distance": 0.1}
    measurement, truth = simulate("low_dose", 0, **few)
    assert measurement.pixel_size_m is not None
    assert measurement.distance_m is not None
    stretch = measurement.pixel_size_m[0] / truth.pixel_size_m[0]
    assert stretch == pytest.approx(measurement.distance_m / truth.distance_m)
    assert 0.05 < abs(stretch - 1) < 0.14
    found = ptybench.reconstruct(measurement, "epie", epochs=30)
    values = ptybench.score(found, truth)
    assert values["distance_error_relative"] == pytest.approx(abs(stretch - 1), rel=1e-6)
    wrong = ptybench.score(replace(found, pixel_size_m=truth.pixel_size_m), truth)
    assert (values["cpcc_abs"] or 0) > (wrong["cpcc_abs"] or 0)


def test_the_standard_tasks_have_their_contract() -> None:
    """Names, ladders, defaults, epochs and primary metrics, as the design fixes them."""
    contract = {
        "low_dose": ("dose.photons", [1e3, 1e4, 1e5, 1e6], 1e4, 200, "frc_truth_area"),
        "low_overlap": ("scan.overlap", [0.75, 0.5, 0.375, 0.25, 0, -0.25, -0.5], 0.375, 200, "frc_truth_area"),
        "position_jitter": ("errors.position_error_px", [0.5, 1, 2, 5, 10], 2, 300, "position_error_median_px"),
        "wrong_distance": ("errors.distance", [0.05, 0.1, 0.2, 0.3], 0.2, 500, "distance_error_relative"),
        "noisy_poisson": ("detector.background_photons", [0.01, 0.1, 1], 0.1, 200, "frc_truth_area"),
    }
    for name, (field, values, default, epochs, metric) in contract.items():
        for tier in ("small", "paper", "large"):
            task = load_task(name, tier)  # type: ignore[arg-type]
            assert task.ladder is not None
            assert (task.ladder.field, task.ladder.values, task.point) == (field, values, default)
            assert (task.budget.epochs, task.primary_metric) == (epochs, metric)
