"""One reconstruction by one program: a folder, a process, a score. What has been done stays done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
from environments import PEERS, python_of
from exchange import Job

from ptybench.io.files import atomic
from ptybench.io.hdf5 import load_reconstruction
from ptybench.scoring import score
from ptybench.types import Measurement, Truth

# no program gives memory back to the system after each operation, which would cost some more than their arithmetic
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000"}
HERE = Path(__file__).parent
OURS = "ptybench"


@dataclass(frozen=True)
class Cell:
    """What one program makes of one measurement.

    Args:
        program: ``"ptybench"`` or the name of a peer.
        positions: ``"exact"`` or ``"rounded"``.
        seed: seed of the task.
        run: number of the visiting order.
        job: what to do.
        folder: where.

    """

    program: str
    positions: str
    seed: int
    run: int
    job: Job
    folder: Path


@dataclass(frozen=True)
class Result:
    """How a cell ended: metrics, or why there are none."""

    program: str
    method: str
    positions: str
    seed: int
    run: int
    metrics: dict[str, float | None]
    seconds: float | None = None
    failure: str | None = None


def run_cell(cell: Cell, truth: Truth, measurement: Measurement, environments: Path) -> Result:
    """Do a cell unless it has been done, and score it."""
    failure = reconstruct(cell, environments)
    if failure is not None:
        return Result(cell.program, cell.job.method, cell.positions, cell.seed, cell.run, {}, None, failure)
    path = cell.folder / "reconstruction.h5"
    with h5py.File(path, "r") as file:
        seconds = float(file.attrs["seconds"])
    metrics = score(load_reconstruction(path), truth, measurement)
    return Result(cell.program, cell.job.method, cell.positions, cell.seed, cell.run, metrics, seconds)


def reconstruct(cell: Cell, environments: Path) -> str | None:
    """Run a cell's driver in a process of its own; return why it failed, ``None`` where it did not."""
    asked = json.dumps(asdict(cell.job))
    job, done = cell.folder / "job.json", cell.folder / "reconstruction.h5"
    if done.is_file() and job.is_file() and job.read_text(encoding="utf-8") == asked:
        return None
    cell.folder.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    with atomic(job) as temporary:
        temporary.write_text(asked, encoding="utf-8")
    log = cell.folder / "log.txt"
    with log.open("w", encoding="utf-8") as stream:
        code = drive(cell.program, cell.folder, environments, stream)
    if code < 0:
        return f"killed by signal {-code}"
    return None if code == 0 else _last_line(log) or f"exit code {code}"


def drive(program: str, folder: Path, environments: Path, stream: Any) -> int:
    """Run the driver of a program on a folder; return its exit code."""
    python = Path(sys.executable) if program == OURS else python_of(program, environments)
    # drivers import what lies beside them; a peer sees its own packages only
    hidden = {"PYTHONSAFEPATH"} if program == OURS else {"PYTHONSAFEPATH", "PYTHONPATH", "PYTHONHOME"}
    clean = {key: value for key, value in os.environ.items() if key not in hidden}
    threads = str(json.loads((folder / "job.json").read_text(encoding="utf-8")).get("threads", 1))
    clean |= {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MPLBACKEND": "Agg"} | _ALLOCATOR
    command = [str(python), str(HERE / f"drive_{program}.py"), str(folder)]
    return subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, env=clean, check=False).returncode


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def title(program: str) -> str:
    """Return how a program writes its name."""
    return program if program == OURS else PEERS[program].title
