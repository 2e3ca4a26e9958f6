"""What goes into and comes out of a process that reconstructs: files only, so that a driver needs no ptybench.

A cell is a folder with ``job.json``; ``measurement.h5`` lies beside or above it and is the one that all programs read.
The driver leaves ``reconstruction.h5``. This module and :mod:`conventions` import numpy and h5py alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray


class Unsupported(Exception):
    """A peer has no counterpart of what a job asks for; the message is one sentence."""


@dataclass(frozen=True)
class Problem:
    """A measurement in ptybench's conventions.

    Args:
        intensities: ``(K, h, w)`` photons in float32, zero frequency at ``[h // 2, w // 2]``.
        bad_pixels: ``(h, w)`` boolean.
        positions_px: ``(K, 2)`` top-left corners (y, x) of the patches.
        object: ``(H, W)`` complex, the start.
        probe: ``(M, h, w)`` complex in square-root photons, the start.
        known_probe: whether the probe is exact and is not to be refined.

    """

    intensities: NDArray[Any]
    bad_pixels: NDArray[np.bool_]
    positions_px: NDArray[np.float64]
    object: NDArray[Any]
    probe: NDArray[Any]
    known_probe: bool = False


@dataclass(frozen=True)
class Job:
    """What to do with a problem.

    Args:
        measurement: file of :func:`ptybench.io.hdf5.save_measurement`, relative to the cell's folder.
        method: name of our method, or ``"forward"`` for one forward pass of the start.
        options: every option of our method, resolved.
        epochs: passes over all patterns.
        seed: seed of everything random.
        precision: ``"single"`` or ``"double"``; ours is single.
        order: ``(epochs, K)`` visiting order, or ``None`` for the program's own.
        threads: of the program's numerical libraries.
        batch: patterns that a peer takes at a time, whatever the options say; for speed, see speed.py.
        device: ``"cpu"`` or ``"cuda"``.
        warm: epochs before those that are timed.

    """

    measurement: str
    method: str
    options: dict[str, Any]
    epochs: int
    seed: int
    precision: str = "single"
    order: list[list[int]] | None = None
    threads: int = 1
    batch: int | None = None
    device: str = "cpu"
    warm: int = 0

    @property
    def together(self) -> int:
        """Patterns that a peer takes at a time."""
        return int(self.options["batch"] if self.batch is None else self.batch)


def read_job(folder: Path) -> tuple[Job, Problem]:
    """Return the job of a cell's folder and the problem that it names."""
    job = Job(**json.loads((folder / "job.json").read_text(encoding="utf-8")))
    with h5py.File(folder / job.measurement, "r") as file:
        if file.attrs["propagation"] != "far_field":
            raise Unsupported("the peers are compared in the far field only: choose another task")
        problem = Problem(
            intensities=file["intensities"][()].astype(np.float32, copy=False),
            bad_pixels=file["bad_pixels"][()].astype(bool),
            positions_px=file["positions_px"][()],
            object=file["initial/object"][()],
            probe=file["initial/probe"][()],
            known_probe=bool(file.attrs["known_probe"]),
        )
    return job, problem


def write_reconstruction(folder: Path, found: Problem, seconds: float) -> None:
    """Write ``reconstruction.h5`` from a problem whose object and probe are what was found."""
    path = folder / "reconstruction.h5"
    partial = path.with_suffix(".part")
    with h5py.File(partial, "w") as file:
        file["object"], file["probe"], file["positions_px"] = found.object, found.probe, found.positions_px
        file.attrs["seconds"] = seconds
    partial.replace(path)


def write_prediction(folder: Path, intensities: NDArray[Any]) -> None:
    """Write ``prediction.h5``: the intensities ``(K, h, w)`` of one forward pass, in our convention."""
    with h5py.File(folder / "prediction.h5", "w") as file:
        file["intensities"] = intensities
