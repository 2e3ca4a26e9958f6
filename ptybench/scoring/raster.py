"""What a raster scan leaves of itself in an image: errors that repeat with its step.

Patterns on a perfect raster do not fix a factor of the object that has the raster's period (its inverse is in the
probe), so that reconstructions keep some of one: a periodic artefact (Wu et al. 2024, 10.1364/OPTICA.522380).
"""

from __future__ import annotations

import math

import numpy as np

from ptybench.scoring.frame import Complex
from ptybench.scoring.frc import soft_window
from ptybench.types import BoolArray, FloatArray

SAME_LINE_PX = 0.05  # by which positions of one line of a raster may differ
FAINT = 0.1  # of the truth's mean amplitude, below which the relative error of a pixel counts no more
NEAR, FAR = 2.2, 3.8  # bins about a lattice point that are its own, and out to which the others are its background


def raster_steps(positions_px: FloatArray) -> tuple[float, float] | None:
    """Return the step ``(y, x)`` of positions ``(K, 2)`` on a raster, ``None`` where they are on none."""
    steps = []
    for line in positions_px.T:
        ordered = np.sort(line)
        first = np.concatenate([[0], np.flatnonzero(np.diff(ordered) > SAME_LINE_PX) + 1])
        levels = np.add.reduceat(ordered, first) / np.diff(np.append(first, len(ordered)))
        gaps = np.diff(levels)
        if len(gaps) == 0 or np.ptp(gaps) > SAME_LINE_PX:
            return None
        steps.append(float(gaps.mean()))
    return steps[0], steps[1]


def artefact_power(image: Complex, truth: Complex, scored: BoolArray, steps: tuple[float, float]) -> float:
    """Return the mean square of what in the relative error ``X/O - 1`` has the period of the raster.

    Its Fourier components lie at ``(a / dy, b / dx)``. What is counted there exceeds the background in the bins
    around them, so that noise and blurring count as nothing; the mean of the error is no artefact.

    Args:
        image: ``(H, W)``, aligned.
        truth: ``(H, W)``.
        scored: ``(H, W)``, the pixels that count.
        steps: of the raster, in pixels.

    Returns:
        0 where nothing is periodic; an error ``ε cos(2πy / dy)`` has ``ε² / 2``.

    """
    window = soft_window(scored, np.inf)  # the softest, which blurs a point of the lattice least
    power = np.maximum(np.abs(truth) ** 2, (FAINT * np.abs(truth[scored]).mean()) ** 2)
    error = (image - truth) * np.conj(truth) / power
    error = window * (error - np.sum(window * error) / np.sum(window))
    spectrum = np.abs(np.fft.fft2(error)) ** 2 / (window.size * np.sum(window**2))
    bins = [np.fft.fftfreq(n) * n for n in window.shape]
    # the window blurs a point of the lattice over as many bins as the canvas is larger than the window
    extent = [np.flatnonzero(scored.any(axis=1 - axis)) for axis in (0, 1)]
    blur = [n / (line[-1] + 1 - line[0]) for n, line in zip(window.shape, extent, strict=True)]
    total = 0.0
    orders = [range(1 - math.ceil(step / 2 - 1e-9), int(step / 2 + 1e-9) + 1) for step in steps]
    for a in orders[0]:
        for b in orders[1]:
            if a == b == 0:
                continue
            away = [
                np.abs((f - order * n / step + n / 2) % n - n / 2) / width
                for f, order, n, step, width in zip(bins, (a, b), window.shape, steps, blur, strict=True)
            ]
            distance = np.maximum(away[0][:, None], away[1])
            own, around = distance <= NEAR, (distance > NEAR) & (distance <= FAR)
            total += float(spectrum[own].sum() - own.sum() * spectrum[around].mean())
    return max(total, 0.0)
