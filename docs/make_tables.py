"""Write the tables and figures of classical.md anew from records: ``python docs/make_tables.py [FOLDER …]``.

Read are the published records and those of the folders. A table stands between ``<!-- table TASK -->`` and
``<!-- end -->``; classical.csv has every number in full, figures/ the pictures.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ptybench.cli.table import draw_all, section
from ptybench.leaderboard.overview import overview
from ptybench.records import Record, Store
from ptybench.registry import load_task

if TYPE_CHECKING:
    import pandas as pd

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "classical.md"
TABLE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
# each task's default and two more points
POINTS = {
    "low_dose": (1e3, 1e4, 1e6),
    "low_overlap": (0.75, 0.375, 0.0),
    "position_jitter": (0.5, 2.0, 5.0),
    "wrong_distance": (0.05, 0.1, 0.2),
    "noisy_poisson": (0.01, 0.1, 1.0),
}
METRICS = ("frc_truth_area", "position_error_affine_median_px")
"""Beside the primary one, for the tasks whose primary metric is of positions or distance."""


def table_lines(records: Sequence[Record]) -> pd.DataFrame:
    """Return the lines of all tables; a metric that says nothing about a task is left out."""
    lines = overview(records, [load_task(name) for name in POINTS], points=POINTS, metrics=METRICS)
    positions = (lines["metric"] == METRICS[1]) & (lines["task"] != "position_jitter")
    return lines[~positions].reset_index(drop=True)


def updated(text: str, lines: pd.DataFrame, figures: Iterable[Path] = ()) -> str:
    """Return the page with every table anew, and with it the figures of its task."""
    names = sorted(figures)

    def anew(place: re.Match[str]) -> str:
        task = place[2]
        there = (lines["task"] == task).any()
        body = section(lines, load_task(task)) if there else "No published records yet."
        pictures = [f"![{path.stem} along the ladder](figures/{path.name})" for path in names if belongs(path, task)]
        whole = "\n\n".join([body, *pictures])
        return f"{place[1]}{whole}\n{place[3]}"

    return TABLE.sub(anew, text)


def belongs(path: Path, task: str) -> bool:
    """Whether a figure is of a task: ``low_dose.svg``, ``low_dose.METRIC.svg``."""
    return path.name.split(".")[0] == task


def read(folders: Iterable[Path]) -> list[Record]:
    """The published records and those of the folders."""
    stores = [Store(DOCS.parent / "results"), *(Store(folder) for folder in folders)]
    return [record for store in stores for record in store.records(domain="release", tier="small")]


def main(folders: Sequence[Path]) -> None:
    """Write page, numbers and figures."""
    lines = table_lines(read(folders))
    figures = draw_all(lines, DOCS / "figures")
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8"), lines, figures), encoding="utf-8")
    lines.to_csv(DOCS / "classical.csv", index=False, lineterminator="\n")
    print(f"wrote {PAGE} with {len(lines)} lines, {len(figures)} figures")


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
