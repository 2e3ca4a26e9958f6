"""Maximum likelihood: gradients against autograd and differences, line searches against scipy, descent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from problems import Problem, correlation, make_problem
from ptybench.baselines.ml import ML, inner, laplacian
from scipy.optimize import minimize_scalar

from ptybench.engines.likelihood import FLOOR, Gaussian, Likelihood, Poisson, along, lowest_point
from ptybench.errors import NotEnoughMemory
from ptybench.registry import resolve_method
from ptybench.solver import Limit, Outcome, solve
from ptybench.types import Measurement

LIKELIHOODS = ["gaussian", "poisson"]


class Double(ML):
    """In complex128, for tests of exactness."""

    dtype = torch.complex128


def make(measurement: Measurement, kind: type[ML] = ML, **options: Any) -> ML:
    return kind(measurement, kind.Options(**options), "cpu", 1)


def run(measurement: Measurement, epochs: int, **options: Any) -> Outcome:
    return solve(make(measurement, **options), Limit(epochs))


def dim(**options: Any) -> Problem:
    """A problem with few photons: many pixels have none."""
    problem = make_problem((12, 14), grid=(2, 3), photons=3e3, noise=True, **options)
    assert (problem.measurement.intensities == 0).mean() > 0.3
    return problem


def loss(solver: ML, obj: torch.Tensor, probe: torch.Tensor) -> torch.Tensor:
    """Minus the logarithm of the likelihood and of the prior, by the textbook and pattern by pattern."""
    model, total = solver.model, torch.zeros((), dtype=torch.float64)
    for k in range(model.count):
        seen = probe if model.ramps is None else torch.fft.ifft2(torch.fft.fft2(probe) * model.ramp(k))
        expected = model.forward(seen * obj[model.windows[k]], k).abs().square().sum(0)
        measured = model.amplitudes[k].square()
        if solver.options.likelihood == "gaussian":
            terms = (expected - measured).square() / (2 * (measured + 1))
        else:
            raised, counted = expected + FLOOR, measured + FLOOR
            terms = raised - counted - torch.xlogy(counted, raised / counted)
        total = total + (terms if model.good is None else terms[model.good > 0]).sum()
    rough = obj.diff(dim=0).abs().square().sum() + obj.diff(dim=1).abs().square().sum()
    weight = solver.options.smoothness * model.amplitudes.numel() * model.power / (8 * obj.numel() ** 2)
    return total + weight * rough


CASES = [
    {},
    {"modes": 2, "bad_pixels": True},
    {"near_field": True, "modes": 2, "bad_pixels": True},
    {"subpixel": False},
]


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("smoothness", [0.0, 0.05])
def test_gradients_are_those_of_autograd_and_of_differences(
    likelihood: str, case: dict[str, Any], smoothness: float
) -> None:
    solver = make(dim(**case).measurement, Double, likelihood=likelihood, smoothness=smoothness)
    solver.renew()
    _, (object_slope, probe_slope) = solver.gradients(True)
    obj, probe = solver.object.clone().requires_grad_(), solver.probe.clone().requires_grad_()
    value = loss(solver, obj, probe)
    assert solver.loss == pytest.approx(float(value.detach()), rel=1e-9)
    value.backward()  # type: ignore[no-untyped-call]
    for found, leaf in ((object_slope, obj), (probe_slope, probe)):
        assert leaf.grad is not None  # autograd's is twice the derivative with respect to the conjugate
        assert float((2 * found - leaf.grad).norm()) < 1e-6 * float(leaf.grad.norm())
    generator = torch.Generator().manual_seed(0)
    turns = [
        torch.randn(f.shape, dtype=f.dtype, generator=generator) * float(f.detach().abs().max()) for f in (obj, probe)
    ]
    h = 1e-7
    with torch.no_grad():
        ends = [loss(solver, obj + sign * h * turns[0], probe + sign * h * turns[1]) for sign in (1, -1)]
    difference = float(ends[0] - ends[1]) / (2 * h)
    assert 2 * inner([object_slope, probe_slope], turns) == pytest.approx(difference, rel=1e-6)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("case", [*CASES, {"known": True}])
@pytest.mark.parametrize("smoothness", [0.0, 0.05])
def test_the_line_search_finds_the_lowest_point(likelihood: str, case: dict[str, Any], smoothness: float) -> None:
    """Against scipy on the textbook's likelihood, from the start and from nearer the end."""
    known = case.get("known", False)
    problem = dim(**{key: value for key, value in case.items() if key != "known"})
    measurement = replace(problem.measurement, known_probe=known)
    solver = make(measurement, Double, likelihood=likelihood, smoothness=smoothness)
    for epochs in (0, 5):
        for _ in range(epochs):
            solver.step()
        solver.renew()
        directions = solver.conjugate(solver.gradients(not known)[1])
        assert len(directions) == 2 - known

        def value(t: float, directions: list[torch.Tensor] = directions) -> float:
            probe = solver.probe if known else solver.probe + t * directions[1]
            return float(loss(solver, solver.object + t * directions[0], probe))

        found = solver.likelihood.best_step(solver.lines(directions), solver.prior(directions[0]))
        best = minimize_scalar(value, bounds=(0, 3 * found), method="bounded", options={"xatol": 1e-7 * found})
        # the Gaussian search is exact; Newton's method for Poisson stops within a few per cent of its step
        assert found == pytest.approx(best.x, rel=1e-4 if likelihood == "gaussian" else 0.05)
        gained = value(0) - value(found)
        assert gained > 0
        assert gained >= 0.99 * (value(0) - best.fun)
        solver.last = None


def test_the_counts_along_a_line_are_polynomials() -> None:
    problem = dim(modes=2)
    solver = make(problem.measurement, Double)
    solver.renew()
    directions = solver.conjugate(solver.gradients(True)[1])
    lines = [line.clone() for line, _ in solver.lines(directions)]
    t = 0.7
    count, rate, bend = along(torch.cat(lines, dim=1), t)
    solver.object += t * directions[0]
    solver.probe += t * directions[1]
    every = slice(0, solver.model.count)
    waves = solver.look(every).waves
    expected = waves.abs().square().sum(1).flatten()
    assert torch.allclose(count, expected, rtol=1e-9, atol=1e-9 * float(expected.max()))
    h = 1e-4
    before, _, _ = along(torch.cat(lines, dim=1), t - h)
    after, _, _ = along(torch.cat(lines, dim=1), t + h)
    assert torch.allclose((after - before) / (2 * h), rate, rtol=1e-5, atol=1e-6 * float(rate.abs().max()))
    assert torch.allclose((after - 2 * count + before) / h**2, bend, rtol=1e-3, atol=1e-5 * float(bend.abs().max()))


def test_the_lowest_point_of_a_polynomial() -> None:
    assert lowest_point(np.array([9.0, -6.0, 1.0])) == pytest.approx(3)
    assert lowest_point(np.array([1.0, 2.0, 1.0])) == 0  # rises
    assert lowest_point(np.array([5.0, 0.0, 1.0])) == 0  # stands still
    double_well = np.polynomial.polynomial.polyfromroots([1, 1, 4, 4])
    double_well[1] -= 1  # falls at 0, has a well near 1 and a lower one near 4
    ts = np.linspace(0, 6, 60001)
    expected = ts[np.polynomial.polynomial.polyval(ts, double_well).argmin()]
    for unit in (1e-9, 1.0, 1e9):
        assert lowest_point(double_well / unit ** np.arange(5)) == pytest.approx(expected * unit, rel=1e-3)


@pytest.mark.parametrize("likelihood", [Gaussian(), Poisson()])
def test_no_step_is_taken_where_nothing_changes_or_counts_overflow(likelihood: Likelihood) -> None:
    measured = torch.tensor([0.0, 2.0, 5.0])
    line = torch.stack([measured, 0 * measured, 0 * measured])
    no_prior = torch.zeros(3, dtype=torch.float64)
    assert likelihood.best_step([(line.clone(), measured)], no_prior) == 0
    assert likelihood.best_step([(line + torch.inf, measured)], no_prior) == 0


def test_the_laplacian_is_the_gradient_of_the_roughness() -> None:
    field = torch.randn((7, 9), dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    rough = sum(field.diff(dim=axis).abs().square().sum() for axis in (0, 1))
    assert inner([field], [laplacian(field)]) == pytest.approx(float(rough))
    assert laplacian(torch.ones((4, 5), dtype=torch.complex128)).abs().max() == 0


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("options", [{}, {"smoothness": 0.02}, {"preconditioner": "none"}, {"probe_start": 3}])
@pytest.mark.parametrize("kind", [ML, Double])
def test_the_likelihood_never_falls(likelihood: str, options: dict[str, Any], kind: type[ML]) -> None:
    problem = make_problem(modes=2, photons=1e5, noise=True, bad_pixels=True)
    solver = make(problem.measurement, kind, likelihood=likelihood, **options)
    losses = []
    for _ in range(45):
        solver.step()
        losses.append(solver.loss)
    slack = 1e-12 if kind is Double else 2e-6  # the rounding of a sum of so many numbers
    assert (np.diff(losses) <= slack * np.abs(losses[:-1])).all()
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("case", [{"modes": 2}, {"near_field": True}, {"subpixel": False}])
def test_kept_waves_are_those_made_anew(likelihood: str, case: dict[str, Any]) -> None:
    problem = make_problem((16, 18), grid=(3, 3), noise=True, photons=1e5, **case)
    solvers = [make(problem.measurement, Double, likelihood=likelihood) for _ in range(2)]
    solvers[1].keeps = False
    for _ in range(6):
        errors = [solver.step() for solver in solvers]
        assert errors[0] == pytest.approx(errors[1], rel=1e-7)
    assert torch.allclose(solvers[0].object, solvers[1].object, rtol=0, atol=1e-7)
    for look in solvers[0].looks:
        fresh = solvers[0].look(look.index)
        assert torch.allclose(look.waves, fresh.waves, rtol=0, atol=1e-9 * float(fresh.waves.abs().max()))
        assert torch.allclose(look.probes, fresh.probes, rtol=0, atol=1e-9 * float(fresh.probes.abs().max()))


def test_an_epoch_costs_three_transforms_of_a_pattern() -> None:
    """One back for the gradient, two forward for the direction; none for the line search."""
    for likelihood in LIKELIHOODS:
        problem = make_problem(modes=2, subpixel=False)
        solver = make(problem.measurement, likelihood=likelihood)
        solver.step()
        before = solver.model.ffts
        for _ in range(5):
            solver.step()
        assert solver.model.ffts - before == 5 * 3 * 2 * solver.model.count


def test_what_an_addition_did_is_seen() -> None:
    problem = make_problem()
    solver = make(problem.measurement)
    solver.additions.append(type("Dims", (), {"after_epoch": lambda self: solver.object.mul_(0.9)})())
    solver.step()
    every = slice(0, solver.model.count)
    waves = solver.model.shifted_probes(solver.probe, every) * solver.model.patches(solver.object, every)[:, None]
    expected = float(solver.model.amplitude_errors(waves, every).sum()) / solver.model.power
    assert solver.epoch() == pytest.approx(expected, rel=1e-4)


def test_goes_on_with_other_positions() -> None:
    problem = make_problem(start="truth")
    solver = make(problem.measurement)
    true = problem.measurement.positions_px
    assert solver.step() < 1e-9
    solver.place(true + 0.5)
    assert solver.step() > 1e-4
    again = make(replace(problem.measurement, positions_px=true + 0.5))
    again.step()
    assert np.abs(solver.object.numpy() - again.object.numpy()).max() < 1e-3


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("preconditioner", ["dose", "scale", "none"])
def test_finds_object_and_probe_from_the_wrong_start(likelihood: str, preconditioner: str) -> None:
    problem = make_problem(grid=(7, 7))
    found = run(problem.measurement, 60, likelihood=likelihood, preconditioner=preconditioner).estimate
    assert centre(found.object, problem) > (0.9 if preconditioner == "none" else 0.97)
    assert correlation(found.probe, problem.probe) > 0.98


def centre(found: NDArray[Any], problem: Problem) -> float:
    h, w = problem.object.shape
    inside = (slice(h // 3, -(h // 3)), slice(w // 3, -(w // 3)))
    return correlation(found[inside], problem.object[inside])


@pytest.mark.parametrize("preconditioner", ["dose", "scale"])
def test_the_scale_between_object_and_probe_does_not_matter(preconditioner: str) -> None:
    problem = make_problem(bad_pixels=True)
    start = problem.measurement.initial
    scaled = replace(start, object=start.object * np.complex64(0.25), probe=start.probe * np.complex64(4))
    a = run(problem.measurement, 5, preconditioner=preconditioner).estimate
    b = run(replace(problem.measurement, initial=scaled), 5, preconditioner=preconditioner).estimate
    assert np.abs(4 * b.object - a.object).max() < 1e-4
    assert np.abs(b.probe / 4 - a.probe).max() < 1e-4 * np.abs(a.probe).max()


def test_the_prior_smooths() -> None:
    problem = make_problem(photons=2e4, noise=True, grid=(7, 7))
    rough, better = [], []
    for smoothness in (0.0, 0.03, 0.3):
        found = run(problem.measurement, 60, smoothness=smoothness).estimate.object
        rough.append(inner([torch.tensor(found)], [laplacian(torch.tensor(found))]))
        better.append(centre(found, problem))
    assert rough[0] > rough[1] > rough[2]
    assert better[1] > better[0]


def test_polynomials_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    measurement = make_problem().measurement
    monkeypatch.setattr("ptybench.memory.available_bytes", lambda: 1000)
    with pytest.raises(NotEnoughMemory, match="ml:poisson, which keeps polynomials of all pixels, needs about"):
        make(measurement, likelihood="poisson")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("smoothness", [0.0, 0.05])
def test_cuda_agrees_with_the_cpu(likelihood: str, smoothness: float) -> None:
    problem = make_problem(modes=2, bad_pixels=True)
    options = Double.Options(likelihood=likelihood, smoothness=smoothness)
    found = [solve(Double(problem.measurement, options, device, 1), Limit(5)).estimate for device in ("cpu", "cuda")]
    assert np.abs(found[0].object - found[1].object).max() < 1e-6


def test_the_variant_fixes_the_likelihood() -> None:
    assert resolve_method("ml:poisson").options["likelihood"] == "poisson"
    assert resolve_method("ml").options["likelihood"] == "gaussian"
