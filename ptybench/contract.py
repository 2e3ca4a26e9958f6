"""The contract of a solver, as tests for anybody's method: ``ptybench check file.py:Method``.

Each check runs the method on a small simulated measurement and asks for one promise of the solver API.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ptybench.errors import InvalidData, PtybenchError, UnknownName
from ptybench.registry import ResolvedMethod, add_plugin, load_method, resolve_method
from ptybench.scoring import score
from ptybench.simulation import simulate
from ptybench.solver import Limit, Outcome, Solver, Step, solve
from ptybench.types import Estimate, Measurement, Truth

EPOCHS = 10
PROBLEM: dict[str, Any] = {"photons": 1e6, "scan.field_of_view_px": [36, 36]}
Verdict = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class CheckResult:
    """One promise, and whether it was kept."""

    check: str
    promise: str
    verdict: Verdict
    message: str = ""


class Broken(Exception):
    """A promise that was not kept."""


class Skip(Exception):
    """A promise that cannot be tested here, or that the method declines with a clear error."""


@dataclass(frozen=True)
class Subject:
    """The method under test and the problem it is tested on."""

    method: ResolvedMethod
    kind: type[Solver]
    measurement: Measurement
    truth: Truth

    def run(self, measurement: Measurement | None = None, seed: int = 1, epochs: int = EPOCHS) -> Outcome:
        """Reconstruct on the CPU."""
        return solve(self.make(measurement, seed), Limit(epochs=epochs))

    def make(self, measurement: Measurement | None = None, seed: int = 1, device: str = "cpu") -> Solver:
        """A fresh solver."""
        truth = self.truth if self.method.needs_truth else None
        return self.method.create(measurement or self.measurement, device, seed, truth)


def check_method(target: str) -> list[CheckResult]:
    """Run every check on a method.

    Args:
        target: the name of a method, a plug-in file, or ``file.py:Method`` with a class or method name.

    Raises:
        UnknownName: no such method.
        InvalidData: a file that is no plug-in, or holds several methods of which none was named.

    """
    name = _method_name(target)
    measurement, truth = simulate("low_dose", 0, **PROBLEM)
    subject = Subject(resolve_method(name), load_method(name), measurement, truth)
    return [_verdict(check, subject) for check in CHECKS]


def _method_name(target: str) -> str:
    file, _, wanted = target.partition(":")
    if not file.endswith(".py"):
        return target
    names = add_plugin(Path(file))
    classes = {load_method(name).__name__: name for name in names}
    if not wanted:
        if len(names) > 1:
            raise InvalidData(f"{file} holds the methods {', '.join(names)}: write {file}:{names[0]}")
        return names[0]
    if wanted in names:
        return wanted
    if wanted in classes:
        return classes[wanted]
    raise UnknownName(f"method in {file}", wanted, [*names, *classes])


def _verdict(check: Callable[[Subject], None], subject: Subject) -> CheckResult:
    name, promise = check.__name__, (check.__doc__ or "").strip()
    try:
        check(subject)
    except Broken as broken:
        return CheckResult(name, promise, "failed", str(broken))
    except Skip as skip:
        return CheckResult(name, promise, "skipped", str(skip))
    except Exception as error:
        return CheckResult(name, promise, "failed", f"raised {type(error).__name__}: {error}")
    return CheckResult(name, promise, "passed")


def _ask(kept: bool, message: str) -> None:
    if not kept:
        raise Broken(message)


def described(subject: Subject) -> None:
    """Has a docstring, typed options with defaults, and says what it refines."""
    _ask(
        bool((subject.kind.__doc__ or "").strip()),
        "the class has no docstring: say what it is, with its source",
    )
    unknown = set(subject.kind.refines) - {"object", "probe", "positions", "distance"}
    _ask(not unknown, f"refines names {sorted(unknown)}: known are object, probe, positions, distance")


def well_formed(subject: Subject) -> None:
    """Returns finite complex arrays of the measurement's shapes, and one finite data error an epoch."""
    errors: list[float] = []

    def note(step: Step) -> None:
        errors.append(step.data_error)

    outcome = solve(subject.make(), Limit(epochs=3), (), note)
    m, found = subject.measurement, outcome.estimate
    canvas = subject.truth.object.shape if subject.method.needs_truth else m.canvas
    _ask(found.object.shape == canvas, f"object of shape {found.object.shape}, expected {canvas}")
    _ask(found.probe.ndim == 3 and found.probe.shape[1:] == m.shape, f"probe of shape {found.probe.shape}")
    _ask(found.positions_px.shape == m.positions_px.shape, f"positions of shape {found.positions_px.shape}")
    _ask(np.iscomplexobj(found.object) and np.iscomplexobj(found.probe), "object and probe must be complex")
    _ask(outcome.status == "ok", "the estimate holds NaN or infinite values")
    _ask(all(np.isfinite(error) and error >= 0 for error in errors), f"data errors {errors}")


def same_seed_same_result(subject: Subject) -> None:
    """The same seed gives the same result to the bit, whatever the global random state."""
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the legacy state is what a careless solver would draw from
    first = subject.run()
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    second = subject.run()
    _ask(_same(first.estimate, second.estimate), "two runs with one seed differ: draw from self.generator only")


def leaves_input_alone(subject: Subject) -> None:
    """Does not write into the measurement."""
    m = subject.measurement
    before = [a.copy() for a in _arrays(m)]
    subject.run()
    _ask(all(map(np.array_equal, before, _arrays(m))), "an array of the measurement was changed")


def respects_epochs(subject: Subject) -> None:
    """Stops after the epochs it is given, and a longer budget goes on from where a shorter one ends or beyond."""
    outcome = subject.run(epochs=4)
    _ask(outcome.epochs <= 4, f"ran {outcome.epochs} epochs of 4")
    _ask(outcome.stop_reason == "converged" or outcome.epochs == 4, f"stopped after {outcome.epochs} of 4")


def respects_seconds(subject: Subject) -> None:
    """Stops at the first epoch that ends after its seconds."""
    longest, last = 0.0, 0.0

    def note(step: Step) -> None:
        nonlocal longest, last
        longest, last = max(longest, step.seconds - last), step.seconds

    outcome = solve(subject.make(), Limit(seconds=0.3, epochs=1000), (), note)
    _ask(outcome.solver_seconds <= 0.3 + longest + 1e-6, f"used {outcome.solver_seconds:.2f} s of 0.3 s")


def respects_device(subject: Subject) -> None:
    """Runs where it is told to, with the same result within single precision."""
    if not torch.cuda.is_available():
        raise Skip("no CUDA device here")
    on_cpu = subject.run(epochs=2).estimate.object
    on_cuda = solve(subject.make(device="cuda"), Limit(epochs=2)).estimate.object
    worst = float(np.abs(on_cpu - on_cuda).max() / np.abs(on_cpu).max())
    _ask(worst < 1e-2, f"CPU and CUDA differ by {worst:.1e} after two epochs")


def counts_its_cost(subject: Subject) -> None:
    """Counts transforms or network evaluations, more of them with more epochs."""
    if not subject.kind.refines:
        raise Skip("refines nothing, so it costs nothing")
    few, many = subject.run(epochs=1).cost, subject.run(epochs=3)
    if many.epochs < 2:
        raise Skip("ends after one epoch")
    total = many.cost
    _ask(total.ffts > 0 or total.network_evaluations > 0, "cost() says 0: use self.model, or count yourself")
    _ask(total.ffts >= few.ffts and total.network_evaluations >= few.network_evaluations, "cost() fell")


def beats_the_initial_guess(subject: Subject) -> None:
    """Scores better than the initial guess on an easy problem (overlap 0.75, 1e6 photons a pattern)."""
    if not subject.kind.refines:
        raise Skip("refines nothing")
    found = score(subject.run(epochs=30).estimate, subject.truth)["cpcc_abs"] or 0.0
    start = score(subject.measurement.initial, subject.truth)["cpcc_abs"] or 0.0
    _ask(found > start + 0.1, f"cpcc_abs {found:.3f}, the initial guess has {start:.3f}")


def keeps_a_known_probe(subject: Subject) -> None:
    """Leaves a probe that is known as it is."""
    if subject.method.needs_truth:
        raise Skip("a control")
    known = replace(subject.measurement, known_probe=True)
    outcome = subject.run(known, epochs=2)
    start = known.initial.probe
    found = outcome.estimate.probe[: len(start)]
    gap = float(np.abs(found - start).max() / np.abs(start).max())
    _ask(gap < 1e-3, f"the known probe moved by {gap:.1e} of its maximum")


def ignores_bad_pixels(subject: Subject) -> None:
    """What stands in bad pixels changes nothing."""
    m = subject.measurement
    bad = m.bad_pixels.copy()
    bad[2:5, 3:9] = True
    low, high = m.intensities.copy(), m.intensities.copy()
    low[:, bad], high[:, bad] = 0.0, 1e6
    results = [subject.run(replace(m, intensities=i, bad_pixels=bad), epochs=3) for i in (low, high)]
    _ask(_same(results[0].estimate, results[1].estimate), "values in bad pixels change the result")


def other_shapes(subject: Subject) -> None:
    """Works with odd, non-square patterns, or refuses them with a clear error."""
    m = subject.measurement
    narrow = replace(
        m,
        intensities=np.ascontiguousarray(m.intensities[:, 1:, 2:-1]),
        bad_pixels=np.ascontiguousarray(m.bad_pixels[1:, 2:-1]),
        initial=replace(m.initial, probe=np.ascontiguousarray(m.initial.probe[:, 1:, 2:-1])),
    )
    if subject.method.needs_truth:
        raise Skip("a control takes the shapes of its truth")
    try:
        outcome = subject.run(narrow, epochs=2)
    except PtybenchError as refusal:
        raise Skip(f"refused: {refusal}") from None
    _ask(outcome.status == "ok", "odd, non-square patterns give NaN")


CHECKS: tuple[Callable[[Subject], None], ...] = (
    described,
    well_formed,
    same_seed_same_result,
    leaves_input_alone,
    respects_epochs,
    respects_seconds,
    respects_device,
    counts_its_cost,
    beats_the_initial_guess,
    keeps_a_known_probe,
    ignores_bad_pixels,
    other_shapes,
)


def _arrays(m: Measurement) -> list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    start = m.initial
    return [m.intensities, m.bad_pixels, m.positions_px, start.object, start.probe, start.positions_px]


def _same(a: Estimate, b: Estimate) -> bool:
    return np.array_equal(a.object, b.object) and np.array_equal(a.probe, b.probe)
