"""Textures whose amplitude spectrum falls as a power of the frequency, like that of most natural surfaces."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

FloatStack = NDArray[np.float64]
Range = tuple[float, float]


def power_law_textures(
    rng: np.random.Generator, count: int, shape: tuple[int, int], slope: Range, stretch: Range, density: Range
) -> FloatStack:
    """Return textures ``(count, H, W)`` of mean 0 and variance 1, periodic, each with a spectrum of its own.

    ``|F(f)| = |S f|^-s``, where ``S`` turns the plane by a random angle and stretches one axis. The phases are those of
    sparse white noise, in which a pixel carries a normal deviate with probability ``density`` and else nothing: 1 gives
    a Gaussian field, little gives separate spots.

    Args:
        rng: the stream to draw from.
        count: how many.
        shape: ``(H, W)``.
        slope: least and most ``s``, uniform between them.
        stretch: least and most ratio of the axes, at least 1; its logarithm is uniform.
        density: least and most share of pixels that carry noise; its logarithm is uniform.

    Source: M. Baradad et al., Learning to See by Looking at Noise, NeurIPS 2021, arXiv:2106.05963, which ties the
    stretch to the image's axes and takes wavelet marginals where this takes sparse noise.

    """
    u = rng.random((4, count, 1, 1))
    s = slope[0] + (slope[1] - slope[0]) * u[0]
    ratio, share = (low * (high / low) ** v for (low, high), v in zip((stretch, density), u[1:3], strict=True))
    amplitude = _radius_squared(shape, np.pi * u[3], ratio)
    amplitude[:, 0, 0] = 1.0  # of what is taken away below
    amplitude **= -s / 2
    spectrum = scipy.fft.rfft2(_sparse_noise(rng, (count, *shape), share))
    spectrum *= amplitude / np.abs(spectrum)
    spectrum[:, 0, 0] = 0.0
    textures: FloatStack = scipy.fft.irfft2(spectrum, s=shape)
    textures /= textures.std(axis=(1, 2), keepdims=True)
    return textures


def _radius_squared(shape: tuple[int, int], angle: FloatStack, ratio: FloatStack) -> FloatStack:
    """``|S f|²`` on the half plane of a real transform, in cycles per pixel."""
    fy, fx = scipy.fft.fftfreq(shape[0])[:, None], scipy.fft.rfftfreq(shape[1])[None, :]
    along: FloatStack = fy * np.cos(angle) + fx * np.sin(angle)
    across = ratio * (fx * np.cos(angle) - fy * np.sin(angle))
    along *= along
    across *= across
    along += across
    return along


def _sparse_noise(rng: np.random.Generator, shape: tuple[int, int, int], share: FloatStack) -> FloatStack:
    chance = rng.random(shape)
    # at least one pixel of a texture carries noise, or there would be no phases
    carries = chance <= np.maximum(share, chance.min(axis=(1, 2), keepdims=True))
    noise: FloatStack = rng.standard_normal(shape)
    noise *= carries
    return noise


def fold(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return grey values reflected at black (0) and white (1) until they lie between.

    What was uniform over an even number of unit lengths stays uniform, whatever independent value was added to it.
    """
    folded: NDArray[np.float64] = 1 - np.abs(np.mod(grey, 2) - 1)
    return folded
