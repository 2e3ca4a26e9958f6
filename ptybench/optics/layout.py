"""What is true and what is nominal: wavelength, distance and pixel, and where the patterns lie on their canvases."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptybench.optics.disturbances import CLIP_SIGMAS, Streams, declared_error_px, fly_scan_offsets, true_positions
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
        exposure_px: ``(J, 2)`` offsets during an exposure from its middle, in true pixels.

    """

    nominal: NDArray[np.float64]
    canvas: tuple[int, int]
    true: NDArray[np.float64]
    true_canvas: tuple[int, int]
    declared_px: float
    exposure_px: NDArray[np.float64]


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

    Lengths in pixels are those of the task, in nominal pixels: the stage is driven by somebody who does not know the
    true ones, and what is nominal must not tell them.

    Args:
        task: the recipe.
        true: the true set-up.
        nominal: the nominal one.
        width_m: D95 of the nominal probe.
        streams: purpose → random generator; uses ``"scan"`` and those of :func:`true_positions`.

    """
    errors, middle = task.errors, np.array(true.grid.shape) // 2
    pixel, nominal_pixel = np.array(true.grid.pixel_m), np.array(nominal.grid.pixel_m)
    design = task.scan.positions((width_m / nominal_pixel[0], width_m / nominal_pixel[1]), streams("scan"))
    declared = declared_error_px(design, errors)
    # the largest true pixel that the task allows for needs the widest margin to keep all windows on the true canvas
    worst = _setup(task, -(1 + ERROR_SPREAD) * errors.distance, -(1 + ERROR_SPREAD) * errors.wavelength)
    growth = np.array(worst.grid.pixel_m) / nominal_pixel
    room = math.ceil(CLIP_SIGMAS * declared + errors.fly_scan_px / 2)
    margin = np.ceil(middle * (growth - 1) + room - 1e-9) + 1
    placed = design - design.min(axis=0) + margin
    canvas = np.ceil(placed.max(axis=0) - 1e-9) + true.grid.shape + margin
    moved = true_positions(placed, errors, streams)
    exposure, true_canvas = fly_scan_offsets(errors.fly_scan_px), canvas
    if true.grid.pixel_m != nominal.grid.pixel_m:
        # where a patch's middle lies is physical, its corner is not
        ratio = nominal_pixel / pixel
        moved, exposure = (moved + middle) * ratio - middle, exposure * ratio
        farthest = (placed.max(axis=0) + room + middle) * ratio - middle
        true_canvas = np.ceil(farthest) + true.grid.shape + 1
    return Layout(
        nominal=placed,
        canvas=(int(canvas[0]), int(canvas[1])),
        true=moved,
        true_canvas=(int(true_canvas[0]), int(true_canvas[1])),
        declared_px=declared,
        exposure_px=exposure,
    )
