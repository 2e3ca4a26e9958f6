"""The result card: what a run found and where it stands, on half a screen of a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ptybench.readable import EMPTY, duration, quantity
from ptybench.records import Record
from ptybench.runner import summary

if TYPE_CHECKING:
    from ptybench.leaderboard.ranking import Entry, Ranking

WIDEST = 100
FAINT = "dim"
_ENDINGS = {1: "st", 2: "nd", 3: "rd"}
_STYLES = {"ok": "bold green", "skipped": "yellow", "not_installed": "yellow"}


def result_card(record: Record, rank: Ranking | None, console: Console) -> None:
    """Print a record as a card.

    Args:
        record: what was run.
        rank: where it stands, from :func:`ptybench.leaderboard.ranking.rank_of`; ``None`` where that is unknown.
        console: where to; the card fits its width.

    """
    width = min(console.width, WIDEST)
    parts: list[RenderableType] = [_cell(record), Text()]
    parts.append(_headline(record, rank))
    if record.error:
        parts += [Text(), Text(record.error, style="red")]
    parts += [Text(), _numbers(record, width)]
    if rank is not None and len(rank.entries) > 1:
        parts += [Text(), *_standing(record, rank)]
    parts += [*(Text(f"! {warning}", style="yellow") for warning in record.warnings)]
    title = Text.assemble(
        (summary.title(record), "bold"), "  ", (record.status, _STYLES.get(record.status, "bold red"))
    )
    console.print(Panel(Group(*parts), title=title, title_align="left", box=box.ROUNDED, width=width, padding=(0, 1)))
    console.print(_files(record), soft_wrap=True)


def _cell(record: Record) -> Text:
    version = f"v{record.task_version}" if record.task_version else None
    parts = [part for part in (summary.cell(record), version) if part]
    return Text(" · ".join(parts), style=FAINT)


def _headline(record: Record, rank: Ranking | None) -> Text:
    line = Text()
    name = record.primary_metric
    if record.status == "ok" and name:
        line.append(f"{name} {summary.arrow(record, name)}  ")
        line.append(summary.metric_value(record, name), style="bold cyan")
        if rank is not None and rank.rescaled is not None:
            line.append(f"   {rank.rescaled:.1%} of the way from initial guess to oracle", style=FAINT)
    else:
        line.append(f"no score: the run ended as {record.status}", style="bold red")
    return line


def _numbers(record: Record, width: int) -> RenderableType:
    """Metrics at the left and cost at the right; below one another where the terminal is narrow."""
    metrics = _pairs(
        [
            (f"{name} {summary.arrow(record, name)}".rstrip(), value)
            for name, value in summary.metrics(record)
            if name != record.primary_metric
        ]
    )
    cost = _pairs(summary.cost(record))
    if width < 76:
        return Group(metrics, Text(), cost)
    both = Table.grid(expand=True, padding=(0, 3, 0, 0))
    both.add_column(ratio=1)
    both.add_column()
    both.add_row(metrics, cost)
    return both


def _pairs(lines: summary.Lines) -> Table:
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(style=FAINT, overflow="fold")
    grid.add_column(justify="right", no_wrap=True)
    for label, value in lines:
        grid.add_row(label, value)
    return grid


def ordinal(place: int) -> str:
    """Return ``1st``, ``2nd``, ``3rd``, ``4th``, …, ``11th``."""
    teens = 10 <= place % 100 <= 20
    return f"{place}{'th' if teens else _ENDINGS.get(place % 10, 'th')}"


def standing(record: Record, rank: Ranking) -> str:
    """Return the place in words: ``2nd of 4 on low_overlap, overlap 0.375, small, dev, seed 0``."""
    point = f"{record.ladder or 'point'} {record.point:g}" if record.point is not None else None
    cell = ", ".join(p for p in (record.problem, point, record.tier, record.domain, f"seed {record.seed}") if p)
    if rank.place is None:
        return f"{rank.of} ranked on {cell}"
    shared = sum(entry.place == rank.place for entry in rank.entries) > 1
    return f"{'shared ' if shared else ''}{ordinal(rank.place)} of {rank.of} on {cell}"


def _standing(record: Record, rank: Ranking) -> list[RenderableType]:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=FAINT)
    table.add_column("#", justify="right")
    table.add_column("method", overflow="fold")
    for name in (rank.metric, "rescaled", "solver time"):
        table.add_column(name, justify="right", no_wrap=name != rank.metric)
    shown = _around(rank.entries)
    for entry in shown:
        style = "bold" if entry.this else FAINT if entry.control else ""
        value = quantity(entry.value, record.units.get(rank.metric, "")) if entry.value is not None else entry.status
        table.add_row(
            "ref" if entry.control else str(entry.place or EMPTY),
            entry.label,
            value,
            EMPTY if entry.rescaled is None else f"{entry.rescaled:.3f}",
            duration(entry.solver_seconds),
            style=style,
        )
    left = len(rank.entries) - len(shown)
    rows: list[RenderableType] = [Text(standing(record, rank), style="bold"), table]
    return [*rows, Text(f"and {left} more: ptybench leaderboard", style=FAINT)] if left else rows


def _around(entries: list[Entry], most: int = 6) -> list[Entry]:
    """The best, this run, and the controls."""
    methods = [entry for entry in entries if not entry.control]
    shown = [entry for place, entry in enumerate(methods) if place < most - 1 or entry.this]
    if len(methods) == most:
        shown = methods
    return shown + [entry for entry in entries if entry.control]


def _files(record: Record) -> Text:
    """The run's folder and the names of its files, nothing cut so that paths can be copied."""
    names = ", ".join(Path(path).name for path in record.artifacts.values())
    return Text.assemble(("  " + _short(record.path), "bold"), (f"\n  {names}" if names else "", FAINT))


def _short(path: str) -> str:
    """The path relative to the working folder, where it lies inside."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
