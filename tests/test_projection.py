"""Full-batch projections and ADMM against the formulas of their papers, written out in numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from problems import Problem, correlation, make_problem
from ptybench.baselines.admm import ADMM, amplitude_prox, poisson_prox
from ptybench.baselines.ap import AP
from ptybench.baselines.dm import DM
from ptybench.baselines.raar import RAAR
from ptybench.baselines.sdr import SDR

from ptybench.engines import projection
from ptybench.engines.projection import ProjectionSolver, ReflectionSolver, keep_in_place
from ptybench.errors import NotEnoughMemory
from ptybench.optics.forward import TINY, squared_modulus
from ptybench.registry import resolve_method
from ptybench.solver import Limit, Outcome, Solver, solve
from ptybench.types import ComplexArray, Estimate, FloatArray, Measurement

REFLECTIONS = [(DM, {"fourier_relax": 0.0}), (DM, {"alpha": 0.7, "fourier_relax": 0.0}), (RAAR, {}), (AP, {})]
EVERY: list[tuple[type[ProjectionSolver], dict[str, Any]]] = [
    *REFLECTIONS,
    (ADMM, {}),
    (ADMM, {"likelihood": "poisson"}),
]
Waves = NDArray[np.complex128]


def make(kind: type[Solver], measurement: Measurement, **options: Any) -> Any:
    """The method in double precision."""
    double = type(f"Double{kind.__name__}", (kind,), {"dtype": torch.complex128})
    return double(measurement, kind.Options(**options))


def run(kind: type[ProjectionSolver], problem: Problem, epochs: int, **options: Any) -> Outcome:
    return solve(kind(problem.measurement, kind.Options(**options)), Limit(epochs))


class ByHand:
    """Object, probe and exit waves at whole-pixel positions, with the projections as they stand in the papers."""

    def __init__(self, measurement: Measurement, options: Any) -> None:
        amplitudes = np.sqrt(measurement.intensities).astype(np.float64)  # the root of float32, as in the model
        self.amplitudes = np.fft.ifftshift(amplitudes, axes=(1, 2))[:, None]
        self.good = np.fft.ifftshift(~measurement.bad_pixels)
        self.corners = measurement.positions_px.astype(int)
        self.object = measurement.initial.object.astype(np.complex128)
        self.probe = measurement.initial.probe.astype(np.complex128)
        count, (h, w) = len(self.corners), measurement.shape
        self.windows = [(slice(y, y + h), slice(x, x + w)) for y, x in self.corners]
        power = float(np.square(self.amplitudes * self.good).sum())
        self.object_inertia = options.object_inertia * power / (count * h * w)
        self.probe_inertia = options.probe_inertia * count

    def product(self) -> Waves:
        return np.stack([self.probe * self.object[window] for window in self.windows])

    def overlap(self, waves: Waves) -> None:
        """Weighted averages of the exit waves: the probe, then the object."""
        pull, weight = self.probe_inertia * self.probe, np.full(self.probe.shape[1:], self.probe_inertia)
        for window, wave in zip(self.windows, waves, strict=True):
            pull = pull + self.object[window].conj() * wave
            weight = weight + np.abs(self.object[window]) ** 2
        self.probe = pull / weight
        total, light = self.object_inertia * self.object, np.full(self.object.shape, self.object_inertia)
        for window, wave in zip(self.windows, waves, strict=True):
            total[window] += (self.probe.conj() * wave).sum(axis=0)
            light[window] += (np.abs(self.probe) ** 2).sum(axis=0)
        self.object = total / light

    def modulus(self, waves: Waves, modulus: Callable[[FloatArray], FloatArray]) -> Waves:
        """Exit waves whose modulus at the detector is a function of what it was."""
        far = np.fft.fft2(waves, norm="ortho") + TINY
        before = np.sqrt((np.abs(far) ** 2).sum(axis=1, keepdims=True))
        factor = np.where(self.good, modulus(before) / before, 1)
        return np.fft.ifft2(far * factor, norm="ortho").astype(np.complex128)


@pytest.fixture(scope="module")
def whole() -> Problem:
    """Whole-pixel positions, two modes, bad pixels, a wrong start and photon noise."""
    return make_problem((16, 16), grid=(3, 3), modes=2, subpixel=False, bad_pixels=True, noise=True, photons=1e5)


@pytest.mark.parametrize(("kind", "options"), REFLECTIONS)
def test_residuals_are_the_common_form_of_the_projections(
    kind: type[ReflectionSolver], options: dict[str, Any], whole: Problem
) -> None:
    """``[(1−a−b) + a Π_O + b Π_F (c Π_O + 1 − c)] ψ`` with the coefficients of ptypy."""
    solver = make(kind, whole.measurement, **options)
    alpha, beta = options.get("alpha", 1.0), 0.75
    a, b, c = {DM: (-alpha, 1.0, 1 + alpha), RAAR: (1 - 2 * beta, beta, 2.0), AP: (0.0, 1.0, 1.0)}[kind]
    hand = ByHand(whole.measurement, solver.options)
    waves = hand.product()
    for _ in range(5):
        solver.epoch()
        product = hand.product()
        forced = hand.modulus(c * product + (1 - c) * waves, lambda _: hand.amplitudes)
        waves = (1 - a - b) * waves + a * product + b * forced
        hand.overlap(waves)
    assert np.abs(solver.object.numpy() - hand.object).max() < 1e-9
    assert np.abs(solver.probe.numpy() - hand.probe).max() < 1e-9 * np.abs(hand.probe).max()


@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
def test_admm_is_its_four_steps(likelihood: str, whole: Problem) -> None:
    solver = make(ADMM, whole.measurement, beta=0.6, likelihood=likelihood)
    hand = ByHand(whole.measurement, solver.options)
    waves, multiplier = hand.product(), np.zeros_like(hand.product())
    prox = amplitude_prox if likelihood == "amplitude" else poisson_prox
    measured = torch.tensor(hand.amplitudes)
    for epoch in range(5):
        solver.epoch()
        if epoch:  # the initial exit waves are those of the initial object and probe
            hand.overlap(waves + multiplier)
        product = hand.product()
        waves = hand.modulus(product - multiplier, lambda v: prox(torch.tensor(v), measured, 0.6).numpy())
        multiplier = multiplier + waves - product
    hand.overlap(waves + multiplier)
    assert np.abs(solver.multiplier.numpy() - multiplier).max() < 1e-9 * np.abs(waves).max()
    assert np.abs(solver.object.numpy() - hand.object).max() < 1e-9
    assert np.abs(solver.probe.numpy() - hand.probe).max() < 1e-9 * np.abs(hand.probe).max()


@pytest.mark.parametrize("beta", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
def test_the_prox_is_stationary(likelihood: str, beta: float) -> None:
    """The derivative of ``G(ρ) + β/2 (ρ − |v|)²`` is 0, or ``ρ = 0`` is the edge of its domain and it grows there."""
    rng = np.random.default_rng(0)
    photons = np.concatenate([rng.poisson(rng.uniform(0, 50, 200)), [0, 0, 7]]).astype(float)
    modulus = np.concatenate([rng.uniform(0, 9, 200), [0, 3, 0]])
    prox = amplitude_prox if likelihood == "amplitude" else poisson_prox
    found = prox(torch.tensor(modulus), torch.tensor(np.sqrt(photons)), beta).numpy()

    def objective(rho: FloatArray) -> FloatArray:
        fit = (rho - np.sqrt(photons)) ** 2 / 2
        if likelihood == "poisson":
            fit = rho**2 / 2 - np.where(photons > 0, photons * np.log(np.maximum(rho, 1e-300)), 0)
        return np.asarray(fit + beta / 2 * (rho - modulus) ** 2)

    inside = found > 1e-3
    slope = (objective(found + 1e-5) - objective(found - 1e-5)) / 2e-5
    assert np.abs(slope[inside]).max() < 1e-5 * (1 + beta)
    assert (photons[~inside] == 0).all()
    assert (objective(found + 1e-3) > objective(found))[~inside].all()
    assert np.isfinite(found).all()
    assert found[-3] == 0  # no photons, no wave


@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
def test_the_step_on_the_waves_is_a_minimum_over_all_modes(likelihood: str, whole: Problem) -> None:
    """No perturbation of ``z``, in modulus, phase or between the modes, lowers ``G(|z|) + β/2 |z − v|²``."""
    solver = make(ADMM, whole.measurement, beta=0.8, likelihood=likelihood)
    chunk = slice(0, 9)
    solver.seen.array[0] = solver.object
    product = solver.probes(chunk) * solver.seen.at(chunk)
    solver.advance(chunk, solver.probes(chunk))
    v, step = (np.fft.fft2(x.numpy(), norm="ortho") for x in (product, solver.multiplier))
    good = solver.model.good.numpy().astype(bool)
    photons = solver.model.amplitudes.square().numpy()
    assert np.abs(step[..., ~good]).max() < 1e-9

    def objective(z: Waves) -> FloatArray:
        power = (np.abs(z) ** 2).sum(axis=1)
        fit = (np.sqrt(power) - np.sqrt(photons)) ** 2 / 2
        if likelihood == "poisson":
            fit = (power - np.where(photons > 0, photons * np.log(np.maximum(power, 1e-300)), 0)) / 2
        return np.asarray(fit + 0.4 * (np.abs(z - v) ** 2).sum(axis=1))[:, good]

    rng, best = np.random.default_rng(1), objective(v + step)
    for size in (1e-2, 1.0):
        away = size * (rng.standard_normal(v.shape) + 1j * rng.standard_normal(v.shape))
        assert (objective(v + step + away) >= best - 1e-9).all()


@pytest.mark.parametrize(
    ("kind", "options", "factor"),
    [(DM, {}, 1.0), (DM, {"alpha": 0.7}, 0.7), (RAAR, {"beta": 0.75}, 0.75), (AP, {}, 0.0)],
)
def test_fixed_points_of_douglas_rachford(kind: type[ReflectionSolver], options: dict[str, Any], factor: float) -> None:
    """Residuals along the waves at the detector that cancel in the averages change nothing, and last as they should."""
    problem = make_problem((16, 16), grid=(3, 3), start="truth", modes=2)
    m = problem.measurement
    twice = replace(
        m,
        intensities=np.concatenate([m.intensities, m.intensities]),
        positions_px=np.concatenate([m.positions_px, m.positions_px]),
        initial=replace(m.initial, positions_px=np.concatenate([m.positions_px, m.positions_px])),
    )
    solver = make(kind, twice, **({"fourier_relax": 0.0} | options))
    every = slice(None)
    waves = solver.model.forward(
        solver.model.shifted_probes(solver.probe, every) * solver.model.patches(solver.object, every)[:, None], every
    )[:9]
    stretch = torch.tensor(np.random.default_rng(0).uniform(-0.5, 0.5, (9, 1, 16, 16)))
    residual = solver.model.backward(stretch * waves, slice(0, 9))
    solver.residual.copy_(torch.cat([residual, -residual]))
    obj, probe, scale = solver.object.clone(), solver.probe.clone(), float(solver.probe.abs().max())
    for epoch in range(1, 4):
        solver.epoch()
        expected = factor**epoch * torch.cat([residual, -residual])
        assert float((solver.residual - expected).abs().max()) < 1e-4 * scale  # patterns are float32
    assert float((solver.object - obj).abs().max()) < 1e-4
    assert float((solver.probe - probe).abs().max()) < 1e-4 * scale


@pytest.mark.parametrize(("kind", "options"), EVERY)
@pytest.mark.parametrize("near_field", [False, True])
def test_finds_the_object_from_a_wrong_start(
    kind: type[ProjectionSolver], options: dict[str, Any], near_field: bool
) -> None:
    problem, epochs = make_problem(grid=(8, 8), near_field=near_field), 120 if near_field else 60
    if near_field:  # a smooth probe in the near field leaves object and probe too free to tell apart
        start = replace(problem.measurement.initial, probe=problem.probe.astype(np.complex64))
        problem = replace(problem, measurement=replace(problem.measurement, initial=start, known_probe=True))
    h, w = problem.object.shape
    inside = (slice(20, h - 20), slice(20, w - 20))
    estimate = run(kind, problem, epochs, **options).estimate
    assert correlation(estimate.object[inside], problem.object[inside]) > 0.96


@pytest.mark.parametrize("inside", [False, True])
def test_a_relaxed_modulus_constraint_stops_at_its_bound(inside: bool, whole: Problem) -> None:
    solver = make(AP, whole.measurement, fourier_relax=1.5 if inside else 0.02)
    every = slice(0, 9)
    product = solver.probes(every) * solver.model.patches(solver.object, every)[:, None]
    before = solver.model.amplitude_errors(product, every)
    solver.seen.array[0] = solver._mirrored.array[0] = solver.object
    solver.advance(every, solver.probes(every))
    after = solver.model.amplitude_errors(product + solver.residual, every)
    strongest = whole.measurement.intensities[:, ~whole.measurement.bad_pixels].sum(axis=1).max()
    assert solver.bound == pytest.approx(solver.options.fourier_relax**2 / 4 * strongest)
    assert bool((before < solver.bound).all()) == inside
    assert torch.allclose(after, before if inside else torch.full_like(after, solver.bound), rtol=1e-6)


@pytest.mark.parametrize(("kind", "options"), EVERY)
def test_the_object_stays_where_there_is_no_window(
    kind: type[ProjectionSolver], options: dict[str, Any], problem: Problem
) -> None:
    m = problem.measurement
    wide = np.pad(m.initial.object, ((0, 9), (0, 5)), constant_values=0.3 + 0.4j)
    larger = replace(m, initial=replace(m.initial, object=wide))
    found = solve(kind(larger, kind.Options(**options)), Limit(3)).estimate.object
    assert np.array_equal(found[-9:], wide[-9:])
    assert np.array_equal(found[:, -5:], wide[:, -5:])
    assert np.abs(found - wide).max() > 0.1


@pytest.mark.parametrize(("kind", "options"), EVERY)
def test_transforms_are_counted(kind: type[ProjectionSolver], options: dict[str, Any], problem: Problem) -> None:
    count = len(problem.measurement.intensities)
    epochs = 3

    def cost(measurement: Measurement, **more: Any) -> float:
        solver = kind(measurement, kind.Options(**options, **more))
        solver.step()  # the first one also shifts the initial probe
        before = solver.cost().ffts
        for _ in range(epochs):
            solver.step()
        return (solver.cost().ffts - before) / epochs / count

    known = replace(problem.measurement, known_probe=True)
    assert cost(problem.measurement) == pytest.approx(4, abs=0.1)  # there and back, probe shifted and gathered
    assert cost(problem.measurement, probe_start=9) == 2
    assert cost(known) == cost(known, subpixel=False) == cost(problem.measurement, subpixel=False) == 2


@pytest.mark.parametrize(("kind", "options"), EVERY)
def test_shifted_probes_may_be_kept_or_made_anew(
    kind: type[ProjectionSolver], options: dict[str, Any], problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = make(kind, problem.measurement, inner=2, **options)
    anew = make(kind, problem.measurement, inner=2, **options)
    for _ in range(3):
        kept.epoch()
        monkeypatch.setattr(projection, "KEPT_BYTES", 0)
        anew.epoch()
        monkeypatch.undo()
    assert anew._shifted is None
    assert torch.allclose(kept.object, anew.object, rtol=0, atol=1e-9)
    assert torch.allclose(kept.probe, anew.probe, rtol=1e-9)


@pytest.mark.parametrize(("kind", "options"), EVERY)
def test_the_state_survives_a_move_of_the_positions(
    kind: type[ProjectionSolver], options: dict[str, Any], problem: Problem
) -> None:
    """Moved away and back is as if nothing had been; moved by a little across whole pixels is as if by a little."""
    positions = problem.measurement.positions_px
    before_whole = positions + 1 - positions % 1 - 1e-3
    stayed, returned, near, across = (make(kind, problem.measurement, **options) for _ in range(4))
    for solver in (stayed, returned, near, across):
        for _ in range(4):
            solver.step()
    returned.place(positions + 3.3)
    returned.place(positions)
    assert stayed.step() == pytest.approx(returned.step(), rel=1e-9)
    assert torch.allclose(stayed.object, returned.object, rtol=0, atol=1e-9)

    for solver in (near, across):
        solver.place(before_whole)
        solver.step()
    across.place(before_whole + 2e-3)
    assert all(a != b for a, b in zip(near.model.corners, across.model.corners, strict=True))
    assert near.step() == pytest.approx(across.step(), rel=0.03)
    light = near._light.array[0]
    assert float((near.object - across.object).abs()[light > 0.3 * light.max()].max()) < 0.02


@pytest.mark.parametrize("method", ["dm", "raar", "ap", "admm", "sdr"])
@pytest.mark.parametrize("addition", ["gradient", "annealing"])
def test_positions_can_be_refined(method: str, addition: str) -> None:
    """From positions wrong by 0.4 px rms, with the right probe, they come nearer."""
    problem = make_problem(grid=(6, 6))
    m = problem.measurement
    wrong = m.positions_px + np.random.default_rng(0).normal(0, 0.4, m.positions_px.shape)
    start = replace(m.initial, probe=problem.probe.astype(np.complex64), positions_px=wrong)
    measurement = replace(m, positions_px=wrong, initial=start, known_probe=True)
    solver = resolve_method(f"{method}+{addition}").create(measurement, "cpu", 1, None)
    found = solve(solver, Limit(50)).estimate.positions_px

    def spread(positions: FloatArray) -> float:
        error = positions - m.positions_px
        return float(np.sqrt(np.mean((error - error.mean(axis=0)) ** 2)))

    assert spread(found) < 0.7 * spread(wrong)


def test_waves_stay_where_the_probe_is_when_windows_move() -> None:
    rng = np.random.default_rng(0)
    waves = torch.tensor(rng.standard_normal((3, 2, 6, 8)))
    probe_frame = [waves[0].clone(), waves[1, :, 2:, 3:].clone()]
    keep_in_place(waves, [(4, 4), (4, 4), (0, 0)], [(4, 4), (6, 7), (0, 0)])
    assert torch.equal(waves[0], probe_frame[0])
    assert torch.equal(waves[1, :, :-2, :-3], probe_frame[1])  # the probe now lies two rows and three columns before


def test_more_rounds_come_closer_to_the_overlap_constraint(problem: Problem) -> None:
    left = []
    for inner in (1, 3, 6):
        solver = make(AP, problem.measurement, inner=inner)
        solver.epoch()
        product = solver.probes(slice(None)) * solver.model.patches(solver.base, slice(None))[:, None]
        waves = product + solver.residual
        now = solver.probes(slice(None)) * solver.model.patches(solver.object, slice(None))[:, None]
        left.append(float(squared_modulus(waves - now).sum()))
    assert left[0] > left[1] > left[2]


def test_the_probe_waits_for_its_start(problem: Problem) -> None:
    solver = DM(problem.measurement, DM.Options(probe_start=2))
    start = solver.probe.clone()
    solver.step()
    solver.step()
    assert torch.equal(solver.probe, start)
    solver.step()
    assert not torch.equal(solver.probe, start)


def test_an_estimate_may_be_the_average_of_the_last_epochs(problem: Problem) -> None:
    objects: list[ComplexArray] = []
    probes: list[ComplexArray] = []
    solver = DM(problem.measurement, DM.Options(average=3))
    for _ in range(5):
        solver.step()
        objects.append(solver.object.numpy().copy())
        probes.append(solver.probe.numpy().copy())
    found: Estimate = solver.estimate()
    assert np.allclose(found.object, np.mean(objects[-3:], axis=0), atol=1e-6)
    assert np.allclose(found.probe, np.mean(probes[-3:], axis=0), rtol=1e-5)
    assert np.array_equal(DM(problem.measurement).estimate().object, problem.measurement.initial.object)


def test_exit_waves_that_do_not_fit_are_refused(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptybench.memory.available_bytes", lambda: 1000)
    with pytest.raises(NotEnoughMemory, match="dm, which keeps all exit waves, needs about"):
        DM(problem.measurement)


def test_poisson_is_a_variant_by_name() -> None:
    assert resolve_method("admm:poisson").options["likelihood"] == "poisson"
    assert resolve_method("admm").options["likelihood"] == "amplitude"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(("kind", "options"), EVERY)
def test_cuda_agrees_with_the_cpu(kind: type[ProjectionSolver], options: dict[str, Any], problem: Problem) -> None:
    on_cpu = run(kind, problem, 3, **options).estimate.object
    on_cuda = solve(kind(problem.measurement, kind.Options(**options), "cuda"), Limit(3)).estimate.object
    assert np.abs(on_cpu - on_cuda).max() < 1e-3


def test_sdr_is_its_published_steps(whole: Problem) -> None:
    """Reflection, loose modulus constraint, then the semi-implicit step as the quotient that it comes from."""
    solver = make(SDR, whole.measurement, alpha=0.8, beta=0.3, sigma=0.9, loose_start=0.2, loose_end=0.6)
    order = make(SDR, whole.measurement).order
    hand = ByHand(whole.measurement, DM.Options())
    waves = hand.product()
    for progress in (0.0, 0.4, 0.9):
        solver.progress = progress
        solver.epoch()
        loose = 0.2 + 0.4 * progress**4
        for k in order():
            window, probe = hand.windows[k], hand.probe
            patch = hand.object[window]
            product, measured = probe * patch, hand.amplitudes[k]
            mirrored = 1.9 * product - 0.9 * waves[k]
            forced = hand.modulus(mirrored[None], lambda _, measured=measured: measured)[0]  # type: ignore[misc]
            waves[k] = (1 - loose) * forced + loose * mirrored + 0.9 * (waves[k] - product)
            power = (np.abs(probe) ** 2).sum(axis=0)
            keep = (1 - 0.8) * power.max() / 0.8
            hand.probe = probe + 0.3 / (np.abs(patch) ** 2).max() * patch.conj() * (waves[k] - product)
            hand.object[window] = (keep * patch + (probe.conj() * waves[k]).sum(axis=0)) / (keep + power)
    assert np.abs(solver.waves.numpy() - waves).max() < 1e-9 * np.abs(waves).max()
    assert np.abs(solver.object.numpy() - hand.object).max() < 1e-9
    assert np.abs(solver.probe.numpy() - hand.probe).max() < 1e-9 * np.abs(hand.probe).max()


def test_sdr_remembers_exit_waves_across_whole_pixels(problem: Problem) -> None:
    positions = problem.measurement.positions_px
    before_whole = positions + 1 - positions % 1 - 1e-3
    near, across = (make(SDR, problem.measurement) for _ in range(2))
    for solver in (near, across):
        solver.place(before_whole)
        solver.step()
    across.place(before_whole + 2e-3)
    assert near.step() == pytest.approx(across.step(), rel=0.03)


@pytest.mark.parametrize("batch", [1, 8])
def test_sdr_finds_the_object_from_a_wrong_start(batch: int) -> None:
    problem = make_problem(grid=(8, 8))
    h, w = problem.object.shape
    inside = (slice(20, h - 20), slice(20, w - 20))
    estimate = solve(SDR(problem.measurement, SDR.Options(batch=batch)), Limit(60)).estimate
    assert correlation(estimate.object[inside], problem.object[inside]) > 0.96
