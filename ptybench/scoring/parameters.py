"""Errors of what a solver may find beside the object: probe, positions, distance."""

from __future__ import annotations

import math

import numpy as np

from ptybench.scoring.frame import Complex, Float
from ptybench.scoring.frc import FLAT

FIT_STEPS = 50
# patches below which an affine map fits anything
LEAST_PATCHES = 5


def probe_cpcc(probe: Complex, truth: Complex) -> float:
    """Return the correlation of two sets of probe modes, whatever unitary mixes them.

    The mutual intensity ``J(r, r') = Σ_m P_m(r) P_m*(r')`` is all that a set of incoherent modes means. This is
    ``√(⟨J₁, J₂⟩ / (‖J₁‖ ‖J₂‖))`` with Hilbert–Schmidt products, each mode without its mean; for one mode it is the
    modulus of the complex Pearson correlation.

    Args:
        probe: ``(M, h, w)``.
        truth: ``(M', h, w)``.

    Returns:
        0 to 1; 0 where either is flat.

    """
    a, b = _without_mean(probe), _without_mean(truth)

    def product(p: Complex, q: Complex) -> float:
        return float(np.sum(np.abs(p.conj() @ q.T) ** 2))

    norm = math.sqrt(product(a, a)) * math.sqrt(product(b, b))
    return math.sqrt(min(product(a, b) / norm, 1.0)) if norm > 0 else 0.0


def _without_mean(modes: Complex) -> Complex:
    """Return modes ``(M, h·w)`` of total power 1 without their means; zeros where they are flat."""
    flat = np.asarray(modes, dtype=np.complex128).reshape(len(modes), -1)
    power = float(np.sum(np.abs(flat) ** 2))
    rest = flat - flat.mean(axis=1, keepdims=True)
    left = float(np.sum(np.abs(rest) ** 2))
    return np.asarray(rest / math.sqrt(left)) if left > FLAT**2 * power else np.zeros_like(rest)


def position_errors(found: Float, true: Float) -> tuple[float, float | None, float]:
    """Return the median error with the translation removed, with an affine map removed, and the RMS error.

    The translation is the median of each component (also for the RMS), so that a few lost positions do not spoil it.
    The affine map is fitted to the least sum of distances (iteratively reweighted least squares), and is nearly a
    gauge: scale and shear of the scan trade against the probe's curvature.

    Args:
        found: ``(K, 2)`` in true pixels.
        true: ``(K, 2)``.

    Returns:
        Three lengths in pixels; the second is ``None`` for fewer than five patterns.

    """
    error = found - true
    error = error - np.median(error, axis=0)
    length = np.hypot(*error.T)
    affine = None
    if len(error) >= LEAST_PATCHES:
        rest = error - _robust_affine(true, error)
        affine = float(np.median(np.hypot(*(rest - np.median(rest, axis=0)).T)))
    return float(np.median(length)), affine, math.sqrt(float(np.mean(length**2)))


def _robust_affine(points: Float, values: Float) -> Float:
    """Return the affine map of points ``(K, 2)`` nearest to values ``(K, 2)`` in the sum of distances."""
    centred = points - points.mean(axis=0)
    design = np.column_stack([centred / max(float(np.abs(centred).max()), 1.0), np.ones(len(points))])
    fitted = np.zeros_like(values)
    for _ in range(FIT_STEPS):
        distance = np.hypot(*(values - fitted).T)
        # distances much below the typical one weigh alike, so that exact hits cannot run away
        root = 1.0 / np.sqrt(np.maximum(distance, 1e-3 * float(np.median(distance)) + 1e-12))
        solution = np.linalg.lstsq(design * root[:, None], values * root[:, None], rcond=None)[0]
        previous, fitted = fitted, design @ solution
        if np.abs(fitted - previous).max() < 1e-9:
            break
    return np.asarray(fitted)


def distance_error(found_m: float | None, true_m: float) -> float | None:
    """Return ``|z − z₀| / |z₀|``; ``None`` where the estimate names no distance."""
    return None if found_m is None else abs(found_m - true_m) / abs(true_m)
