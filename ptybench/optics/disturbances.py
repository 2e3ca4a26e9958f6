"""Where the probe really goes: what the stage adds to the nominal positions, known to the simulator alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ptybench.task import Errors

Positions = NDArray[np.float64]
Streams = Callable[[str], np.random.Generator]
CLIP_SIGMAS = 4.0  # the canvas has room for this many standard deviations of the declared error


def true_positions(nominal: Positions, errors: Errors, streams: Streams) -> Positions:
    """Return the positions with the stage's errors, none larger than 4σ of :func:`declared_error_px` along an axis.

    Args:
        nominal: ``(K, 2)`` in pixels, in the order of the scan.
        errors: their magnitudes.
        streams: purpose → random generator; uses ``"position_error"`` and ``"drift"``.

    """
    error = (
        affine_error(nominal, errors.scale, errors.rotation_rad, errors.shear)
        + drift(len(nominal), errors.drift_px, streams("drift"))
        + backlash(nominal, errors.backlash_px)
        + errors.position_error_px * streams("position_error").standard_normal(nominal.shape)
    )
    bound = CLIP_SIGMAS * declared_error_px(nominal, errors)
    return nominal + np.clip(error, -bound, bound)


def declared_error_px(nominal: Positions, errors: Errors) -> float:
    """Return what the operator declares as standard deviation of the error of a position along an axis.

    The sum of the errors' own: σ, that of a uniform drift, half the backlash, the root mean square of the affine error.
    """
    affine = affine_error(nominal, errors.scale, errors.rotation_rad, errors.shear)
    spread = float(np.sqrt(np.mean(affine**2, axis=0)).max())
    return errors.position_error_px + errors.drift_px / math.sqrt(12.0) + errors.backlash_px / 2.0 + spread


def affine_error(nominal: Positions, scale: float, rotation_rad: float, shear: float) -> Positions:
    """Return ``(A - 1)(r - c)`` about the middle ``c`` of the scan, ``A`` = rotation · shear · scale.

    Args:
        nominal: ``(K, 2)`` positions ``(y, x)``.
        scale: 0.01 makes steps 1 % larger than nominal.
        rotation_rad: from x to y.
        shear: x moves by ``shear`` for each unit of y.

    """
    offset = nominal - (nominal.min(axis=0) + nominal.max(axis=0)) / 2
    cosine, sine = math.cos(rotation_rad), math.sin(rotation_rad)
    rotation = np.array([[cosine, sine], [-sine, cosine]])  # acts on columns (y, x)
    matrix = rotation @ np.array([[1.0, 0.0], [shear, 1.0]]) * (1.0 + scale)
    error: Positions = offset @ (matrix - np.eye(2)).T
    return error


def drift(count: int, distance_px: float, rng: np.random.Generator) -> Positions:
    """Return a drift at constant speed in a random direction, ``distance_px`` from first to last, 0 at half time.

    Returns:
        ``(count, 2)``.

    """
    angle = rng.uniform(0.0, 2.0 * math.pi)
    time = np.linspace(-0.5, 0.5, count) if count > 1 else np.zeros(1)
    error: Positions = distance_px * time[:, None] * np.array([math.sin(angle), math.cos(angle)])
    return error


def backlash(nominal: Positions, distance_px: float) -> Positions:
    """Return the play of the fast axis x: the stage lags by half of ``distance_px`` behind the way it last moved.

    So positions that are approached from the left and from the right stand ``distance_px`` too far apart; in a raster
    the first of each line differs from the others.
    """
    movement = np.sign(np.diff(nominal[:, 1], prepend=nominal[0, 1] - 1.0))
    # where x stands still the play stays as it was
    moved = np.maximum.accumulate(np.where(movement != 0, np.arange(len(movement)), 0))
    lag = np.zeros_like(nominal)
    lag[:, 1] = -0.5 * distance_px * movement[moved]
    return lag


def fly_scan_offsets(length_px: float) -> Positions:
    """Return where the specimen is seen during an exposure that moves along x by ``length_px``.

    Midpoints of equal parts of at most half a pixel, so that the mean over them is the time average.

    Returns:
        ``(J, 2)`` offsets from the middle of the exposure; one of 0 where nothing moves.

    """
    parts = max(1, math.ceil(2.0 * length_px))
    along_x = length_px * ((np.arange(parts) + 0.5) / parts - 0.5)
    return np.stack([np.zeros(parts), along_x], axis=1)
