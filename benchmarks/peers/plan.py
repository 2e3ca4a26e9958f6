"""What a comparison consists of: tasks and options read, measurements made, cells laid out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from cells import OURS, Cell
from environments import PEERS
from exchange import Job, Unsupported
from options import MATCHED, cdtools_options, ptychi_options, ptylab_options, ptyrad_options

from ptybench.errors import InvalidOption
from ptybench.registry import load_task, resolve_method
from ptybench.seeds import named_seed
from ptybench.simulation import simulate
from ptybench.types import Measurement, Truth

CAN: dict[str, Any] = {
    "ptychi": ptychi_options,
    "ptylab": ptylab_options,
    "cdtools": cdtools_options,
    "ptyrad": ptyrad_options,
}


@dataclass(frozen=True)
class Plan:
    """What is compared on what; the options of the command, read."""

    task: str
    overrides: dict[str, Any]
    domain: Literal["train", "dev", "release"]
    seeds: list[int]
    methods: list[str]
    peers: list[str]
    settings: dict[str, Any]
    epochs: int
    runs: int
    peer_runs: int
    order: Literal["own", "ours"]
    out: Path


def overrides_of(task: str, point: float | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a task that ``--point`` and ``--set task.KEY=VALUE`` change."""
    ladder = load_task(task).ladder
    if point is not None and ladder is None:
        raise InvalidOption(f"--point {point}: the task {task} has no ladder")
    chosen = {} if point is None or ladder is None else {ladder.field: point}
    return chosen | {key.partition(".")[2]: value for key, value in settings.items() if key.startswith("task.")}


def options_of(plan: Plan, method: str) -> dict[str, Any]:
    """Return every option of a method: what ``--set METHOD.KEY=VALUE`` says, what all can do, our defaults."""
    given = {key.partition(".")[2]: value for key, value in plan.settings.items() if key.startswith(f"{method}.")}
    return resolve_method(method, MATCHED.get(method, {}) | given).options


def problems(plan: Plan, seed: int) -> tuple[dict[str, Measurement], Truth]:
    """Return the measurement of a seed with exact and with rounded positions, and its truth."""
    exact, truth = simulate(load_task(plan.task, overrides=plan.overrides), seed, domain=plan.domain)
    whole = np.round(exact.positions_px)
    rounded = replace(exact, positions_px=whole, initial=replace(exact.initial, positions_px=whole))
    return {"exact": exact, "rounded": rounded}, truth


def able(plan: Plan) -> dict[str, list[str]]:
    """Return the peers that have each method; says why others have not."""
    return {
        method: [peer for peer in plan.peers if can(peer, method, options_of(plan, method))] for method in plan.methods
    }


def cells_of(
    plan: Plan, seed: int, measurements: dict[str, Measurement], capable: dict[str, list[str]]
) -> Iterator[Cell]:
    """Yield the cells of a seed, ours first."""
    named = [plan.task, *(f"{key}={value}" for key, value in sorted(plan.overrides.items())), plan.domain]
    root = plan.out / "-".join([*named, f"seed{seed}"])
    for method in plan.methods:
        options = options_of(plan, method)
        for positions in dict.fromkeys(PEERS[peer].positions for peer in capable[method]):
            folder = root / positions
            programs = [OURS, *(peer for peer in capable[method] if PEERS[peer].positions == positions)]
            for program in programs:
                for run in range(plan.runs if program == OURS else plan.peer_runs):
                    solver_seed = named_seed("peers", plan.task, seed, run)
                    job = Job("../measurement.h5", method, options, plan.epochs, solver_seed)
                    if plan.order == "ours" and program != OURS:
                        job = replace(job, order=visiting(measurements[positions], method, options, solver_seed, plan))
                    name = f"{method}-{program}-{run}" + ("-ours" if plan.order == "ours" and program != OURS else "")
                    yield Cell(program, positions, seed, run, job, folder / name)


def can(peer: str, method: str, options: dict[str, Any]) -> bool:
    """Whether a peer has a method; says why where it has not."""
    try:
        CAN[peer](method, options)
    except Unsupported as reason:
        print(f"left out: {reason}", file=sys.stderr)
        return False
    return True


def visiting(measurement: Measurement, method: str, options: dict[str, Any], seed: int, plan: Plan) -> list[list[int]]:
    """Return the orders ``(epochs, K)`` in which our method visits the patterns."""
    solver = resolve_method(method, options).create(measurement, "cpu", seed, None)
    return [solver.order() for _ in range(plan.epochs)]
