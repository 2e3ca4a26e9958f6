"""One figure a claim: curves of correlation, maps of settings, a metric over epochs and seconds, or values by seed."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from ptybench.claims.cells import Member
from ptybench.claims.paper import CURVE, NEEDED, Side
from ptybench.claims.reading import read, scored_points
from ptybench.claims.results import Measured, Readings, Records, Result, Results
from ptybench.claims.words import other_words, place_words, quantity_words, where_words
from ptybench.leaderboard.breakdown import STYLE, save
from ptybench.leaderboard.hypermap import Map, draw_maps

PANEL_INCHES = (3.6, 2.8)
PANELS_A_ROW, LABELS_A_PANEL = 3, 40  # panels beside each other, characters below each other's width
FRC = frozenset({CURVE, "frc_truth_area", "frc_truth_half_nyquist", "frc_truth_three_quarter_nyquist"})
"""Metrics that are read off the curve of correlation, which is shown where it is kept."""
_DASHES: list[Any] = ["-", (0, (4, 2)), (0, (1, 1.5))]

Shown = tuple[str, Side, list[Member]]
"""A run and the point it is at, what is read of it, and its cells."""


def draw_all(results: Results, folder: Path) -> dict[str, str]:
    """Draw every claim that has records; return claim → name of its file in ``folder``."""
    found = {}
    for result in results.results:
        figure = draw(result, results.records)
        if figure is not None:
            path = folder / f"{results.paper.name}-{result.claim.id}.svg"
            save(figure, path)
            found[result.claim.id] = path.name
    return found


def draw(result: Result, records: Records) -> Figure | None:
    """Draw one claim, by what it is about; ``None`` where no run of it has a record."""
    measured = [one for one in result.measured if any(cell.key in records for cell in one.trial.cells)]
    if not measured:
        return None
    side = measured[0].trial.check.side
    with mpl.rc_context({**sns.axes_style("ticks"), **STYLE}):
        if side.vary and all(len(one.settings) == 2 for one in measured[0].trial.own):
            return _maps(measured, records)
        panels = {one.trial.check.subject: one for one in measured}
        if side.until is not None or side.metric == "seconds_per_epoch" or side.seconds is not None:
            return _over_time(panels, measured, records)
        if side.metric in FRC and side.single and _has_curves(measured, records):
            return _curves(panels, measured, records)
        return _values(measured)


def _sides(measured: Sequence[Measured], subject: str) -> list[Shown]:
    """Every run of the checks on one subject, at each point, with the epoch at which it is read, each once."""
    found: dict[tuple[str, int | None], Shown] = {}
    for one in measured:
        check = one.trial.check
        if check.subject != subject:
            continue
        for side, members in ((check.side, one.trial.own), (check.other, one.trial.other)):
            if side is not None and members is not None:
                for member in members:
                    name = member.run if member.point is None else f"{member.run} at {member.point:g}"
                    found.setdefault((name, side.epoch), (name, side, [member]))
    return list(found.values())


def _grid(count: int) -> tuple[Figure, list[Any]]:
    width, height = PANEL_INCHES
    rows = math.ceil(count / PANELS_A_ROW)
    columns = math.ceil(count / rows)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[count:]:
        ax.remove()
    return figure, list(axes[:count])


def _colours(shown: Sequence[Shown]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for name, _, _ in shown))
    return dict(zip(names, sns.color_palette("dark", len(names)), strict=True))


def _has_curves(measured: Sequence[Measured], records: Records) -> bool:
    return any(
        point.frc_truth
        for one in measured
        for cell in one.trial.cells
        if cell.key in records
        for point in records[cell.key].trace
    )


def _curves(panels: dict[str, Measured], measured: Sequence[Measured], records: Records) -> Figure:
    """Correlation with the truth over frequency: the mean over the seeds, and all of them as a band."""
    figure, axes = _grid(len(panels))
    for ax, subject in zip(axes, panels, strict=True):
        shown = _sides(measured, subject)
        colours, epochs = _colours(shown), sorted({_epoch(side, members, records) for _, side, members in shown})
        for name, side, (member,) in shown:
            epoch = _epoch(side, [member], records)
            curves = [_curve(records, cell.key, epoch) for cell in member.cells.values()]
            kept = [one for one in curves if one is not None]
            if not kept:
                continue
            # the dose mask of a seed decides how many rings there are
            frequency = np.linspace(max(f[0] for f, _ in kept), min(f[-1] for f, _ in kept), 200)
            values = np.stack([np.interp(frequency, f, v) for f, v in kept])
            x = frequency / 1e6
            label = f"{name}, epoch {epoch}"
            ax.plot(x, values.mean(0), color=colours[name], ls=_DASHES[epochs.index(epoch) % 3], lw=1.2, label=label)
            ax.fill_between(x, values.min(0), values.max(0), color=colours[name], alpha=0.12, lw=0)
        ax.set(
            title=subject,
            xlabel="spatial frequency / µm⁻¹",
            ylabel="FRC with the truth",
            ylim=(min(0, ax.get_ylim()[0]), 1.02),
        )
        ax.legend(frameon=False, fontsize=7)
    return figure


def _epoch(side: Side, members: Sequence[Member], records: Records) -> int:
    if side.epoch is not None:
        return side.epoch
    ended = [records[cell.key].epochs for one in members for cell in one.cells.values() if cell.key in records]
    return max(ended, default=0)


def _curve(records: Records, key: str, epoch: int) -> tuple[np.ndarray, np.ndarray] | None:
    record = records.get(key)
    if record is None or record.status != "ok":
        return None
    points = [point for point in record.trace if point.epoch == epoch and point.frc_truth]
    return (np.array(record.frc_frequency), np.array(points[0].frc_truth)) if points else None


def _over_time(panels: dict[str, Measured], measured: Sequence[Measured], records: Records) -> Figure:
    """The metric over epochs and over seconds, a line for each seed."""
    names = list(panels)
    width, height = PANEL_INCHES
    figure = Figure(figsize=(2 * width, height * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 2, squeeze=False, sharey="row")
    for row, subject in zip(axes, names, strict=True):
        shown = _sides(measured, subject)
        colours, side = _colours(shown), panels[subject].trial.check.side
        metric = side.metric if side.metric not in ("seconds_per_epoch", CURVE) else "frc_truth_area"
        for name, _, (member,) in shown:
            for place, cell in enumerate(member.cells.values()):
                record = records.get(cell.key)
                if record is None or record.status != "ok":
                    continue
                points = [one for one in scored_points(record) if one.metrics.get(metric) is not None]
                y = [one.metrics[metric] for one in points]
                label = None if place else name
                row[0].plot([one.epoch for one in points], y, color=colours[name], lw=1, label=label)
                row[1].plot([one.seconds for one in points], y, color=colours[name], lw=1)
        for ax, what in zip(row, ("epoch", "seconds of solver time"), strict=True):
            ax.set(title=subject, xlabel=what)
            if side.until is not None:
                ax.axhline(side.until, color="#888888", lw=0.7, ls=":")
        row[0].set_ylabel(metric)
        row[0].legend(frameon=False, fontsize=7)
    return figure


def _maps(measured: Sequence[Measured], records: Records) -> Figure:
    """A map for each run and task: the mean over the seeds in every setting."""
    found: dict[tuple[str, str], Map] = {}
    for one in measured:
        check = one.trial.check
        for side, members in ((check.side, one.trial.own), (check.other, one.trial.other)):
            for member in members or []:
                if side is None or len(member.settings) != 2:
                    continue
                values = [read(records.get(cell.key), side) for cell in member.cells.values()]
                first, second = member.settings
                title = f"{member.run}, {side.subject}"
                shown = found.setdefault((side.subject, member.run), Map(title, first, second))
                shown.add(member.settings, [None if value is None else value.value for value in values])
    side = measured[0].trial.check.side
    return draw_maps(list(found.values()), side.metric if side.metric != CURVE else quantity_words(side))


@dataclass
class Panel:
    """What was measured of one problem.

    Args:
        title: quantity and problem.
        columns: run → seed → what was measured.
        bounds: values that it is compared with.

    """

    title: str
    columns: dict[str, Readings] = field(default_factory=dict)
    bounds: set[float] = field(default_factory=set)


def _problems(measured: Sequence[Measured]) -> list[Panel]:
    """Checks of the same quantity of the same problem share a panel, in which every run is shown once."""
    found: dict[str, Panel] = {}
    for one in measured:
        check, own, other = one.trial.check, one.trial.check.side, one.trial.check.other
        title = f"{quantity_words(own)}, {where_words(check)}"
        if len(own.points) == 1 and (other is None or other.points == own.points):
            title += f" at {own.points[0]:g}"
            check = check.model_copy(update={"points": [], "against": {**check.against, "points": []}})
        panel = found.setdefault(title, Panel(title))
        over = f" over {other_words(check)}" if check.per is not None else ""
        panel.columns.setdefault(place_words(check.side) + over, one.own)
        if one.other is not None and not over:
            panel.columns.setdefault(other_words(check), one.other)
        if check.value is not None and "value" in NEEDED.get(check.relation, ()):
            panel.bounds.add(check.value)
    return list(found.values())


def _values(measured: Sequence[Measured]) -> Figure:
    """What was measured, a dot a seed; lines join a seed's own."""
    panels = _problems(measured)
    figure, axes = _grid(len(panels))
    for ax, panel in zip(axes, panels, strict=True):
        names = list(panel.columns)
        for seed in next(iter(panel.columns.values())):
            readings = [one.get(seed) for one in panel.columns.values()]
            y = [np.nan if one is None or one.value is None else one.value for one in readings]
            ax.plot(range(len(names)), y, "o-", color="#335577", lw=0.8, ms=4)
        for value in panel.bounds:
            ax.axhline(value, color="#888888", lw=0.8, ls=":")
        long = sum(map(len, names)) > LABELS_A_PANEL
        ax.set_xticks(range(len(names)), names, rotation=25 if long else 0, ha="right" if long else "center")
        ax.set_xlim(-0.5, len(names) - 0.5)
        ax.set_title(_wrapped(panel.title), fontsize=7)
    return figure


def _wrapped(text: str, width: int = 48) -> str:
    return "\n".join(textwrap.wrap(text, width))
