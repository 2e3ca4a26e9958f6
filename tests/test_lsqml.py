"""LSQ-ML: its steps against least squares by numpy, its likelihood against autograd, its batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from problems import Problem, correlation, make_problem
from ptybench.baselines.lsqml import LSQML, least_squares_steps, trimmed_mean
from scipy.optimize import minimize_scalar

from ptybench.engines.likelihood import poisson_change, poisson_step
from ptybench.registry import resolve_method
from ptybench.solver import Limit, Outcome, solve
from ptybench.types import Measurement


class Double(LSQML):
    """In complex128, for tests of exactness."""

    dtype = torch.complex128


def make(measurement: Measurement, kind: type[LSQML] = LSQML, seed: int = 1, **options: Any) -> LSQML:
    return kind(measurement, kind.Options(**options), "cpu", seed)


def run(measurement: Measurement, epochs: int, **options: Any) -> Outcome:
    return solve(make(measurement, **options), Limit(epochs))


def centre(found: NDArray[Any], problem: Problem) -> float:
    h, w = problem.object.shape
    inside = (slice(h // 3, -(h // 3)), slice(w // 3, -(w // 3)))
    return correlation(found[inside], problem.object[inside])


@pytest.mark.parametrize("moves", [1, 2])
def test_the_steps_are_those_of_least_squares(moves: int) -> None:
    """Against numpy's lstsq of the stacked real system with rows for the damping."""
    rng = np.random.default_rng(0)
    fields = rng.standard_normal((4, moves + 1, 2, 5, 6)) + 1j * rng.standard_normal((4, moves + 1, 2, 5, 6))
    fields[:, -1] += 3 * fields[:, :-1].sum(1)  # so that no step is negative
    found = least_squares_steps(torch.tensor(fields)).numpy()
    damping = 0.1 * (np.abs(fields[:, :-1]) ** 2).sum((2, 3, 4)).mean(0)
    for pattern, steps in zip(fields, found, strict=True):
        parts = np.concatenate([pattern.real, pattern.imag], axis=1).reshape(moves + 1, -1)
        system = np.vstack([parts[:-1].T, np.diag(np.sqrt(damping))])
        expected = np.linalg.lstsq(system, np.append(parts[-1], np.zeros(moves)))[0]
        assert steps == pytest.approx(expected, rel=1e-9)


def test_no_step_is_taken_backwards_or_along_nothing() -> None:
    fields = torch.ones((1, 3, 1, 4, 4), dtype=torch.complex128)
    fields[:, 2] = -1
    assert (least_squares_steps(fields[:, [0, 2]]) == 0).all()
    fields[:, 1] = 0
    assert (least_squares_steps(fields) == 0).all()
    fields[:, 2] = 0.55
    assert least_squares_steps(fields)[0].tolist() == pytest.approx([0.5, 0.0])


def test_the_mean_of_the_steps_leaves_out_a_twentieth_at_either_end() -> None:
    values = torch.arange(40.0)
    values[39], values[0] = 1e6, -1e6
    assert float(trimmed_mean(values[torch.randperm(40)])) == pytest.approx(19.5)
    assert float(trimmed_mean(values[3:4])) == 3


def test_one_epoch_is_the_papers_formulas() -> None:
    """Two patterns in one batch at whole pixels, all written out in numpy."""
    problem = make_problem((12, 12), grid=(1, 2), subpixel=False, modes=2)
    solver = make(problem.measurement, Double, batch=2, damping=0.2, object_scale=0.8, probe_scale=0.7)
    obj, probe = solver.object.numpy().copy(), solver.probe.numpy()
    corners = problem.measurement.positions_px.astype(int)
    windows = [(slice(y, y + 12), slice(x, x + 12)) for y, x in corners]
    amplitudes = np.fft.ifftshift(np.sqrt(problem.measurement.intensities.astype(np.float64)), axes=(1, 2))
    dose, object_sum, probe_sum, chis = np.zeros(obj.shape), np.zeros_like(obj), np.zeros_like(probe), []
    for window, amplitude in zip(windows, amplitudes, strict=True):
        wave = np.fft.fft2(probe * obj[window], norm="ortho")
        change = np.fft.ifft2(wave * (amplitude / np.sqrt((np.abs(wave) ** 2).sum(0)) - 1), norm="ortho")
        dose[window] += (np.abs(probe) ** 2).sum(0)
        object_sum[window] += (probe.conj() * change).sum(0)
        probe_sum += obj[window].conj() * change
        chis.append(change)
    object_sum /= np.sqrt(dose**2 + (0.2 * dose.max()) ** 2)
    systems, towards = [], []
    for window, change in zip(windows, chis, strict=True):
        moves = np.stack([object_sum[window] * probe, obj[window] * probe_sum]).reshape(2, -1)
        systems.append((moves.conj() @ moves.T).real)
        towards.append((moves.conj() @ change.ravel()).real)
    damping = 0.1 * np.diag(np.mean([np.diag(system) for system in systems], axis=0))
    steps = np.mean([np.linalg.solve(s + damping, b) for s, b in zip(systems, towards, strict=True)], axis=0)
    solver.epoch()
    assert np.abs(solver.object.numpy() - obj - 0.8 * steps[0] * object_sum).max() < 1e-7
    assert np.abs(solver.probe.numpy() - probe - 0.7 * steps[1] * probe_sum).max() < 1e-7 * np.abs(probe).max()


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
@pytest.mark.parametrize("near_field", [False, True])
def test_a_batch_of_one_is_the_sequential_method(likelihood: str, near_field: bool) -> None:
    problem = make_problem((16, 18), grid=(2, 2), modes=2, near_field=near_field, bad_pixels=True)

    class Together(Double):
        def lay_out(self) -> None:
            super().lay_out()
            self.moves = self.canvas(self.dtype)

        def visit(self, k: int, refine_probe: bool) -> torch.Tensor:
            return self.visit_together([k], refine_probe)

    a, b = (make(problem.measurement, kind, batch=1, likelihood=likelihood) for kind in (Double, Together))
    assert a.epoch() == pytest.approx(b.epoch(), rel=1e-9)
    assert torch.allclose(a.object, b.object, rtol=0, atol=1e-9)
    assert torch.allclose(a.probe, b.probe, rtol=0, atol=1e-9 * float(b.probe.abs().max()))


def test_the_poisson_direction_is_the_gradient_and_its_step_the_most_likely() -> None:
    """Two patterns in complex128, some of their pixels without photons; autograd and scipy as oracles."""
    problem = make_problem((12, 14), grid=(1, 2), modes=2, bad_pixels=True, noise=True, photons=3e4)
    model = make(problem.measurement, Double).model
    generator = torch.Generator().manual_seed(0)
    waves = 20 + 10 * torch.randn(
        (2, 2, 12, 14), dtype=torch.complex128, generator=generator
    )  # brighter than the floor
    exit_wave = model.backward(waves, [0, 1]).requires_grad_()

    def likelihood(field: torch.Tensor) -> torch.Tensor:
        expected = torch.fft.fft2(field, norm="ortho").abs().square().sum(1)
        measured = model.amplitudes.square()
        assert (measured == 0).any()
        assert model.good is not None
        return ((expected - torch.xlogy(measured, expected)) * model.good).sum((1, 2))

    likelihood(exit_wave).sum().backward()  # type: ignore[no-untyped-call]
    assert exit_wave.grad is not None
    start = exit_wave.detach()
    change, squared = poisson_change(model, start, [0, 1])
    assert float(squared) == pytest.approx(float(model.amplitude_errors(start, [0, 1]).sum()), rel=1e-9)
    for k in range(2):
        flat, gradient = change[k].flatten(), -exit_wave.grad[k].flatten()
        length = float((torch.vdot(gradient, flat) / torch.vdot(gradient, gradient)).real)
        assert float((flat - length * gradient).abs().max()) < 1e-3 * float(flat.abs().max())  # the floor

        def along(t: float, k: int = k) -> float:
            return float(likelihood(start + t * change)[k])

        best = minimize_scalar(along, bounds=(0, 4), method="bounded").x
        assert best == pytest.approx(1, abs=0.05)  # after so few Newton steps


def test_a_dark_pixel_does_not_blow_up_the_poisson_step() -> None:
    expected, measured = torch.zeros((1, 1, 4, 4)), torch.full((1, 1, 4, 4), 3.0)
    for dark in (0.0, 1e-30, 1e-12):
        expected.fill_(3.0)
        expected[0, 0, 1, 1] = dark
        slope = (expected - measured) / (expected + 1e-3)
        step = poisson_step(expected, measured, slope)
        assert 0 <= float(step) <= 1
        assert torch.isfinite(expected.sqrt() * (1 - step * slope)).all()


@pytest.mark.parametrize("options", [{"batch": 1}, {"batch": 8}, {"batch": 8, "likelihood": "poisson"}, {"batch": 99}])
def test_finds_object_and_probe_from_the_wrong_start(options: dict[str, Any]) -> None:
    problem = make_problem(grid=(7, 7))
    found = run(problem.measurement, 40, **options).estimate
    assert centre(found.object, problem) > 0.95
    assert correlation(found.probe, problem.probe) > 0.99


@pytest.mark.parametrize("options", [{"batch": 1}, {"batch": 4}, {"batch": 1, "likelihood": "poisson"}])
def test_the_truth_is_a_fixed_point_in_small_batches(options: dict[str, Any]) -> None:
    problem = make_problem((31, 36), modes=2, start="truth", near_field=True, bad_pixels=True)
    found = run(problem.measurement, 3, **options).estimate
    assert np.abs(found.object - problem.object).max() < 1e-4


@pytest.mark.parametrize("batch", [1, 8])
def test_the_scale_between_object_and_probe_does_not_matter(batch: int) -> None:
    problem = make_problem(bad_pixels=True)
    start = problem.measurement.initial
    scaled = replace(start, object=start.object * np.complex64(0.25), probe=start.probe * np.complex64(4))
    a = run(problem.measurement, 3, batch=batch).estimate
    b = run(replace(problem.measurement, initial=scaled), 3, batch=batch).estimate
    assert np.abs(4 * b.object - a.object).max() < 1e-4
    assert np.abs(b.probe / 4 - a.probe).max() < 1e-4 * np.abs(a.probe).max()


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_counts_on_bad_pixels_are_not_read(likelihood: str) -> None:
    problem = make_problem(bad_pixels=True)
    wild = problem.measurement.intensities.copy()
    wild[:, problem.measurement.bad_pixels] = 1e9
    estimates = [
        run(replace(problem.measurement, intensities=i), 2, batch=8, likelihood=likelihood).estimate.object
        for i in (problem.measurement.intensities, wild)
    ]
    assert np.array_equal(*estimates)


def test_the_error_is_that_of_the_start_when_all_patterns_are_one_batch() -> None:
    problem = make_problem(modes=2, bad_pixels=True)
    solver = make(problem.measurement, batch=99)
    every = slice(0, solver.model.count)
    waves = solver.model.shifted_probes(solver.probe, every) * solver.model.patches(solver.object, every)[:, None]
    expected = float(solver.model.amplitude_errors(waves, every).sum()) / solver.model.power
    for likelihood in ("gaussian", "poisson"):
        assert make(problem.measurement, batch=99, likelihood=likelihood).epoch() == pytest.approx(expected, rel=1e-4)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("options", [{"batch": 1}, {"batch": 8}, {"batch": 8, "likelihood": "poisson"}])
def test_cuda_agrees_with_the_cpu(options: dict[str, Any]) -> None:
    problem = make_problem(modes=2, bad_pixels=True)
    solvers = [Double(problem.measurement, Double.Options(**options), device, 1) for device in ("cpu", "cuda")]
    objects = [solve(solver, Limit(3)).estimate.object for solver in solvers]
    assert np.abs(objects[0] - objects[1]).max() < 1e-6


def test_the_variant_fixes_the_likelihood() -> None:
    assert resolve_method("lsqml:poisson").options["likelihood"] == "poisson"
    assert resolve_method("lsqml").options["likelihood"] == "gaussian"


def test_the_probe_waits_for_its_start() -> None:
    problem = make_problem()
    start = problem.measurement.initial.probe
    found = run(problem.measurement, 3, probe_start=3).estimate.probe
    assert np.abs(found - start).max() < 1e-5 * np.abs(start).max()
    assert np.abs(run(problem.measurement, 4, probe_start=3).estimate.probe - found).max() > 1e-3 * np.abs(start).max()
