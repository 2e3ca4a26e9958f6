"""Scans: where the probe goes, and how much its neighbouring places overlap."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.spatial import cKDTree

from ptybench.specs import Spec
from ptybench.types import FloatArray

GOLDEN_ANGLE_RAD = math.pi * (3.0 - math.sqrt(5.0))
Count = Annotated[int, Field(ge=1)]
Length = Annotated[float, Field(gt=0)]


class Scan(Spec):
    """The design of a scan, which the solver knows.

    Exactly one of ``overlap`` and ``step_px``, and exactly one of ``field_of_view_px`` and ``grid``.

    Args:
        kind: a raster, a raster with random offsets, or a Fermat spiral of the same density (Huang et al.,
            Opt. Express 22, 12634, 2014, 10.1364/OE.22.012634).
        overlap: linear, ``1 - step / D95``; negative where neighbours do not touch.
        step_px: distance of neighbours in object pixels, for both axes.
        field_of_view_px: ``(fy, fx)`` to be covered, one step by each pattern; at least two patterns an axis.
        grid: ``(ny, nx)`` patterns.
        randomness: greatest offset of a jittered raster along an axis, as a fraction of the step.
        every: keep of a raster only every n-th row and of those every n-th pattern; step, grid and offsets are those of
            the dense raster. A scan that is thinned out this way has its patterns in common with the dense one.

    """

    kind: Literal["raster", "jittered_raster", "fermat"] = "jittered_raster"
    overlap: Annotated[float, Field(lt=1)] | None = None
    step_px: Length | None = None
    field_of_view_px: tuple[Length, Length] | None = None
    grid: tuple[Count, Count] | None = None
    randomness: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    every: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _one_of_two(self) -> Scan:
        if (self.overlap is None) == (self.step_px is None):
            raise ValueError("a scan has either an overlap or a step_px, give exactly one of them")
        if (self.field_of_view_px is None) == (self.grid is None):
            raise ValueError("a scan has either a field_of_view_px or a grid, give exactly one of them")
        if self.every > 1 and self.kind == "fermat":
            raise ValueError(f"every = {self.every} thins out the rows of a raster, a Fermat spiral has none")
        return self

    def step(self, diameter_px: float | tuple[float, float]) -> tuple[float, float]:
        """Return the distance of neighbours ``(y, x)`` in object pixels for a probe of this D95."""
        if self.step_px is not None:
            return self.step_px, self.step_px
        assert self.overlap is not None
        dy, dx = diameter_px if isinstance(diameter_px, tuple) else (diameter_px, diameter_px)
        return (1.0 - self.overlap) * dy, (1.0 - self.overlap) * dx

    def counts(self, step_px: tuple[float, float]) -> tuple[int, int]:
        """Return the patterns ``(ny, nx)`` along each axis."""
        if self.grid is not None:
            return self.grid
        assert self.field_of_view_px is not None
        ny, nx = (max(2, round(f / s)) for f, s in zip(self.field_of_view_px, step_px, strict=True))
        return ny, nx

    def positions(self, diameter_px: float | tuple[float, float], rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the designed positions in the order of the scan, x fastest.

        Args:
            diameter_px: D95 of the probe in object pixels, a pair ``(y, x)`` where pixels are not square.
            rng: for the offsets of a jittered raster.

        Returns:
            ``(K, 2)`` in object pixels; the origin means nothing.

        """
        step = self.step(diameter_px)
        ny, nx = self.counts(step)
        if self.kind == "fermat":
            places = fermat_spiral(ny, nx)
        else:
            row, column = (
                index.ravel() for index in np.mgrid[: ny : self.every, : nx : self.every].astype(np.intp, copy=False)
            )
            places = np.stack([row, column], axis=1).astype(np.float64)
            if self.kind == "jittered_raster":
                # a place keeps its offset whatever the size of the raster: a ladder's points are paired
                offsets = rng.uniform(-1.0, 1.0, size=(max(ny, nx) ** 2, 2))
                places += self.randomness * offsets[_shell_index(row, column)]
        return places * step


def _shell_index(row: NDArray[np.intp], column: NDArray[np.intp]) -> NDArray[np.intp]:
    """Number the places of a quadrant by square shells about its corner, independent of its size."""
    shell = np.maximum(row, column)
    index: NDArray[np.intp] = shell**2 + np.where(row == shell, column, shell + 1 + row)
    return index


def fermat_spiral(ny: int, nx: int) -> NDArray[np.float64]:
    """Return ``ny nx`` points of a Fermat spiral, one for each unit area, that fill a rectangle ``(ny, nx)``.

    Returns:
        ``(ny nx, 2)``, from the centre outwards.

    """
    count = math.ceil(math.pi / 4 * (ny**2 + nx**2)) + 8  # fills the circle about the rectangle
    index = np.arange(count)
    radius = np.sqrt((index + 0.5) / math.pi)
    angle = index * GOLDEN_ANGLE_RAD
    points = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
    nearness = np.max(np.abs(points) / (ny, nx), axis=1)
    inside = np.sort(np.argsort(nearness, kind="stable")[: ny * nx])
    return points[inside]


def mean_step(positions: NDArray[np.float64]) -> float:
    """Return ``√(scanned area / K)``, where each position owns the area of one step.

    An evenly filled rectangle of sides ``(a, b) = (m s, n s)`` has ``K = m n`` positions whose variances along its axes
    are ``(a² - s²) / 12`` and ``(b² - s²) / 12``; solved for ``s²``. Exact for a raster, whatever its two counts.

    Args:
        positions: ``(K, 2)`` in any unit of length.

    """
    others = len(positions) ** 2 - 1
    if others == 0:
        return 0.0
    a, b = 12.0 * np.var(positions, axis=0)
    return math.sqrt((a + b + math.sqrt((a + b) ** 2 + 4 * others * a * b)) / (2 * others))


def thinned(positions: FloatArray, every: float) -> NDArray[np.intp]:
    """Return which positions to keep of a scan, so that neighbours are ``every`` times as far apart.

    They are those nearest to the nodes of a square lattice of that step, from the corner of the scan on: of a raster
    every n-th row and column.

    Args:
        positions: ``(K, 2)`` in any unit of length.
        every: 1 or more; of the patterns about ``1 / every²`` are kept.

    Returns:
        Their indices, in order.

    """
    dense = mean_step(np.asarray(positions, np.float64))
    step, corner = every * dense, positions.min(axis=0)
    if step == 0:
        return np.arange(len(positions))
    counts = np.floor(np.ptp(positions, axis=0) / step + 0.5 / every).astype(int) + 1
    nodes = corner + step * np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 2)
    distance, nearest = cKDTree(positions).query(nodes)
    kept: NDArray[np.intp] = np.unique(nearest[distance < dense])
    return kept


def overlap_linear(positions: NDArray[np.float64], diameter: float) -> float:
    """Return the linear overlap ``1 - √(scanned area / K) / D``.

    Args:
        positions: ``(K, 2)`` in any unit of length.
        diameter: D95 of the probe in the same unit.

    """
    return 1.0 - mean_step(positions) / diameter


def overlap_area(linear: float) -> float:
    """Return the area that two equal circles share, as a fraction of one, from their linear overlap.

    Example:
        >>> round(overlap_area(0.5), 3), overlap_area(-0.25)
        (0.391, 0.0)

    """
    distance = min(max(1.0 - linear, 0.0), 1.0)
    return 2.0 / math.pi * (math.acos(distance) - distance * math.sqrt(1.0 - distance**2))
