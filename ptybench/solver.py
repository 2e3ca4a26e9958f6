"""The common solver API: what an algorithm must say, and what is done for it.

An algorithm is a subclass of :class:`Solver` with a ``name``, typed ``Options`` and one :meth:`Solver.epoch`. It sees
a :class:`~ptybench.types.Measurement` and nothing else. :func:`solve` drives it within a budget; the stopwatch runs
during epochs only, synchronized with the device.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, SupportsFloat, TypeVar

import numpy as np
import torch
from pydantic import Field, ValidationError
from torch import Tensor

from ptybench import team
from ptybench.errors import InvalidOption, UnknownName
from ptybench.optics.forward import ForwardModel
from ptybench.specs import Spec, validation_sentence
from ptybench.types import ComplexArray, Estimate, FloatArray, Measurement

SpecT = TypeVar("SpecT", bound=Spec)


class SolverOptions(Spec):
    """Options that every solver has.

    Args:
        subpixel: shift the probe by the fraction of each position; otherwise positions are rounded.
        modes: incoherent probe modes to reconstruct; ``0`` keeps as many as the initial probe has.

    """

    subpixel: bool = True
    modes: Annotated[int, Field(ge=0, le=64)] = 0


@dataclass(frozen=True)
class Cost:
    """What a reconstruction cost, counted and not estimated.

    Args:
        ffts: two-dimensional transforms of one pattern and mode.
        network_evaluations: forward passes of a network on one image.

    """

    ffts: int = 0
    network_evaluations: int = 0


class Solver(ABC):
    """Base of all algorithms.

    Args:
        measurement: all that the algorithm may see; never changed.
        options: an instance of ``Options``; defaults where ``None``.
        device: torch device.
        seed: seed of everything random in the algorithm.

    Attributes:
        model: data and geometry on the device.
        object: ``(H, W)`` complex64 tensor.
        probe: ``(M, h, w)`` complex64 tensor.
        team: the processes that share out the patterns; ``measurement`` and ``model`` hold this one's.
        additions: what was added to the method by ``+``, in order.
        version: part of a record's identity: raised by whatever alters results.
        versions: of variants that have one of their own, by what follows the colon.
        progress: share of the budget used before this epoch, in [0, 1); set by the driver.
        epochs_done: epochs finished.
        data_error: of the last epoch.
        converged: an algorithm that knows its end sets this.
        threads: CPU threads that serve it best; ``0`` takes all there are. One pattern at a time is too little work to
            share out, and threads that wait for each other cost more than they save.

    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    versions: ClassVar[Mapping[str, int]] = {}
    Options: ClassVar[type[SolverOptions]] = SolverOptions
    refines: ClassVar[frozenset[str]] = frozenset({"object", "probe"})
    dtype: ClassVar[torch.dtype] = torch.complex64
    threads: int = 0

    def __init__(
        self,
        measurement: Measurement,
        options: SolverOptions | None = None,
        device: str | torch.device = "cpu",
        seed: int = 0,
    ) -> None:
        self.measurement = measurement
        self.options: Any = self.Options() if options is None else options
        self.device = torch.device(device)
        self.generator = torch.Generator().manual_seed(seed % 2**63)
        self.team = team.current()
        if self.team.world > 1 and (reason := self.undivided()):
            raise InvalidOption(reason)
        self.model = ForwardModel(measurement, self.device, self.options.subpixel, self.dtype)
        self.model.join(self.team)
        self.object = self.tensor(measurement.initial.object)
        self.probe = self.tensor(with_modes(measurement.initial.probe, self.options.modes))
        self.additions: list[Addition] = []
        self.refine_probe = "probe" in self.refines and not measurement.known_probe
        self.progress = 0.0
        self.epochs_done = 0
        self.data_error = float("nan")
        self.converged = False
        self.setup()

    def setup(self) -> None:  # noqa: B027 - most algorithms need none
        """Prepare what the algorithm keeps between epochs."""

    def undivided(self) -> str | None:
        """Why several processes cannot share out the patterns, in one sentence; ``None`` where they can."""
        return f"{self.name} needs all patterns in one process: run it without --distributed"

    @abstractmethod
    def epoch(self) -> float:
        """Use every pattern once; return the data error ``Σ(√I − |Ψ|)² / ΣI`` seen on the way."""

    def step(self) -> float:
        """One epoch and what was added to it; the data error."""
        error = self.data_error = self.epoch()
        for addition in self.additions:
            addition.after_epoch()
        self.epochs_done += 1
        return error

    def place(self, positions_px: FloatArray) -> None:
        """Go on with these ``(K, 2)`` positions."""
        self.model.place(positions_px)

    def refocus(self, distance_m: float) -> None:
        """Go on with this propagation distance (near field)."""
        self.model.refocus(distance_m)

    def tensor(self, array: np.ndarray[Any, Any]) -> Tensor:
        """A fresh complex tensor on the device."""
        return torch.tensor(array, dtype=self.dtype, device=self.device)

    def order(self) -> list[int]:
        """The patterns in random order, the same for every sequential method with this seed."""
        order: list[int] = torch.randperm(self.team.count(self.model.count), generator=self.generator).tolist()
        return order

    def estimate(self) -> Estimate:
        """What has been found so far, on the host."""
        return Estimate(
            object=self.object.cpu().numpy().astype(np.complex64),
            probe=orthogonal_modes(self.probe.cpu().numpy()).astype(np.complex64),
            positions_px=self.team.gathered(self.model.positions_px),
            pixel_size_m=self.measurement.initial.pixel_size_m,
            distance_m=self.model.distance_m,
        )

    def cost(self) -> Cost:
        """Transforms and network evaluations so far."""
        return Cost(
            ffts=self.model.ffts, network_evaluations=sum(addition.network_evaluations for addition in self.additions)
        )


class Addition(ABC):
    """What can be added to any method by its name: ``epie+xcorr``.

    An addition looks at the solver after each epoch, and may change its ``object`` and ``probe``, its positions
    (:meth:`Solver.place`) or its distance (:meth:`Solver.refocus`).

    Args:
        solver: the method that it was added to, ready to run.
        options: an instance of ``Options``; defaults where ``None``.

    Attributes:
        adds: its name.
        refines: what it finds beside object and probe: ``"positions"``, ``"distance"`` or nothing.
        bases: methods that it is listed and swept with; it can be added to any other.
        network_evaluations: forward passes of a network so far.

    """

    adds: ClassVar[str]
    version: ClassVar[int] = 1
    refines: ClassVar[set[str]] = set()
    bases: ClassVar[tuple[str, ...]] = ()
    Options: ClassVar[type[Spec]] = Spec
    network_evaluations: int = 0

    def __init__(self, solver: Solver, options: Spec | None = None) -> None:
        self.solver = solver
        self.options: Any = self.Options() if options is None else options
        self.setup()

    def setup(self) -> None:  # noqa: B027 - some need none
        """Prepare what is kept between epochs.

        Raises:
            InvalidOption: where it cannot serve this measurement.

        """

    @abstractmethod
    def after_epoch(self) -> None:
        """Improve what the method has found; ``solver.epochs_done`` counts the epochs before this one."""


def with_modes(probe: ComplexArray, modes: int) -> ComplexArray:
    """Return ``modes`` modes: the strongest of ``probe`` ``(M, h, w)``, then new ones of 5 % of its power each.

    A new mode is the first mode times a product of powers of the coordinates, made orthogonal to those before it. The
    total power stays. ``modes = 0`` returns the probe as it is.
    """
    if modes in (0, len(probe)):
        return probe
    if modes < len(probe):
        kept = probe[:modes]
        scaled: ComplexArray = kept * np.sqrt(np.sum(np.abs(probe) ** 2) / np.sum(np.abs(kept) ** 2))
        return scaled
    y, x = (np.linspace(-1, 1, n) for n in probe.shape[1:])
    powers = ((order - i, i) for order in range(1, 2 * modes + 1) for i in range(order + 1))
    power = float(np.sum(np.abs(probe) ** 2))
    found = list(probe)
    while len(found) < modes:
        p, q = next(powers)
        mode = candidate = probe[0] * y[:, None] ** p * x[None, :] ** q
        for other in found:
            mode = mode - other * np.vdot(other, mode) / np.vdot(other, other)
        if np.linalg.norm(mode) > 1e-3 * np.linalg.norm(candidate):  # else the probe has this mode already
            found.append(mode * np.sqrt(0.05 * power / np.sum(np.abs(mode) ** 2)))
    grown = np.stack(found)
    result: ComplexArray = grown * np.sqrt(power / np.sum(np.abs(grown) ** 2))
    return result


def orthogonal_modes(probe: ComplexArray) -> ComplexArray:
    """The same mutual intensity as orthogonal modes ``(M, h, w)``, strongest first (singular value decomposition)."""
    if len(probe) == 1 or not np.isfinite(probe).all():
        return probe
    _, strength, modes = np.linalg.svd(probe.reshape(len(probe), -1), full_matrices=False)
    ordered: ComplexArray = (strength[:, None] * modes).reshape(probe.shape)
    return ordered


@dataclass(frozen=True)
class Limit:
    """When to stop: after ``epochs``, or before an epoch that starts after ``seconds`` of solver time."""

    epochs: int | None = None
    seconds: float | None = None

    def share(self, epochs: int, seconds: float) -> float:
        """The share of the budget that is used; at least 1 at its end."""
        shares = [0.0]
        if self.epochs is not None:
            shares.append(epochs / self.epochs)
        if self.seconds is not None:
            shares.append(seconds / self.seconds)
        return max(shares)


@dataclass(frozen=True)
class Step:
    """One finished epoch; ``estimate`` is there at checkpoints and at the end."""

    epoch: int
    seconds: float
    ffts: int
    data_error: float
    estimate: Estimate | None = None


@dataclass(frozen=True)
class Outcome:
    """How a reconstruction ended."""

    status: Literal["ok", "diverged"]
    stop_reason: Literal["budget", "converged"] | None
    epochs: int
    estimate: Estimate
    cost: Cost
    solver_seconds: float
    peak_device_bytes: int | None


@contextmanager
def threads(most: int) -> Iterator[int]:
    """Let torch use at most so many CPU threads for a while (``0``: as many as now); yields how many."""
    before = torch.get_num_threads()
    count = min(before, most) if most else before
    if count != before:
        torch.set_num_threads(count)
    try:
        yield count
    finally:
        if count != before:
            torch.set_num_threads(before)


def solve(
    solver: Solver,
    limit: Limit,
    checkpoints: Sequence[int] = (),
    on_step: Callable[[Step], None] = lambda step: None,
) -> Outcome:
    """Run a solver within a budget.

    Args:
        solver: ready to run.
        limit: epochs, seconds, or both (whichever comes first).
        checkpoints: epochs whose estimate is handed to ``on_step``, outside the stopwatch.
        on_step: told of every epoch.

    """
    marks = set(checkpoints)
    cuda = solver.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(solver.device)
    seconds, epoch, status = 0.0, 0, "ok"
    while not solver.converged and (share := limit.share(epoch, seconds)) < 1:
        solver.progress = share
        start = time.perf_counter()
        with threads(solver.threads):
            error = solver.step()
        if isinstance(error, bool) or not isinstance(error, SupportsFloat):
            raise TypeError(f"{solver.name}.epoch() must return the data error, a number, got {type(error).__name__}")
        if cuda:
            torch.cuda.synchronize(solver.device)
        seconds += time.perf_counter() - start
        if limit.seconds is not None:
            seconds = team.current().agreed(seconds)
        epoch += 1
        if not np.isfinite(error):
            status = "diverged"
        last = status == "diverged" or solver.converged or limit.share(epoch, seconds) >= 1
        found = solver.estimate() if epoch in marks and not last else None
        on_step(Step(epoch, seconds, total_cost(solver).ffts, float(error), found))
        if status == "diverged":
            break
    estimate = solver.estimate()
    if not (np.isfinite(estimate.object).all() and np.isfinite(estimate.probe).all()):
        status = "diverged"
    stop = None if status == "diverged" else "converged" if solver.converged else "budget"
    peak = torch.cuda.max_memory_allocated(solver.device) if cuda else None
    return Outcome(
        "ok" if status == "ok" else "diverged",
        "budget" if stop == "budget" else "converged" if stop else None,
        epoch,
        estimate,
        total_cost(solver),
        seconds,
        peak,
    )


def total_cost(solver: Solver) -> Cost:
    """What all processes that share the patterns have spent so far."""
    cost, crew = solver.cost(), team.current()
    return Cost(round(crew.total(cost.ffts)), round(crew.total(cost.network_evaluations)))


def resolve_device(device: str) -> torch.device:
    """Return the torch device of ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InvalidOption: where there is no such device.

    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise InvalidOption(f"unknown device {device!r}: use auto, cpu, cuda or cuda:N") from None
    if found.type not in ("cpu", "cuda"):
        raise InvalidOption(f"device {device!r} is not supported: use auto, cpu, cuda or cuda:N")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise InvalidOption(
            f"device {device!r} is not there: this machine has {torch.cuda.device_count()} CUDA devices"
        )
    return found


def parse_options(kind: type[SpecT], name: str, options: dict[str, Any]) -> SpecT:
    """Validate options of a method or an addition.

    Raises:
        UnknownName: a misspelt option, with the nearest name.
        InvalidOption: a value out of range.

    """
    for key in options:
        if key not in kind.model_fields:
            raise UnknownName(f"option of {name}", key, kind.model_fields)
    try:
        return kind.model_validate(options)
    except ValidationError as problem:
        raise InvalidOption(f"option of {name}: {validation_sentence(problem)}") from None
