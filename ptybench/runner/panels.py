"""The panels of a report: each function draws one thing into one matplotlib axes and knows nothing of records.

Figures are made with the canvas API alone (no pyplot, no global settings), so that a run may draw from any thread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.patches import Circle, Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation, Transform

from ptybench.runner.pictures import (
    LARGEST,
    LengthScale,
    Range,
    bar_length,
    complex_colours,
    shrink,
)
from ptybench.types import BoolArray, ComplexArray, FloatArray

if TYPE_CHECKING:
    from matplotlib.image import AxesImage

INK = "#22262b"
FAINT = "#8a929c"
UNSCORED = "#dfe3e8"
BLUE, RED, GREEN = "#1f5fa8", "#c8452f", "#2a8a57"
TEXT_PT, TITLE_PT = 8.0, 9.5


@dataclass(frozen=True)
class Curve:
    """One line of a plot against spatial frequency (in units of Nyquist) or epochs."""

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: str
    style: str = "-"


def title(ax: Axes, text: str, note: str = "") -> None:
    """Write a panel's title at its top left, a fainter note at its top right."""
    above = _moved(ax, 5)
    ax.text(0, 1, text, transform=above, fontsize=TITLE_PT, color=INK, va="baseline", weight="bold")
    if note:
        ax.text(1, 1, note, transform=above, fontsize=TEXT_PT, color=FAINT, va="baseline", ha="right")


def _moved(ax: Axes, points: float) -> Transform:
    """The axes' own coordinates, moved up by points, so that text stands alike above large and small panels."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return ax.transAxes + ScaledTranslation(0, points / 72, figure.dpi_scale_trans)


def plain(ax: Axes) -> None:
    """Take away the frame's upper and right side and calm the ticks."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(labelsize=TEXT_PT - 0.5, color=FAINT, labelcolor=INK, length=2.5, width=0.6)
    ax.xaxis.label.set_fontsize(TEXT_PT)
    ax.yaxis.label.set_fontsize(TEXT_PT)


def message(ax: Axes, text: str) -> None:
    """Say in the middle of an empty panel why it is empty."""
    ax.set_axis_off()
    ax.add_patch(Rectangle((0, 0), 1, 1, transform=ax.transAxes, facecolor="#f4f5f7", edgecolor="none"))
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=TEXT_PT, color=FAINT)


def colour_map(name: str) -> Colormap:
    """Return a colour map that shows what is not scored, or not finite, in pale grey."""
    return colormaps[name].with_extremes(bad=UNSCORED)


def picture(
    ax: Axes,
    values: FloatArray,
    scored: BoolArray,
    limits: Range,
    cmap: str,
    unit: str = "",
    pixel: tuple[float, float] | None = None,
) -> None:
    """Draw a real picture with its colour bar; what is outside ``scored`` or not finite is pale grey.

    Args:
        ax: where.
        values: ``(H, W)``.
        scored: ``(H, W)``.
        limits: colour limits.
        cmap: colour map; a cyclic range takes ``twilight`` instead.
        unit: unit beside the colour bar.
        pixel: pixel size ``(dy, dx)``; ``None`` draws square pixels.

    """
    shown = np.ma.masked_array(values, ~scored | ~np.isfinite(values))
    cmap = "twilight" if limits.cyclic else cmap
    image = ax.imshow(
        shown,
        cmap=colour_map(cmap),
        norm=Normalize(limits.low, limits.high),
        interpolation="nearest" if max(values.shape) < LARGEST // 2 else "antialiased",
    )
    bare(ax)
    if shown.mask.all():
        ax.text(0.5, 0.5, "not finite", transform=ax.transAxes, ha="center", color=RED, fontsize=TITLE_PT)
    if pixel is not None:
        ax.set_aspect(pixel[0] / pixel[1])
    colour_bar(ax, image, unit)


def bare(ax: Axes) -> None:
    """Take away ticks and frame of a picture."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def colour_bar(ax: Axes, image: AxesImage, unit: str) -> None:
    """Draw a slim colour bar at the right of a picture."""
    inset = ax.inset_axes((1.025, 0.0, 0.035, 1.0))
    figure = ax.get_figure()
    assert figure is not None
    bar = figure.colorbar(image, cax=inset)
    bar.outline.set_visible(False)
    if isinstance(image.norm, LogNorm):
        inset.yaxis.set_major_locator(LogLocator(numticks=6))
    else:
        inset.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    inset.yaxis.set_minor_formatter(NullFormatter())
    inset.tick_params(labelsize=TEXT_PT - 1, length=2, width=0.5, labelcolor=INK, color=FAINT)
    if unit:
        inset.set_title(unit, fontsize=TEXT_PT - 1, color=INK, pad=3, loc="left")


def scale_bar(ax: Axes, pixels: int, pixel_m: float | None) -> None:
    """Draw a scale bar below a picture, at its left.

    Args:
        ax: the picture's axes.
        pixels: its width in pixels of the object, before it was shrunk for the screen.
        pixel_m: pixel size; ``None`` draws it in pixels.

    """
    length, label = bar_length(pixel_m, pixels)
    below = _moved(ax, -9)
    ax.plot([0, length / pixels], [0, 0], color=INK, lw=2.5, transform=below, clip_on=False, solid_capstyle="butt")
    ax.text(length / pixels + 0.02, 0, label, transform=below, fontsize=TEXT_PT, color=INK, va="center_baseline")


def footnote(ax: Axes, text: str) -> None:
    """Write a faint remark below a picture, at its right."""
    ax.text(1, 0, text, transform=_moved(ax, -9), fontsize=TEXT_PT, color=FAINT, va="center_baseline", ha="right")


def pattern(ax: Axes, values: FloatArray, bad: BoolArray, limits: Range, unit: str, bar: bool) -> None:
    """Draw a diffraction pattern on a logarithmic scale; bad pixels are pale grey."""
    floor = max(limits.low, limits.high * 1e-9)
    shown = np.ma.masked_array(np.maximum(values, floor), bad | ~np.isfinite(values))
    norm = LogNorm(floor, max(limits.high, 2 * floor))
    image = ax.imshow(shown, cmap=colour_map("magma"), norm=norm, interpolation="antialiased")
    bare(ax)
    if bar:
        colour_bar(ax, image, unit)


def correlation(ax: Axes, curves: Sequence[Curve], thresholds: Sequence[Curve]) -> None:
    """Draw Fourier ring correlations against frequency, with thresholds; Nyquist is 1."""
    for curve in thresholds:
        constant = len(set(curve.y)) == 1
        x, y = ([0.0, 1.0], [curve.y[0]] * 2) if constant else (curve.x, curve.y)
        ax.plot(x, _gaps(y), curve.style, color=curve.colour, lw=1.0, label=curve.label)
    for curve in curves:
        ax.plot(curve.x, _gaps(curve.y), curve.style, color=curve.colour, lw=1.4, label=curve.label)
    ax.axhline(0.0, color=FAINT, lw=0.5)
    lowest = min((y for curve in curves for y in curve.y if y is not None and math.isfinite(y)), default=0.0)
    ax.set_xlim(0, 1)
    ax.set_ylim(max(-1.05, min(-0.05, 1.1 * lowest)), 1.05)
    ax.set_xlabel("spatial frequency / Nyquist")
    ax.legend(loc="best", fontsize=TEXT_PT - 0.5, frameon=True, framealpha=0.85, edgecolor="none")
    plain(ax)


def history(ax: Axes, curve: Curve, log_y: bool, last: float, label_x: bool) -> None:
    """Draw one quantity over epochs (logarithmic); the value at the end is written beside it."""
    y = _gaps(curve.y)
    finite = np.isfinite(y) & ((y > 0) | (not log_y))
    if not finite.any():
        message(ax, f"no {curve.label} was recorded")
        return
    sparse = int(finite.sum()) < 25
    ax.plot(np.asarray(curve.x)[finite], y[finite], "-", color=curve.colour, lw=1.4, marker="o" if sparse else "",
            ms=3)  # fmt: skip
    ax.set_xscale("log")
    ax.set_xlim(min(1.0, *curve.x), max(last, 2.0))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    spread = float(y[finite].max() / y[finite].min()) if log_y else 1.0
    if spread > 3:  # less than that has hardly a labelled tick on a logarithmic axis
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if spread < 30 else (1.0,)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.ticklabel_format(axis="y", useOffset=False)
    ax.set_xlabel("epoch" if label_x else "")
    ax.tick_params(labelbottom=label_x)
    ax.grid(axis="y", color="#eceef1", lw=0.6)
    plain(ax)


def _gaps(values: Sequence[float | None]) -> FloatArray:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def probes(ax: Axes, rows: Sequence[tuple[str, ComplexArray]], pixel_m: float | None) -> None:
    """Draw probe modes as colour: brightness is amplitude, hue is phase; each mode is scaled to its own maximum.

    Probes (true, found) stand side by side with their modes below one another, or the other way round, whichever
    makes them larger. Each mode's share of the power is written into it.

    Args:
        ax: where.
        rows: label and ``(M, h, w)`` modes.
        pixel_m: pixel size.

    """
    ax.set_axis_off()
    modes = min(4, max(len(found) for _, found in rows))
    h, w = rows[0][1].shape[-2:]
    panel = ax.get_window_extent()
    gap = 0.03 * panel.width

    def side(down: int, across: int) -> float:
        wide = (panel.width - (across - 1) * gap) / across
        return float(min(wide, (panel.height - (down - 1) * gap) / down * w / h))

    beside = side(modes, len(rows)) >= side(len(rows), modes)
    wide = side(modes, len(rows)) if beside else side(len(rows), modes)
    tall = wide * h / w
    for index, (label, found) in enumerate(rows):
        power = (np.abs(np.nan_to_num(found)) ** 2).sum(axis=(1, 2))
        for mode, field in enumerate(found[:modes]):
            down, across = (mode, index) if beside else (index, mode)
            corner = across * (wide + gap), panel.height - down * (tall + gap) - tall
            place = (corner[0] / panel.width, corner[1] / panel.height, wide / panel.width, tall / panel.height)
            cell = ax.inset_axes(place)
            cell.imshow(complex_colours(shrink(field, 256)), interpolation="nearest")
            bare(cell)
            share = f"{power[mode] / power.sum():.0%}" if power.sum() > 0 else "0 %"
            words = [label if np.isfinite(field).any() else f"{label}: not finite"] if mode == 0 else []
            words += [share] if len(found) > 1 else []
            cell.text(0.04, 0.96, "  ".join(words), transform=cell.transAxes, color="white", fontsize=TEXT_PT, va="top")
            if index == (0 if beside else len(rows) - 1) and mode == (min(modes, len(found)) - 1 if beside else 0):
                scale_bar(cell, w, pixel_m)


def scan(
    ax: Axes,
    nominal: FloatArray,
    true: FloatArray | None,
    found: FloatArray | None,
    diameter: float,
    scale: LengthScale,
) -> None:
    """Draw the scan: nominal, true and refined positions of the patch centres, and the probe's circle.

    Args:
        ax: where.
        nominal: ``(K, 2)`` in units of ``scale``.
        true: the same, where known.
        found: the same, where the method refined them.
        diameter: D95 of the probe in the same unit; NaN where unknown.
        scale: unit of the axes.

    """
    size = float(np.clip(900 / max(len(nominal), 1), 1.5, 28))
    fine: dict[str, Any] = {"linewidths": 0.8, "zorder": 3}
    ax.scatter(nominal[:, 1], nominal[:, 0], s=size, facecolors="none", edgecolors=FAINT, label="nominal", **fine)
    if true is not None:
        ax.scatter(true[:, 1], true[:, 0], s=0.4 * size, color=BLUE, label="true", zorder=2, linewidths=0)
    if found is not None:
        ax.scatter(found[:, 1], found[:, 0], s=size, marker="+", color=RED, label="refined", **fine)
    if math.isfinite(diameter) and len(nominal):
        middle = nominal[np.argmin(np.hypot(*(nominal - np.median(nominal, axis=0)).T))]
        circle = Circle((middle[1], middle[0]), diameter / 2, fill=True, facecolor="#2a8a5718", edgecolor=GREEN, lw=1.3)
        ax.add_patch(circle)
        circle.set_label("probe, 95 %")
    ax.set_aspect("equal", adjustable="datalim")
    ax.invert_yaxis()
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.set_xlabel(f"x / {scale.unit}")
    ax.set_ylabel(f"y / {scale.unit}")
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.45, -0.15), fontsize=TEXT_PT - 0.5, frameon=False, ncols=4,
        handletextpad=0.3, handlelength=1.4, columnspacing=0.9, borderpad=0,
    )  # fmt: skip
    plain(ax)


def facts(ax: Axes, lines: Sequence[tuple[str, str]]) -> None:
    """Write labelled numbers; an empty label makes a heading of its value."""
    ax.set_axis_off()
    step = 1 / max(len(lines), 22)
    for row, (label, value) in enumerate(lines):
        y = 1 - (row + 0.5) * step
        if label:
            ax.text(0, y, label, transform=ax.transAxes, fontsize=TEXT_PT - 0.7, color="#6b737d", va="center")
            ax.text(1, y, value, transform=ax.transAxes, fontsize=TEXT_PT - 0.7, color=INK, va="center", ha="right")
        else:
            ax.text(0, y, value, transform=ax.transAxes, fontsize=TITLE_PT, color=INK, va="center", weight="bold")
