"""Bars on stderr, which show what goes on while a command works."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn

CELL_COLUMNS = (
    TextColumn("{task.description}", markup=False),
    BarColumn(bar_width=12),
    TextColumn("{task.fields[standing]}", markup=False),
)
COUNT_COLUMNS = BarColumn(bar_width=24), TextColumn("{task.description}", markup=False)


class Bars:
    """Bars that are there in a terminal, and there only, until they are left.

    Args:
        columns: of each bar.
        console: where they are drawn.

    """

    def __init__(self, columns: tuple[ProgressColumn, ...], console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._live = console.is_terminal and not console.is_dumb_terminal
        self._progress = Progress(
            *columns,
            console=console,
            transient=True,
            disable=not self._live,
            refresh_per_second=5,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
