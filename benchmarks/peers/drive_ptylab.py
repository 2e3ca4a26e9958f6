"""Reconstruct the job of a folder with PtyLab: ``python drive_ptylab.py FOLDER``, in PtyLab's environment."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from conventions import PtyLabArrays, from_ptylab, to_ptylab
from exchange import Job, Problem, Unsupported, read_job, write_prediction, write_reconstruction
from options import ptylab_options
from PtyLab import Engines, ExperimentalData, Params, Reconstruction
from PtyLab.Monitor.Monitor import DummyMonitor


def make_engine(job: Job, problem: Problem, arrays: PtyLabArrays) -> Any:
    """Return an engine with our options in PtyLab's words, ready to run."""
    name, attributes = ("ePIE", {}) if job.method == "forward" else ptylab_options(job.method, job.options)
    real, complex_ = (np.float32, np.complex64) if job.precision == "single" else (np.float64, np.complex128)
    data = ExperimentalData()
    data.ptychogram = arrays.ptychogram.astype(real)
    data.encoder, data.dxd = arrays.encoder, arrays.dxd
    data.wavelength = data.zo = 1.0
    data.entrancePupilDiameter = data.spectralDensity = data.theta = data.emptyBeam = None
    data._setData()
    params = Params()
    params.gpuSwitch = False
    params.propagatorType = "Fraunhofer"
    params.fftshiftSwitch = True  # zero frequency moves to the corner once, not at every transform
    reconstruction = Reconstruction(data, params)
    reconstruction.No = arrays.No
    reconstruction.positions0 = reconstruction.positions.copy()
    reconstruction.npsm = arrays.probe.shape[2]
    reconstruction.initializeObjectProbe()  # for the shapes that it keeps
    reconstruction.object = arrays.object.astype(complex_)
    reconstruction.probe = arrays.probe.astype(complex_)
    engine = getattr(Engines, name)(reconstruction, data, params, DummyMonitor())
    for attribute, value in attributes.items():
        if not hasattr(engine, attribute):
            raise AttributeError(f"PtyLab's {name} has no attribute {attribute}: it has changed, mend options.py")
        setattr(engine, attribute, value)
    if problem.known_probe:
        engine.betaProbe = 0.0
    engine.numIterations = job.epochs
    return engine


def visit_in(engine: Any, order: list[list[int]]) -> None:
    """Let the engine visit the patterns in our order."""
    epochs = iter(order)

    def set_position_order() -> None:
        engine.positionIndices = np.array(next(epochs))

    engine.setPositionOrder = set_position_order


def predict(engine: Any) -> np.ndarray[Any, Any]:
    """Return the intensities ``(K, n, n)`` of the start, zero frequency in the middle."""
    state = engine.reconstruction
    found = []
    for row, column in state.positions:
        state.esw = state.object[..., row : row + state.Np, column : column + state.Np] * state.probe
        engine.object2detector()
        found.append(np.sum(np.abs(state.ESW) ** 2, axis=(0, 1, 2))[-1])
    return np.fft.fftshift(np.array(found), axes=(-2, -1))


def main(folder: Path) -> None:
    """Do the job of a folder."""
    job, problem = read_job(folder)
    np.random.seed(job.seed % 2**32)  # noqa: NPY002 - PtyLab draws its orders from the global state
    engine = make_engine(job, problem, to_ptylab(problem))
    if job.method == "forward":
        write_prediction(folder, predict(engine))
        return
    if job.order is not None:
        visit_in(engine, job.order)
    start = time.perf_counter()
    engine.reconstruct()
    seconds = time.perf_counter() - start
    found = from_ptylab(problem, engine.reconstruction.object, engine.reconstruction.probe)
    write_reconstruction(folder, found, seconds)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Unsupported as problem:
        sys.exit(str(problem))
