"""The compiled kernels against the torch engines that they stand in for."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from problems import make_problem
from ptybench.baselines.admm import ADMM
from ptybench.baselines.ap import AP
from ptybench.baselines.dm import DM
from ptybench.baselines.epie import EPIE
from ptybench.baselines.lsqml import LSQML
from ptybench.baselines.raar import RAAR
from ptybench.baselines.rpie import RPIE
from ptybench.baselines.sdr import SDR
from ptybench.baselines.wasp import WASP
from solved import FAMILY, differ, object_after_moves, run

from ptybench.engines import projection
from ptybench.engines.projection import ProjectionSolver
from ptybench.engines.sequential import SequentialSolver
from ptybench.native import library
from ptybench.native.visits import Visits
from ptybench.optics.forward import ForwardModel
from ptybench.solver import Solver
from ptybench.types import Estimate, Measurement

built = pytest.mark.skipif(library.flavour() is None, reason="the compiled kernels are not built here")

LEAST_SQUARES: list[dict[str, Any]] = [{}, {"likelihood": "poisson"}, {"object_scale": 0.5, "damping": 0.02}]


def both(
    kind: type[Solver],
    measurement: Measurement,
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype = torch.complex128,
    epochs: int = 2,
    **options: Any,
) -> list[tuple[Any, list[float]]]:
    """The same run by the kernels and by torch: solvers and their errors."""
    found = []
    for compiled in (True, False):
        with monkeypatch.context() as patch:
            if not compiled:
                patch.setattr(library, "able", lambda model: False)
            found.append(run(kind, measurement, options, epochs, dtype=dtype))
            assert (found[-1][0]._kernel is not None) == compiled
    return found


CASES: list[dict[str, Any]] = [
    {},
    {"modes": 2},
    {"subpixel": False},
    {"near_field": True},
    {"near_field": True, "subpixel": False, "modes": 2},
    {"bad_pixels": True, "noise": True},
    {"shape": (30, 22)},
    {"shape": (21, 26), "modes": 3},
]


@built
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(("batch", "overlaps"), [(1, "mean"), (2, "mean"), (7, "mean"), (7, "sum")])
@pytest.mark.parametrize(("kind", "options"), FAMILY, ids=[kind.__name__ for kind, _ in FAMILY])
def test_kernels_do_what_torch_does(
    kind: type[SequentialSolver],
    options: dict[str, Any],
    batch: int,
    overlaps: str,
    case: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measurement = make_problem(**case).measurement
    (ours, our_errors), (torchs, torch_errors) = both(
        kind, measurement, monkeypatch, batch=batch, overlaps=overlaps, **options
    )
    # pixels that are dark at the flat start take their phase from rounding: 1e-16 there is 1e-11 after two epochs, and
    # WASP divides sums where there is a millionth of the light
    close = 1e-7 if kind is WASP else 1e-9
    assert differ(ours.object, torchs.object) < close
    assert differ(ours.shifted.held, torchs.shifted.held) < close
    assert our_errors == pytest.approx(torch_errors, rel=close)
    assert ours.model.ffts == torchs.model.ffts


@built
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("batch", [2, 7, 32])
@pytest.mark.parametrize("options", LEAST_SQUARES, ids=str)
def test_least_squares_are_those_of_torch(
    options: dict[str, Any], batch: int, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    measurement = make_problem(**case).measurement
    (ours, our_errors), (torchs, torch_errors) = both(LSQML, measurement, monkeypatch, batch=batch, **options)
    close = 1e-7 if batch == 2 else 1e-8  # more steps in an epoch
    assert differ(ours.object, torchs.object) < close
    assert differ(ours.shifted.held, torchs.shifted.held) < close
    assert our_errors == pytest.approx(torch_errors, rel=close)
    assert ours.model.ffts == torchs.model.ffts


@built
@pytest.mark.parametrize("options", LEAST_SQUARES, ids=str)
def test_least_squares_of_one_pattern_and_of_a_known_probe(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    measurement = make_problem().measurement
    for more, known in (({"batch": 1}, False), ({"batch": 8}, True)):
        (ours, _), (torchs, _) = both(LSQML, replace(measurement, known_probe=known), monkeypatch, **options, **more)
        assert differ(ours.object, torchs.object) < 1e-8
        assert differ(ours.shifted.held, torchs.shifted.held) < 1e-8


PROJECTIONS: list[tuple[type[ProjectionSolver], dict[str, Any]]] = [
    (DM, {"fourier_relax": 0.0}),
    (DM, {"alpha": 0.8, "fourier_relax": 0.05, "object_inertia": 0.1, "average": 2}),
    (RAAR, {"beta": 0.75}),
    (AP, {}),
    (ADMM, {"beta": 0.7}),
    (ADMM, {"likelihood": "poisson"}),
]


@built
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(("kind", "options"), PROJECTIONS)
def test_projections_are_those_of_torch(
    kind: type[ProjectionSolver],
    options: dict[str, Any],
    kept: bool,
    case: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not kept:
        monkeypatch.setattr(projection, "KEPT_BYTES", 0)
    measurement = make_problem(**case).measurement
    (ours, our_errors), (torchs, torch_errors) = both(kind, measurement, monkeypatch, epochs=4, **options)
    for name in ("object", "probe", "residual"):
        assert differ(getattr(ours, name), getattr(torchs, name)) < 1e-8
    assert our_errors == pytest.approx(torch_errors, rel=1e-8)
    assert np.allclose(ours.estimate().object, torchs.estimate().object, rtol=1e-6)
    assert len(torchs.chunks) == 1  # torch sums up, and shifts the sum back, once a chunk
    assert ours.model.ffts == torchs.model.ffts


@built
@pytest.mark.parametrize(("kind", "options"), PROJECTIONS)
def test_projections_with_a_known_probe(
    kind: type[ProjectionSolver], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    measurement = replace(make_problem().measurement, known_probe=True)
    (ours, _), (torchs, _) = both(kind, measurement, monkeypatch, epochs=4, **options)
    assert torch.equal(ours.probe, torchs.probe)
    assert differ(ours.object, torchs.object) < 1e-8


@built
@pytest.mark.parametrize("kind", [EPIE, RPIE])
def test_single_precision_is_that_of_torch(kind: type[SequentialSolver], monkeypatch: pytest.MonkeyPatch) -> None:
    # in the near field no pixel is dark, so both have the error of float32
    measurement = make_problem((32, 32), near_field=True, noise=True).measurement
    exact = both(kind, measurement, monkeypatch, epochs=5)[1][0].object
    for solver, _ in both(kind, measurement, monkeypatch, torch.complex64, epochs=5):
        assert differ(solver.object, exact.to(torch.complex64)) < 2e-6


@built
@pytest.mark.parametrize("kind", [EPIE, RPIE, SDR])
def test_known_probe_and_late_probe(kind: type[SequentialSolver], monkeypatch: pytest.MonkeyPatch) -> None:
    (ours, _), (torchs, _) = both(kind, make_problem().measurement, monkeypatch, probe_start=1, epochs=1)
    assert torch.equal(ours.shifted.held, torchs.shifted.held)
    assert differ(ours.object, torchs.object) < 1e-9
    assert ours.model.ffts == torchs.model.ffts


@built
def test_positions_and_distance_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for compiled in (True, False):
        with monkeypatch.context() as patch:
            if not compiled:
                patch.setattr(library, "able", lambda model: False)
            found.append(object_after_moves(make_problem(near_field=True).measurement))
    assert differ(*found) < 1e-9


@built
@pytest.mark.parametrize("kind", [DM, ADMM])
def test_windows_of_projections_may_move(kind: type[ProjectionSolver], monkeypatch: pytest.MonkeyPatch) -> None:
    """On whole pixels residuals owe the probe's last change, in the windows of that time."""
    found = []
    for compiled in (True, False):
        with monkeypatch.context() as patch:
            if not compiled:
                patch.setattr(library, "able", lambda model: False)
            double = type("Double", (kind,), {"dtype": torch.complex128})
            solver = double(make_problem().measurement, kind.Options(subpixel=False), seed=5)
            solver.step()  # from a flat object, which looks the same in every window
            solver.step()
            solver.place(np.round(solver.model.positions_px) + np.random.default_rng(0).integers(-2, 3, (25, 2)))
            solver.step()
            solver.step()
            assert (solver._kernel is not None) == compiled
            found.append((solver.object, solver.residual))
    for ours, torchs in zip(*found, strict=True):
        assert differ(ours, torchs) < 1e-8


@built
@pytest.mark.parametrize("overlaps", ["mean", "sum"])
def test_threads_share_a_batch(overlaps: str) -> None:
    measurement = make_problem().measurement
    found = {}
    before = torch.get_num_threads()
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        try:
            solver = type("Double", (RPIE,), {"dtype": torch.complex128})(
                measurement, RPIE.Options(batch=7, overlaps=overlaps), seed=1
            )
            solver.step()
        finally:
            torch.set_num_threads(before)
        if threads in found:
            assert torch.equal(found[threads], solver.object)  # for a number of threads to the bit
        found[threads] = solver.object
    assert differ(found[2], found[1]) < 1e-9
    assert differ(found[3], found[1]) < 1e-9


@built
def test_a_large_prime_is_left_to_torch() -> None:
    solver = EPIE(make_problem((34, 32)).measurement)
    assert not library.able(solver.model)
    assert solver.step() > 0


@built
def test_sides_of_small_primes_are_served() -> None:
    found = library.loaded()
    assert found is not None
    for side in range(1, 300):
        primes = {p for p in range(2, side + 1) if side % p == 0 and all(p % q for q in range(2, p))}
        assert bool(found[1].pty_able(side)) == (max(primes, default=1) <= 13)


@built
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 7), (13, 11), (8, 64), (60, 49), (72, 66), (128, 100)])
def test_transforms_of_any_shape(shape: tuple[int, int]) -> None:
    """Through a solver, whose exit waves stay where they are if the patterns are their own transforms."""
    rng = np.random.default_rng(0)
    wave = rng.standard_normal((2, *shape)) + 1j * rng.standard_normal((2, *shape))
    obj = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    expected = np.sum(np.abs(np.fft.fftshift(np.fft.fft2(wave * obj, norm="ortho"), axes=(-2, -1))) ** 2, axis=0)
    start = Estimate(obj.astype(np.complex64), wave.astype(np.complex64), np.zeros((1, 2)))
    measurement = Measurement(expected[None].astype(np.float32), np.zeros(shape, bool), np.zeros((1, 2)), start)
    solver = EPIE(measurement)
    assert solver.step() < 1e-12
    assert isinstance(solver._kernel, Visits)


def test_a_subclass_that_changes_a_visit_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    class Damped(EPIE):
        def object_step(self, *arguments: Any) -> torch.Tensor:
            return super().object_step(*arguments).mul_(0.5)

    solver = Damped(make_problem().measurement)
    solver.step()
    assert solver._kernel is None


def test_kernels_can_be_switched_off() -> None:
    code = "from ptybench.native import library; print(library.flavour())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PTYBENCH_NATIVE": "off"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "None"


@built
def test_the_plain_build_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    measurement = make_problem((24, 20), near_field=True).measurement
    found = []
    for flavours in (["plain"], library.flavours()):
        library.loaded.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(library, "flavours", lambda flavours=flavours: flavours)
            solver = EPIE(measurement, seed=2)
            solver.step()
            found.append(solver.object)
            assert library.flavour() == flavours[0]
    library.loaded.cache_clear()
    assert differ(*found) < 1e-5


@built
def test_arithmetic_elsewhere_stays_as_it_was() -> None:
    """Kernels count the tiniest numbers as 0, and nobody else may notice."""
    smallest = torch.tensor(1e-40)
    EPIE(make_problem().measurement).step()
    assert float(smallest * 0.5) > 0
    assert float(np.float32(1e-40) * np.float32(0.5)) > 0


def test_models_elsewhere_are_left_to_torch() -> None:
    model = ForwardModel(make_problem().measurement, torch.device("cpu"))
    model.device = torch.device("meta")
    assert not library.able(model)
