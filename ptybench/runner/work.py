"""The child's work: make a solver, run it, say how it ended."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from ptybench import registry, team
from ptybench.errors import MethodFailed, UsageError
from ptybench.io.hdf5 import load_measurement, load_truth, save_reconstruction
from ptybench.memory import usage_of
from ptybench.native import library
from ptybench.records import finite
from ptybench.runner import ranks
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
from ptybench.solver import Limit, Solver, Step, solve, threads
from ptybench.types import Measurement, Truth

Say = Callable[[dict[str, Any]], None]


@contextmanager
def making(folder: Path, job: Job) -> Iterator[Solver]:
    """Load the measurement and make the solver, one of several where processes share the patterns."""
    if job.distributed:
        with ranks.leading(job, folder) as (_, share):
            yield solver_of(job, share, job.device)
        return
    # a plug-in of the user's may do anything with the patterns that can be done with an array
    measurement = load_measurement(folder / MEASUREMENT_FILE, in_file=not job.plugins)
    truth = load_truth(folder / TRUTH_FILE) if job.truth else None
    yield solver_of(job, measurement, job.device, truth)


def solver_of(job: Job, measurement: Measurement, device: str, truth: Truth | None = None) -> Solver:
    """The solver of a job."""
    for plugin in job.plugins:
        if Path(plugin) not in registry.plugin_paths():
            registry.add_plugin(Path(plugin))
    return registry.resolve_method(job.method, job.options).create(measurement, device, job.seed, truth)


def run_job(folder: Path, say: Say) -> None:
    """Solve one job and say how it ended; nothing that a solver raises gets out."""
    job = Job.model_validate_json((folder / JOB_FILE).read_text(encoding="utf-8"))

    def on_step(step: Step) -> None:
        if step.estimate is not None:
            save_reconstruction(checkpoint_file(folder, step.epoch), step.estimate)
        told = {"epoch": step.epoch, "seconds": step.seconds, "ffts": step.ffts, "data_error": step.data_error}
        say({"step": told | {"checkpoint": step.estimate is not None}})

    solver: Solver | None = None
    try:
        with making(folder, job) as solver:
            with threads(solver.threads) as count:
                kernels = library.flavour() if solver.device.type == "cpu" else None
                world = team.current().world if job.distributed else None
                say({"ready": {"threads": count, "kernels": kernels, "world": world}})
            outcome = solve(solver, Limit(job.epochs, job.seconds), job.checkpoints, on_step)
        usage = usage_of()
        save_reconstruction(folder / ESTIMATE_FILE, outcome.estimate)
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
    if isinstance(error, MethodFailed):
        return Failed(status="error", error=" ".join(str(error).split()))
    return Failed(status="error", error=sentence(error))


def warm(device: str) -> None:
    """Start the device's driver, which takes seconds on CUDA."""
    try:
        torch.zeros(1, device=device)
    except Exception:  # the job itself will say what is wrong
        traceback.print_exc()


def serve(control: IO[str], protocol: IO[str]) -> None:
    """Do what the lines of ``control`` ask for, until it ends."""

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
