"""The detector: point spread, background, photon noise, read-out, saturation, dead pixels and gaps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ptybench.errors import InvalidOption

if TYPE_CHECKING:
    from ptybench.task import Detector, Dose

Streams = Callable[[str], np.random.Generator]
CHUNK = 64  # patterns at a time


def blur(expected: NDArray[np.float64], sigma_px: float) -> None:
    """Spread each pattern by a Gaussian of standard deviation ``sigma_px``, in place; what leaves the edge is lost.

    Args:
        expected: ``(K, h, w)`` photons.
        sigma_px: in detector pixels.

    """
    if sigma_px > 0:
        for pattern in expected:
            gaussian_filter(pattern, sigma_px, mode="constant", output=pattern)


def bad_pixels(shape: tuple[int, int], detector: Detector, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return where the detector counts nothing: dead pixels, and gaps between its modules.

    A horizontal and a vertical gap cross beside the zero frequency, which stays on the detector. A larger fraction of
    dead pixels holds those of a smaller one.

    Args:
        shape: ``(h, w)``.
        detector: ``dead_fraction`` and ``gap_px`` count.
        rng: places the dead pixels.

    Raises:
        InvalidOption: where the gap leaves no module beyond it.

    """
    rank = np.argsort(np.argsort(rng.random(shape[0] * shape[1]))).reshape(shape)
    bad: NDArray[np.bool_] = rank < round(detector.dead_fraction * rank.size)
    if detector.gap_px > 0:
        for axis, size in enumerate(shape):
            start = size // 2 + 1 + size // 8
            if start + detector.gap_px >= size:
                raise InvalidOption(
                    f"expected a detector gap of less than {size - start} px for patterns of {size} px, "
                    f"got gap_px = {detector.gap_px}: make it narrower"
                )
            np.moveaxis(bad, axis, 0)[start : start + detector.gap_px] = True
    return bad


def detect(
    expected: NDArray[np.float64], detector: Detector, dose: Dose, streams: Streams
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return one measurement of the expected intensities.

    Photons are Poisson numbers of ``expected`` as it is; the read-out adds Gaussian noise; counts are clipped at 0 and
    at saturation; bad pixels read 0.

    Args:
        expected: ``(K, h, w)`` photons, with point spread and background.
        detector: what it does.
        dose: ``noise_free`` leaves out photon and read-out noise.
        streams: purpose → random generator; uses ``"photons"``, ``"read_noise"`` and ``"dead_pixels"``.

    Returns:
        ``(K, h, w)`` photons and ``(h, w)`` bad pixels.

    """
    photons, readout = streams("photons"), streams("read_noise")
    bad = bad_pixels((expected.shape[1], expected.shape[2]), detector, streams("dead_pixels"))
    ceiling = math.inf if detector.saturation_photons is None else detector.saturation_photons
    intensities = np.empty(expected.shape, dtype=np.float32)
    for start in range(0, len(expected), CHUNK):
        part = slice(start, start + CHUNK)
        counts = expected[part].copy() if dose.noise_free else photons.poisson(expected[part]).astype(np.float64)
        if detector.read_noise_photons > 0 and not dose.noise_free:
            counts += detector.read_noise_photons * readout.standard_normal(counts.shape)
        np.clip(counts, 0.0, ceiling, out=counts)
        counts[:, bad] = 0.0
        intensities[part] = counts
    return intensities, bad
