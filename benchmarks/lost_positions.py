"""Which positions ``joint`` loses and finds: ``python benchmarks/lost_positions.py [seed …]``, tables in Markdown.

For each seed of ``sci_joint`` (domain ``dev``, tier ``small``), with the search for lost patterns and without: how
wrong distance and scan are, how many positions are off by more than a pixel, and the data error, beside that of a run
that starts at the truth. Then what decides the search: the data error of each pattern that was doubted, over the median
of all, and its least error over that with an empty object, beside how far it is, and its best place would be, from the
truth. A pattern is off by what is left once the affine map of those that are in place is removed.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ptybench.baselines.ad import AD
from torch import Tensor

from ptybench.registry import resolve_method
from ptybench.simulation import simulate
from ptybench.solver import Limit, solve
from ptybench.types import Measurement, Truth

EPOCHS, AT_TRUTH = 500, 200
OFF_PX = 1.0
WITHOUT = {"searches": 0, "blur_share": 0.5}
Places = NDArray[np.float64]


def main() -> None:
    """Print both tables."""
    decided: list[str] = []
    print("| seed | recipe | distance | scan | off by 1 px | data error |\n|--:|:--|--:|--:|--:|--:|")
    for seed in map(int, sys.argv[1:] or ["1001"]):
        measurement, truth = simulate("sci_joint", seed=seed)
        for name, options in (("joint", {}), ("without searches", WITHOUT)):
            row(seed, name, Watched(seed, measurement, truth, options, decided), EPOCHS)
        known = {"searches": 0, "blur": 0.0, "probe_wait": 0.0}
        row(seed, "from the truth", Watched(seed, at_truth(measurement, truth), truth, known, decided), AT_TRUTH)
    print("\n| seed | pattern | off by / px | error / median | best place off by / px | error there / empty |")
    print("|--:|--:|--:|--:|--:|--:|", *decided, sep="\n")


def at_truth(measurement: Measurement, truth: Truth) -> Measurement:
    """The measurement with the true object, positions and distance to start from, and the probe that was given."""
    where: dict[str, Any] = {"positions_px": truth.positions_px, "distance_m": truth.distance_m}
    start = replace(measurement.initial, object=truth.object.astype(np.complex64), **where)
    return replace(measurement, initial=start, **where)


class Watched:
    """A run of ``joint`` whose search is written down."""

    def __init__(
        self, seed: int, measurement: Measurement, truth: Truth, options: dict[str, Any], decided: list[str]
    ) -> None:
        solver = resolve_method("joint", options).create(measurement, "cpu", 0, None)
        assert isinstance(solver, AD)
        self.seed, self.solver, self.truth, self.decided = seed, solver, truth, decided
        self.searched = solver.sought
        solver.sought = self.sought  # type: ignore[method-assign]

    def sought(self, pattern: int, deviation_px: float) -> tuple[Tensor, float]:
        """What the solver says, written down."""
        s, kept = self.solver, self.solver.corrections[pattern].clone()
        median = float(np.median([s.misfit(k) for k in range(s.model.count)]))
        was, error = self.off()[pattern], s.misfit(pattern) / median
        correction, share = self.searched(pattern, deviation_px)
        s.corrections[pattern] = correction
        would = self.off()[pattern]
        s.corrections[pattern] = kept
        self.decided.append(f"| {self.seed} | {pattern} | {was:.1f} | {error:.1f} | {would:.1f} | {share:.2f} |")
        return correction, share

    def fit(self) -> tuple[Places, Places]:
        """The map ``(3, 2)`` from found to true positions of those in place, and how far ``(K,)`` each is off."""
        found, true = self.solver.places(), self.truth.positions_px
        ones, good = np.c_[found, np.ones(len(found))], np.ones(len(found), bool)
        for _ in range(6):
            fit = np.linalg.lstsq(ones[good], true[good], rcond=None)[0]
            off = np.hypot(*(ones @ fit - true).T)
            good = off < max(OFF_PX, 2 * float(np.median(off)))
        return fit, off

    def off(self) -> Places:
        """How far ``(K,)`` positions are off, in pixels."""
        return self.fit()[1]


def row(seed: int, name: str, run: Watched, epochs: int) -> None:
    """Solve, and print a row."""
    errors: list[float] = []
    found = solve(run.solver, Limit(epochs), on_step=lambda step: errors.append(step.data_error)).estimate
    fit, off = run.fit()
    assert found.distance_m is not None
    distance = found.distance_m / run.truth.distance_m - 1
    scan = 1 / np.sqrt(abs(np.linalg.det(fit[:2]))) - 1
    lost = int((off > OFF_PX).sum())
    print(f"| {seed} | {name} | {distance:+.2%} | {scan:+.2%} | {lost} | {errors[-1]:.2e} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
