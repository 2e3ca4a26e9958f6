"""Visits of the sequential engines from one CUDA graph, so that the host launches one thing a visit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ptybench.cuda import distrust, wanted
from ptybench.optics.forward import ForwardModel, upload

if TYPE_CHECKING:
    from ptybench.engines.sequential import SequentialSolver

VISITS = 2  # compared before a graph is trusted: the second shows that it goes on to another pattern
CLOSE = 1e-3  # of what a visit changes, in single precision and over two visits; a wrong pattern or weight is far off


def able(model: ForwardModel) -> bool:
    """Whether visits to a model can come from a graph: all its patterns must lie on the device."""
    return model.device.type == "cuda" and model.patterns.place == "device" and wanted("graphs")


class Loop:
    """Visits that look up the number of their pattern on the device.

    :meth:`turn` is the engine's own visit, with a tensor in place of the numbers of its patterns, so what a graph of
    one turn does when it is replayed is the next visit. A graph holds the addresses of all tensors and the values of
    all numbers, so where one of them is another, a new one is captured: each epoch of SDR, whose numbers depend on the
    budget, and of WASP, which has a new probe. A subclass that does at a visit what its statement does not say is not
    served, as with the compiled CPU kernels.

    Args:
        solver: what visits, laid out.
        refine_probe: whether its probe changes.
        kept: the loop before it, if any: what was found out there need not be found out again.

    """

    def __init__(self, solver: SequentialSolver, refine_probe: bool, kept: Loop | None) -> None:
        self.solver, self.refine_probe, self.size = solver, refine_probe, solver.options.batch
        self.visit: Callable[[Any, bool], Tensor] = solver.visit if self.size == 1 else solver.visit_together
        device, count = solver.device, solver.model.count
        self.order = torch.zeros(count, dtype=torch.int64, device=device)
        self.first = torch.arange(min(self.size, count), device=device)
        self.place = self.first.clone()
        self.error = torch.zeros((), dtype=torch.float64, device=device)
        self.made_for = _tensors(solver), _numbers(solver, refine_probe)
        self._graph: Callable[[], None] | None = None
        self._verdicts: dict[object, bool] = {} if kept is None else kept._verdicts

    @classmethod
    def on(cls, solver: SequentialSolver, refine_probe: bool, kept: Loop | None) -> Loop:
        """The one that was kept, where the solver is still what it was made for, or a new one."""
        if kept is not None:
            tensors, numbers = kept.made_for
            same = len(tensors) == len(now := _tensors(solver)) and all(
                a is b for a, b in zip(tensors, now, strict=True)
            )
            if same and numbers == _numbers(solver, refine_probe):
                return kept
        return cls(solver, refine_probe, kept)

    def turn(self) -> None:
        """Visit the patterns that are next in the order."""
        index = self.order.index_select(0, self.place)
        self.error += self.visit(index, self.refine_probe)
        self.place += self.size

    def __call__(self, order: list[int]) -> Tensor:
        """Visit patterns in this order; their squared error, for which nobody has waited."""
        turns = len(order) // self.size
        run = self.trusted(order) if turns >= VISITS else self.turn
        if run is None:
            return self.reference(order)
        self._begin(order)
        for _ in range(turns):
            run()
        rest = self.order[turns * self.size : len(order)]
        if len(rest):
            self.error += self.visit(rest, self.refine_probe)
        return self.error.clone()

    def reference(self, order: list[int]) -> Tensor:
        """What a call does, as the engine does it without this class."""
        if self.size == 1:
            errors = [self.visit(k, self.refine_probe) for k in order]
        else:
            parts = [order[i : i + self.size] for i in range(0, len(order), self.size)]
            errors = [self.visit(part, self.refine_probe) for part in parts]
        return torch.stack(errors).sum()

    def _begin(self, order: list[int]) -> None:
        self.order[: len(order)].copy_(upload(torch.tensor(order), self.order.device), non_blocking=True)
        self.place.copy_(self.first)
        self.error.zero_()

    def trusted(self, order: list[int]) -> Callable[[], None] | None:
        """What does a turn, once it has done what the engine does; ``None`` where it has not.

        Of an order at least ``VISITS`` turns long, whose first patterns are visited in a trial.
        """
        case = self.refine_probe, self.solver.model.ramps is None
        if case not in self._verdicts:
            self._verdicts[case] = self.tried(order)
        if self._graph is None and self._verdicts[case]:
            self._graph = self.captured()
        return self._graph if self._verdicts[case] else None

    def tried(self, order: list[int]) -> bool:
        """Whether a graph can be had and does what the engine does; leaves all as it was."""
        model, counted = self.solver.model, self.solver.model.ffts
        trial, why = Trial(self.solver, order[: VISITS * self.size]), "it does something else"
        try:
            self._begin(order)
            self.turn()  # plans of transforms and the comparisons of kernels cannot be captured
            self._graph = self.captured()
            agree = self.agrees(trial, order)
        except RuntimeError as error:
            agree, why = False, str(error).splitlines()[0]
        trial.restore(trial.before)
        model.ffts = counted
        if not agree:
            distrust("the graph of a visit", why)
        return agree

    def captured(self) -> Callable[[], None]:
        """A turn as a graph on a CUDA device, where nothing is executed now; elsewhere the turn itself."""
        if self.order.device.type != "cuda":
            return self.turn
        model, before, graph = self.solver.model, self.solver.model.ffts, torch.cuda.CUDAGraph()
        now, aside = torch.cuda.current_stream(self.order.device), torch.cuda.Stream(self.order.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(now)
        with torch.cuda.stream(aside):
            # not torch.cuda.graph, which collects garbage and empties the allocator's cache each time
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                self.turn()
            finally:
                graph.capture_end()
        now.wait_stream(aside)
        ffts, model.ffts = model.ffts - before, before

        def replay() -> None:
            graph.replay()
            model.ffts += ffts

        return replay

    def agrees(self, trial: Trial, order: list[int]) -> bool:
        """Whether the graph's first visits are those of the engine, from an object that leaves no pixel dark."""
        assert self._graph is not None
        trial.restore(trial.before)
        trial.roughen()
        start = trial.copies()
        squared = float(self.reference(order[: VISITS * self.size]))
        expected = trial.copies()
        trial.restore(start)
        self._begin(order)
        for _ in range(VISITS):
            self._graph()
        changes = [(a - old, b - old) for old, a, b in zip(start, trial.copies(), expected, strict=True)]
        alike = all(bool((a - b).norm() <= CLOSE * b.norm()) for a, b in changes)
        return alike and abs(float(self.error) - squared) <= CLOSE * squared


class Trial:
    """All that visits to some patterns change, to be put back.

    Args:
        solver: what visits.
        index: the patterns.

    """

    def __init__(self, solver: SequentialSolver, index: list[int]) -> None:
        self.solver = solver
        self.whole = [solver.object, solver.shifted.held, *(solver.sums or ())]
        self.waves = None if solver.memory is None else solver.memory.waves
        self.rows = upload(torch.tensor(index), solver.device)
        self.before = self.copies()

    def copies(self) -> list[Tensor]:
        """What it is like now."""
        rows = [] if self.waves is None else [self.waves[self.rows]]
        return [tensor.clone() for tensor in self.whole] + rows

    def restore(self, copies: list[Tensor]) -> None:
        """Make it what it was when the copies were made."""
        for tensor, old in zip(self.whole, copies, strict=False):
            tensor.copy_(old)
        if self.waves is not None:
            self.waves[self.rows] = copies[-1]

    def roughen(self) -> None:
        """Give the object random phases: light everywhere, so that no phase at the detector comes from rounding."""
        noise = torch.randn(self.solver.object.shape, generator=torch.Generator().manual_seed(0))
        self.solver.object.mul_(torch.exp(1j * noise).to(self.solver.object))


def _tensors(solver: SequentialSolver) -> tuple[object, ...]:
    """All that the kernels of a visit point to and that others may replace."""
    memory = () if solver.memory is None else (solver.memory.waves,)
    return solver._laid_out, solver.shifted.held, solver.model.propagator, *memory, *(solver.sums or ())


def _numbers(solver: SequentialSolver, refine_probe: bool) -> tuple[Any, ...]:
    """All numbers that a graph keeps as they were when it was captured."""
    stated = getattr(solver, solver.statement)()
    return refine_probe, stated, solver.options.batch, () if solver.memory is None else solver.memory[1:]
