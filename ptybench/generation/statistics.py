"""What a set of images is like, in numbers: grey values, contrast, edges, spectrum."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 256
SAMPLE = 256
"""So many images are looked at for edges and spectrum."""
NO_POWER = 1e-20
"""Power of rounding errors, on the grey scale from 0 to 1."""
BAND = (4.0, 0.25)
"""The slope of the spectrum is taken from 4 periods an image to 1/4 cycle per pixel."""

Stack = NDArray[np.generic]


@dataclass(frozen=True)
class Statistics:
    """Numbers of a set of images, in units of the grey scale from 0 to 1.

    Args:
        values: name → number, for a card.
        histogram: ``(256,)`` share of the pixels in equal steps of grey.
        frequency: radial frequencies in cycles per pixel.
        power: mean radial power of the sampled images there.

    """

    values: dict[str, float | None]
    histogram: NDArray[np.float64]
    frequency: NDArray[np.float64]
    power: NDArray[np.float64]


def measure(stacks: Iterable[Stack], white: float) -> Statistics:
    """Return the statistics of images.

    Args:
        stacks: arrays ``(n, H, W)`` of one shape, read a few images at a time.
        white: the stored value of white.

    """
    counts = np.zeros(LEVELS, np.int64)
    means: list[float] = []
    squares: list[float] = []
    low, high = np.inf, -np.inf
    sample: list[NDArray[np.float64]] = []
    for stack in stacks:
        for image in stack:
            grey = np.asarray(image, np.float64) / white
            counts += np.bincount(_levels(image, grey), minlength=LEVELS)
            means.append(float(grey.mean()))
            squares.append(float((grey**2).mean()))
            low, high = min(low, float(grey.min())), max(high, float(grey.max()))
            if len(sample) < SAMPLE:
                sample.append(grey)
    frequency, power = radial_power(sample)
    return Statistics(
        _values(means, squares, low, high, sample, frequency, power), counts / counts.sum(), frequency, power
    )


def _levels(image: Stack, grey: NDArray[np.float64]) -> NDArray[np.uint8]:
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False).ravel()
    return np.minimum(grey * LEVELS, LEVELS - 1).astype(np.uint8).ravel()


def _values(
    means: list[float],
    squares: list[float],
    low: float,
    high: float,
    sample: list[NDArray[np.float64]],
    frequency: NDArray[np.float64],
    power: NDArray[np.float64],
) -> dict[str, float | None]:
    mean, square = np.array(means), np.array(squares)
    steps = [np.mean(np.abs(np.diff(image, axis=axis))) for image in sample for axis in (0, 1)]
    return {
        "mean": float(mean.mean()),
        "standard_deviation": float(np.sqrt(max(square.mean() - mean.mean() ** 2, 0))),
        "least": low,
        "most": high,
        "spread_of_image_means": float(mean.std()),
        "mean_contrast": float(np.sqrt(np.maximum(square - mean**2, 0)).mean()),
        "mean_step": float(np.mean(steps)),
        "power_slope": slope(frequency, power, min(sample[0].shape)),
    }


def radial_power(images: list[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return frequencies in cycles per pixel and the mean power of the images on rings of that radius.

    Each image loses its mean and is multiplied by a Hann window, so that its edges do not count.
    """
    h, w = images[0].shape
    window = np.hanning(h + 1)[:-1, None] * np.hanning(w + 1)[None, :-1]
    power = np.zeros((h, w))
    for image in images:
        power += np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    radius = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w))
    side = min(h, w)
    ring = np.rint(radius * side).astype(np.intp).ravel()
    number = np.bincount(ring)[1 : side // 2]
    total = np.bincount(ring, power.ravel())[1 : side // 2]
    return np.arange(1, side // 2) / side, total / number / len(images)


def slope(frequency: NDArray[np.float64], power: NDArray[np.float64], side: int) -> float | None:
    """Return the exponent of a power law through the spectrum, ``None`` where there are too few points or no power."""
    band = (frequency >= BAND[0] / side) & (frequency <= BAND[1]) & (power > NO_POWER)
    if band.sum() < 4:
        return None
    fitted: Any = np.polynomial.polynomial.polyfit(np.log(frequency[band]), np.log(power[band]), 1)
    return float(fitted[1])
