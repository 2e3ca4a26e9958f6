"""From a plan to what is solved: simulate, or take the real measurement, and hold back what the solver may not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ptybench import memory, registry
from ptybench.records import Metrics
from ptybench.runner.cells import Plan
from ptybench.runner.job import Job
from ptybench.scoring.data import split_withheld
from ptybench.types import Measurement, Truth, Withheld


@dataclass(frozen=True, eq=False)
class Problem:
    """What a cell solves and is scored against.

    Args:
        measurement: what the solver sees.
        withheld: the patterns that it does not see; ``None`` where it sees all.
        truth: ``None`` for a real measurement.
        facts: what was measured on the simulation or the data.

    """

    measurement: Measurement
    withheld: Withheld | None = None
    truth: Truth | None = None
    facts: Metrics = field(default_factory=dict)


def prepare(plan: Plan) -> Problem:
    """Make the problem of a plan.

    Raises:
        NotEnoughMemory: where the solver would not fit.
        UsageError: whatever else is wrong with the task.

    """
    if plan.task is not None:
        from ptybench.simulation import simulate

        measurement, truth = simulate(plan.task, plan.cell.seed, domain=plan.cell.domain or "dev")
        facts: Metrics = {name: float(value) for name, value in truth.facts.items()}
    else:
        assert plan.loaded is not None
        measurement, truth = plan.loaded.measurement, None
        facts = {"patterns": len(measurement.intensities), "bad_pixels": int(measurement.bad_pixels.sum())}
    shape, modes = measurement.shape, len(measurement.initial.probe)
    memory.require(
        memory.solver_bytes(len(measurement.intensities), shape, measurement.canvas, modes),
        f"{plan.title} ({len(measurement.intensities)} patterns of {shape[0]} by {shape[1]})",
    )
    withheld = None
    if plan.cell.withheld > 0:
        measurement, withheld = split_withheld(measurement, plan.cell.withheld)
        facts["patterns_withheld"] = 0 if withheld is None else len(withheld.indices)
    return Problem(measurement, withheld, truth, facts)


def job_of(plan: Plan, checkpoints: Sequence[int] = (), truth: bool = False, distributed: bool = False) -> Job:
    """Return what the child is told of a plan.

    Args:
        plan: the cell.
        checkpoints: epochs whose estimate is kept.
        truth: whether the truth is handed over too, to a control.
        distributed: whether the processes of torchrun share the patterns.

    """
    return Job(
        method=plan.method.name,
        options=plan.method.options,
        seed=plan.solver_seed,
        epochs=plan.cell.epochs,
        seconds=plan.cell.seconds,
        checkpoints=list(checkpoints),
        device=plan.device,
        plugins=[str(path) for path in registry.plugin_paths()],
        truth=truth,
        distributed=distributed,
    )
