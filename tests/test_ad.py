"""Gradient methods: optimisers, regularisers, gauges, schedules, and what they find."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from problems import Problem, correlation, intensity, make_problem
from ptybench.baselines.ad import AD, mean_curvature, middle_coordinates
from ptybench.baselines.epie import EPIE
from ptybench.baselines.joint import Joint
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ptybench.engines import autocorrelation, lost, regularisers
from ptybench.engines.descent import Adam, Group, Plateau
from ptybench.engines.gradient import Gradient
from ptybench.errors import InvalidOption
from ptybench.native import gradients as native
from ptybench.native import library
from ptybench.registry import resolve_method
from ptybench.scoring.parameters import position_errors
from ptybench.solver import Limit, solve
from ptybench.types import Measurement

built = pytest.mark.skipif(library.flavour() is None, reason="the compiled kernels are not built here")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex128)


def make(measurement: Measurement, name: str = "ad", **options: Any) -> AD:
    found = resolve_method(name, options).create(measurement, "cpu", 1, None)
    assert isinstance(found, AD)
    return found


def differ(a: Tensor, b: Tensor) -> float:
    """Relative difference of two arrays."""
    return float((a - b).norm() / b.norm())


# --- regularisers and optimisers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p", "q"), [(2, 1), (1, 1), (1.5, 0.8), (2, 2)])
@pytest.mark.parametrize("kernels", [pytest.param(True, marks=built), False])
def test_total_variation_and_its_gradient(p: float, q: float, kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernels:
        monkeypatch.setattr(native, "serves", lambda tensor: False)
    objects = draw(2, 9, 7)
    gradient = torch.empty_like(objects)
    value = regularisers.variation(objects, p, q, gradient)
    leaf = objects.clone().requires_grad_()
    down = torch.cat([leaf[:, 1:] - leaf[:, :-1], torch.zeros_like(leaf[:, :1])], dim=1)
    over = torch.cat([leaf[:, :, 1:] - leaf[:, :, :-1], torch.zeros_like(leaf[:, :, :1])], dim=2)
    squares = [step.real**2 + step.imag**2 + regularisers.SMOOTHING for step in (down, over)]
    right = ((squares[0] ** (p / 2) + squares[1] ** (p / 2)) ** (q / p)).sum() / (9 * 7)
    right.backward()
    assert leaf.grad is not None
    assert value == pytest.approx(right.item(), rel=1e-9)
    assert torch.allclose(gradient, leaf.grad, atol=1e-9)


def test_other_regularisers_and_their_gradients() -> None:
    objects = draw(1, 6, 5)
    leaf = objects.clone().requires_grad_()
    for term, right in (
        (regularisers.energy(objects), leaf.abs().square().mean()),
        (regularisers.beyond(objects, 1.0), (leaf.abs() - 1).clamp_min(0).square().mean()),
    ):
        (slope,) = torch.autograd.grad(right, leaf)
        assert term[0] == pytest.approx(right.item())
        assert torch.allclose(term[1], slope)
    offsets = torch.tensor([[1.0, -2.0], [0.5, 0.25]])
    value, slope = regularisers.length(offsets)
    assert value == pytest.approx(3.75 / 4)
    assert torch.equal(slope, torch.tensor([[0.25, -0.25], [0.25, 0.25]]))


def adam(values: Tensor, caution: float = 0.0, bends: Tensor | None = None) -> tuple[Adam, Group]:
    group = Group("object", values, 0.1, unit=2.0, bend=3.0, bends=bends)
    return Adam([group], 0.9, 0.99, caution), group


@built
def test_adam_in_kernels_is_adam_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    bends = draw(1, 40, 30, seed=9).abs()
    found = []
    for kernels in (True, False):
        if not kernels:
            monkeypatch.setattr(native, "serves", lambda tensor: False)
        values = draw(3, 40, 30)
        optimiser, _ = adam(values, 0.3, bends)
        for seed in range(4):
            optimiser.step([draw(3, 40, 30, seed=seed)], 0.7)
        found.append(values)
    assert torch.allclose(*found, rtol=1e-10)


def test_adam_is_adam_where_it_should_be() -> None:
    """Of real numbers, without caution, it is that of the paper; a phase, and a mixing of modes, only turn it."""
    values, direction = draw(1, 5, 4), torch.randn(4, 1, 5, 4, generator=torch.Generator().manual_seed(1)).double()
    ours, right = values.clone(), values.real.numpy().copy()
    optimiser, _ = adam(ours)
    first = second = np.zeros((1, 5, 4))
    for step, gradient in enumerate(direction.numpy(), 1):
        optimiser.step([torch.as_tensor(gradient).to(torch.complex128)], 1.0)
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
        right -= 0.2 * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.99**step)) + 6e-8)
    assert np.allclose(ours.real.numpy(), right)
    assert torch.equal(ours.imag, values.imag)
    mixing = torch.tensor([[0.6, 0.8j], [0.8j, 0.6]], dtype=torch.complex128) * np.exp(0.4j)
    plain, mixed = draw(2, 5, 4), torch.einsum("mn,nyx->myx", mixing, draw(2, 5, 4))
    for values, turn in ((plain, torch.eye(2, dtype=torch.complex128)), (mixed, mixing)):
        optimiser, _ = adam(values, 0.3)
        for seed in range(3):
            optimiser.step([torch.einsum("mn,nyx->myx", turn, draw(2, 5, 4, seed=seed + 5))], 1.0)
    assert torch.allclose(mixed, torch.einsum("mn,nyx->myx", mixing, plain))


def test_rows_that_were_not_looked_at_stay_and_count_their_own_steps() -> None:
    values = torch.zeros(4, 2, dtype=torch.float64)
    optimiser, group = adam(values)
    gradient = torch.ones(1, 2, dtype=torch.float64)
    optimiser.rows(torch.tensor([2]), group, gradient, 1.0)
    first = values[2].clone()
    assert torch.count_nonzero(values) == 2
    for _ in range(3):
        optimiser.rows(torch.tensor([0]), group, gradient, 1.0)
    optimiser.rows(torch.tensor([1]), group, gradient, 1.0)
    assert torch.equal(values[2], first)
    assert torch.allclose(values[1], first)  # its first step, however many others have made
    assert torch.allclose(values[0], 3 * first)


def test_rates_fall_at_a_plateau() -> None:
    plateau = Plateau(patience=2)
    for loss in (5.0, 4.0, 4.0, 4.0):
        plateau.tell(loss)
    assert plateau.share == 1.0
    plateau.tell(4.0)
    assert plateau.share == 0.5
    for _ in range(100):
        plateau.tell(4.0)
    assert plateau.share == 0.01


# --- the method ------------------------------------------------------------------------------------------------------


def test_gradient_descent_pattern_by_pattern_is_epie(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step ``α / 2 max|P|²`` against the gradient of amplitudes is ePIE's (10.1016/j.ultramic.2009.05.012, eq. 6)."""
    monkeypatch.setattr(AD, "dtype", torch.complex128)
    monkeypatch.setattr(EPIE, "dtype", torch.complex128)
    # away from the flat object, whose patterns have pixels so dark that their phase is rounding
    problem = make_problem(subpixel=False, start="truth")
    m = problem.measurement
    near = (m.initial.object * (1 + 0.1 * draw(*m.canvas).numpy())).astype(np.complex64)
    known = replace(m, known_probe=True, initial=replace(m.initial, object=near))
    options = {"optimiser": "sgd", "batch": 1, "object_rate": 0.7, "momentum": 0.0, "schedule": "none"}
    ours = solve(make(known, **options), Limit(3)).estimate.object
    theirs = solve(EPIE(known, EPIE.Options(alpha=0.7), "cpu", 1), Limit(3)).estimate.object
    assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.parametrize("optimiser", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("loss", ["poisson", "gaussian", "r"])
def test_every_loss_falls_with_every_optimiser(optimiser: str, loss: str) -> None:
    problem = make_problem(noise=True, photons=1e5)
    m = replace(
        problem.measurement, intensities=problem.measurement.intensities + 3
    )  # R and Poisson bend most in the dark
    rates = {"object_rate": 0.1, "probe_rate": 0.1, "momentum": 0.5} if optimiser == "sgd" else {}
    solver = make(m, optimiser=optimiser, loss=loss, **rates)
    errors = [solver.step() for _ in range(25)]
    assert errors[-1] < 0.6 * errors[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"held": "constant"},
        {"growing": False},
        {"start": "given"},
        {"start_probe": "autocorrelation"},
        {"variation": 0.0},
        {"variation_p": 1.0},
        {"warmup": 0.0},
        {"recentre": False, "rescale": False},
        {"schedule": "decay"},
        {"object_modes": 2},
        {"phase_range_rad": 0.1},
    ],
)
def test_every_ablation_is_an_option(changes: dict[str, Any]) -> None:
    problem = make_problem(noise=True, photons=1e4, grid=(6, 6))
    results = [
        solve(make(problem.measurement, "dap:poisson", patience=1, **more), Limit(30)).estimate.object
        for more in ({}, changes)
    ]
    assert np.isfinite(results[1]).all()
    assert np.abs(results[0] - results[1]).max() > 1e-4


def test_a_change_of_gauge_between_steps_changes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AD, "dtype", torch.complex128)
    problem = make_problem(subpixel=False)
    factor = 1.3 * np.exp(0.7j)
    found = []
    for turned in (False, True):
        # without caution, and with the probe's rate in its own units, steps are the same in every gauge but for a scale
        solver = make(problem.measurement, schedule="none", caution=0.0, object_rate=0.01, momentum=0.9)
        solver.step()
        if turned:
            solver._transform(lambda x: x, factor)
            solver.optimiser.groups[0].rate *= abs(factor)
        solver.refining = True
        for index in ([3, 1, 4], [1, 5, 9]):
            solver._optimise(len(index))
            solver.descend(index)
        found.append([solver.gradient([k]).loss for k in range(6)])
    assert found[1] == pytest.approx(found[0], rel=1e-6)


def test_the_probe_is_centred_and_the_object_goes_with_it() -> None:
    problem = make_problem(subpixel=False)
    m = problem.measurement
    moved = replace(m, initial=replace(m.initial, probe=np.roll(m.initial.probe, (3, -2), (1, 2))))
    solver = make(moved, recentre=True, object_rate=1e-6, probe_rate=1e-6)
    solver.object = torch.arange(solver.object.numel()).reshape(solver.object.shape).to(torch.complex64)
    before = solver.object.clone()
    solver.step()
    light = (solver.probe.abs() ** 2)[0]
    peak = divmod(int(light.argmax()), light.shape[1])
    assert peak == (16, 16)
    assert torch.allclose(solver.object, before.roll((-3, 2), (0, 1)), atol=1e-2)


def test_batches_grow_until_they_hold_all_patterns() -> None:
    solver = make(make_problem(grid=(6, 6)).measurement, "dap", batch=8)
    sizes = []
    for progress in np.linspace(0, 0.999, 40):
        solver.progress = float(progress)
        sizes.append(solver.batch_size())
    assert sorted(set(sizes)) == [8, 16, 32, 36]
    assert sizes == sorted(sizes)
    assert [sizes.count(size) for size in (8, 16, 32, 36)] == [10, 10, 10, 10]


def test_the_weight_of_the_variation_is_held_at_a_share_of_the_loss() -> None:
    solver = make(make_problem(noise=True, photons=1e4).measurement, variation=0.2)
    solver.step()
    for index in ([0, 1, 2], [5, 6]):
        found = solver.gradient(index)
        _, more = solver.gradients(found, index)
        assert more == pytest.approx(0.2 * found.loss)


def test_a_start_from_autocorrelations_looks_like_the_specimen() -> None:
    problem = make_problem((32, 32), (9, 9), 4.0)
    y, x = np.indices(problem.object.shape)
    hole = np.exp(-((y - 30) ** 2 + (x - 40) ** 2) / 60)
    scene = make_problem((32, 32), (9, 9), 4.0)
    obj = 1 - 0.7 * hole
    patterns = np.stack([intensity(obj, scene.probe, r) for r in scene.measurement.positions_px]).astype(np.float32)
    m = replace(scene.measurement, intensities=patterns)
    found = autocorrelation.object_start(m, np.random.default_rng(0))
    inside = slice(16, -16), slice(16, -16)
    assert correlation(np.abs(found[inside]), obj[inside]) > 0.7
    probe = autocorrelation.probe_start(m, 2)
    assert np.sum(np.abs(probe) ** 2) == pytest.approx(patterns.sum() / len(patterns), rel=1e-4)


def test_a_start_that_says_something_is_kept() -> None:
    problem = make_problem(start="truth")
    assert np.allclose(make(problem.measurement, "dap").objects[0].numpy(), problem.object, atol=1e-5)


def test_two_states_of_the_object_fit_two_specimens() -> None:
    a, b = make_problem((24, 24), (5, 5), 3.0), make_problem((24, 24), (5, 5), 3.0, seed=5)
    positions = a.measurement.positions_px
    size = a.object.shape
    other = b.object[: size[0], : size[1]]
    if other.shape != size:
        other = np.pad(other, [(0, n - m) for n, m in zip(size, other.shape, strict=True)], constant_values=1)
    both = [intensity(a.object, a.probe, r) + 0.3 * intensity(other, a.probe, r) for r in positions]
    m = replace(a.measurement, intensities=np.stack(both).astype(np.float32), known_probe=True)
    errors = [[make_one.step() for _ in range(60)][-1] for make_one in (make(m), make(m, object_modes=2))]
    assert errors[1] < 0.7 * errors[0]


# --- joint refinement ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moved() -> tuple[Problem, Measurement]:
    """A near-field problem whose positions are wrong by up to two pixels, and its distance by 15 %."""
    problem = make_problem((32, 32), (5, 5), 5.0, near_field=True, start="truth")
    m = problem.measurement
    assert m.distance_m is not None
    wrong = m.positions_px + np.random.default_rng(4).uniform(-1.5, 1.5, m.positions_px.shape)
    room = np.array(m.canvas) - m.shape
    wrong = np.clip(wrong, 0, room)
    start = replace(m.initial, object=np.ones_like(m.initial.object), positions_px=wrong)
    return problem, replace(m, positions_px=wrong, initial=start, distance_m=m.distance_m * 1.15)


@pytest.mark.parametrize("sampling", ["fourier", "bilinear"])
def test_positions_and_distance_are_found_together(moved: tuple[Problem, Measurement], sampling: str) -> None:
    problem, m = moved
    found = solve(make(m, "joint", sampling=sampling, padding=False), Limit(80)).estimate
    true = problem.measurement
    assert true.distance_m is not None
    assert m.distance_m is not None
    assert found.distance_m is not None
    start, end = (position_errors(r, true.positions_px)[1] for r in (m.positions_px, found.positions_px))
    assert start is not None
    assert end is not None
    assert end < 0.05 * start
    assert abs(found.distance_m - true.distance_m) < 0.65 * abs(m.distance_m - true.distance_m)


def test_large_structures_of_the_object_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blurred step is a Gaussian of the step, as scipy has it; past its share of the budget it is the step."""
    monkeypatch.setattr(AD, "dtype", torch.complex128)
    m = replace(make_problem(subpixel=False).measurement, known_probe=True)

    def step(progress: float, **options: Any) -> np.ndarray[Any, Any]:
        solver = make(m, optimiser="sgd", batch=1000, momentum=0.0, schedule="none", object_rate=0.5, **options)
        solver.progress = progress
        before = solver.object.clone()
        solver.step()
        return (solver.object - before).numpy()

    sharp = step(0.2)
    blurred = step(0.2, blur=4.0, blur_share=0.8)
    smoothed = gaussian_filter(sharp.real, 3.0, mode="wrap", truncate=8) + 1j * gaussian_filter(
        sharp.imag, 3.0, mode="wrap", truncate=8
    )
    assert np.abs(sharp - smoothed).max() > 0.1 * np.abs(sharp).max()
    assert np.abs(blurred - smoothed).max() < 1e-6 * np.abs(sharp).max()
    assert np.array_equal(step(0.9, blur=4.0, blur_share=0.8), sharp)


def test_lost_patterns_find_their_places_on_an_object_made_without_them() -> None:
    problem = make_problem(grid=(6, 6), start="truth")
    m = problem.measurement
    wrong = m.positions_px + np.random.default_rng(0).normal(0, 0.3, m.positions_px.shape)
    lost_ones = [8, 21]
    wrong[lost_ones] += [[7.0, -6.0], [-8.0, 5.0]]
    wrong = np.clip(wrong, 0, np.array(m.canvas) - m.shape)
    start = replace(m.initial, object=np.ones_like(m.initial.object), positions_px=wrong)
    moved = replace(m, positions_px=wrong, initial=start, known_probe=True, position_error_px=4.0)
    away = {}
    for searches in (0, 1):
        solver = make(moved, position_rate=0.3, searches=searches, blur_share=0.4, object_rate=0.05, batch=5)
        shifts = solve(solver, Limit(60)).estimate.positions_px - m.positions_px
        away[searches] = np.hypot(*(shifts - np.median(shifts, axis=0)).T)[lost_ones]
    assert away[0].min() > 5
    assert away[1].max() < 0.5


@pytest.mark.parametrize(
    ("searches", "found", "seen"),
    [
        # who is left out at which progress, and whether the object begins again
        (
            3,
            [[2, 7], [], [4]],
            [
                (0.2, (), False),
                (0.25, (2, 7), True),
                (0.4, (2, 7), False),
                (0.45, (), False),
                (0.5, (), False),
                (0.75, (4,), True),
                (0.95, (), False),
            ],
        ),
        (
            1,
            [[2, 7], [4], [7]],
            [
                (0.25, (2, 7), True),
                (0.45, (), False),
                (0.5, (4,), False),
                (0.7, (4,), False),
                (0.75, (7,), False),
                (0.95, (7,), False),
            ],
        ),
    ],
)
def test_an_object_is_made_without_the_patterns_that_fit_badly_and_only_without_them(
    moved: tuple[Problem, Measurement],
    monkeypatch: pytest.MonkeyPatch,
    searches: int,
    found: list[list[int]],
    seen: list[tuple[float, tuple[int, ...], bool]],
) -> None:
    m = replace(moved[1], position_error_px=3.0)
    asked: list[list[int]] = []
    objects: list[Tensor] = []
    answers = iter(found)
    monkeypatch.setattr(lost, "doubtful", lambda errors: next(answers))
    solver = make(m, "joint", searches=searches, blur_share=0.25)
    begun, one_step = solver.object.clone(), solver.descend

    def descend(index: list[int]) -> Gradient:
        asked.append(index)
        objects.append(solver.object.clone())
        return one_step(index)

    monkeypatch.setattr(solver, "descend", descend)
    for progress, left_out, again in seen:
        asked.clear()
        objects.clear()
        solver.progress = progress
        before = solver.object.clone()
        with monkeypatch.context() as patch:  # the data error is that of all patterns, of those that are left out, too
            patch.setattr(solver, "misfit", lambda *_: 1e6 * solver.model.power)
            assert round(solver.step() / 1e6) == len(left_out)
        assert set().union(*asked) == set(range(len(m.intensities))) - set(left_out)
        assert torch.equal(objects[0], begun if again else before)


def test_who_fits_badly_and_where_to_look() -> None:
    assert lost.doubtful(np.array([1.0, 1.1, 0.9, 2.5, 1.9])) == [3]
    assert lost.doubtful(np.ones(5)) == []
    found = lost.shifts(5.0)
    assert 18 < np.hypot(*found.T).max() <= 20
    anywhere = np.random.default_rng(0).uniform(-13, 13, (100, 2))
    nearest = np.hypot(*(anywhere[:, None] - found).transpose(2, 0, 1)).min(axis=1)
    assert nearest.max() <= 2 / np.sqrt(2)


def test_the_mean_curvature_of_a_wave() -> None:
    """A factor ``e^{iκr²}`` raises it by ``κ``; a real wave has none, and held it stays."""
    y, x = middle_coordinates(torch.empty(1, 48, 64, dtype=torch.complex128))
    flat = torch.exp(-(y**2 + x**2) / 50) * torch.stack([torch.ones(48, 64), 0.1 * x * torch.ones(48, 1)])
    assert abs(mean_curvature(flat.to(torch.complex128))) < 1e-12
    assert mean_curvature(flat * torch.exp(0.02j * (y**2 + x**2))) == pytest.approx(0.02, rel=1e-9)
    m = make_problem((32, 32), (4, 4), near_field=True).measurement
    for curvature, moves in (("held", False), ("free", True)):
        solver = make(m, curvature=curvature, distance_rate=0.01)
        start = mean_curvature(solver.probe)
        solve(solver, Limit(5))
        assert (abs(mean_curvature(solver.probe) - start) > 1e-5) == moves


def test_crops_have_no_gradient_by_position(moved: tuple[Problem, Measurement]) -> None:
    found = solve(make(moved[1], "joint", sampling="crop"), Limit(2)).estimate
    assert np.array_equal(found.positions_px, moved[1].positions_px)


def test_the_far_field_is_magnified_where_that_is_asked_for() -> None:
    """Positions that are all 5 % too close together: the pixel, and so the distance, is 5 % too large."""
    problem = make_problem((32, 32), (7, 7), 6.0, start="truth")
    m = problem.measurement
    middle = np.array(m.shape) // 2
    wrong = (m.positions_px + middle) / 1.05 - middle
    wrong = np.maximum(wrong, 0)
    m = replace(
        m, positions_px=wrong, wavelength_m=1e-10, distance_m=1.05, pixel_size_m=(1.05e-8, 1.05e-8), known_probe=True,
        initial=replace(m.initial, positions_px=wrong),
    )  # fmt: skip
    still = solve(make(m, "joint", position_rate=0.0), Limit(2)).estimate
    assert still.distance_m == 1.05
    # the right object, which stays
    found = solve(make(m, "joint", position_rate=0.0, magnify=True, object_rate=1e-9), Limit(40)).estimate
    assert found.distance_m == pytest.approx(1.0, abs=0.002)
    assert found.pixel_size_m is not None
    assert found.pixel_size_m[0] == pytest.approx(found.distance_m * 1e-8)
    assert np.abs(found.positions_px - problem.measurement.positions_px).max() < 0.5


def test_an_unknown_set_up_is_told() -> None:
    with pytest.raises(InvalidOption, match="nominal distance"):
        make(make_problem().measurement, "joint", magnify=True)


def test_additions_move_it_as_any_other_method(moved: tuple[Problem, Measurement]) -> None:
    solver = make(moved[1])
    solver.step()
    assert isinstance(solver, AD)
    solver.refocus(0.1)
    solver.place(moved[0].measurement.positions_px)
    solver.probe = solver.probe * 1.0
    solver.step()
    found = solver.estimate()
    assert found.distance_m == pytest.approx(0.1)
    assert np.array_equal(found.positions_px, moved[0].measurement.positions_px)
    assert float(solver.zeta) == pytest.approx(1 / 1.15)
    assert {"positions", "distance"} <= Joint.refines
