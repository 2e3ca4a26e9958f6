"""Reconstruct the job of a folder with PtyRAD: ``python drive_ptyrad.py FOLDER``, in PtyRAD's environment.

Its model, loss, batches and iteration, without the files and figures that its solver writes meanwhile.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import cpu_torchvision  # noqa: F401 - before PtyRAD, which needs it
import no_figures  # noqa: F401 - likewise
import numpy as np
import torch
from conventions import to_ptyrad
from exchange import Job, Problem, Unsupported, read_job, write_prediction, write_reconstruction
from options import ptyrad_options
from ptyrad.core.losses import CombinedLoss
from ptyrad.core.models.ptycho import PtychoModel
from ptyrad.solver.reconstruction import compute_loss, create_optimizer, make_batches, recon_step

logging.disable(logging.INFO)
OFF = {"state": False}


def make_model(job: Job, problem: Problem, rates: dict[str, float]) -> Any:
    """Return a model that starts as ours does and refines object and probe."""
    arrays = to_ptyrad(problem)
    names = ("obja", "objp", "obj_tilts", "slice_thickness", "probe", "probe_pos_shifts")
    update = {name: {"start_iter": 1 if name in rates else None, "lr": rates.get(name, 0.0)} for name in names}
    settings: dict[str, Any] = {
        "detector_blur_std": None,
        "update_params": update,
        "optimizer_params": {"name": "Adam", "configs": {}, "load_state": None},
    }
    size = arrays["measurements"].shape[-1]
    given: dict[str, Any] = defaultdict(lambda: None, arrays)
    given |= {"random_seed": job.seed % 2**32, "length_unit": "px", "meas_Npix": size, "simu_Npix": size}
    return PtychoModel(given, settings, device="cpu")


def main(folder: Path) -> None:
    """Do the job of a folder."""
    job, problem = read_job(folder)
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed % 2**32)
    everything = np.arange(len(problem.intensities))
    if job.method == "forward":
        with torch.no_grad():
            write_prediction(folder, make_model(job, problem, {"probe": 1e-3})(everything).numpy())
        return
    model = make_model(job, problem, ptyrad_options(job.method, job.options))
    batches = make_batches(everything, problem.positions_px, job.together, mode="random", seed=job.seed % 2**32)
    optimiser = create_optimizer(model.optimizer_params, model.optimizable_params)
    single = {"state": True, "weight": 1.0, "dp_pow": 0.5}
    loss = CombinedLoss(
        {"loss_single": single, "loss_poissn": OFF, "loss_pacbed": OFF, "loss_sparse": OFF, "loss_simlar": OFF}, "cpu"
    )
    start = time.perf_counter()
    for number in range(1, job.epochs + 1):
        recon_step(batches, 1, model, optimiser, None, loss, lambda *_: None, number, compute_loss_fn=compute_loss)
    seconds = time.perf_counter() - start
    with torch.no_grad():
        canvas = torch.polar(model.opt_obja, model.opt_objp)[0, 0].numpy()
        probe = model.get_complex_probe_view().numpy()
    write_reconstruction(folder, replace(problem, object=canvas, probe=probe), seconds)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Unsupported as problem:
        sys.exit(str(problem))
