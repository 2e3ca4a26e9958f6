"""The solver API: ePIE and rPIE, budgets, modes, chains."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from problems import Problem, correlation, make_problem
from ptybench.baselines.epie import EPIE
from ptybench.baselines.rpie import RPIE

from ptybench.errors import InvalidOption, UnknownName
from ptybench.registry import resolve_method
from ptybench.solver import Limit, Solver, Step, orthogonal_modes, parse_options, resolve_device, solve, with_modes


def run(kind: type[Solver], problem: Problem, epochs: int = 5, seed: int = 1, **options: Any) -> Any:
    return solve(kind(problem.measurement, parse_options(kind.Options, kind.name, options), "cpu", seed), Limit(epochs))


def test_an_epie_step_is_a_gradient_step_on_the_amplitude_loss() -> None:
    """Object and probe step of one pattern: SGD with rates α/(2 max|P|²) and β/(2 max|O|²), by torch's autograd."""

    class Double(EPIE):
        dtype = torch.complex128

    problem = make_problem((16, 16), grid=(2, 2))
    one = problem.measurement.subset(np.array([3]))
    solver = Double(one, EPIE.Options(alpha=0.7, beta=0.4))
    solver.epoch()

    fresh = Double(one)
    obj = fresh.object.requires_grad_()
    probe = fresh.probe.requires_grad_()
    shifted = torch.fft.ifft2(torch.fft.fft2(probe) * fresh.model.ramp(0))
    patch = obj[fresh.model.windows[0]]
    wave = torch.fft.fft2(shifted * patch, norm="ortho")
    loss = (wave.abs() - fresh.model.amplitudes[0]).square().sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert obj.grad is not None
    assert probe.grad is not None
    rate_object = 0.7 / (2 * shifted.abs().square().max())
    rate_probe = 0.4 / (2 * patch.abs().square().max())
    assert torch.allclose(solver.object, obj - rate_object * obj.grad, rtol=0, atol=1e-9)
    scale = float(probe.detach().abs().max())
    assert torch.allclose(solver.probe / scale, (probe - rate_probe * probe.grad) / scale, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", [EPIE, RPIE])
@pytest.mark.parametrize("near_field", [False, True])
@pytest.mark.parametrize("shape", [(32, 32), (31, 36)])
def test_the_truth_is_a_fixed_point(kind: type[Solver], near_field: bool, shape: tuple[int, int]) -> None:
    problem = make_problem(shape, modes=2, near_field=near_field, start="truth", bad_pixels=True)
    estimate = run(kind, problem, epochs=3).estimate
    assert np.abs(estimate.object - problem.object).max() < 2e-4


@pytest.mark.parametrize("kind", [EPIE, RPIE])
@pytest.mark.parametrize("near_field", [False, True])
def test_finds_the_object_from_a_wrong_start(kind: type[Solver], near_field: bool) -> None:
    problem = make_problem(grid=(8, 8), near_field=near_field)
    if near_field:  # a smooth probe in the near field leaves object and probe too free to tell apart
        start = replace(problem.measurement.initial, probe=problem.probe.astype(np.complex64))
        problem = replace(problem, measurement=replace(problem.measurement, initial=start, known_probe=True))
    h, w = problem.object.shape
    inside = (slice(20, h - 20), slice(20, w - 20))
    # rPIE with a small alpha stalls in the near field: 0.81 after 200 epochs with 0.1 on this problem
    options = {"alpha": 0.5, "beta": 1.0} if near_field and kind is RPIE else {}
    estimate = run(kind, problem, epochs=60, **options).estimate
    assert correlation(estimate.object[inside], problem.object[inside]) > 0.96


def test_one_seed_one_result_and_one_order_for_all() -> None:
    problem = make_problem()
    a, b, c = (run(EPIE, problem, seed=seed).estimate for seed in (1, 1, 2))
    assert np.array_equal(a.object, b.object)
    assert not np.array_equal(a.object, c.object)
    assert list(EPIE(problem.measurement, seed=3).order()) == list(RPIE(problem.measurement, seed=3).order())


def test_budget_checkpoints_and_stopwatch(problem: Problem) -> None:
    steps: list[Step] = []
    outcome = solve(EPIE(problem.measurement), Limit(epochs=6), [1, 4, 6, 9], steps.append)
    assert (outcome.epochs, outcome.stop_reason, outcome.status) == (6, "budget", "ok")
    assert [step.epoch for step in steps if step.estimate is not None] == [1, 4]
    assert all(a.seconds < b.seconds and a.ffts < b.ffts for a, b in pairwise(steps))
    assert solve(EPIE(problem.measurement), Limit(seconds=1e-9)).epochs == 1


def test_ffts_are_counted(problem: Problem) -> None:
    count = len(problem.measurement.intensities)
    assert run(EPIE, problem, epochs=3).cost.ffts == 3 * count * 4  # look, forward, back, update
    assert run(EPIE, problem, epochs=3, subpixel=False).cost.ffts == 3 * count * 2
    known = replace(problem, measurement=replace(problem.measurement, known_probe=True))
    assert run(EPIE, known, epochs=3).cost.ffts == 3 * count * 3


def test_a_known_probe_stays(problem: Problem) -> None:
    known = replace(problem, measurement=replace(problem.measurement, known_probe=True))
    start = known.measurement.initial.probe
    assert np.abs(run(EPIE, known).estimate.probe - start).max() < 1e-5 * np.abs(start).max()


def test_divergence_is_seen(problem: Problem) -> None:
    poisoned = problem.measurement.initial.object.copy()
    poisoned[20, 20] = np.nan
    start = replace(problem.measurement.initial, object=poisoned)
    outcome = solve(EPIE(replace(problem.measurement, initial=start)), Limit(epochs=5))
    assert (outcome.status, outcome.epochs, outcome.stop_reason) == ("diverged", 1, None)


@pytest.mark.parametrize("error", [None, "0.5", True])
def test_a_data_error_that_is_no_number_is_said_so(problem: Problem, error: Any) -> None:
    solver = EPIE(problem.measurement)
    solver.epoch = lambda: error  # type: ignore[method-assign]
    with pytest.raises(TypeError, match="must return the data error"):
        solve(solver, Limit(epochs=1))


def test_modes_are_added_and_removed_at_constant_power() -> None:
    probe = make_problem(modes=2).probe
    for count in (0, 1, 2, 3, 6):
        modes = with_modes(probe, count)
        assert len(modes) == (count or 2)
        assert np.sum(np.abs(modes) ** 2) == pytest.approx(np.sum(np.abs(probe) ** 2))
    more = with_modes(probe, 5).reshape(5, -1)
    gram = np.abs(more.conj() @ more.T)
    gram /= np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
    assert np.abs(gram[2:] - np.eye(5)[2:]).max() < 1e-6


def test_orthogonal_modes_keep_the_mutual_intensity() -> None:
    rng = np.random.default_rng(0)
    probe = rng.standard_normal((3, 6, 5)) + 1j * rng.standard_normal((3, 6, 5))
    ordered = orthogonal_modes(probe)
    flat, new = probe.reshape(3, -1), ordered.reshape(3, -1)
    assert np.allclose(flat.T @ flat.conj(), new.T @ new.conj())
    gram = new.conj() @ new.T
    assert np.allclose(gram, np.diag(np.diag(gram)))
    assert (np.diff(np.diag(gram).real) <= 0).all()


def test_options_are_checked() -> None:
    with pytest.raises(UnknownName, match="did you mean 'alpha'"):
        resolve_method("epie", {"alhpa": 1})
    with pytest.raises(InvalidOption, match=r"alpha.*less than or equal to 2.*got 3"):
        resolve_method("epie", {"alpha": 3})
    with pytest.raises(UnknownName, match="did you mean 'epie'"):
        resolve_method("epi")
    with pytest.raises(InvalidOption, match="unknown device"):
        resolve_device("gpu")
    assert resolve_method("rpie").options["alpha"] == 0.15


def test_a_chain_hands_on_the_estimate(problem: Problem) -> None:
    chain = resolve_method("epie>rpie", {"epie.alpha": 0.5, "2.beta": 2.0, "shares": [1.0, 3.0]})
    assert chain.options["1.alpha"] == 0.5
    assert chain.options["2.beta"] == 2.0
    solver = chain.create(problem.measurement, "cpu", 1, None)
    outcome = solve(solver, Limit(epochs=8))

    first = run(EPIE, problem, epochs=2, alpha=0.5)
    second = RPIE(replace(problem.measurement, initial=first.estimate), RPIE.Options(beta=2.0), "cpu", 1)
    by_hand = solve(second, Limit(epochs=6))
    assert np.allclose(outcome.estimate.object, by_hand.estimate.object, atol=1e-6)
    assert outcome.cost.ffts == first.cost.ffts + by_hand.cost.ffts


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("epie>", {}, "empty part"),
        ("epie>oracle", {}, "knows the truth"),
        ("epie>rpie", {"shares": [1.0]}, "2 positive numbers"),
        ("epie>rpie", {"epie.gamma": 1}, "unknown option"),
    ],
)
def test_chains_refuse_nonsense(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidOption, UnknownName), match=message):
        resolve_method(name, options)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kind", [EPIE, RPIE])
def test_cuda_agrees_with_the_cpu(kind: type[Solver], problem: Problem) -> None:
    on_cpu = solve(kind(problem.measurement, seed=1), Limit(epochs=3)).estimate
    outcome = solve(kind(problem.measurement, device="cuda", seed=1), Limit(epochs=3))
    assert np.abs(on_cpu.object - outcome.estimate.object).max() < 1e-3
    assert outcome.peak_device_bytes


def test_sequential_methods_take_one_thread_and_give_the_others_back(problem: Problem) -> None:
    seen: list[int] = []

    class Watching(EPIE):
        def epoch(self) -> float:
            seen.append(torch.get_num_threads())
            return super().epoch()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        solve(Watching(problem.measurement), Limit(epochs=1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1]
