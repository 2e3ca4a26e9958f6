"""How long the steps of a cell take on one thread: ``OMP_NUM_THREADS=1 pytest benchmarks/test_speed.py``.

The floor of an epoch is its transforms alone; it is measured beside the methods, so that ratios can be read off.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ptybench.registry import resolve_method
from ptybench.scoring import score
from ptybench.simulation import simulate
from ptybench.solver import Limit, solve
from ptybench.types import Measurement, Truth


@pytest.fixture(scope="module")
def problem() -> tuple[Measurement, Truth]:
    torch.set_num_threads(1)
    return simulate("low_dose", 0)


def test_simulate(benchmark: Any) -> None:
    benchmark.pedantic(simulate, ("low_dose", 0), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("method", ["pie", "epie", "rpie", "mpie", "wasp"])
def test_epoch_of_the_pie_family(benchmark: Any, problem: tuple[Measurement, Truth], method: str, batch: int) -> None:
    solver = resolve_method(method, {"batch": batch}).create(problem[0], "cpu", 1, None)
    benchmark.pedantic(solver.epoch, rounds=20, warmup_rounds=2)
    benchmark.extra_info["patterns"] = len(problem[0].intensities)
    benchmark.extra_info["ffts"] = solver.cost().ffts // 22


@pytest.mark.parametrize("batch", [1, 32])
def test_floor_of_an_epoch(benchmark: Any, problem: tuple[Measurement, Truth], batch: int) -> None:
    """Four transforms a pattern: look, forward, back, update (two where positions are whole pixels)."""
    count, h, w = problem[0].intensities.shape
    waves = [torch.randn(min(batch, count - i), h, w, dtype=torch.complex64) for i in range(0, count, batch)]

    def transforms() -> None:
        for wave in waves:
            for _ in range(2):
                torch.fft.ifft2(torch.fft.fft2(wave))

    benchmark.pedantic(transforms, rounds=20, warmup_rounds=2)


def test_score(benchmark: Any, problem: tuple[Measurement, Truth]) -> None:
    measurement, truth = problem
    solver = resolve_method("epie").create(measurement, "cpu", 1, None)
    estimate = solve(solver, Limit(epochs=10)).estimate
    benchmark.pedantic(score, (estimate, truth, measurement), rounds=5, warmup_rounds=1)
