"""Reconstruct the job of a folder with cdtools: ``python drive_cdtools.py FOLDER``, in cdtools' environment.

Its ``SimplePtycho`` is automatic differentiation of amplitudes; ``FancyPtycho`` would have more parameters than ours.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cdtools.datasets import Ptycho2DDataset
from cdtools.models import SimplePtycho
from cdtools.reconstructors import AdamReconstructor
from conventions import to_cdtools
from exchange import Problem, Unsupported, read_job, write_prediction, write_reconstruction
from options import cdtools_options


def make_model(problem: Problem) -> tuple[Any, Any]:
    """Return a model that starts as ours does, and the data."""
    arrays = to_cdtools(problem)
    data = Ptycho2DDataset(arrays.translations, arrays.patterns)
    model = SimplePtycho(1.0, torch.as_tensor(arrays.basis), problem.probe[0], problem.object)
    return model, data


def found_by(model: Any, problem: Problem) -> Problem:
    """Return what the model holds, in our conventions."""
    with torch.no_grad():
        probe = (model.probe * model.probe_norm).cpu().numpy()[None]
        return replace(problem, object=model.obj.cpu().numpy(), probe=probe)


def main(folder: Path) -> None:
    """Do the job of a folder."""
    job, problem = read_job(folder)
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed % 2**32)
    model, data = make_model(problem)
    if job.method == "forward":
        (index, translations), _ = data[:]
        with torch.no_grad():
            write_prediction(folder, np.asarray(model.forward(index, translations)))
        return
    rates = cdtools_options(job.method, job.options)
    reconstructor = AdamReconstructor(model, data)
    start = time.perf_counter()
    for _ in reconstructor.optimize(job.epochs, **rates, batch_size=job.together, thread=False):
        pass
    seconds = time.perf_counter() - start
    write_reconstruction(folder, found_by(model, problem), seconds)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Unsupported as problem:
        sys.exit(str(problem))
