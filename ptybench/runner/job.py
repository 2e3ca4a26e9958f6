"""What the supervisor hands to the child process, and what comes back.

The child is told the resolved method, a seed of its own and a budget; neither the task's name nor its seed, from which
the truth could be made again. A job lies in a private folder; the child answers with one JSON line per event:

    {"ready": {...}}                      torch is imported
    {"step": {epoch, seconds, ffts, data_error, checkpoint}}
    {"done": {...}}                       ``estimate.h5`` is complete
    {"failed": {"status", "error"}}       ``traceback.txt`` tells more
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ptybench.specs import Spec

JOB_FILE = "job.json"
MEASUREMENT_FILE = "measurement.h5"
TRUTH_FILE = "truth.h5"
ESTIMATE_FILE = "estimate.h5"
TRACEBACK_FILE = "traceback.txt"


class Job(Spec):
    """One reconstruction.

    Args:
        method: name, chains included.
        options: every resolved option.
        seed: the solver's own seed.
        epochs: budget, with ``seconds``; whichever ends first.
        checkpoints: epochs whose estimate is kept.
        device: torch device.
        plugins: plug-in files to load first.
        truth: true where the method is a control and ``truth.h5`` lies beside the measurement.
        distributed: true where the processes of torchrun share the patterns.

    """

    method: str
    options: dict[str, Any]
    seed: int
    epochs: int | None
    seconds: float | None
    checkpoints: list[int]
    device: str
    plugins: list[str] = Field(default_factory=list)
    truth: bool = False
    distributed: bool = False


class Done(Spec):
    """How a reconstruction ended, told by the child."""

    status: Literal["ok", "diverged"]
    stop_reason: Literal["budget", "converged"] | None
    epochs: int
    ffts: int
    network_evaluations: int
    solver_seconds: float
    peak_rss_bytes: int | None
    peak_device_bytes: int | None


class Failed(Spec):
    """Why there is no reconstruction, told by the child."""

    status: Literal["error", "oom", "skipped", "not_installed"]
    error: str


def checkpoint_file(folder: Path, epoch: int) -> Path:
    """Where the estimate of an epoch is kept."""
    return folder / f"checkpoint-{epoch:07d}.h5"


def sentence(error: BaseException) -> str:
    """Return an exception as one line of at most 300 characters."""
    text = " ".join(str(error).split())
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return line if len(line) <= 300 else line[:297] + "..."
