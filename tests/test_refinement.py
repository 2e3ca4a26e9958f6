"""Refinement of positions and of the distance, against finite differences, known shifts and known truths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from problems import Problem, make_problem
from ptybench.baselines.annealing import Annealing
from ptybench.baselines.epie import EPIE
from ptybench.baselines.gradient import Gradient
from ptybench.baselines.xcorr import CrossCorrelation, shifts_between
from ptybench.baselines.zsearch import DistanceSearch, lowest
from scipy.ndimage import gaussian_filter

import ptybench
from ptybench import registry
from ptybench.engines.refinement import PositionOptions, PositionRefinement, Refinement, pattern_errors, views
from ptybench.errors import InvalidOption
from ptybench.optics.forward import transfer_function
from ptybench.scoring.parameters import position_errors
from ptybench.solver import Limit, Solver, solve

REFINERS = [Annealing, CrossCorrelation, Gradient]
CASES: list[dict[str, Any]] = [
    {},
    {"modes": 2, "bad_pixels": True, "shape": (33, 28)},
    {"near_field": True},
    {"near_field": True, "modes": 2, "bad_pixels": True, "shape": (27, 32)},
]


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every solver compute in double precision."""
    monkeypatch.setattr(Solver, "dtype", torch.complex128)


def displaced(problem: Problem, sigma_px: float = 0.3, seed: int = 0) -> tuple[Solver, NDArray[np.float64]]:
    """ePIE with the object and probe of the truth, but at wrong positions; and the moves that would mend them."""
    wrong = sigma_px * np.random.default_rng(seed).standard_normal(problem.measurement.positions_px.shape)
    moved = problem.measurement.positions_px + wrong
    solver = EPIE(replace(problem.measurement, positions_px=moved, position_error_px=sigma_px), None, "cpu", 1)
    solver.object, solver.probe = solver.tensor(problem.object), solver.tensor(problem.probe)
    return solver, problem.measurement.positions_px - solver.model.positions_px


def errors(solver: Solver) -> NDArray[np.float64]:
    """The squared error of every pattern."""
    found: NDArray[np.float64] = pattern_errors(solver.model, solver.object, solver.probe).numpy()
    return found


def slopes(solver: Solver, step: float = 1e-4) -> NDArray[np.float64]:
    """``∂E_k/∂r_k`` by central differences, ``(K, 2)``."""
    here, found = solver.model.positions_px.copy(), np.zeros((solver.model.count, 2))
    for axis in (0, 1):
        for sign in (1, -1):
            there = here.copy()
            there[:, axis] += sign * step
            solver.model.place(there)
            found[:, axis] += sign * errors(solver) / (2 * step)
    solver.model.place(here)
    return found


# --- one pass ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_that_of_the_error(case: dict[str, Any]) -> None:
    """``Δr = −∂E/∂r / 2‖P ∂O‖²``; central differences of an object without detail are its derivative."""
    solver, _ = displaced(make_problem(start="truth", **case))
    smooth = gaussian_filter(solver.object.numpy(), 3.0)
    solver.object = torch.as_tensor(smooth)
    moves = Gradient(solver, Gradient.Options(clip_px=99)).moves().numpy()
    norms = np.zeros_like(moves)
    for axis in (0, 1):
        rising = torch.as_tensor(np.gradient(smooth, axis=axis))
        for index, probes, seen in views(solver.model, rising, solver.probe):
            norms[index, axis] = (probes * seen).abs().square().sum(dim=(1, 2, 3)).numpy()
    expected, found = -slopes(solver), 2 * norms * moves
    assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > 0.999
    assert np.vdot(found, expected) / np.vdot(found, found) == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", [CrossCorrelation, Gradient])
def test_moves_mend_positions(kind: type[PositionRefinement], case: dict[str, Any]) -> None:
    solver, mending = displaced(make_problem(start="truth", **case))
    moves = kind(solver).moves().numpy()
    assert np.corrcoef(moves.ravel(), mending.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("case", CASES)
def test_one_step_along_the_gradient_lowers_the_error(case: dict[str, Any]) -> None:
    solver, _ = displaced(make_problem(start="truth", **case))
    before = errors(solver).sum()
    Gradient(solver).refine()
    assert errors(solver).sum() < 0.8 * before


@pytest.mark.parametrize("shape", [(64, 64), (33, 48)])
@pytest.mark.parametrize("rough", [True, False])
def test_cross_correlation_finds_a_known_shift(shape: tuple[int, int], rough: bool) -> None:
    """Patches with and without detail up to the highest frequency, shifted by less than a pixel in Fourier space."""
    rng = np.random.default_rng(3)
    fy, fx = (np.fft.fftfreq(n) for n in shape)
    band = 0.5 if rough else 0.1
    inside = (np.abs(fy)[:, None] < band) & (np.abs(fx)[None, :] < band)
    spectra = inside * (rng.standard_normal((20, *shape)) + 1j * rng.standard_normal((20, *shape)))
    shifts = rng.uniform(-0.9, 0.9, (20, 2))
    ramp = np.exp(2j * np.pi * (shifts[:, :1, None] * fy[:, None] + shifts[:, 1:, None] * fx))
    before, after = (torch.as_tensor(np.fft.ifft2(s)).to(torch.complex64) for s in (spectra, spectra * ramp))
    assert shifts_between(before, after).numpy() == pytest.approx(shifts, abs=0.02)
    assert shifts_between(before, before).abs().max() < 1e-5


def test_feedback_grows_with_steady_shifts_and_shrinks_with_alternating_ones(problem: Problem) -> None:
    refiner = CrossCorrelation(EPIE(problem.measurement, None, "cpu", 1))
    shifts = np.random.default_rng(0).standard_normal((25, 2))
    for sign_y, sign_x in ((1, 1), (1, -1), (1, 1)):
        refiner._adapt(shifts * (sign_y, sign_x))
    assert refiner.beta == pytest.approx([10 * 1.1**2, 10 / 1.1**2])
    refiner._adapt(np.zeros((25, 2)))  # nothing to compare
    assert refiner.beta == pytest.approx([10 * 1.1**2, 10 / 1.1**2])


@pytest.mark.parametrize("case", CASES)
def test_annealing_never_raises_an_error(case: dict[str, Any]) -> None:
    solver, _ = displaced(make_problem(start="truth", **case))
    before, order = errors(solver), solver.generator.get_state()
    Annealing(solver).refine()
    after = errors(solver)
    assert (after <= before * (1 + 1e-5)).all()
    assert after.sum() < 0.8 * before.sum()
    assert torch.equal(solver.generator.get_state(), order)  # the method visits the patterns as it would without


def test_annealing_reaches_less_far_as_the_budget_is_used() -> None:
    solver, _ = displaced(make_problem(start="truth"))
    solver.measurement = replace(solver.measurement, position_error_px=2.0)
    reached = []
    for progress in (0.0, 0.9):
        solver.progress, here = progress, solver.model.positions_px.copy()
        refiner = Annealing(solver)
        for _ in range(5):
            solver.model.place(here)
            refiner.refine()
            reached.append(np.abs(solver.model.positions_px - here).max())
    assert 0.2 < max(reached[:5]) <= 4 * 2.0 + 1e-6
    assert 0 < max(reached[5:]) <= 4 * 0.2 + 1e-6


# --- many passes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", REFINERS)
def test_true_positions_stay(kind: type[Refinement], case: dict[str, Any]) -> None:
    problem = make_problem(start="truth", **case)
    solver = EPIE(problem.measurement, None, "cpu", 1)
    solver.additions = [kind(solver)]
    outcome = solve(solver, Limit(epochs=5))
    assert outcome.estimate.positions_px == pytest.approx(problem.measurement.positions_px, abs=2e-3)


@pytest.mark.parametrize("near_field", [False, True])
@pytest.mark.parametrize("method", ["epie+annealing", "epie+gradient", "epie+xcorr", "lsqml+gradient", "dm+gradient"])
def test_positions_are_found(method: str, near_field: bool) -> None:
    """From a flat object, a wrong probe and positions wrong by half a pixel."""
    problem = make_problem(near_field=near_field, grid=(6, 6))
    m = problem.measurement
    wrong = np.random.default_rng(1).uniform(-0.9, 0.9, m.positions_px.shape)
    start = replace(m, positions_px=m.positions_px + wrong, position_error_px=0.5)
    solver = registry.resolve_method(method).create(start, "cpu", 1, None)
    before = position_errors(solver.model.positions_px, m.positions_px)[1]
    outcome = solve(solver, Limit(epochs=100))
    after = position_errors(outcome.estimate.positions_px, m.positions_px)[1]
    assert before is not None
    assert after is not None
    assert after < 0.3 * before


@pytest.mark.parametrize("kind", REFINERS)
def test_every_transform_of_a_pass_is_counted(
    kind: type[Refinement], problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = EPIE(problem.measurement, None, "cpu", 1)
    refiner, probe = kind(solver), solver.probe
    done = 0

    def counted(transform: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def counting(field: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
            nonlocal done
            done += field[..., 0, 0].numel()
            return transform(field, *rest, **options)

        return counting

    for name in ("fft2", "ifft2"):
        monkeypatch.setattr(torch.fft, name, counted(getattr(torch.fft, name)))
    before = solver.model.ffts
    refiner.refine()
    held = 3 * len(probe)  # looking at the probe twice and holding it anew, which the model does not count
    assert solver.model.ffts - before == done - held


@pytest.mark.parametrize("name", ["annealing", "gradient", "xcorr"])
def test_refinements_go_with_every_method(name: str, problem: Problem) -> None:
    """Whatever a method keeps between epochs, it goes on from the positions that it is given."""
    for method in registry.method_names():
        if method in ("initial_guess", "oracle"):
            continue
        solver = registry.resolve_method(f"{method}+{name}").create(problem.measurement, "cpu", 1, None)
        outcome = solve(solver, Limit(epochs=4))
        assert outcome.status == "ok", method
        assert np.abs(outcome.estimate.positions_px - problem.measurement.positions_px).max() > 1e-3, method


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kind", [*REFINERS, DistanceSearch])
def test_cuda_agrees_with_the_cpu(kind: type[Refinement]) -> None:
    problem = make_problem(near_field=True, modes=2)
    found = []
    for device in ("cpu", "cuda"):
        solver = EPIE(problem.measurement, None, device, 1)
        solver.object, solver.probe = solver.tensor(problem.object), solver.tensor(problem.probe * 0.9)
        kind(solver).refine()
        found.append((solver.model.positions_px, solver.model.distance_m))
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-3)
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-4)


class Counting(PositionRefinement):
    """Moves every position to the right, the first a little further, and counts."""

    count = 0
    step = 1.0

    def moves(self) -> torch.Tensor:
        self.count += 1
        moves = torch.full((self.solver.model.count, 2), self.step)
        moves[0] += self.step
        return moves


@pytest.mark.parametrize(("start", "every", "passes"), [(1, 1, 7), (3, 1, 5), (3, 2, 3), (7, 1, 1), (8, 1, 0)])
def test_start_and_every(start: int, every: int, passes: int, problem: Problem) -> None:
    solver = EPIE(problem.measurement, None, "cpu", 1)
    refiner = Counting(solver, PositionOptions(start=start, every=every))
    solver.additions = [refiner]
    solve(solver, Limit(epochs=7))
    assert refiner.count == passes


def test_the_mean_stays_and_windows_stay_on_the_canvas(problem: Problem) -> None:
    solver = EPIE(problem.measurement, None, "cpu", 1)
    refiner, before = Counting(solver), solver.model.positions_px.copy()
    refiner.refine()
    assert solver.model.positions_px.mean(axis=0) == pytest.approx(before.mean(axis=0))
    assert solver.model.positions_px[0] - before[0] == pytest.approx(np.full(2, 24 / 25))
    refiner.step = 1e4
    refiner.refine()
    room = np.array(solver.model.canvas) - solver.model.shape
    assert (solver.model.positions_px >= 0).all()
    assert (solver.model.positions_px <= room).all()
    refiner.step, before = float("nan"), solver.model.positions_px.copy()
    refiner.refine()
    assert np.array_equal(solver.model.positions_px, before)


def test_the_affine_part_of_all_moves_can_be_held(problem: Problem) -> None:
    """Against the fit of another least-squares routine: no scale, shear or rotation is left, all else is."""
    solver = EPIE(problem.measurement, None, "cpu", 1)
    nominal = problem.measurement.positions_px
    wanted = np.random.default_rng(0).uniform(-0.2, 0.2, nominal.shape) + 0.02 * nominal @ [[1.0, 0.5], [-0.5, 1.0]]

    class Wanted(PositionRefinement):
        def moves(self) -> torch.Tensor:
            return torch.as_tensor(wanted)

    Wanted(solver, PositionOptions(affine="held")).refine()
    moved = solver.model.positions_px - nominal
    design = np.column_stack([nominal, np.ones(len(nominal))])
    assert np.abs(np.linalg.pinv(design) @ moved).max() < 1e-6
    rest = (wanted - moved) - design @ (np.linalg.pinv(design) @ (wanted - moved))
    assert np.abs(rest).max() < 1e-6


# --- the distance -----------------------------------------------------------------------------------------------------


def out_of_focus(problem: Problem, factor: float, **options: Any) -> DistanceSearch:
    """A search at a wrong distance, with the object and probe of the truth propagated to it."""
    m = problem.measurement
    assert m.distance_m is not None
    solver = EPIE(replace(m, distance_m=factor * m.distance_m), None, "cpu", 1)
    solver.object, solver.probe = solver.tensor(problem.object), solver.tensor(problem.probe)
    search = DistanceSearch(solver, DistanceSearch.Options(**options))
    solver.object, solver.probe = search._moved((factor - 1) * m.distance_m)
    return search


def squares(problem: Problem) -> Problem:
    """The same set-up with a specimen of edges; its patterns are not needed."""
    y, x = np.indices(problem.object.shape)
    return replace(problem, object=np.where((y // 5 + x // 7) % 2, 1.0, 0.6 * np.exp(0.8j)))


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_sharpness_focuses_a_specimen_of_edges(factor: float) -> None:
    problem = squares(make_problem((64, 64), near_field=True))
    search = out_of_focus(problem, factor, criterion="sharpness", step=1)
    for _ in range(8):
        search.refine()
    assert search.solver.model.distance_m == pytest.approx(problem.measurement.distance_m, rel=0.01)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_the_error_finds_the_distance(factor: float) -> None:
    """From a flat object and a wrong probe, ten percent off on either side."""
    m, truth = ptybench.simulate("wrong_distance", seed=1001)
    solver = registry.resolve_method("epie+zsearch").create(
        replace(m, distance_m=factor * truth.distance_m), "cpu", 1, None
    )
    outcome = solve(solver, Limit(epochs=60))
    assert outcome.estimate.distance_m == pytest.approx(truth.distance_m, rel=0.01)


@pytest.mark.parametrize("case", CASES[2:])
def test_the_true_distance_stays(case: dict[str, Any]) -> None:
    """To what the bend of the valley leaves at the first, widest search, and better at the next."""
    problem = make_problem(start="truth", **case)
    solver = registry.resolve_method("epie+zsearch", {"start": 1, "every": 1}).create(
        problem.measurement, "cpu", 1, None
    )
    z = problem.measurement.distance_m
    assert solve(solver, Limit(epochs=1)).estimate.distance_m == pytest.approx(z, rel=1e-2)
    assert solve(solver, Limit(epochs=10)).estimate.distance_m == pytest.approx(z, rel=1e-3)


def test_object_and_probe_move_as_the_wave_does() -> None:
    """Against the angular spectrum in numpy, and there and back again."""
    search = out_of_focus(make_problem(near_field=True), 1.0)
    m, solver = search.solver.measurement, search.solver
    assert m.pixel_size_m is not None
    assert m.wavelength_m is not None
    obj, probe = search._moved(0.02)
    kernel = transfer_function(solver.model.shape, m.pixel_size_m, m.wavelength_m, -0.02)
    expected = np.fft.ifft2(np.fft.fft2(solver.probe.numpy()) * kernel)
    assert np.abs(probe.numpy() - expected).max() < 1e-5 * np.abs(expected).max()
    solver.object, solver.probe = obj, probe
    again, _ = search._moved(-0.02)
    assert again.numpy() == pytest.approx(make_problem(near_field=True).object, abs=1e-4)


def test_a_known_probe_is_not_moved() -> None:
    problem = make_problem(near_field=True, start="truth")
    known = replace(problem.measurement, known_probe=True, distance_m=0.11)
    solver = registry.resolve_method("epie+zsearch", {"start": 1}).create(known, "cpu", 1, None)
    outcome = solve(solver, Limit(epochs=12))
    assert outcome.estimate.distance_m != 0.11
    assert outcome.estimate.probe == pytest.approx(known.initial.probe, abs=1e-2)


def test_the_distance_stays_within_reach() -> None:
    search = out_of_focus(make_problem(near_field=True), 1.0, reach=0.05)
    assert search.nominal_m is not None
    assert search._within(9.0) == pytest.approx(1.05 * search.nominal_m)
    assert search._within(-9.0) == pytest.approx(0.95 * search.nominal_m)


def test_the_far_field_has_no_distance_to_search(problem: Problem) -> None:
    with pytest.raises(InvalidOption, match="near-field"):
        registry.resolve_method("epie+zsearch").create(problem.measurement, "cpu", 1, None)


def test_the_lowest_point_of_a_parabola() -> None:
    assert lowest(4.0, 1.0, 0.0) == 1.0  # at 2, beyond the trials
    assert lowest(2.25, 0.25, 0.25) == pytest.approx(0.5)
    assert lowest(0.0, 1.0, 1.5) == -1.0  # no lowest point
    assert lowest(1.0, 1.0, 1.0 - 1e-9) == 1.0
