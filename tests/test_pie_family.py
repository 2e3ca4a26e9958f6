"""The PIE family: equalities between its members, mini-batches, momentum and averages against direct computation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from problems import Problem, correlation, make_problem
from ptybench.baselines.epie import EPIE
from ptybench.baselines.mpie import MPIE
from ptybench.baselines.pie import PIE
from ptybench.baselines.rpie import RPIE
from ptybench.baselines.wasp import KEEP, WASP
from torch import Tensor

from ptybench.engines.sequential import SequentialSolver
from ptybench.native import library
from ptybench.solver import Limit, parse_options, solve
from ptybench.types import Estimate, Measurement

FAMILY: list[type[SequentialSolver]] = [PIE, EPIE, RPIE, MPIE, WASP]


def make(kind: type[SequentialSolver], measurement: Measurement, seed: int = 1, **options: Any) -> SequentialSolver:
    return kind(measurement, parse_options(kind.Options, kind.name, options), "cpu", seed)


def run(kind: type[SequentialSolver], measurement: Measurement, epochs: int = 3, **options: Any) -> Estimate:
    return solve(make(kind, measurement, **options), Limit(epochs)).estimate


def differ(a: NDArray[np.complexfloating], b: NDArray[np.complexfloating]) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def with_known_probe(problem: Problem) -> Measurement:
    start = replace(problem.measurement.initial, probe=problem.probe.astype(np.complex64))
    return replace(problem.measurement, initial=start, known_probe=True)


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Solvers in complex128, in which rounding hides nothing."""
    monkeypatch.setattr(SequentialSolver, "dtype", torch.complex128)


# --- one member as another -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("modes", [1, 2])
@pytest.mark.parametrize("batch", [{}, {"batch": 4}, {"batch": 4, "overlaps": "sum"}])
def test_rpie_with_unit_regularisation_is_epie(modes: int, batch: dict[str, Any]) -> None:
    measurement = make_problem(modes=modes).measurement
    a = run(EPIE, measurement, alpha=1, beta=1, **batch)
    b = run(RPIE, measurement, alpha=1, beta=1, **batch)
    c = run(RPIE, measurement, alpha=0.5, beta=1, **batch)
    assert differ(b.object, a.object) < 1e-6
    assert differ(b.probe, a.probe) < 1e-6
    assert differ(c.object, a.object) > 1e-3


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("batch", [1, 4])
def test_mpie_without_feedback_is_rpie(batch: int) -> None:
    measurement = make_problem(modes=2).measurement
    options = {"alpha": 0.2, "beta": 0.7, "batch": batch}
    still = {"gamma_object": 1, "gamma_probe": 1, "feedback": 0}
    a, b = run(RPIE, measurement, **options), run(MPIE, measurement, **options, **still)
    assert differ(b.object, a.object) < 1e-6
    assert differ(b.probe, a.probe) < 1e-6


@pytest.mark.usefixtures("float64")
def test_a_pie_step_is_the_formula_of_the_paper() -> None:
    one = make_problem((15, 20), grid=(2, 2)).measurement.subset(np.array([3]))
    solver = make(PIE, one, alpha=0.01, beta=0.5)
    probe = solver.shifted.at(0)[0].numpy()
    window, before = solver.model.windows[0], solver.object.numpy().copy()
    change = solver.model.modulus_change(torch.tensor(probe * before[window])[None], 0)[0][0].numpy()
    peak = np.abs(probe).max()
    weight = np.abs(probe) / peak * probe.conj() / (np.abs(probe) ** 2 + 0.01 * peak**2)
    expected = before.copy()
    expected[window] += 0.5 * weight * change
    solver.epoch()
    assert differ(solver.object.numpy(), expected) < 1e-10


def test_pie_keeps_the_probe_it_is_given() -> None:
    start = make_problem(modes=2).measurement
    estimate = run(PIE, start, epochs=5)
    assert not start.known_probe
    power = [np.sum(np.abs(modes) ** 2, axis=0) for modes in (estimate.probe, start.initial.probe)]
    assert np.abs(power[0] - power[1]).max() < 1e-5 * power[1].max()
    assert PIE.refines == {"object"}


# --- mini-batches ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("float64")
def test_a_batch_whose_updates_are_summed_is_a_gradient_step_on_the_sum_of_losses() -> None:
    """With rates α/(2 max|P_k|²) and β/(2 max|O_k|²) of each pattern, by torch's autograd."""
    measurement = make_problem((16, 16), grid=(2, 3), modes=2).measurement
    count = len(measurement.intensities)
    solver = make(EPIE, measurement, alpha=0.7, beta=0.4, batch=count, overlaps="sum")
    solver.epoch()

    fresh = make(EPIE, measurement)
    canvas, probe = fresh.object.requires_grad_(), fresh.probe.requires_grad_()
    losses, of_object, of_probe = [], [], []
    for k in range(count):
        shifted = torch.fft.ifft2(torch.fft.fft2(probe) * fresh.model.ramp(k))
        patch = canvas[fresh.model.windows[k]]
        wave = torch.fft.fft2(shifted * patch, norm="ortho")
        losses.append((wave.abs().square().sum(0).sqrt() - fresh.model.amplitudes[k]).square().sum())
        of_object.append(0.7 / (2 * shifted.abs().square().sum(0).max().detach()))
        of_probe.append(0.4 / (2 * patch.abs().square().max().detach()))
    total = torch.stack(losses)
    (on_object,) = torch.autograd.grad((total * torch.stack(of_object)).sum(), canvas, retain_graph=True)
    (on_probe,) = torch.autograd.grad((total * torch.stack(of_probe)).sum(), probe)
    assert torch.allclose(solver.object, canvas - on_object, rtol=0, atol=1e-9)
    scale = float(probe.detach().abs().max())
    assert torch.allclose(solver.probe / scale, (probe - on_probe) / scale, rtol=0, atol=1e-9)


@pytest.mark.parametrize("overlaps", ["mean", "sum"])
@pytest.mark.parametrize("kind", FAMILY)
def test_a_batch_of_disjoint_windows_is_sequential(kind: type[SequentialSolver], overlaps: str) -> None:
    apart = with_known_probe(make_problem((16, 16), grid=(3, 3), step=18.0))
    still = {"feedback": 0} if kind is MPIE else {}
    a = run(kind, apart, batch=1, **still)
    b = run(kind, apart, batch=9, overlaps=overlaps, **still)
    assert differ(b.object, a.object) < 1e-5
    assert differ(a.object, apart.initial.object) > 1e-2


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", [EPIE, RPIE])
def test_what_sum_and_mean_of_overlapping_updates_are(kind: type[SequentialSolver]) -> None:
    both = make_problem((16, 16), grid=(1, 2), step=6.0).measurement
    alone = [make(kind, both.subset(np.array([k])), batch=1) for k in (0, 1)]
    start, windows = alone[0].object.clone(), [one.model.windows[0] for one in alone]
    probe = alone[0].probe
    for one in alone:
        one.epoch()
    moves, turns = [one.object - start for one in alone], [one.probe - probe for one in alone]
    cover = torch.zeros(start.shape)
    for window in windows:
        cover[window] += 1
    assert cover.max() == 2
    assert (cover == 1).any()
    summed, averaged = (make(kind, both, batch=2, overlaps=overlaps) for overlaps in ("sum", "mean"))
    summed.epoch()
    averaged.epoch()
    assert torch.allclose(summed.object, start + moves[0] + moves[1], rtol=0, atol=1e-9)
    assert torch.allclose(averaged.object, start + (moves[0] + moves[1]) / cover.clamp_min(1), rtol=0, atol=1e-9)
    scale = float(probe.abs().max())
    assert torch.allclose(summed.probe / scale, (probe + turns[0] + turns[1]) / scale, rtol=0, atol=1e-9)
    assert torch.allclose(averaged.probe / scale, (probe + (turns[0] + turns[1]) / 2) / scale, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", FAMILY)
def test_a_batch_in_pieces_is_the_same_batch(kind: type[SequentialSolver], monkeypatch: pytest.MonkeyPatch) -> None:
    measurement = make_problem((16, 16), modes=2, bad_pixels=True).measurement
    whole = run(kind, measurement, batch=7)
    monkeypatch.setattr("ptybench.optics.forward.PART_BYTES", 3 * 2 * 16 * 16 * 16)
    assert [len(part) for part in make(kind, measurement).model.parts(list(range(7)), 2)] == [3, 3, 1]
    pieces = run(kind, measurement, batch=7)
    assert differ(pieces.object, whole.object) < 1e-7
    assert differ(pieces.probe, whole.probe) < 1e-7


@pytest.mark.parametrize("subpixel", [True, False])
@pytest.mark.parametrize("near_field", [True, False])
@pytest.mark.parametrize("kind", FAMILY)
def test_the_truth_is_a_fixed_point_of_batches_too(
    kind: type[SequentialSolver], near_field: bool, subpixel: bool
) -> None:
    problem = make_problem((31, 36), modes=2, near_field=near_field, start="truth", bad_pixels=True, subpixel=subpixel)
    assert np.abs(run(kind, problem.measurement, batch=5).object - problem.object).max() < 5e-4


@pytest.mark.parametrize("kind", FAMILY)
def test_batches_find_the_object(kind: type[SequentialSolver]) -> None:
    problem = make_problem(grid=(8, 8))
    measurement = with_known_probe(problem) if kind is PIE else problem.measurement
    h, w = problem.object.shape
    inside = (slice(20, h - 20), slice(20, w - 20))
    estimate = run(kind, measurement, epochs=80, batch=4)
    assert correlation(estimate.object[inside], problem.object[inside]) > 0.95


# --- the order of visits ---------------------------------------------------------------------------------------------


def visited(
    kind: type[SequentialSolver], measurement: Measurement, monkeypatch: pytest.MonkeyPatch, batch: int
) -> list[int]:
    """The patterns in the order in which their exit waves are constrained, over two epochs, in torch."""
    monkeypatch.setattr(library, "able", lambda model: False)
    solver = make(kind, measurement, seed=3, batch=batch)
    seen: list[int] = []
    constrain = solver.model.modulus_change

    def watch(exit_wave: Tensor, index: Any) -> tuple[Tensor, Tensor]:
        seen.extend([index] if isinstance(index, int) else index)
        return constrain(exit_wave, index)

    monkeypatch.setattr(solver.model, "modulus_change", watch)
    solve(solver, Limit(2))
    return seen


def test_every_member_and_every_batch_visits_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    measurement = make_problem().measurement
    orders = [visited(kind, measurement, monkeypatch, b) for kind in FAMILY for b in (1, 4)]
    count = len(measurement.intensities)
    assert all(order == orders[0] for order in orders)
    assert sorted(orders[0][:count]) == list(range(count))
    assert orders[0][:count] != orders[0][count:]


# --- momentum --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("subpixel", [True, False])
def test_momentum_by_hand(subpixel: bool) -> None:
    """With one piece an epoch, two epochs are rPIE with ``v ← η v + (O − O_T)``, ``O ← O + φ v`` after each."""
    measurement = make_problem(subpixel=subpixel).measurement
    options = {"alpha": 0.2, "beta": 0.7}
    steps = {"gamma_object": 1, "gamma_probe": 1, "friction": 0.6, "feedback": 0.4}
    found = make(MPIE, measurement, **options, **steps, every=10**6)
    by_hand = make(RPIE, measurement, **options)
    velocities: list[Tensor] = [torch.zeros_like(by_hand.object), torch.zeros_like(by_hand.probe)]
    for _ in range(2):
        before = by_hand.object.clone(), by_hand.probe
        by_hand.epoch()
        after = by_hand.object, by_hand.probe
        velocities = [0.6 * v + b - a for v, a, b in zip(velocities, before, after, strict=True)]
        by_hand.object, by_hand.probe = (b + 0.4 * v for v, b in zip(velocities, after, strict=True))
        found.epoch()
    assert differ(found.object.numpy(), by_hand.object.numpy()) < 1e-9
    assert differ(found.probe.numpy(), by_hand.probe.numpy()) < 1e-9


@pytest.mark.parametrize(
    ("every", "batch", "pieces"), [(0, 1, 2), (10, 1, 2), (7, 1, 3), (100, 1, 1), (7, 9, 3), (1, 9, 3)]
)
def test_an_epoch_is_cut_evenly(every: int, batch: int, pieces: int) -> None:
    solver = make(MPIE, make_problem().measurement, every=every, batch=batch)
    assert isinstance(solver, MPIE)
    at, push = [], solver.push

    def watch(field: Tensor, anchor: Tensor, velocity: Tensor) -> None:
        at.append(field is solver.object)
        push(field, anchor, velocity)

    solver.push = watch  # type: ignore[method-assign]
    solver.epoch()
    assert sum(at) == pieces
    cut = solver.cut(list(range(25)))
    assert len(cut) == pieces
    assert [k for piece in cut for k in piece] == list(range(25))
    assert all(len(piece) % batch == 0 for piece in cut[:-1])


def test_momentum_of_the_probe_is_lost_where_positions_lose_their_fractions() -> None:
    problem = make_problem()
    solver = make(MPIE, problem.measurement)
    assert isinstance(solver, MPIE)
    solver.step()
    solver.place(solver.model.positions_px + 0.01)
    assert solver.probe_velocity.any()
    solver.place(np.round(solver.model.positions_px))
    assert not solver.probe_velocity.any()
    assert np.isfinite(solver.step())


# --- averages --------------------------------------------------------------------------------------------------------


class Watched(WASP):
    """WASP that remembers what each visit saw, and the object and probe before the averages."""

    dtype = torch.complex128

    def visit(self, k: int, refine_probe: bool) -> Tensor:
        probe, patch = self.shifted.at(k).clone(), self.seen.views[k].clone()
        change, _ = self.model.modulus_change(probe * patch, k)
        self.seen_at.append((k, self.shifted.modes, probe, patch[0], probe * patch + change))
        squared = super().visit(k, refine_probe)
        self.before = self.object.clone(), self.shifted.modes
        return squared


def shift(field: NDArray[np.complexfloating], fraction: NDArray[np.float64]) -> NDArray[np.complexfloating]:
    """A field moved by a fraction of a pixel, in numpy."""
    fy, fx = (np.fft.fftfreq(n) for n in field.shape[-2:])
    ramp = np.exp(-2j * np.pi * (fy[:, None] * fraction[0] + fx * fraction[1]))
    return np.fft.ifft2(np.fft.fft2(field) * ramp)


@pytest.mark.parametrize("modes", [1, 2])
@pytest.mark.parametrize("subpixel", [True, False])
def test_wasp_ends_an_epoch_with_the_weighted_averages(subpixel: bool, modes: int) -> None:
    measurement = make_problem((16, 18), modes=modes, subpixel=subpixel).measurement
    solver = Watched(measurement, seed=1)
    solver.seen_at = []
    solver.epoch()

    canvas = np.zeros(solver.model.canvas)
    top, weight = canvas.astype(complex), canvas.copy()
    probe_top, probe_weight = np.zeros(solver.probe.shape, complex), np.zeros(solver.model.shape)
    for k, held, probe, patch, wanted in solver.seen_at:
        held, probe, patch, wanted = (x.numpy() for x in (held, probe, patch, wanted))
        window = solver.model.windows[k]
        top[window] += (probe.conj() * wanted).sum(0)
        weight[window] += (np.abs(probe) ** 2).sum(0)
        fraction = measurement.positions_px[k] - np.array(solver.model.corners[k])
        exact = patch.conj() * wanted  # O* ψ'
        pull = shift(exact - np.abs(patch) ** 2 * probe, -fraction)
        probe_top += np.abs(patch) ** 2 * held + pull if subpixel else exact
        probe_weight += np.abs(patch) ** 2
    for found, numerator, total, before in (
        (solver.object, top, weight, solver.before[0]),
        (solver.probe, probe_top, probe_weight, solver.before[1]),
    ):
        keep = KEEP * total.max()
        expected = (numerator + keep * before.numpy()) / (total + keep)
        assert differ(found.numpy(), expected) < 1e-10
        bright = total > 0.01 * total.max()
        quotient = (numerator / np.where(total > 0, total, 1))[..., bright]
        assert differ(found.numpy()[..., bright], quotient) < 1e-3  # what is kept of the old matters in the dark only


def test_wasp_with_a_known_probe_averages_the_object_alone() -> None:
    known = with_known_probe(make_problem())
    solver = make(WASP, known)
    solver.step()
    start = known.initial.probe
    assert np.abs(solver.estimate().probe - start).max() < 1e-5 * np.abs(start).max()


# --- the rest --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("near_field", [False, True])
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("kind", FAMILY)
def test_every_transform_is_counted(
    kind: type[SequentialSolver], batch: int, near_field: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = make(kind, make_problem(modes=2, near_field=near_field).measurement, batch=batch)
    done: list[int] = []
    monkeypatch.setattr(library, "able", lambda model: False)
    for name in ("fft2", "ifft2"):
        transform = getattr(torch.fft, name)

        def counting(field: Tensor, transform: Any = transform, **options: Any) -> Tensor:
            done.append(field.shape[:-2].numel())
            result: Tensor = transform(field, **options)
            return result

        monkeypatch.setattr(torch.fft, name, counting)
    solver.epoch()
    assert solver.model.ffts == sum(done)
    assert sum(done) >= 3 * 2 * len(solver.model.windows)


@pytest.mark.parametrize("kind", FAMILY)
@pytest.mark.parametrize("batch", [1, 5])
def test_an_empty_object_is_no_obstacle(kind: type[SequentialSolver], batch: int) -> None:
    measurement = make_problem().measurement
    empty = replace(measurement.initial, object=np.zeros_like(measurement.initial.object))
    estimate = run(kind, replace(measurement, initial=empty), batch=batch)
    assert np.isfinite(estimate.object).all()
    assert np.isfinite(estimate.probe).all()
    assert estimate.object.any()


@pytest.mark.parametrize("kind", FAMILY)
@pytest.mark.parametrize("batch", [1, 5])
def test_an_epoch_starts_from_what_the_solver_is_given_meanwhile(kind: type[SequentialSolver], batch: int) -> None:
    problem = make_problem(start="truth")
    solver = make(kind, problem.measurement, batch=batch)
    solver.step()
    solver.place(problem.measurement.positions_px[::-1])  # other windows of the same object
    assert solver.step() > 0.01
    solver.object = torch.ones_like(solver.object)
    assert solver.step() > 0.01
    solver.place(problem.measurement.positions_px)
    solver.object = solver.tensor(problem.object)
    solver.probe = solver.tensor(problem.probe)
    assert solver.step() < (1e-6 if kind is not MPIE else 0.1)  # momentum goes on
