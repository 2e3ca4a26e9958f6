"""Reconstruct the job of a folder with ptybench: ``python drive_ptybench.py FOLDER``; the same job as the peers'."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from exchange import read_job, write_reconstruction

from ptybench.io.hdf5 import load_measurement
from ptybench.registry import resolve_method
from ptybench.solver import Limit, solve


def main(folder: Path) -> None:
    """Do the job of a folder."""
    job, problem = read_job(folder)
    torch.set_num_threads(job.threads)
    solver = resolve_method(job.method, job.options).create(
        load_measurement(folder / job.measurement), "cpu", job.seed, None
    )
    outcome = solve(solver, Limit(job.epochs))
    if outcome.status != "ok":
        sys.exit(f"{job.method} diverged after {outcome.epochs} epochs")
    found = outcome.estimate
    written = type(problem)(
        problem.intensities, problem.bad_pixels, found.positions_px, found.object, found.probe, problem.known_probe
    )
    write_reconstruction(folder, written, outcome.solver_seconds)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
