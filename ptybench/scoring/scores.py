"""Scoring one estimate: align, then take every metric that can be taken."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ptybench.errors import InvalidData, UnknownName
from ptybench.scoring import data, image, parameters, raster
from ptybench.scoring.align import Aligned, align, register
from ptybench.scoring.frame import Complex, Placed, centres_px
from ptybench.scoring.frc import RingCorrelation, ring_correlation
from ptybench.scoring.metrics import METRICS, Need
from ptybench.types import BoolArray, Estimate, Gauges, Measurement, Truth, Withheld

TRUTH_THRESHOLD = 0.5
SPLIT_THRESHOLD = 0.143


@dataclass(eq=False)
class Scores:
    """What is known about one estimate.

    Args:
        values: metric id → value, ``None`` where undefined.
        censored: id of each resolution → whether its curve never crosses.
        gauges: what alignment removed.
        object_aligned: ``(H, W)``, without truth ``None``.
        truth_object: ``(H, W)``.
        scored: ``(H, W)``, the pixels that count.
        curves: ``frc_truth`` and ``frc_split`` with ``…_frequency`` (1/m, or 1/px where the pixel size is unknown),
            and their thresholds (``…_threshold_0.5``); only rings that count.

    """

    values: dict[str, float | None] = field(default_factory=dict)
    censored: dict[str, bool] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    object_aligned: Complex | None = None
    truth_object: Complex | None = None
    scored: BoolArray | None = None
    curves: dict[str, list[float]] = field(default_factory=dict)


def evaluate(
    estimate: Estimate,
    truth: Truth | None = None,
    measurement: Measurement | None = None,
    withheld: Withheld | None = None,
    halves: tuple[Estimate, Estimate] | None = None,
    metrics: Collection[str] | None = None,
    start: Mapping[str, float] | None = None,
) -> Scores:
    """Return every metric of an estimate that can be computed from what is given.

    Args:
        estimate: what a solver found; row k of its positions belongs to pattern k that the solver saw.
        truth: the truth, of all patterns.
        measurement: what the solver saw, or all patterns (then ``withheld`` says which the solver saw).
        withheld: patterns that the solver did not see.
        halves: two reconstructions from half of the patterns each, on one canvas.
        metrics: compute only these ids.
        start: ``gauges`` of an earlier evaluation, to align from.

    Raises:
        InvalidData: where the estimate does not belong to the truth or the patterns.
        UnknownName: where ``metrics`` names none.

    """
    for name in metrics or ():
        if name not in METRICS:
            raise UnknownName("metric", name, METRICS)
    wanted = set(METRICS if metrics is None else metrics)
    given: dict[Need, object] = {
        "truth": truth,
        "measurement": measurement,
        "withheld": withheld,
        "halves": halves,
    }
    have = {need for need, value in given.items() if value is not None}
    wanted = {name for name in wanted if METRICS[name].needs <= have}
    scores = Scores()
    if truth is not None:
        known = measurement.distance_m if measurement is not None else None
        _against_truth(scores, estimate, truth, withheld, known, wanted, start)
    if measurement is not None:
        _against_data(scores, estimate, measurement, withheld, wanted)
    if halves is not None:
        _against_each_other(scores, halves, measurement, wanted)
    # one order for all records, that of METRICS
    scores.values = {name: _finite(scores.values[name]) for name in METRICS if name in scores.values}
    return scores


def score(
    estimate: Estimate,
    truth: Truth | None = None,
    measurement: Measurement | None = None,
    withheld: Withheld | None = None,
) -> dict[str, float | None]:
    """Return ``{metric id: value}``, ``None`` where a metric is undefined; see :func:`evaluate`.

    Example:
        >>> import ptybench
        >>> measurement, truth = ptybench.simulate("low_dose")  # doctest: +SKIP
        >>> ptybench.score(measurement.initial, truth)["cpcc_abs"]  # doctest: +SKIP
        0.0

    """
    return evaluate(estimate, truth, measurement, withheld).values


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _against_truth(
    scores: Scores,
    estimate: Estimate,
    truth: Truth,
    withheld: Withheld | None,
    nominal_distance: float | None,
    wanted: set[str],
    start: Mapping[str, float] | None,
) -> None:
    if withheld is not None and len(estimate.positions_px) == len(withheld.used):
        truth = _at(truth, withheld)
    aligned = align(estimate, truth, start)
    scores.gauges = aligned.found()
    scores.object_aligned, scores.truth_object, scores.scored = aligned.object, truth.object, truth.scored
    values = _image_values(aligned.object, truth, wanted)
    curve = ring_correlation(aligned.object, truth.object, truth.scored, truth.pixel_size_m)
    values |= {
        "frc_truth_area": curve.area(),
        "frc_truth_half_nyquist": curve.at(0.5),
        "frc_truth_three_quarter_nyquist": curve.at(0.75),
    }
    resolution = "resolution_m_frc_truth_0.5"
    values[resolution], censored = curve.resolution(TRUTH_THRESHOLD)
    if resolution in wanted:
        scores.censored[resolution] = censored
    _keep_curve(scores, "frc_truth", curve, {"0.5": np.full(len(curve.value), TRUTH_THRESHOLD)})
    values |= _parameter_values(aligned, estimate, truth, nominal_distance)
    scores.values |= {name: value for name, value in values.items() if name in wanted}


def _at(truth: Truth, withheld: Withheld) -> Truth:
    """Return the truth with the positions of the patterns used; the dose stays that of the whole scan."""
    return replace(truth, positions_px=truth.positions_px[withheld.used])


def _image_values(aligned: Complex, truth: Truth, wanted: set[str]) -> dict[str, float | None]:
    scored = truth.scored
    correlation = image.cpcc(aligned, truth.object, scored)
    amplitude, phase = image.squared_errors(aligned, truth.object, scored)
    values: dict[str, float | None] = {
        "cpcc_abs": abs(correlation),
        "cpcc_angle_rad": abs(float(np.angle(correlation))) if correlation != 0 else None,
        "nrmse_complex": image.nrmse(aligned, truth.object, scored),
        "mse_amplitude": amplitude,
        "mse_phase_rad2": phase,
        "psnr_amplitude_db": image.psnr_db(amplitude, truth.amplitude_range),
        "psnr_phase_db": image.psnr_db(phase, truth.phase_range_rad),
    }
    if wanted & {"ssim_amplitude", "ssim_phase"}:
        amplitudes, phases = image.amplitude_and_phase(aligned, truth.object, scored)
        values["ssim_amplitude"] = image.ssim(*amplitudes, scored, truth.amplitude_range)
        values["ssim_phase"] = image.ssim(*phases, scored, truth.phase_range_rad)
    if "raster_artefact_power" in wanted:
        steps = raster.raster_steps(truth.positions_px)
        found = None if steps is None else raster.artefact_power(aligned, truth.object, scored, steps)
        values["raster_artefact_power"] = found
    return values


def _parameter_values(
    aligned: Aligned, estimate: Estimate, truth: Truth, nominal_distance: float | None
) -> dict[str, float | None]:
    centres = truth.positions_px + np.array(truth.probe.shape[-2:]) // 2
    median, affine, rms = parameters.position_errors(centres_px(estimate, truth.pixel_size_m), centres)
    distance = nominal_distance if estimate.distance_m is None else estimate.distance_m
    return {
        "probe_cpcc_abs": parameters.probe_cpcc(aligned.probe, truth.probe),
        "position_error_median_px": median,
        "position_error_affine_median_px": affine,
        "position_error_rms_px": rms,
        "distance_error_relative": parameters.distance_error(distance, truth.distance_m),
    }


def _against_data(
    scores: Scores, estimate: Estimate, measurement: Measurement, withheld: Withheld | None, wanted: set[str]
) -> None:
    if withheld is not None and len(measurement.intensities) == len(withheld.used) + len(withheld.indices):
        measurement = measurement.subset(withheld.used)
    if wanted & {"r_factor", "deviance_used"}:
        used = data.fit(estimate, measurement)
        scores.values["r_factor"], scores.values["deviance_used"] = used.r_factor, used.deviance
    if withheld is not None and "deviance_withheld" in wanted:
        positions = data.withheld_positions(estimate, measurement, withheld)
        unseen = data.fit(estimate, measurement, withheld.intensities, positions)
        scores.values["deviance_withheld"] = unseen.deviance
    for name in {"r_factor", "deviance_used"} - wanted:
        scores.values.pop(name, None)


def _against_each_other(
    scores: Scores, halves: tuple[Estimate, Estimate], measurement: Measurement | None, wanted: set[str]
) -> None:
    """Correlate two halves where both were lit; the second is aligned to the first in all gauges that are free."""
    a, b = halves
    if a.object.shape != b.object.shape:
        raise InvalidData(
            f"expected both halves on one canvas, got {a.object.shape} and {b.object.shape}: reconstruct them from the "
            "same nominal canvas"
        )
    lit = [d >= 0.01 * d.max() for d in (data.dose(a), data.dose(b))]
    mask = lit[0] & lit[1]
    pixel = a.pixel_size_m or (measurement.pixel_size_m if measurement is not None else None)
    if not mask.any():
        return
    known = measurement is not None and measurement.known_probe
    from ptybench.optics.probes import diameter_px

    caps = (np.array(a.probe.shape[1:]) / 4, math.pi / max(diameter_px(a.probe), 1.0))
    first = np.asarray(a.object, dtype=np.complex128)
    moving = Placed(np.asarray(b.object, dtype=np.complex128), np.zeros(2))
    second, _, _ = register(moving, first, mask, Gauges(not known, not known, not known), caps)
    curve = ring_correlation(second, first, mask, pixel or (1.0, 1.0))
    thresholds = {
        "half_bit": curve.half_bit(),
        "one_bit": curve.one_bit(),
        "0.143": np.full(len(curve.value), SPLIT_THRESHOLD),
    }
    _keep_curve(scores, "frc_split", curve, thresholds)
    if "frc_split_area" in wanted:
        scores.values["frc_split_area"] = curve.area()
    for name, threshold in thresholds.items():
        key = f"resolution_{'px' if pixel is None else 'm'}_frc_split_{name}"
        if key in wanted:
            scores.values[key], scores.censored[key] = curve.resolution(threshold)


def _keep_curve(scores: Scores, name: str, curve: RingCorrelation, thresholds: Mapping[str, np.ndarray]) -> None:
    """Keep a curve with the rings that count and its thresholds."""
    keep = curve.counted
    scores.curves[f"{name}_frequency"] = curve.frequency[keep].tolist()
    scores.curves[name] = curve.value[keep].tolist()
    for key, threshold in thresholds.items():
        scores.curves[f"{name}_threshold_{key}"] = threshold[keep].tolist()
