"""How far the compiled kernels are from torch on a real task, method by method, in both precisions.

    python benchmarks/agree.py --out cost

Writes agree.json; see docs/performance.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import torch
from line import run

from ptybench.native import library
from ptybench.registry import resolve_method
from ptybench.runner.provenance import cpu_name, git_commit
from ptybench.scoring import score
from ptybench.simulation import simulate
from ptybench.solver import Solver
from ptybench.types import Measurement

METHODS: list[tuple[str, dict[str, Any]]] = [
    *(
        (name, {})
        for name in ("pie", "epie", "rpie", "mpie", "wasp", "sdr", "ap", "dm", "raar", "admm", "admm:poisson")
    ),
    *((name, {}) for name in ("lsqml", "lsqml:poisson")),
    ("rpie", {"batch": 32}),
    ("ad", {}),
]
FEW, MANY = 5, 60  # epochs


def solved(measurement: Measurement, method: str, options: dict[str, Any], dtype: torch.dtype, epochs: int) -> Solver:
    """A solver after some epochs."""
    solver = resolve_method(method, options).create(measurement, "cpu", 1, None)
    kind = type(solver)
    solver = type(kind.__name__, (kind,), {"dtype": dtype})(measurement, solver.options, "cpu", 1)
    for epoch in range(epochs):
        solver.progress = epoch / epochs
        solver.step()
    return solver


def command(*, task: str = "low_dose", out: Path = Path("cost")) -> int:
    """Run every method by compiled kernels and by torch.

    Args:
        task: name of a task.
        out: folder of agree.json.

    """
    measurement, truth = simulate(task, 0)
    rows = {}
    for method, options in METHODS:
        row: dict[str, Any] = {}
        for name, dtype, epochs in (
            ("complex128", torch.complex128, FEW),
            ("complex64", torch.complex64, FEW),
            ("scores", torch.complex64, MANY),
        ):
            ours = solved(measurement, method, options, dtype, epochs)
            with patch.object(library, "able", lambda model: False):
                torchs = solved(measurement, method, options, dtype, epochs)
            if name == "scores":
                row[name] = [score(solver.estimate(), truth)["frc_truth_area"] for solver in (ours, torchs)]
            else:
                row[name] = float((ours.object - torchs.object).norm() / torchs.object.norm())
        rows[f"{method}, batch {options['batch']}" if options else method] = row
        print(method, row, file=sys.stderr)
    document = {"schema": "ptybench.agree/1", "machine": {"cpu": cpu_name(), "commit": git_commit()}, "task": task}
    out.mkdir(parents=True, exist_ok=True)
    (out / "agree.json").write_text(json.dumps(document | {"methods": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run(command, "agree.py"))
