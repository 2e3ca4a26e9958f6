"""What PINE's denoiser meets: ``python benchmarks/pine_noise.py [denoiser …]`` prints the tables of pine.md.

Object and truth are put on the denoiser's own grey scale, and errors are told in levels of 255 there; networks are
trained on 15. *fine* is the strength of white noise that has as much of it above a quarter cycle per pixel.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ptybench.claims.paper import load_paper
from ptybench.engines.denoising import Denoising, DenoisingOptions, Light
from ptybench.registry import load_task, resolve_method
from ptybench.scoring.align import align
from ptybench.scoring.frc import ring_correlation
from ptybench.simulation import simulate
from ptybench.solver import Solver
from ptybench.types import Measurement, Truth

Complex = NDArray[np.complexfloating]
TASKS = ("pine_low_dose", "pine_high_dose")
EPOCHS = (1, 5, 20, 50, 150)
SEED = 0
FINE = 0.25


def main() -> None:
    """Print both tables."""
    names = sys.argv[1:] or ["bn"]
    print("| task | method | epoch | error | fine |\n|---|---|--:|--:|--:|")
    for task in TASKS:
        for name in [None, *names]:
            for epoch, whole, fine in iteration(task, name):
                print(f"| {task} | {name or 'none'} | {epoch:g} | {whole:.1f} | {fine:.1f} |", flush=True)
    print("\n| task | denoiser | change of the truth | fine | correlation | at half Nyquist | at 3/4 |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for task in TASKS:
        for name in names:
            print(f"| {task} | {name} | " + " | ".join(fixed(task, name)) + " |", flush=True)


def problem(task: str) -> tuple[Measurement, Truth]:
    """The task's draw of ``dev``."""
    return simulate(load_task(task), SEED, domain="dev")


def iteration(task: str, denoiser: str | None) -> Iterator[list[float]]:
    """Epoch, and errors of the object after the epoch's sweep and before the denoiser, in levels."""
    measurement, truth = problem(task)
    pine = load_paper("pine").runs["pine"]
    options = pine.options | pine.on[task] | ({"rho": 0.0} if denoiser is None else {"denoiser": denoiser})
    solver = resolve_method("pine", options).create(measurement, "cpu", SEED, None)
    denoising = solver.denoising  # type: ignore[attr-defined]
    step, denoising.step = denoising.step, lambda *_: None
    for epoch in range(1, EPOCHS[-1] + 1):
        error = solver.step()
        if epoch in EPOCHS:
            aligned = align(solver.estimate(), truth)
            grey = width(solver, denoising) * abs(aligned.gauge.factor)  # alignment scales the object
            yield [epoch, *levels(aligned.object - truth.object, truth, grey)]
        step(epoch, error)


def width(solver: Solver, denoising: Denoising) -> float:
    """From black to white of the object as it is, mean over both parts."""
    light = Light.of(solver)
    low, high = denoising.extremes(torch.view_as_real(solver.object[light.box]).movedim(-1, 0), light)
    return float((high - low).mean())


def levels(error: Complex, truth: Truth, grey: float) -> list[float]:
    """Standard deviation of a part of an error in the light, all of it and by what is fine, in levels of 255."""
    rows, columns = (np.flatnonzero(truth.scored.any(axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    seen = np.where(truth.scored, error, 0)[box]
    share = truth.scored[box].mean()
    spectrum = np.abs(np.fft.fft2(seen, norm="ortho")) ** 2
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in seen.shape), indexing="ij"))
    powers = spectrum.mean() / share, spectrum[frequency > FINE].mean() / share
    return [255 / grey * float(np.sqrt(power / 2)) for power in powers]


def fixed(task: str, denoiser: str) -> Iterator[str]:
    """What a denoiser makes of the truth: its change in levels, and the correlation that is left."""
    measurement, truth = problem(task)
    solver = resolve_method("epie", {}).create(measurement, "cpu", SEED, None)
    solver.object, solver.probe = solver.tensor(truth.object), solver.tensor(truth.probe)
    denoising, light = Denoising(solver, DenoisingOptions(denoiser=denoiser)), Light.of(solver)
    grey, found = width(solver, denoising), truth.object.astype(np.complex64)
    found[light.box] = denoising.denoised(solver.object[light.box], light).numpy()
    curve = ring_correlation(found, truth.object, truth.scored, truth.pixel_size_m)
    for value in levels(found - truth.object, truth, grey):
        yield f"{value:.1f}"
    for correlation in curve.area(), curve.at(0.5), curve.at(0.75):
        yield "–" if correlation is None else f"{correlation:.3f}"


if __name__ == "__main__":
    main()
