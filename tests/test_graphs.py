"""Visits that take the number of their pattern from the device, against the engines' own; graphs where CUDA is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from problems import make_problem
from ptybench.baselines.admm import ADMM
from ptybench.baselines.dm import DM
from ptybench.baselines.epie import EPIE
from ptybench.baselines.lsqml import LSQML, least_squares_steps
from ptybench.baselines.pie import PIE
from ptybench.baselines.rpie import RPIE
from ptybench.baselines.sdr import SDR
from ptybench.baselines.wasp import WASP
from solved import FAMILY, differ, object_after_moves, run
from torch.utils._python_dispatch import TorchDispatchMode

from ptybench.cuda import VARIABLE, graphs
from ptybench.engines.projection import ProjectionSolver
from ptybench.engines.sequential import SequentialSolver
from ptybench.native import library
from ptybench.optics.forward import ForwardModel, Windowed

device = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

WITH_GRAPHS = [*FAMILY, (LSQML, {}), (LSQML, {"likelihood": "poisson"})]
NAMES = [f"{kind.__name__}-{len(options)}" for kind, options in WITH_GRAPHS]
CASES: list[dict[str, Any]] = [
    {"modes": 2, "grid": (3, 5)},
    {"subpixel": False, "grid": (4, 4), "bad_pixels": True, "noise": True},
    {"near_field": True, "shape": (30, 22), "grid": (4, 4)},
]
BATCHES = [{"batch": 1}, {"batch": 7}, {"batch": 7, "overlaps": "sum"}]


@pytest.fixture(autouse=True)
def _no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "able", lambda model: False)


def options_of(kind: type[SequentialSolver], options: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return options | {key: value for key, value in more.items() if key in kind.Options.model_fields}


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("more", BATCHES, ids=str)
@pytest.mark.parametrize(("kind", "options"), WITH_GRAPHS, ids=NAMES)
def test_visits_by_an_index_on_the_device_are_the_engines_own(
    kind: type[SequentialSolver],
    options: dict[str, Any],
    more: dict[str, Any],
    case: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measurement = make_problem(**case).measurement
    chosen = options_of(kind, options, more)
    expected, expected_errors = run(kind, measurement, chosen)
    monkeypatch.setattr(graphs, "able", lambda model: True)
    found, found_errors = run(kind, measurement, chosen)
    assert found._loop is not None
    assert set(found._loop._verdicts.values()) == {True}
    # as for the compiled kernels: WASP divides sums where there is a millionth of the light
    close = 1e-7 if kind is WASP else 1e-8 if kind is LSQML else 1e-9
    assert differ(found.object, expected.object) < close
    assert differ(found.shifted.held, expected.shifted.held) < close
    assert found_errors == pytest.approx(expected_errors, rel=close)
    assert found.model.ffts == expected.model.ffts


def test_a_loop_is_kept_until_something_else_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "able", lambda model: True)
    solver = RPIE(make_problem(near_field=True).measurement, RPIE.Options(probe_start=1), seed=5)
    loops = []

    def step() -> None:
        solver.step()
        assert all(solver._loop is not loop for loop in loops)
        loops.append(solver._loop)

    step()
    step()  # the probe is refined from here on
    solver.step()
    assert solver._loop is loops[-1]
    solver.place(solver.model.positions_px + 0.2)
    step()
    solver.refocus(0.11)
    step()
    solver.object = solver.object.clone()
    step()


def test_positions_and_distance_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for loops in (True, False):
        monkeypatch.setattr(graphs, "able", lambda model, loops=loops: loops)
        found.append(object_after_moves(make_problem(near_field=True).measurement))
    assert differ(*found) < 1e-9


def same_pattern(loop: graphs.Loop) -> Callable[[], None]:
    index = loop.order[: loop.size].clone()  # a number that was fixed when the graph was captured

    def turn() -> None:
        loop.error += loop.visit(index, loop.refine_probe)

    return turn


def no_probe(loop: graphs.Loop) -> Callable[[], None]:
    def turn() -> None:
        held = loop.solver.shifted.held.clone()
        loop.turn()
        loop.solver.shifted.held.copy_(held)

    return turn


def broken(loop: graphs.Loop) -> Callable[[], None]:
    raise RuntimeError("CUDA error: operation not permitted when stream is capturing")


@pytest.mark.parametrize("wrong", [same_pattern, no_probe, broken])
@pytest.mark.parametrize("kind", [EPIE, SDR, WASP])
@pytest.mark.parametrize("batch", [1, 7])
def test_a_graph_that_does_something_else_is_not_used(
    batch: int, kind: type[SequentialSolver], wrong: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    measurement = make_problem().measurement
    expected, errors = run(kind, measurement, {"batch": batch})
    monkeypatch.setattr(graphs, "able", lambda model: True)
    monkeypatch.setattr(graphs.Loop, "captured", wrong)
    with pytest.warns(RuntimeWarning, match="left to torch") as told:
        found, found_errors = run(kind, measurement, {"batch": batch})
    assert len(told) == 1
    assert torch.equal(found.object, expected.object)  # the trial has left nothing behind
    assert torch.equal(found.shifted.held, expected.shifted.held)
    assert found_errors == pytest.approx(errors, rel=1e-12)
    assert found.model.ffts == expected.model.ffts


def test_a_trial_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "able", lambda model: True)
    measurement = make_problem().measurement
    for kind in (RPIE, SDR, WASP):
        solver, _ = run(kind, measurement, {}, 1)
        state = [solver.object, solver.shifted.held, *(() if solver.memory is None else [solver.memory.waves])]
        before, ffts = [tensor.clone() for tensor in state], solver.model.ffts
        with torch.inference_mode():
            assert solver._loop is not None
            assert solver._loop.tried(solver.order())
        assert all(torch.equal(a, b) for a, b in zip(state, before, strict=True))
        assert solver.model.ffts == ffts


def test_a_subclass_that_changes_a_visit_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    class Damped(EPIE):
        def object_step(self, *arguments: Any) -> torch.Tensor:
            return super().object_step(*arguments).mul_(0.5)

    monkeypatch.setattr(graphs, "able", lambda model: True)
    solver = Damped(make_problem().measurement)
    solver.step()
    assert solver._loop is None


def test_graphs_are_for_cuda_and_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ForwardModel(make_problem().measurement, torch.device("cpu"))
    assert not graphs.able(model)
    model.device = torch.device("cuda")
    assert graphs.able(model)
    for told in ("off", "kernels"):
        monkeypatch.setenv(VARIABLE, told)
        assert not graphs.able(model)


def test_windows_by_an_index_on_the_device() -> None:
    model = ForwardModel(make_problem((9, 14)).measurement, torch.device("cpu"), dtype=torch.complex128)
    windowed = Windowed(torch.randn(1, *model.canvas, dtype=torch.complex128), model.windows)
    index = torch.tensor([3, 4, 3, 17])  # overlapping ones, and one twice
    patches = torch.randn(4, 1, 9, 14, dtype=torch.complex128)
    assert torch.equal(windowed.at(index), windowed.at(index.tolist()))
    other = Windowed(windowed.array.clone(), model.windows)
    windowed.add(patches, index)
    other.add(patches, index.tolist())
    assert torch.equal(windowed.array, other.array)


class Operations(TorchDispatchMode):
    """Counts what is dispatched, views aside."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("kind", "options", "most"),
    [(EPIE, {"subpixel": False}, 42), (EPIE, {}, 52), (RPIE, {"batch": 32, "subpixel": False}, 375)],
)
def test_a_visit_has_no_more_operations_than_docs_cuda_says(
    kind: type[SequentialSolver], options: dict[str, Any], most: int
) -> None:
    solver = kind(make_problem(grid=(6, 6)).measurement, kind.Options(**options))
    index = torch.arange(solver.options.batch)
    with torch.inference_mode():
        solver.lay_out()
        visit = solver.visit if len(index) == 1 else solver.visit_together
        with Operations() as counted:
            visit(index, True)
    assert 0.9 * most < counted.count <= most


def test_small_least_squares() -> None:
    fields = torch.randn(6, 3, 2, 8, 8, dtype=torch.complex128)
    for moves in (fields, fields[:, 1:]):
        parts = torch.view_as_real(moves).flatten(2)
        system, towards = parts[:, :-1] @ parts[:, :-1].mT, parts[:, :-1] @ parts[:, -1:].mT
        diagonal = system.diagonal(dim1=1, dim2=2)
        diagonal += 0.1 * diagonal.mean(dim=0)
        expected = torch.linalg.solve(system, towards).squeeze(-1).clamp_min(0)
        assert torch.allclose(least_squares_steps(moves), expected, rtol=1e-12)
    nothing = torch.zeros(4, 3, 1, 8, 8, dtype=torch.complex64)
    assert torch.equal(least_squares_steps(nothing), torch.zeros(4, 2))


@device
@pytest.mark.cuda
@pytest.mark.parametrize("more", BATCHES, ids=str)
@pytest.mark.parametrize(("kind", "options"), WITH_GRAPHS, ids=NAMES)
def test_graphs_on_the_device_are_trusted_and_right(
    kind: type[SequentialSolver], options: dict[str, Any], more: dict[str, Any]
) -> None:
    # in the near field no pixel is dark, so both have the error of float32
    measurement = make_problem(near_field=True, noise=True, modes=2).measurement
    chosen = options_of(kind, options, more)
    expected, _ = run(kind, measurement, chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, _ = run(kind, measurement, chosen, where="cuda", dtype=torch.complex64)
    assert differ(found.object.cpu(), expected.object) < 1e-4
    assert found.model.ffts == expected.model.ffts


@device
@pytest.mark.cuda
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("kind", [EPIE, RPIE, PIE, SDR, LSQML])
def test_sequential_epochs_do_not_wait_for_the_device(kind: type[SequentialSolver], batch: int) -> None:
    solver = kind(make_problem().measurement, kind.Options(batch=batch), "cuda")
    solver.step()
    with torch.inference_mode():
        unwaited(lambda: solver.visits(solver.order(), True))


@device
@pytest.mark.cuda
@pytest.mark.parametrize("kind", [DM, ADMM])
def test_projection_epochs_do_not_wait_for_the_device(kind: type[ProjectionSolver]) -> None:
    solver = kind(make_problem().measurement, None, "cuda")
    solver.step()
    with torch.inference_mode():
        unwaited(lambda: solver._rounds(True))


def unwaited(work: Callable[[], object]) -> None:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
