"""What every method of the project owes its users, whichever its algorithm; a new one is tested by being there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from problems import Problem, correlation, intensity, make_problem

from ptybench import registry
from ptybench.controls import CONTROLS
from ptybench.solver import Limit, Outcome, Solver, solve
from ptybench.types import Measurement

METHODS = sorted(set(registry.method_names()) - set(CONTROLS))
FULL_BATCH = {"ap", "dm", "raar", "admm", "admm:poisson", "ml", "ml:poisson"} & set(METHODS)
"""Methods in which every update needs all patterns, so that their order cannot matter."""
KEEPS_PROBE = {"pie"}
DENOISES = {"pine"}
"""A denoiser changes the truth, too; without its step PINE is ePIE to the bit (``test_pine.py``)."""
CHOOSES_GAUGE = {"dap", "dap:poisson", "dap:gaussian", "dap:r"}
"""Methods that set the scale of the object, which no pattern tells."""
PRECISE = {"joint"}
"""Run in double precision: when its probe has waited, Adam makes steps of the rounding of single precision (6e-4)."""
EPOCHS = 4


def run(method: str, measurement: Measurement, epochs: int = EPOCHS, **options: object) -> Outcome:
    return solve(registry.resolve_method(method, options).create(measurement, "cpu", 1, None), Limit(epochs))


def mutual_intensity(probe: NDArray[np.complexfloating]) -> NDArray[np.complexfloating]:
    """``Σ_m P_m(r) P_m*(s)`` at every fourth pixel, which no mixing of the modes changes."""
    few = probe[:, ::2, ::2].reshape(len(probe), -1)
    return few.T @ few.conj()


def differ(a: NDArray[np.complexfloating], b: NDArray[np.complexfloating]) -> float:
    """Relative difference of two arrays."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


@pytest.mark.parametrize("method", sorted(set(METHODS) - DENOISES))
@pytest.mark.parametrize("near_field", [False, True])
@pytest.mark.parametrize("shape", [(32, 32), (31, 36)])
def test_the_truth_is_a_fixed_point(
    method: str, near_field: bool, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if method in PRECISE:
        monkeypatch.setattr(Solver, "dtype", torch.complex128)
    whole = method == "joint:paper"  # the patterns were not made by interpolation
    problem = make_problem(shape, modes=2, near_field=near_field, start="truth", bad_pixels=True, subpixel=not whole)
    # the patterns are of waves that wrap around
    found = run(method, problem.measurement, **({"padding": False} if method.startswith("joint") else {})).estimate
    if method in CHOOSES_GAUGE:
        scale = np.vdot(found.object, problem.object) / np.vdot(found.object, found.object)
        found = replace(found, object=found.object * scale, probe=found.probe / scale)
    assert np.abs(found.object - problem.object).max() < 5e-4
    seen, true = mutual_intensity(found.probe), mutual_intensity(problem.probe)
    assert np.abs(seen - true).max() < 2e-3 * np.abs(true).max()


@pytest.mark.parametrize("method", METHODS)
def test_a_known_probe_stays_and_a_probe_of_two_modes_is_refined(method: str) -> None:
    problem = make_problem(modes=2)
    start = problem.measurement.initial.probe
    known = run(method, replace(problem.measurement, known_probe=True)).estimate.probe
    assert np.abs(mutual_intensity(known) - mutual_intensity(start)).max() < 1e-5 * np.abs(start).max() ** 2
    if method not in KEEPS_PROBE:
        found = run(method, problem.measurement, epochs=8).estimate.probe
        assert np.abs(mutual_intensity(found) - mutual_intensity(start)).max() > 1e-3 * np.abs(start).max() ** 2


@pytest.mark.parametrize("method", METHODS)
def test_a_unitary_mixing_of_the_modes_changes_nothing(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Solver, "dtype", torch.complex128)  # in float32 the phase of dark detector pixels is rounding
    problem = make_problem(modes=2)
    start = problem.measurement.initial
    mixing = np.array([[0.6, 0.8j], [0.8j, 0.6]])
    mixed = np.tensordot(mixing, start.probe.astype(np.complex128), axes=1)
    a = run(method, problem.measurement).estimate
    b = run(method, replace(problem.measurement, initial=replace(start, probe=mixed))).estimate
    assert differ(a.object, b.object) < 1e-6
    assert differ(mutual_intensity(a.probe), mutual_intensity(b.probe)) < 1e-6


@pytest.mark.parametrize("method", sorted(FULL_BATCH))
def test_a_full_batch_method_does_not_depend_on_the_order(method: str) -> None:
    problem = make_problem(noise=True, photons=1e5)
    count = len(problem.measurement.intensities)
    shuffled = problem.measurement.subset(np.random.default_rng(0).permutation(count))
    a, b = run(method, problem.measurement).estimate, run(method, shuffled).estimate
    assert differ(a.object, b.object) < 1e-3
    assert differ(a.probe, b.probe) < 1e-3


@pytest.mark.parametrize("method", sorted(set(METHODS) - FULL_BATCH))
def test_sequential_methods_visit_in_one_order(method: str) -> None:
    measurement = make_problem().measurement
    orders = [registry.resolve_method(name).create(measurement, "cpu", 5, None).order() for name in (method, "epie")]
    assert orders[0] == orders[1]


@pytest.mark.parametrize("method", METHODS)
def test_finds_the_object_on_a_scan_that_is_no_raster(method: str, spiral: Problem) -> None:
    h, w = spiral.object.shape
    inside = (slice(h // 3, -(h // 3)), slice(w // 3, -(w // 3)))
    found = run(method, spiral.measurement, epochs=50).estimate
    assert correlation(found.object[inside], spiral.object[inside]) > 0.8


@pytest.fixture(scope="module")
def spiral() -> Problem:
    """The wrong-start problem with its positions on a Fermat spiral, and the right probe for those that keep it."""
    start = make_problem(grid=(8, 8), step=4.0)
    turns = np.arange(64)
    angle, radius = turns * np.pi * (3 - np.sqrt(5)), 2.2 * np.sqrt(turns)
    centre = (np.array(start.object.shape) - 32) / 2
    positions = centre + radius[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    patterns = np.stack([intensity(start.object, start.probe, r) for r in positions]).astype(np.float32)
    initial = replace(
        start.measurement.initial, positions_px=positions, probe=start.probe.astype(np.complex64) * np.complex64(0.9)
    )
    return replace(
        start,
        measurement=replace(start.measurement, intensities=patterns, positions_px=positions, initial=initial),
    )
