"""The process in which a solver runs: ``python -m ptybench.runner.child PARENT_PID``.

It imports torch at once, then waits for lines on its standard input: ``warm DEVICE``, or ``job FOLDER``. What a solver
prints goes to the log, never into the protocol. The process dies with its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

from ptybench import registry
from ptybench.errors import UsageError
from ptybench.io.hdf5 import load_measurement, load_truth, save_reconstruction
from ptybench.records import finite
from ptybench.runner.job import (
    ESTIMATE_FILE,
    JOB_FILE,
    MEASUREMENT_FILE,
    TRACEBACK_FILE,
    TRUTH_FILE,
    Done,
    Failed,
    Job,
    checkpoint_file,
    sentence,
)
from ptybench.runner.memory import usage_of
from ptybench.solver import Limit, Solver, Step, solve
from ptybench.types import Estimate

Say = Callable[[dict[str, Any]], None]


def die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent dies; a watchdog does it where the kernel cannot."""
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL, 0, 0, 0)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.killpg(0, signal.SIGKILL)

    if os.getppid() != parent:  # it died before the kernel was told
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


def take_streams() -> tuple[IO[str], IO[str]]:
    """Return private streams (control in, protocol out); solvers are left an empty input and the log."""
    control, protocol = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return os.fdopen(control, encoding="utf-8"), os.fdopen(protocol, "w", encoding="utf-8")


def make_solver(folder: Path, job: Job) -> Solver:
    """Load the measurement and make the solver."""
    for plugin in job.plugins:
        registry.add_plugin(Path(plugin))
    method = registry.resolve_method(job.method, job.options)
    measurement = load_measurement(folder / MEASUREMENT_FILE)
    truth = load_truth(folder / TRUTH_FILE) if job.truth else None
    return method.create(measurement, job.device, job.seed, truth)


def save_whole(path: Path, estimate: Estimate) -> None:
    """Write an estimate under another name and rename it, so that the parent never reads half a file."""
    temporary = path.with_suffix(".tmp.h5")
    save_reconstruction(temporary, estimate)
    temporary.replace(path)


def run_job(folder: Path, say: Say) -> None:
    """Solve one job and say how it ended; nothing that a solver raises gets out."""
    job = Job.model_validate_json((folder / JOB_FILE).read_text(encoding="utf-8"))

    def on_step(step: Step) -> None:
        if step.estimate is not None:
            save_whole(checkpoint_file(folder, step.epoch), step.estimate)
        told = {"epoch": step.epoch, "seconds": step.seconds, "ffts": step.ffts, "data_error": step.data_error}
        say({"step": told | {"checkpoint": step.estimate is not None}})

    solver: Solver | None = None
    try:
        solver = make_solver(folder, job)
        outcome = solve(solver, Limit(job.epochs, job.seconds), job.checkpoints, on_step)
        usage = usage_of()
        save_whole(folder / ESTIMATE_FILE, outcome.estimate)
    except BaseException as error:  # also SystemExit: a solver that calls sys.exit has failed like any other
        (folder / TRACEBACK_FILE).write_text(traceback.format_exc(), encoding="utf-8", errors="replace")
        say({"failed": classify(error, made=solver is not None).model_dump()})
        return
    done = Done(
        status=outcome.status,
        stop_reason=outcome.stop_reason,
        epochs=outcome.epochs,
        ffts=outcome.cost.ffts,
        network_evaluations=outcome.cost.network_evaluations,
        solver_seconds=outcome.solver_seconds,
        peak_rss_bytes=None if usage is None else usage.peak,
        peak_device_bytes=outcome.peak_device_bytes,
    )
    say({"done": done.model_dump()})


def classify(error: BaseException, made: bool) -> Failed:
    """Return what an exception means.

    Args:
        error: what was raised.
        made: true where the solver had been made already, so that a refusal is no longer one.

    """
    text = str(error).lower()
    no_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)
    )
    if no_memory:
        return Failed(status="oom", error=sentence(error))
    if not made and isinstance(error, ModuleNotFoundError):
        return Failed(status="not_installed", error=sentence(error))
    if not made and isinstance(error, UsageError):
        return Failed(status="skipped", error=" ".join(str(error).split()))
    return Failed(status="error", error=sentence(error))


def warm(device: str) -> None:
    """Start the device's driver, which takes seconds on CUDA."""
    try:
        torch.zeros(1, device=device)
    except Exception:  # the job itself will say what is wrong
        traceback.print_exc()


def main() -> None:
    """Serve until the input ends."""
    die_with(int(sys.argv[1]))
    control, protocol = take_streams()

    def say(message: dict[str, Any]) -> None:
        protocol.write(json.dumps(finite(message), allow_nan=False) + "\n")
        protocol.flush()

    say({"ready": {"threads": torch.get_num_threads()}})
    for line in control:
        word, _, rest = line.strip().partition(" ")
        if word == "warm":
            warm(rest)
        elif word == "job":
            run_job(Path(rest), say)


if __name__ == "__main__":
    main()
