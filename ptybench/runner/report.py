"""``report.png``: one page that shows what a run found, how well, and at what cost.

Against a truth: object and difference in amplitude and phase, Fourier ring correlation, convergence, probe, scan and
key numbers. Of a real measurement: object, a pattern measured and modelled (a withheld one where there is one),
convergence, split-half correlation, probe, scan and key numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ptybench.optics.probes import diameter_px
from ptybench.readable import quantity
from ptybench.records import Record
from ptybench.runner import panels, summary
from ptybench.runner.panels import BLUE, FAINT, GREEN, INK, RED, Curve
from ptybench.runner.pictures import (
    Range,
    bounding_box,
    length_scale,
    limits,
    mean_phase,
    phase,
    phase_limits,
    shrink,
    symmetric_limits,
    tamed,
    without_ramp,
)
from ptybench.scoring import Scores
from ptybench.scoring.data import dose, predict, withheld_positions
from ptybench.types import BoolArray, ComplexArray, Estimate, FloatArray, Measurement, Truth, Withheld

DPI = 150
WIDTH, HEIGHT = 13.6, 10.9  # inches
COLUMNS, ROWS = 4, 3
LEFT, RIGHT, TOP, BOTTOM = 0.025, 0.985, 0.912, 0.062
GAP_X, GAP_Y = 0.052, 0.062
OUTLIERS = 0.005  # share of the pixels beyond either end of a colour range on real data

THRESHOLDS = {"0.5": "threshold 0.5", "half_bit": "half-bit", "one_bit": "one-bit", "0.143": "0.143"}


@dataclass(frozen=True, eq=False)
class Material:
    """All that a page is made from."""

    record: Record
    scores: Scores | None
    estimate: Estimate
    truth: Truth | None
    measurement: Measurement
    withheld: Withheld | None

    @property
    def pixel_m(self) -> tuple[float, float] | None:
        """Pixel size of the object that is shown."""
        if self.truth is not None:
            return self.truth.pixel_size_m
        return self.estimate.pixel_size_m or self.measurement.pixel_size_m


def write_report(
    path: Path,
    record: Record,
    scores: Scores | None,
    estimate: Estimate,
    truth: Truth | None,
    measurement: Measurement,
    withheld: Withheld | None = None,
) -> None:
    """Draw a run's report and write it as PNG.

    Args:
        path: where to.
        record: the run's record.
        scores: its scores; ``None`` where there are none (a run that diverged).
        estimate: what the method found; may hold NaN.
        truth: the truth; ``None`` for a real measurement.
        measurement: what the method saw.
        withheld: what it did not see.

    """
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    with np.errstate(invalid="ignore", over="ignore"):
        material = Material(record, scores, estimate, truth, measurement, withheld)
        _heading(figure, record)
        if truth is not None:
            _against_truth(figure, material, truth)
        else:
            _without_truth(figure, material)
    figure.savefig(path, format="png", dpi=DPI, metadata={"Title": summary.title(record), "Software": "ptybench"})


def _heading(figure: Figure, record: Record) -> None:
    figure.text(LEFT, 0.975, summary.title(record), fontsize=15, weight="bold", color=INK, va="center")
    figure.text(LEFT, 0.95, summary.cell(record), fontsize=9.5, color=FAINT, va="center")
    headline, colour = summary.primary(record), BLUE if record.status == "ok" else RED
    figure.text(
        RIGHT,
        0.975,
        headline,
        fontsize=15,
        weight="bold",
        color=colour,
        va="center",
        ha="right",
    )
    figure.text(RIGHT, 0.95, summary.primary_title(record), fontsize=9.5, color=FAINT, va="center", ha="right")


def _place(
    figure: Figure,
    row: int,
    column: int,
    span: int = 1,
    left: float = 0.0,
    part: tuple[float, float] = (0.0, 1.0),
) -> Axes:
    """Add an axes in a cell of the page, counted from its top left.

    Args:
        figure: the page.
        row: of the cell.
        column: of the cell.
        span: how many rows and columns it covers.
        left: room left for the labels of an axis.
        part: the share of the height that it takes, from below.

    """
    wide = (RIGHT - LEFT - (COLUMNS - 1) * GAP_X) / COLUMNS
    tall = (TOP - BOTTOM - (ROWS - 1) * GAP_Y) / ROWS
    x = LEFT + column * (wide + GAP_X) + left
    width = span * wide + (span - 1) * GAP_X - left
    height = span * tall + (span - 1) * GAP_Y
    y = TOP - row * (tall + GAP_Y) - height
    ax = figure.add_axes((x, y + part[0] * height, width, (part[1] - part[0]) * height))
    ax.set_anchor("NW")
    return ax


def _against_truth(figure: Figure, m: Material, truth: Truth) -> None:
    scored, true = truth.scored, truth.object
    found: ComplexArray = np.full(true.shape, complex(math.nan, math.nan))
    if m.scores is not None and m.scores.object_aligned is not None:
        found = tamed(m.scores.object_aligned)
    box = bounding_box(scored, 2)
    pixels = true[box].shape
    scored, true, found = shrink(scored[box]), shrink(true[box]), shrink(found[box])
    reference = mean_phase(true, scored)
    amplitude, angle = np.abs(true), phase(true, reference)
    found_amplitude = np.abs(found)
    # unwrapped towards the truth, so that a phase just beyond ±π is not shown at the other end
    found_angle = angle + phase(found * np.conj(true))
    span = limits(amplitude, scored)
    span = span.widened(limits(found_amplitude, scored, OUTLIERS, default=span))
    turn = phase_limits(angle, scored)
    turn = turn if turn.cyclic else turn.widened(limits(found_angle, scored, OUTLIERS, default=turn))
    for row, (name, unit, a, b, extent, cmap) in enumerate(
        [
            ("amplitude", "", amplitude, found_amplitude, span, "gray"),
            ("phase", "rad", angle, found_angle, turn, "viridis"),
        ]
    ):
        difference = b - a if name == "amplitude" else phase(found * np.conj(true))
        smallest = 0.02 * (extent.high - extent.low)
        pictures: list[tuple[str, FloatArray, Range, str]] = [
            (f"true {name}", a, extent, cmap),
            (f"reconstructed {name}", b, extent, cmap),
            (f"difference in {name}", difference, symmetric_limits(difference, scored, smallest), "RdBu_r"),
        ]
        for column, (title, values, colours, colour_map) in enumerate(pictures):
            ax = _place(figure, row, column)
            panels.picture(ax, values, scored, colours, colour_map, unit, m.pixel_m)
            panels.title(ax, title)
            if column == 2:
                panels.footnote(ax, _rms(values, scored, unit))
            if row == 0 and column == 0:
                panels.scale_bar(ax, pixels[1], m.pixel_m[1] if m.pixel_m else None)
    _correlation(figure, m, 0, 3, "frc_truth", "correlation with the truth")
    _history(figure, m, 1, 3, m.record.primary_metric)
    _probe(figure, m, [("true", truth.probe), ("found", m.estimate.probe)])
    _scan(figure, m, truth)
    _facts(figure, m)


def _without_truth(figure: Figure, m: Material) -> None:
    found = tamed(m.estimate.object)
    total = np.nan_to_num(dose(m.estimate))
    lit = total >= 0.01 * total.max() if total.max() > 0 else np.ones(found.shape, dtype=np.bool_)
    box = bounding_box(lit, 2)
    pixels = found[box].shape
    lit, found = lit[box], found[box]
    found = without_ramp(found, lit)
    lit, found = shrink(lit), shrink(found)
    angle = phase(found, mean_phase(found, lit))
    amplitude = np.abs(found)
    ax = _place(figure, 0, 0, span=2)
    panels.picture(ax, angle, lit, phase_limits(angle, lit, OUTLIERS), "viridis", "rad", m.pixel_m)
    panels.title(ax, "reconstructed phase")
    panels.footnote(ax, "mean and linear ramp removed")
    panels.scale_bar(ax, pixels[1], m.pixel_m[1] if m.pixel_m else None)
    ax = _place(figure, 0, 2)
    panels.picture(ax, amplitude, lit, limits(amplitude, lit, OUTLIERS), "gray", pixel=m.pixel_m)
    panels.title(ax, "reconstructed amplitude")
    _patterns(figure, m)
    _history(figure, m, 0, 3, "r_factor")
    _probe(figure, m, [("found", m.estimate.probe)])
    _scan(figure, m, None)
    _facts(figure, m)


def _rms(values: FloatArray, scored: BoolArray, unit: str) -> str:
    inside = values[scored & np.isfinite(values)]
    return f"rms {quantity(float(np.sqrt(np.mean(inside**2))), unit, 3)}" if inside.size else ""


def _correlation(figure: Figure, m: Material, row: int, column: int, name: str, title: str) -> None:
    ax = _place(figure, row, column, left=0.012)
    panels.title(ax, title)
    curves = m.scores.curves if m.scores is not None else {}
    frequency, values = curves.get(f"{name}_frequency", []), curves.get(name, [])
    if not values:
        panels.message(ax, "there is nothing to correlate")
        return
    nyquist = min(0.5 / d for d in m.pixel_m or (1.0, 1.0))
    x = [f / nyquist for f in frequency]
    styles = iter([(RED, "--"), (GREEN, "--"), (FAINT, ":")])
    thresholds = [
        Curve(label, x, curves[f"{name}_threshold_{key}"], *next(styles))
        for key, label in THRESHOLDS.items()
        if f"{name}_threshold_{key}" in curves
    ]
    panels.correlation(ax, [Curve("object", x, values, BLUE)], thresholds)


def _history(figure: Figure, m: Material, row: int, column: int, metric: str | None) -> None:
    """Draw the data error and a metric over epochs, one above the other."""
    trace = [point for point in m.record.trace if point.epoch > 0]
    upper = _place(figure, row, column, left=0.012, part=(0.56, 1.0))
    lower = _place(figure, row, column, left=0.012, part=(0.0, 0.44))
    panels.title(upper, "data error")
    last = float(max([point.epoch for point in trace], default=1))
    epochs = [float(point.epoch) for point in trace]
    panels.history(upper, Curve("data error", epochs, [p.data_error for p in trace], INK), True, last, False)
    scored = [point for point in trace if metric is not None and point.metrics.get(metric) is not None]
    values = [point.metrics[metric] for point in scored if metric is not None]
    lower_is_better = m.record.directions.get(metric or "") == "lower"
    panels.title(lower, f"{metric} {summary.arrow(m.record, metric)}" if metric else "metric")
    curve = Curve(metric or "metric", [float(point.epoch) for point in scored], values, BLUE)
    panels.history(lower, curve, lower_is_better, last, True)


def _probe(figure: Figure, m: Material, rows: Sequence[tuple[str, ComplexArray]]) -> None:
    ax = _place(figure, 2, 0)
    panels.title(ax, "probe", "brightness: amplitude, hue: phase")
    lit = np.max([np.abs(np.nan_to_num(modes)).max(axis=0) for _, modes in rows], axis=0)
    box = bounding_box(lit > 0.05 * lit.max(), 2)
    shown = [(label, tamed(modes[:, *box])) for label, modes in rows]
    panels.probes(ax, shown, m.pixel_m[1] if m.pixel_m else None)


def _scan(figure: Figure, m: Material, truth: Truth | None) -> None:
    """Draw the patch centres in physical lengths, so that grids of different pixels fall together."""
    ax = _place(figure, 2, 1, left=0.012)
    panels.title(ax, "scan", f"{len(m.measurement.positions_px)} patterns")
    half = np.array(m.measurement.shape) // 2
    unit = m.measurement.pixel_size_m or (1.0, 1.0)
    own = m.estimate.pixel_size_m or unit
    nominal = (m.measurement.positions_px + half) * unit
    found: FloatArray | None = (np.asarray(m.estimate.positions_px, dtype=np.float64) + half) * own
    assert found is not None
    true = None
    if truth is not None:
        used = slice(None) if m.withheld is None else m.withheld.used
        true = (truth.positions_px[used] + half) * truth.pixel_size_m
        if true.shape == found.shape:  # a common translation is a gauge
            found = found + np.nanmedian(true - found, axis=0) if np.isfinite(found).all() else found
    if found.shape != nominal.shape or not np.isfinite(found).all() or _same(found, nominal, unit):
        found = None
    if true is not None and true.shape == nominal.shape and _same(true, nominal, unit):
        true = None
    probe = tamed(truth.probe if truth is not None else m.estimate.probe)
    diameter = diameter_px(np.nan_to_num(probe)) * unit[1] if np.isfinite(probe).all() else math.nan
    extent = float(np.ptp(nominal, axis=0).max()) + (diameter if math.isfinite(diameter) else 0.0)
    scale = length_scale(unit[1] if m.measurement.pixel_size_m else None, extent / unit[1])
    factor = scale.per_pixel / unit[1]
    in_unit = [None if points is None else points * factor for points in (nominal, true, found)]
    assert in_unit[0] is not None
    panels.scan(ax, in_unit[0], in_unit[1], in_unit[2], diameter * factor, scale)


def _same(a: FloatArray, b: FloatArray, pixel: tuple[float, float]) -> bool:
    apart = (a - b) / pixel
    return bool(np.abs(apart - np.median(apart, axis=0)).max(initial=0.0) < 1e-3)


def _patterns(figure: Figure, m: Material) -> None:
    """Draw the pattern nearest to the middle of the scan, a withheld one if there is any, and its model."""
    positions, intensities, kind = m.estimate.positions_px, m.measurement.intensities, "used"
    if m.withheld is not None and len(m.withheld.indices):
        positions, intensities = withheld_positions(m.estimate, m.measurement, m.withheld), m.withheld.intensities
        kind = "withheld"
    centre = np.median(positions, axis=0)
    k = int(np.argmin(np.hypot(*(positions - centre).T)))
    measured = shrink(intensities[k].astype(np.float64))
    bad = shrink(m.measurement.bad_pixels)
    one = replace(m.estimate, positions_px=np.asarray(positions[k : k + 1], dtype=np.float64))
    modelled = shrink(predict(one, m.measurement)[0] + m.measurement.noise.background_photons)
    good = measured[~bad & np.isfinite(measured)]
    high = float(good.max()) if good.size else 1.0
    low = max(float(np.quantile(good, 0.01)) if good.size else 0.0, high * 1e-5, min(0.5, high / 10))
    for column, (title, values, hidden) in enumerate(
        [("measured pattern", measured, bad), ("modelled pattern", modelled, np.zeros_like(bad))]
    ):  # one colour bar serves both
        ax = _place(figure, 1, 2 + column)
        panels.pattern(ax, values, hidden, Range(low, high), "photons", bar=column == 0)
        panels.title(ax, title, kind)


def _facts(figure: Figure, m: Material) -> None:
    record = m.record
    scores = summary.metrics(record)
    problem = summary.facts(record)
    right = [("", "cost"), *summary.cost(record), *([("", ""), ("", "problem"), *problem] if problem else [])]
    if m.scores is not None and "frc_split" in m.scores.curves:
        _correlation(figure, m, 2, 2, "frc_split", "correlation of two halves")
        right = [("", "scores"), *scores, ("", ""), *right[: -len(problem) - 2 if problem else None]]
    else:
        panels.facts(_place(figure, 2, 2), [("", "scores"), *scores])
    panels.facts(_place(figure, 2, 3), right)
