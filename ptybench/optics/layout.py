"""What is true and what is nominal: wavelength, distance and pixel, and where the patterns lie on their canvases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptybench.optics.disturbances import CLIP_SIGMAS, Streams, declared_error_px, true_positions
from ptybench.optics.geometry import Grid, effective_distance_m, object_pixel_m, wavelength_m
from ptybench.task import Task

ERROR_SPREAD = 0.2  # a wrong distance is this fraction larger or smaller than the task says


@dataclass(frozen=True)
class Setup:
    """Wavelength, effective distance and the solver's grid of a pattern: the true ones, or the nominal ones."""

    wavelength_m: float
    distance_m: float
    grid: Grid


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the patterns lie. Both canvases have one physical origin, the middle of their pixel ``(0, 0)``.

    Args:
        nominal: ``(K, 2)`` nominal positions in nominal pixels.
        canvas: nominal ``(H, W)``.
        true: ``(K, 2)`` true positions in true pixels.
        true_canvas: true ``(H, W)``.
        declared_px: declared standard deviation of the positions' error, in nominal pixels.

    """

    nominal: NDArray[np.float64]
    canvas: tuple[int, int]
    true: NDArray[np.float64]
    true_canvas: tuple[int, int]
    declared_px: float


def setups(task: Task, streams: Streams) -> tuple[Setup, Setup]:
    """Return the true and the nominal set-up.

    Args:
        task: the recipe.
        streams: purpose → random generator; uses ``"distance"`` and ``"wavelength"``.

    """
    wrong_z = _signed_error(task.errors.distance, streams("distance"))
    wrong_length = _signed_error(task.errors.wavelength, streams("wavelength"))
    return _setup(task, wrong_z, wrong_length), _setup(task, 0.0, 0.0)


def _signed_error(magnitude: float, rng: np.random.Generator) -> float:
    sign = 1.0 if rng.random() < 0.5 else -1.0
    return magnitude * sign * rng.uniform(1.0 - ERROR_SPREAD, 1.0 + ERROR_SPREAD)


def _setup(task: Task, distance_error: float, wavelength_error: float) -> Setup:
    """Return the set-up that the task's nominal one exceeds by these relative errors."""
    length = wavelength_m(task.geometry.energy_ev) / (1.0 + wavelength_error)
    pixel = object_pixel_m(task.geometry, length, distance_error)
    return Setup(length, effective_distance_m(task.geometry, distance_error), Grid(task.geometry.shape, pixel))


def lay_out(task: Task, true: Setup, nominal: Setup, width_m: float, streams: Streams) -> Layout:
    """Place the scan on the nominal and on the true canvas, and let the stage err.

    Args:
        task: the recipe.
        true: the true set-up.
        nominal: the nominal one.
        width_m: D95 of the probe.
        streams: purpose → random generator; uses ``"scan"`` and those of :func:`true_positions`.

    """
    errors, middle = task.errors, np.array(true.grid.shape) // 2
    pixel, nominal_pixel = np.array(true.grid.pixel_m), np.array(nominal.grid.pixel_m)
    design = task.scan.positions((width_m / pixel[0], width_m / pixel[1]), streams("scan"))
    declared = declared_error_px(design, errors)
    # the largest true pixel that the task allows for needs the widest margin to keep all windows on the true canvas
    worst = _setup(task, -(1 + ERROR_SPREAD) * errors.distance, -(1 + ERROR_SPREAD) * errors.wavelength)
    growth = np.array(worst.grid.pixel_m) / nominal_pixel
    room = CLIP_SIGMAS * declared + errors.fly_scan_px / 2
    margin = np.ceil(middle * (growth - 1) + np.ceil(room) * growth - 1e-9) + 1
    placed = (design - design.min(axis=0)) * pixel / nominal_pixel + margin
    canvas = np.ceil(placed.max(axis=0) - 1e-9) + true.grid.shape + margin
    centred, true_canvas = placed, canvas
    if true.grid.pixel_m != nominal.grid.pixel_m:
        # where a patch's middle lies is physical, its corner is not
        centred = (placed + middle) * nominal_pixel / pixel - middle
        true_canvas = np.ceil(centred.max(axis=0) + room) + true.grid.shape + 1
    return Layout(
        nominal=placed,
        canvas=(int(canvas[0]), int(canvas[1])),
        true=true_positions(centred, errors, streams),
        true_canvas=(int(true_canvas[0]), int(true_canvas[1])),
        declared_px=declared * float(np.max(pixel / nominal_pixel)),
    )
