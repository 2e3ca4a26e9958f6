"""What is measured: every metric with its unit, direction and range.

This module only declares, so that it can be imported in a millisecond; the formulas stand in ``image``, ``frc``,
``parameters`` and ``data``. The ids are a contract: records and leaderboards are keyed by them. A metric whose meaning
changes gets a new id, or :data:`SCORING_VERSION` goes up.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

SCORING_VERSION = 1

Need = Literal["truth", "measurement", "withheld", "halves"]


@dataclass(frozen=True)
class Metric:
    """One number of a score.

    Args:
        id: its key in records.
        unit: SI unit, ``""`` where it has none.
        direction: which way is better.
        low: smallest possible value, ``None`` where unbounded.
        high: largest possible value, ``None`` where unbounded.
        title: what it is, in one line.
        needs: what a scorer must have beside the estimate.

    """

    id: str
    unit: str
    direction: Literal["higher", "lower"]
    low: float | None
    high: float | None
    title: str
    needs: frozenset[Need]


def _metrics() -> Iterable[Metric]:
    def image(
        id: str, unit: str, direction: Literal["higher", "lower"], low: float | None, high: float | None, title: str
    ) -> Metric:
        return Metric(id, unit, direction, low, high, title, frozenset({"truth"}))

    pi = math.pi
    yield image("cpcc_abs", "", "higher", 0, 1, "complex Pearson correlation of object and truth, modulus")
    yield image("cpcc_angle_rad", "rad", "lower", 0, pi, "complex Pearson correlation, modulus of its angle")
    yield image("nrmse_complex", "", "lower", 0, None, "RMS error of the complex object over the RMS of the truth")
    yield image("mse_amplitude", "", "lower", 0, None, "mean square error of the amplitude")
    yield image("mse_phase_rad2", "rad²", "lower", 0, pi**2, "mean square of the wrapped phase error")
    yield image("psnr_amplitude_db", "dB", "higher", None, 200, "peak signal-to-noise ratio of the amplitude")
    yield image("psnr_phase_db", "dB", "higher", None, 200, "peak signal-to-noise ratio of the phase")
    yield image("ssim_amplitude", "", "higher", -1, 1, "structural similarity of the amplitude")
    yield image("ssim_phase", "", "higher", -1, 1, "structural similarity of the phase")
    yield image("frc_truth_area", "", "higher", -1, 1, "mean Fourier ring correlation with the truth up to Nyquist")
    yield image("frc_truth_half_nyquist", "", "higher", -1, 1, "Fourier ring correlation at half of Nyquist")
    yield image("frc_truth_three_quarter_nyquist", "", "higher", -1, 1, "Fourier ring correlation at ¾ of Nyquist")
    yield image("resolution_m_frc_truth_0.5", "m", "lower", 0, None, "half period where the correlation falls to 0.5")
    yield image(
        "raster_artefact_power", "", "lower", 0, None, "mean square of the relative error with a raster's period"
    )
    yield image("probe_cpcc_abs", "", "higher", 0, 1, "correlation of the probes' mutual intensities")
    yield image("position_error_median_px", "px", "lower", 0, None, "median position error, translation removed")
    yield image("position_error_affine_median_px", "px", "lower", 0, None, "median position error, affine map removed")
    yield image("position_error_rms_px", "px", "lower", 0, None, "RMS position error, translation removed")
    yield image("distance_error_relative", "", "lower", 0, None, "error of the distance over the distance")

    measured: frozenset[Need] = frozenset({"measurement"})
    withheld: frozenset[Need] = frozenset({"measurement", "withheld"})
    halves: frozenset[Need] = frozenset({"halves"})
    yield Metric("r_factor", "", "lower", 0, None, "amplitude R-factor of one forward pass", measured)
    yield Metric("deviance_used", "", "lower", 0, None, "Poisson deviance per good pixel, patterns used", measured)
    yield Metric("deviance_withheld", "", "lower", 0, None, "Poisson deviance per good pixel, withheld", withheld)
    yield Metric("frc_split_area", "", "higher", -1, 1, "mean Fourier ring correlation of two halves", halves)
    for unit, length in (("m", "in metres"), ("px", "in pixels, where their size is unknown")):
        for key, threshold in (("half_bit", "half-bit"), ("one_bit", "one-bit"), ("0.143", "0.143")):
            title = f"half period where two halves fall below {threshold}, {length}"
            yield Metric(f"resolution_{unit}_frc_split_{key}", unit, "lower", 0, None, title, halves)


METRICS: dict[str, Metric] = {metric.id: metric for metric in _metrics()}


def available(have: Collection[Need]) -> list[str]:
    """Return the ids of the metrics that can be computed from what is there."""
    return [metric.id for metric in METRICS.values() if metric.needs <= set(have)]


def rescaled(value: float | None, low: float | None, high: float | None, spread: float = 0.0) -> float | None:
    """Return where a value lies between two references: ``(value − low) / (high − low)``.

    Args:
        value: the score.
        low: the score of ``initial_guess`` (becomes 0).
        high: the score of ``oracle`` (becomes 1); below ``low`` for metrics where lower is better.
        spread: the spread of the references over the seeds.

    Returns:
        The rescaled score, not clipped (a prior can beat the oracle); ``None`` where one of the three is, or where the
        references differ by no more than their spread.

    Example:
        >>> rescaled(0.25, low=1.0, high=0.0)
        0.75

    """
    if value is None or low is None or high is None:
        return None
    if abs(high - low) <= spread:
        return None
    return (value - low) / (high - low)
