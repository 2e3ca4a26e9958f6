"""One of two processes that share out the patterns of a small problem; started by test_distributed.py.

Its standard input has a list of what to reconstruct; the first process leaves what was found in a folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from problems import make_problem
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from ptybench.errors import PtybenchError
from ptybench.native import library
from ptybench.registry import load_method
from ptybench.solver import Limit, solve
from ptybench.team import joined
from ptybench.types import Measurement

able = library.able


def found(asked: dict[str, Any], measurement: Measurement) -> dict[str, Any]:
    """Object, probe, data errors, positions and transforms of a reconstruction."""
    with patch.object(library, "able", able if asked["compiled"] else lambda model: False):
        return _found(asked, measurement)


def _found(asked: dict[str, Any], measurement: Measurement) -> dict[str, Any]:
    base: Any = load_method(asked["method"])
    kind = type(base.__name__, (base,), {"dtype": torch.complex128}) if asked["double"] else base
    solver = kind(measurement, kind.Options(**asked["options"]), seed=5)
    errors: list[float] = []
    outcome = solve(solver, Limit(asked["epochs"]), on_step=lambda step: errors.append(step.data_error))
    positions = outcome.estimate.positions_px
    arrays = {"object": solver.object.numpy(), "probe": solver.probe.numpy(), "positions": positions}
    return {**arrays, "errors": np.array(errors), "ffts": outcome.cost.ffts}


def main() -> None:
    """Reconstruct one after another; a process that is told so dies or stops once they have met."""
    rank, port, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    store = TCPStore("127.0.0.1", port, is_master=rank == 0, wait_for_workers=False)
    for number, asked in enumerate(json.loads(sys.stdin.readline())):
        measurement = make_problem(**asked["problem"]).measurement
        count, group = len(measurement.intensities), PrefixStore(str(number), store)
        try:
            with joined(group, rank, 2, count, patience_s=asked.get("patience", 60)) as team:
                if rank == 1 and asked.get("signal"):
                    os.kill(os.getpid(), getattr(signal, asked["signal"]))
                answer = found(asked, measurement.subset(team.own()))
        except PtybenchError as error:
            answer = {"refused": np.array(str(error))}
        if rank == 0:
            np.savez(f"{out}/{number}.npz", **answer)
    store.set(f"over{rank}", "")
    if rank == 0 and not asked.get("signal"):
        store.wait(["over1"])  # the store goes with this process


if __name__ == "__main__":
    main()
