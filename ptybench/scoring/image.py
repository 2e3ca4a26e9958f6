"""Errors of an aligned object against the truth, over the scored pixels.

Amplitude and phase are compared separately, the phase by its wrapped difference ``∠(X O*)``, so that no jump of 2π can
make an error.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ptybench.scoring.frame import Complex, Float
from ptybench.scoring.frc import FLAT
from ptybench.types import BoolArray

SSIM_SIGMA_PX = 1.5
SSIM_RADIUS_PX = 5
# relative mean square error below which PSNR is no longer told apart: 200 dB
LEAST_ERROR = 1e-20


def cpcc(image: Complex, truth: Complex, scored: BoolArray) -> complex:
    """Return ``Σ (x₁−x̄₁)(x₂−x̄₂)* / √(Σ|x₁−x̄₁|² Σ|x₂−x̄₂|²)``, 0 where either is flat.

    Args:
        image: ``(H, W)``.
        truth: ``(H, W)``.
        scored: ``(H, W)``, the pixels that count.

    """
    a, b = varying(image[scored]), varying(truth[scored])
    norm = math.sqrt(np.vdot(a, a).real) * math.sqrt(np.vdot(b, b).real)
    return complex(np.vdot(b, a) / norm) if norm > 0 else 0j


def varying(values: Complex) -> Complex:
    """Return values without their mean; zeros where only rounding is left."""
    rest = values - values.mean()
    if np.sum(np.abs(rest) ** 2) <= FLAT**2 * np.sum(np.abs(values) ** 2):
        return np.zeros_like(rest)
    return np.asarray(rest)


def nrmse(image: Complex, truth: Complex, scored: BoolArray) -> float | None:
    """Return ``√(Σ|X − O|² / Σ|O|²)``; ``None`` where the truth is zero."""
    energy = float(np.sum(np.abs(truth[scored]) ** 2))
    return math.sqrt(float(np.sum(np.abs(image[scored] - truth[scored]) ** 2)) / energy) if energy > 0 else None


def phase_error(image: Complex, truth: Complex, scored: BoolArray) -> Float:
    """Return ``∠(X O*)``; where the estimate is zero it has no phase and counts as the truth's mean phase."""
    mean = truth[scored].mean()
    return np.asarray(np.angle(np.where(image == 0, mean, image) * truth.conj()))


def squared_errors(image: Complex, truth: Complex, scored: BoolArray) -> tuple[float, float]:
    """Return the mean square error of the amplitude and of the phase (rad²)."""
    amplitude = np.mean((np.abs(image[scored]) - np.abs(truth[scored])) ** 2)
    phase = np.mean(phase_error(image, truth, scored)[scored] ** 2)
    return float(amplitude), float(phase)


def psnr_db(mean_square: float, data_range: float) -> float | None:
    """Return ``10 log₁₀(range² / MSE)``, at most 200 dB; ``None`` without a range."""
    if data_range <= 0:
        return None
    return -10 * math.log10(max(mean_square / data_range**2, LEAST_ERROR))


def amplitude_and_phase(
    image: Complex, truth: Complex, scored: BoolArray
) -> tuple[tuple[Float, Float], tuple[Float, Float]]:
    """Return the amplitudes and the phases of estimate and truth as real images.

    The truth's phase counts from its mean; the estimate's is the truth's plus the wrapped difference.
    """
    phase = np.angle(truth * np.conj(truth[scored].mean()))
    return (np.abs(image), np.abs(truth)), (phase + phase_error(image, truth, scored), phase)


def ssim(image: Float, truth: Float, scored: BoolArray, data_range: float) -> float | None:
    """Return scikit-image's structural similarity map averaged over the scored pixels.

    Gaussian window of σ = 1.5 px, population covariance, K₁ = 0.01, K₂ = 0.03 (Wang et al. 2004,
    10.1109/TIP.2003.819861).

    Args:
        image: ``(H, W)`` real.
        truth: ``(H, W)`` real.
        scored: ``(H, W)``, the pixels that count.
        data_range: a constant of the task.

    Returns:
        ``None`` where the truth is constant, has no range, or is smaller than the window.

    """
    from skimage import metrics

    # skimage has no annotations here
    structural_similarity: Any = metrics.structural_similarity

    values = truth[scored]
    if data_range <= 0 or np.ptp(values) <= FLAT * max(float(np.abs(values).max()), data_range):
        return None
    # a margin of the window's radius changes no scored pixel
    box = tuple(
        slice(max(int(line[0]) - SSIM_RADIUS_PX - 1, 0), int(line[-1]) + SSIM_RADIUS_PX + 2)
        for line in (np.flatnonzero(scored.any(axis=axis)) for axis in (1, 0))
    )
    if min(truth[box].shape) < 2 * SSIM_RADIUS_PX + 1:
        return None
    _, similarity = structural_similarity(
        truth[box],
        image[box],
        data_range=data_range,
        gaussian_weights=True,
        sigma=SSIM_SIGMA_PX,
        use_sample_covariance=False,
        full=True,
    )
    return float(np.mean(similarity[scored[box]]))
