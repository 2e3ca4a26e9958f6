"""One of several processes that share out the patterns of a small problem; started by test_distributed.py."""

from __future__ import annotations

import json
import os
import signal
import sys

import numpy as np
import torch
from problems import make_problem
from torch.distributed import TCPStore

from ptybench.errors import PtybenchError
from ptybench.registry import load_method
from ptybench.solver import Limit, solve
from ptybench.team import joined
from ptybench.types import Measurement


def run(asked: dict, measurement: Measurement) -> dict[str, object]:
    kind = load_method(asked["method"])
    if asked["double"]:
        kind = type(kind.__name__, (kind,), {"dtype": torch.complex128})
    solver = kind(measurement, kind.Options(**asked["options"]), seed=5)
    errors: list[float] = []
    solve(solver, Limit(asked["epochs"]), on_step=lambda step: errors.append(step.data_error))
    return {
        "object": solver.object.numpy(), "probe": solver.probe.numpy(), "errors": errors,
        "positions": solver.estimate().positions_px,
    }  # fmt: skip


def main() -> None:
    rank, world, port, out = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(1)
    store = TCPStore("127.0.0.1", port, is_master=rank == 0, wait_for_workers=False)
    for number, asked in enumerate(json.loads(sys.stdin.readline())):
        measurement = make_problem(**asked["problem"]).measurement
        count = len(measurement.intensities)
        from torch.distributed import PrefixStore

        try:
            with joined(PrefixStore(str(number), store), rank, world, count, patience_s=20) as team:
                if asked.get("dies") == rank:
                    os.kill(os.getpid(), signal.SIGKILL)
                if asked.get("stops") == rank:
                    os.kill(os.getpid(), signal.SIGSTOP)
                found = run(asked, measurement.subset(team.own()))
        except PtybenchError as error:
            found = {"refused": str(error)}
        if rank == 0:
            np.savez(f"{out}/{number}.npz", **found)  # type: ignore[arg-type]
    if rank == 0:
        store.wait([f"over{rank}" for rank in range(1, world)]) if not asked.get("dies") else None
    else:
        store.set(f"over{rank}", "")


if __name__ == "__main__":
    main()
