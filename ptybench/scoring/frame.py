"""Bringing an estimate into the truth's frame: pixel size, canvas and origin, before any gauge is looked for.

Pixel ``i`` of an object lies at ``i · pixel size`` from the origin that nominal canvas and truth share. A
reconstruction from elsewhere may have an origin of its own; then the positions tell where it lies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ptybench.errors import InvalidData
from ptybench.types import ComplexArray, Estimate, FloatArray

Complex = np.ndarray[tuple[int, ...], np.dtype[np.complex128]]
Float = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

# drift over the canvas, in pixels, below which two pixel sizes count as equal
SAME_PIXEL = 1e-3
# pixels by which an image is continued before it is resampled, to fade to its mean there
FADE = 16


@dataclass(frozen=True, eq=False)
class Placed:
    """An image on the truth's pixel grid: ``array[0, 0]`` lies at ``corner`` (pixels of the truth, not rounded)."""

    array: Complex
    corner: Float


def continued(array: ComplexArray | FloatArray, corner: Float, shape: tuple[int, int]) -> ComplexArray | FloatArray:
    """Return the window of ``shape`` at an integer corner; beyond the border its pixels are repeated."""
    rows, columns = (
        np.clip(np.arange(n) + int(c), 0, size - 1) for n, c, size in zip(shape, corner, array.shape, strict=True)
    )
    return array[np.ix_(rows, columns)]


def centres_px(estimate: Estimate, pixel_m: tuple[float, float]) -> Float:
    """Return the patch centres of an estimate ``(K, 2)`` in pixels of another size, from the common origin."""
    ratio = np.divide(estimate.pixel_size_m or pixel_m, pixel_m)
    half = np.array(estimate.probe.shape[-2:]) // 2
    return np.asarray((np.asarray(estimate.positions_px, dtype=np.float64) + half) * ratio)


def place(
    estimate: Estimate, centres: Float, pixel_m: tuple[float, float], probe_shape: tuple[int, int]
) -> tuple[Placed, Complex, Float]:
    """Return object and probe of an estimate on the truth's pixels, and the offset of its frame.

    The offset is the median over the patches of the difference of their centres: it moves object and positions
    together, which nobody can see in the data, and leaves the probe alone.

    Args:
        estimate: what a solver found.
        centres: ``(K, 2)`` true patch centres in true pixels.
        pixel_m: true pixel size ``(dy, dx)``.
        probe_shape: ``(h, w)`` of the true probe.

    Returns:
        The object and where it lies, the probe modes ``(M, h, w)``, and the offset ``(y, x)`` in true pixels.

    Raises:
        InvalidData: where the estimate has another number of positions, or holds NaN.

    """
    found = centres_px(estimate, pixel_m)
    if found.shape != centres.shape:
        raise InvalidData(
            f"expected the positions of {len(centres)} patterns in the reconstruction, got {len(found)}: "
            "row k must belong to pattern k"
        )
    for name, array in (("object", estimate.object), ("probe", estimate.probe), ("positions", found)):
        if not np.isfinite(array).all():
            raise InvalidData(f"the reconstruction's {name} holds NaN or infinite values: there is nothing to score")
    offset = np.median(found - centres, axis=0)
    ratio = np.divide(estimate.pixel_size_m or pixel_m, pixel_m)
    image = np.asarray(estimate.object, dtype=np.complex128)
    probe = np.asarray(estimate.probe, dtype=np.complex128)
    if np.abs(ratio - 1).max() * max(image.shape) < SAME_PIXEL:
        placed = Placed(image, -offset)
    else:
        placed = _resampled_object(image, ratio, offset)
    same = np.abs(ratio - 1).max() * max(probe_shape) < SAME_PIXEL and probe.shape[1:] == probe_shape
    return placed, probe if same else _resampled_probe(probe, ratio, probe_shape), offset


def _resampled_object(image: Complex, ratio: Float, offset: Float) -> Placed:
    """Resample onto the truth's grid; ``ratio`` is the pixel size of the estimate in true pixels."""
    shape = (image.shape[0] + 2 * FADE, image.shape[1] + 2 * FADE)
    wide = continued(image, np.array([-FADE, -FADE]), shape)
    fades = [_fade(n) for n in shape]
    mean = image.mean()
    wide = mean + (wide - mean) * fades[0][:, None] * fades[1]
    first = np.ceil(-offset)
    last = np.floor((np.array(image.shape) - 1) * ratio - offset)
    operators = [
        _band_limited((np.arange(a, b + 1) + o) / r + FADE, n, r)
        for a, b, o, r, n in zip(first, last, offset, ratio, shape, strict=True)
    ]
    return Placed(operators[0] @ wide @ operators[1].T, first)


def _resampled_probe(probe: Complex, ratio: Float, shape: tuple[int, int]) -> Complex:
    """Resample modes about the centre of their window, with vacuum around it."""
    operators = []
    for n, target, r in zip(probe.shape[1:], shape, ratio, strict=True):
        x = (np.arange(target) - target // 2) / r + n // 2
        inside = (x > -0.5) & (x < n - 0.5)
        operators.append(_band_limited(x, n, r) * inside[:, None])
    resampled: Complex = operators[0] @ probe @ operators[1].T
    return resampled


def _fade(n: int) -> Float:
    """One inside, a squared cosine over the continued border."""
    depth = np.minimum(np.arange(n), np.arange(n)[::-1])
    return np.asarray(np.sin(np.pi / 2 * np.minimum(depth / FADE, 1.0)) ** 2)


def _band_limited(x: Float, n: int, ratio: float) -> Float:
    """Return the matrix that evaluates a trigonometric interpolation of ``n`` samples at ``x``.

    Frequencies beyond the Nyquist frequency of the new grid (spacing ``1 / ratio``) are left out.
    """
    top = min(0.5, 0.5 * ratio) * n  # highest order, where it is an integer it stands for +top and -top at once
    whole = math.ceil(top - 1e-9) - 1
    angle = 2 * np.pi / n * (x[:, None] - np.arange(n))
    half = np.sin(angle / 2)
    smooth = np.abs(half) > 1e-9
    # sum of exp(i k angle) for |k| <= whole, the Dirichlet kernel
    kernel = np.sin((whole + 0.5) * angle) / np.where(smooth, half, 1.0)
    kernel = np.where(smooth, kernel, 2 * whole + 1.0)
    if abs(top - (whole + 1)) < 1e-6:
        kernel += np.cos((whole + 1) * angle)
    return np.asarray(kernel / n)
