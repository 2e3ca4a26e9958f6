"""Reconstruct the job of a folder with Pty-Chi: ``python drive_ptychi.py FOLDER``, in Pty-Chi's environment."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any

import cpu_torchvision  # noqa: F401 - before Pty-Chi, which needs it
import numpy as np
import ptychi.api as api
import torch
from conventions import PtyChiArrays, from_ptychi, to_ptychi
from exchange import Job, Problem, Unsupported, read_job, write_prediction, write_reconstruction
from options import ptychi_options
from ptychi.api.task import PtychographyTask

logging.disable(logging.INFO)

KINDS: dict[str, type[Any]] = {
    "epie": api.EPIEOptions,
    "rpie": api.RPIEOptions,
    "dm": api.DMOptions,
    "lsqml": api.LSQMLOptions,
    "ad": api.AutodiffPtychographyOptions,
    "forward": api.EPIEOptions,
}


def make_task(job: Job, problem: Problem, arrays: PtyChiArrays) -> PtychographyTask:
    """Return a task with our options in Pty-Chi's words."""
    options = KINDS[job.method]()
    mapped = {} if job.method == "forward" else ptychi_options(job.method, job.options)
    for path, value in mapped.items():
        *groups, name = path.split(".")
        group = options
        for part in groups:
            group = getattr(group, part)
        setattr(group, name, value)
    if job.method == "ad":
        options.reconstructor_options.loss_function = api.LossFunctions.MSE_SQRT
        options.object_options.optimizer = options.probe_options.optimizer = api.Optimizers.ADAM
    if job.batch is not None:
        options.reconstructor_options.batch_size = job.batch
    options.data_options.fft_shift = False
    options.object_options.determine_position_origin_coords_by = api.ObjectPosOriginCoordsMethods.SPECIFIED
    options.object_options.position_origin_coords = list(arrays.origin)
    options.probe_options.optimizable = not problem.known_probe
    options.reconstructor_options.num_epochs = job.epochs
    options.reconstructor_options.random_seed = job.seed % 2**32
    options.reconstructor_options.default_device = api.Devices.GPU if job.device == "cuda" else api.Devices.CPU
    options.reconstructor_options.default_dtype = (
        api.Dtypes.FLOAT32 if job.precision == "single" else api.Dtypes.FLOAT64
    )
    return PtychographyTask(
        options,
        diffraction_data=arrays.diffraction_data,
        object_data=arrays.object_data,
        probe_data=arrays.probe_data,
        probe_position_x_px=arrays.position_x_px,
        probe_position_y_px=arrays.position_y_px,
        valid_pixel_mask=arrays.valid_pixel_mask,
    )


def visit_in(task: PtychographyTask, order: list[list[int]], batch: int) -> None:
    """Let the task visit the patterns in our order."""
    epochs = iter(order)

    class Batches(torch.utils.data.Sampler[list[int]]):
        def __iter__(self) -> Any:
            visits = next(epochs)
            return iter([visits[i : i + batch] for i in range(0, len(visits), batch)])

        def __len__(self) -> int:
            return -(-len(order[0]) // batch)

    task.reconstructor.dataloader = torch.utils.data.DataLoader(task.reconstructor.dataset, batch_sampler=Batches())


def predict(task: PtychographyTask) -> np.ndarray[Any, Any]:
    """Return the intensities ``(K, h, w)`` of the start, zero frequency in the middle."""
    with torch.no_grad():
        count = len(task.reconstructor.dataset)
        intensities = task.reconstructor.forward_model.forward(torch.arange(count)).numpy()
    return np.fft.fftshift(intensities, axes=(-2, -1))


def main(folder: Path) -> None:
    """Do the job of a folder."""
    job, problem = read_job(folder)
    torch.set_num_threads(job.threads)
    task = make_task(job, problem, to_ptychi(problem))
    if job.method == "forward":
        write_prediction(folder, predict(task))
        return
    if job.order is not None and job.method != "dm":  # which takes all patterns at once, in their own order
        visit_in(task, job.order, task.reconstructor_options.batch_size)
    if job.warm:
        task.run(job.warm)
    start = time.perf_counter()
    task.run(job.epochs)
    if job.device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    object_, probe = (task.get_data_to_cpu(name, as_numpy=True) for name in ("object", "probe"))
    write_reconstruction(folder, from_ptychi(problem, object_, probe), seconds)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Unsupported as problem:
        sys.exit(str(problem))
