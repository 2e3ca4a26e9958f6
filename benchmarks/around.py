"""What is done before and after a reconstruction: simulating tier small, and scoring 512 by 512 pixels.

    python benchmarks/around.py --out cost

Seconds of the processor, so that what else the machine does counts little; the transforms of a simulation are timed
where they happen. Writes around.json; see docs/performance.md.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import numpy.fft
import scipy.fft
from history.operations import Score
from line import run

from ptybench.cores import usable_cores
from ptybench.registry import load_task, task_names
from ptybench.runner.provenance import cpu_name, git_commit
from ptybench.scoring import score
from ptybench.simulation import simulate

TRANSFORMS = ("fft", "ifft", "fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn")
ROUNDS = 5


@contextmanager
def transforms() -> Iterator[list[float]]:
    """Collect the processor's seconds of every transform of numpy and scipy."""
    spent: list[float] = []
    inside = [False]

    def timed(transform: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*arguments: Any, **options: Any) -> Any:
            if inside[0]:
                return transform(*arguments, **options)
            inside[0], start = True, time.process_time()
            try:
                return transform(*arguments, **options)
            finally:
                spent.append(time.process_time() - start)
                inside[0] = False

        return measured

    patches = [
        patch.object(module, name, timed(getattr(module, name)))
        for module in (numpy.fft, scipy.fft)
        for name in TRANSFORMS
    ]
    for one in patches:
        one.start()
    try:
        yield spent
    finally:
        for one in patches:
            one.stop()


def simulation(name: str) -> dict[str, float]:
    """Seconds of simulating a task, and of the transforms in it; the best of some rounds."""
    task = load_task(name)
    simulate(task, 0)
    rounds = []
    for _ in range(ROUNDS):
        with transforms() as spent:
            start = time.process_time()
            simulate(task, 0)
            rounds.append((time.process_time() - start, sum(spent)))
    return {"seconds": min(whole for whole, _ in rounds), "transforms": min(part for _, part in rounds)}


def scoring(size: int) -> dict[str, float]:
    """Seconds of the clock and of the processor for all metrics of an object of so many pixels a side."""
    estimate, truth, measurement = Score().setup_cache()[size]
    score(estimate, truth, measurement)
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter(), time.process_time()
        score(estimate, truth, measurement)
        rounds.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    seconds, processor = (min(values) for values in zip(*rounds, strict=True))
    return {"seconds": seconds, "processor_seconds": processor, "patterns": float(len(measurement.intensities))}


def command(*, out: Path = Path("cost")) -> int:
    """Time simulations and scoring.

    Args:
        out: folder of around.json.

    """
    out.mkdir(parents=True, exist_ok=True)
    document = {
        "schema": "ptybench.around/1",
        "machine": {"cpu": cpu_name(), "cores": len(usable_cores()), "commit": git_commit()},
        "simulation": {name: simulation(name) for name in task_names()},
        "scoring": {str(size): scoring(size) for size in Score.params[0]},
    }
    (out / "around.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=1))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(run(command, "around.py"))
