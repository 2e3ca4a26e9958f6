"""The contact sheet of a set of images: the first of them, their grey values and their spectrum."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ptybench.generation.recipe import Recipe
from ptybench.generation.statistics import BAND, NO_POWER, Statistics
from ptybench.io.files import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS, ROWS = 8, 4
SHOWN = COLUMNS * ROWS
LARGEST, GAP, MARGIN = 192, 8, 48
"""Pixels: the longest side of an image as shown, the room between two, the room about everything."""
HEAD, FOOT = 96, 330
DPI = 150


def draw_sheet(path: Path, recipe: Recipe, images: list[NDArray[np.float64]], statistics: Statistics) -> None:
    """Draw a contact sheet as PNG, images pixel for pixel where they fit.

    Args:
        path: where to.
        recipe: of the set.
        images: the first images, grey values from 0 to 1.
        statistics: of the set.

    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ptybench.runner.panels import FAINT, INK

    tiles = [_fitted(image) for image in images[:SHOWN]]
    tile_h, tile_w = tiles[0].shape[0] + GAP, tiles[0].shape[1] + GAP
    width = 2 * MARGIN + COLUMNS * tile_w - GAP
    height = HEAD + -(-len(tiles) // COLUMNS) * tile_h + FOOT
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    left = MARGIN / width
    figure.text(left, 1 - 40 / height, recipe.generator, fontsize=13, weight="bold", color=INK)
    told = f"{recipe.count} images of {recipe.shape[0]} × {recipe.shape[1]} pixels, {recipe.domain} seed {recipe.seed}"
    figure.text(left, 1 - 72 / height, f"{told}; shown are the first {len(tiles)}", fontsize=8, color=FAINT)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, COLUMNS)
        corner = MARGIN + column * tile_w, height - HEAD - (row + 1) * tile_h + GAP
        figure.figimage(tile, *corner, cmap="gray", vmin=0, vmax=1, origin="upper")
    panel = (FOOT - 130) / height
    half = (width - 2 * MARGIN) / 2 / width
    _draw_histogram(figure.add_axes((left + 0.03, 75 / height, half - 0.07, panel)), statistics)
    _draw_spectrum(figure.add_axes((left + half + 0.05, 75 / height, half - 0.05, panel)), statistics, recipe)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def _fitted(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """An image at the largest size that is allowed and shows pixels whole, each repeated or averaged with others."""
    from ptybench.runner.pictures import shrink

    image = shrink(image, LARGEST)
    repeat = max(1, LARGEST // max(image.shape))
    fitted: NDArray[np.float64] = image.repeat(repeat, axis=0).repeat(repeat, axis=1)
    return fitted


def _draw_histogram(ax: Axes, statistics: Statistics) -> None:
    from ptybench.runner import panels

    bins = statistics.histogram.reshape(64, -1).sum(1) * 64
    ax.stairs(bins, np.linspace(0, 1, 65), fill=True, color=panels.BLUE, alpha=0.8)
    ax.axhline(1, color=panels.FAINT, linewidth=0.8, linestyle="--")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, max(1.5, 1.05 * float(bins.max())))
    ax.set_xlabel("grey")
    values = statistics.values
    note = f"mean {values['mean']:.3f}, σ {values['standard_deviation']:.3f}"
    panels.title(ax, "grey values", note)
    panels.plain(ax)


def _draw_spectrum(ax: Axes, statistics: Statistics, recipe: Recipe) -> None:
    from matplotlib.ticker import NullFormatter

    from ptybench.runner import panels

    positive = statistics.power > NO_POWER
    if not positive.any():
        panels.message(ax, "no power")
        return
    frequency, power = statistics.frequency[positive], statistics.power[positive]
    ax.loglog(frequency, power, color=panels.BLUE, linewidth=1.2)
    exponent = statistics.values["power_slope"]
    if exponent is not None:
        ends = np.array([BAND[0] / min(recipe.shape), BAND[1]])
        inside = (frequency >= ends[0]) & (frequency <= ends[1])
        level = np.exp(np.mean(np.log(power[inside]) - exponent * np.log(frequency[inside])))
        ax.loglog(ends, level * ends**exponent, color=panels.RED, linewidth=0.9, linestyle="--")
    ax.set_xlabel("frequency (cycles per pixel)")
    ax.xaxis.set_minor_formatter(NullFormatter())
    panels.title(ax, "mean power spectrum", "" if exponent is None else f"$f^{{{exponent:.2f}}}$")
    panels.plain(ax)
