"""The table of many boards as a picture: the metric along a task's ladder, a panel for each family and ruleset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ptybench.leaderboard.scale import CONTROLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAMILIES = {
    "PIE family": ("pie", "epie", "rpie", "mpie", "wasp", "pine"),
    "projections": ("ap", "dm", "raar", "sdr", "admm"),
    "likelihood": ("lsqml", "ml"),
    "gradients": ("ad", "dap", "joint"),
}
"""Families in the order of their panels; other methods follow, and those with an addition stand by themselves."""
OTHERS, REFINING = "others", "with a refinement"
PANEL_INCHES = (3.1, 2.7)
NAMES_SHARE = 0.33
"""Share of a panel's width that is left to the names."""
MARK = "°"
"""Stands behind the name of a method without a preset of its own, or with a stale one."""
LABEL_GAP = 0.062
"""Distance of two labels, as a share of a panel's height."""
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "ptybench",
}


class End(NamedTuple):
    """Where a line ends, in the data's units, and how it is called."""

    x: float
    y: float
    name: str
    colour: Any


def family(method: str) -> str:
    """Return the family of a method; of a variant that of its method, of a chain that of its end.

    Example:
        >>> family("lsqml:poisson"), family("epie+xcorr"), family("my_method")
        ('likelihood', 'with a refinement', 'others')

    """
    if "+" in method:
        return REFINING
    base = method.rpartition(">")[2].strip().partition(":")[0]
    return next((name for name, members in FAMILIES.items() if base in members), OTHERS)


def draw(lines: pd.DataFrame, metric: str) -> Figure:
    """Return the picture of one task's lines of one metric, from :func:`ptybench.leaderboard.overview.overview`.

    Rows are rulesets, columns families. A family's methods are in colour with their 95 % intervals over the seeds
    (hollow where some seeds failed), all others grey; controls are dashed.
    """
    lines = lines[(lines["metric"] == metric) & lines["point"].notna()]
    methods = lines[lines["kind"] == "method"]
    families = {name: family(name) for name in methods["method"].unique()}
    columns = [name for name in [*FAMILIES, OTHERS, REFINING] if name in families.values()]
    rulesets = list(lines["ruleset"].unique())
    points = list(lines["point"].unique())
    places = {point: place for place, point in enumerate(points)}
    numbers = {name: lines[name].astype(float) for name in ("median", "median_low", "median_high")}
    lines = lines.assign(
        family=lines["method"].map(families), place=lines["point"].map(places).astype(float), **numbers
    )
    looks = {name: _looks([method for method in families if families[method] == name]) for name in columns}
    with mpl.rc_context({**sns.axes_style("ticks"), **STYLE}):
        width, height = PANEL_INCHES
        figure = Figure(figsize=(width * len(columns) + 0.6, height * len(rulesets) + 0.5), layout="constrained")
        axes = figure.subplots(len(rulesets), len(columns), squeeze=False, sharex=True, sharey=True)
        _scale(axes[0, 0], lines)
        ends = {
            axes[row, column]: _panel(axes[row, column], lines[lines["ruleset"] == ruleset], name, looks[name])
            for row, ruleset in enumerate(rulesets)
            for column, name in enumerate(columns)
        }
        _label(axes, lines, metric, columns, rulesets, points)
        figure.draw_without_rendering()  # settles the limits, by which names are placed
        for ax, own in ends.items():
            _name(ax, own)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a picture; the same numbers make the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=130, metadata=metadata)


def _scale(ax: Axes, lines: pd.DataFrame) -> None:
    """Logarithmic where small is better and the values span more than a factor of thirty."""
    values = lines.loc[lines["median"] > 0, "median"]
    if len(values) and lines["direction"].iloc[0] == "lower" and values.max() > 30 * values.min():
        ax.set_yscale("log")


def _looks(methods: Sequence[str]) -> dict[str, tuple[Any, float]]:
    """Colour of each method of a family, and how far it stands aside, so that intervals can be told apart."""
    names = sorted(methods)
    colours = sns.color_palette("husl" if len(names) > 8 else "dark", len(names))
    shifts = np.linspace(-0.12, 0.12, len(names)) if len(names) > 1 else np.zeros(1)
    return {name: (colour, float(shift)) for name, colour, shift in zip(names, colours, shifts, strict=True)}


def _panel(ax: Axes, lines: pd.DataFrame, name: str, looks: dict[str, tuple[Any, float]]) -> list[End]:
    """Draw one family in one ruleset; return where its lines and those of the controls end."""
    ends = []
    for _, line in lines[(lines["kind"] == "method") & (lines["family"] != name)].groupby("method"):
        ax.plot(line["place"], line["median"], color="#d9dce1", lw=0.7, zorder=1)
    for control in CONTROLS:
        line = lines[lines["method"] == control]
        if len(line) and not (ax.get_yscale() == "log" and (line["median"] <= 0).any()):
            ax.plot(line["place"], line["median"], color="#222222", lw=0.9, ls=(0, (4, 2)), zorder=2)
            ends += _end(line, control.replace("_", " "), "#222222")
    ours = lines[lines["family"] == name]
    ours = ours.assign(place=ours["place"] + ours["method"].map({key: look[1] for key, look in looks.items()}))
    if len(ours):
        sns.lineplot(
            ours, x="place", y="median", hue="method", palette={key: look[0] for key, look in looks.items()},
            estimator=None, errorbar=None, legend=False, ax=ax, lw=1.3, zorder=3,
        )  # fmt: skip
    for method, line in ours.groupby("method"):
        colour = looks[str(method)][0]
        _intervals(ax, line, colour)
        ends += _end(line, f"{method}{MARK if (line['mark'] != '').any() else ''}", colour)
    return ends


def _end(line: pd.DataFrame, name: str, colour: Any) -> list[End]:
    """The last point of a line that has a value; none where it has none."""
    there = line[line["median"].notna()]
    return [] if there.empty else [End(float(there["place"].iloc[-1]), float(there["median"].iloc[-1]), name, colour)]


def _intervals(ax: Axes, line: pd.DataFrame, colour: Any) -> None:
    """Interval and median of each point."""
    ax.vlines(line["place"], line["median_low"], line["median_high"], color=colour, lw=0.9, zorder=4)
    whole = line["seeds_ok"] == line["seeds_run"]
    for chosen, fill in ((whole, colour), (~whole, "white")):  # hollow: some seeds failed
        ax.plot(line["place"][chosen], line["median"][chosen], "o", ms=3, mfc=fill, mec=colour, mew=0.8, zorder=5)


def _label(
    axes: Any,
    lines: pd.DataFrame,
    metric: str,
    columns: Sequence[str],
    rulesets: Sequence[str],
    points: Sequence[float],
) -> None:
    better = "higher is better" if lines["direction"].iloc[0] == "higher" else "lower is better"
    for column, name in enumerate(columns):
        axes[0, column].set_title(name)
        axes[-1, column].set_xticks(range(len(points)), [f"{point:g}" for point in points])
        axes[-1, column].set_xlabel(str(lines["ladder"].iloc[0]).replace("_", " "))
    for row, ruleset in enumerate(rulesets):
        axes[row, 0].set_ylabel(f"{ruleset} options\n{metric} ({better})")
    for ax in axes.flat:
        ax.set_xlabel(ax.get_xlabel() if ax in axes[-1] else "")
        ax.set_xlim(-0.35, (len(points) - 0.3) / (1 - NAMES_SHARE) - 0.35)


def _name(ax: Axes, ends: Sequence[End]) -> None:
    """Write each line's name behind its end, pushed apart where they would overlap."""
    to_axes = ax.transData + ax.transAxes.inverted()
    placed = sorted(((*to_axes.transform((end.x, end.y)), end) for end in ends), key=lambda one: (one[1], one[2].name))
    left = max((x for x, _, _ in placed), default=0.0) + 0.06
    heights = spread([float(y) for _, y, _ in placed], LABEL_GAP)
    for height, (x, y, end) in zip(heights, placed, strict=True):
        ax.annotate(
            end.name, (x + 0.02, y), (left, height), xycoords="axes fraction", textcoords="axes fraction",
            va="center", fontsize=7, color=end.colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": end.colour, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Return the places nearest to ``wanted`` (ascending) that are at least ``gap`` apart, in [0, 1] if they fit.

    Least squares under that condition: the places minus ``i·gap`` are the isotonic regression of the wanted minus
    ``i·gap`` (pool adjacent violators: Ayer et al., Ann. Math. Stat. 26, 641, 1955, 10.1214/aoms/1177728423).

    Example:
        >>> spread([0.5, 0.5, 0.9], 0.1)
        [0.45, 0.55, 0.9]

    """
    pools: list[tuple[float, int]] = []
    for index, value in enumerate(wanted):
        mean, size = value - index * gap, 1
        while pools and pools[-1][0] > mean:
            other, more = pools.pop()
            mean, size = (mean * size + other * more) / (size + more), size + more
        pools.append((mean, size))
    low, high = 0.0, max(1.0 - (len(wanted) - 1) * gap, 0.0)
    levels = [min(max(mean, low), high) for mean, size in pools for _ in range(size)]
    return [round(level + index * gap, 12) for index, level in enumerate(levels)]
