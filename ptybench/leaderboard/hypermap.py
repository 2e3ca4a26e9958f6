"""Maps of settings: a metric over two options of a method, from records, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptybench.readable import EMPTY, number
from ptybench.records import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Setting = tuple[Any, Any]


@dataclass(eq=False)
class Map:
    """Values of a metric over two options.

    Args:
        title: what it is the map of.
        first: name of the option along the rows.
        second: name of the option along the columns.
        values: setting → a value for each seed, ``None`` where a run failed or there is none.

    """

    title: str
    first: str
    second: str
    values: dict[Setting, list[float | None]] = field(default_factory=dict)

    def add(self, setting: Mapping[str, Any], values: Sequence[float | None]) -> None:
        """Take in the values of a setting."""
        self.values.setdefault((setting[self.first], setting[self.second]), []).extend(values)

    @property
    def rows(self) -> list[Any]:
        """Values of the first option, in order."""
        return sorted({first for first, _ in self.values})

    @property
    def columns(self) -> list[Any]:
        """Values of the second option, in order."""
        return sorted({second for _, second in self.values})

    def means(self) -> NDArray[np.float64]:
        """Return the mean over the seeds in every setting, NaN where there is none or one of them failed."""
        table = np.full((len(self.rows), len(self.columns)), np.nan)
        for (first, second), values in self.values.items():
            known = [value for value in values if value is not None]
            if known and len(known) == len(values):
                table[self.rows.index(first), self.columns.index(second)] = np.mean(known)
        return table

    def best(self, higher_is_better: bool) -> Setting | None:
        """Return the setting with the best mean; ``None`` where no setting finished on every seed."""
        table = self.means()
        if np.isnan(table).all():
            return None
        place = np.nanargmax(table) if higher_is_better else np.nanargmin(table)
        row, column = np.unravel_index(place, table.shape)
        return self.rows[row], self.columns[column]

    @property
    def seeds(self) -> int:
        """The most values that a setting has."""
        return max(map(len, self.values.values()), default=0)

    def document(self, higher_is_better: bool) -> dict[str, Any]:
        """Return the map as plain JSON values."""
        best = self.best(higher_is_better)
        cells = [
            {self.first: first, self.second: second, "values": values}
            for (first, second), values in sorted(self.values.items())
        ]
        found = None if best is None else {self.first: best[0], self.second: best[1]}
        return {"title": self.title, "axes": [self.first, self.second], "best": found, "settings": cells}

    def markdown(self) -> str:
        """Return the means as a table."""
        table = self.means()
        lines = [f"| {self.first} \\ {self.second} | " + " | ".join(f"{one:g}" for one in self.columns) + " |"]
        lines.append("|--:|" + "--:|" * len(self.columns))
        for name, row in zip(self.rows, table, strict=True):
            cells = [EMPTY if np.isnan(value) else number(float(value), 3) for value in row]
            lines.append(f"| {name:g} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


def maps_of(records: Iterable[Record], axes: tuple[str, str], metric: str) -> list[Map]:
    """Return a map of each method on each point of each task, in order of their names.

    Runs are of one map where everything but seed and the two options is the same; a map has at least two settings of
    each.

    Args:
        records: of any methods that have both options.
        axes: the two options, rows first.
        metric: metric id.

    """
    found: dict[str, Map] = {}
    for record in records:
        if not all(isinstance(record.options.get(name), int | float) for name in axes) or not record.final:
            continue
        point = "" if record.point is None else f" {record.point:g}"
        others = {key: value for key, value in record.options.items() if key not in axes}
        title = f"{record.method}, {record.problem}{point}"
        known = repr((title, record.tier, record.domain, record.budget, record.device, sorted(others.items(), key=str)))
        known += repr(record.identity.get("task"))
        value = record.metrics.get(metric) if record.status == "ok" else None
        found.setdefault(known, Map(title, *axes)).add(record.options, [value])
    grids = [one for one in found.values() if len(one.rows) > 1 and len(one.columns) > 1]
    return sorted(grids, key=lambda one: one.title)


def draw_maps(maps: Sequence[Map], metric: str) -> Figure:
    """Draw maps side by side in one scale of colour."""
    import seaborn as sns
    from matplotlib.figure import Figure

    tables = [one.means() for one in maps]
    known = np.concatenate([table.ravel() for table in tables])
    known = known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    columns = min(3, len(maps))
    lines = -(-len(maps) // columns)
    figure = Figure(figsize=(3.0 * columns + 0.6, 2.6 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    shown = None
    for ax, one, table in zip(axes, maps, tables, strict=False):
        shown = ax.imshow(table, origin="lower", vmin=low, vmax=high, cmap=sns.color_palette("rocket", as_cmap=True))
        ax.set(title=one.title, xlabel=one.second, ylabel=one.first)
        ax.set_xticks(range(len(one.columns)), [f"{value:g}" for value in one.columns])
        ax.set_yticks(range(len(one.rows)), [f"{value:g}" for value in one.rows])
        for (row, column), value in np.ndenumerate(table):
            colour = "black" if np.isfinite(value) and value > (low + high) / 2 else "white"
            text = f"{value:.2f}" if np.isfinite(value) else EMPTY
            ax.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
    for ax in axes[len(maps) :]:
        ax.set_axis_off()
    if shown is not None:
        figure.colorbar(shown, ax=list(axes), label=metric, shrink=0.8)
    return figure
