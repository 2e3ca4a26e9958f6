"""A board as a table: Markdown, plain text, LaTeX (booktabs), CSV or JSON.

The first three are for readers: rounded, ties marked, the sole winner in bold. CSV and JSON hold every number in full.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from ptybench.errors import UnknownName
from ptybench.leaderboard.aggregate import Board, Row
from ptybench.readable import EMPTY, count, duration, number

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "ptybench.leaderboard/1"
Format = Literal["md", "csv", "json", "latex", "text"]
FORMATS: tuple[Format, ...] = ("md", "csv", "json", "latex", "text")

COLUMNS = ("#", "method", "median [95 %]", "rescaled", "ok", "vs leader [95 %]", "p", "time", "FFTs")


def render(board: Board, format: str = "md") -> str:
    """Return a board as text in one of the formats ``md``, ``csv``, ``json``, ``latex``, ``text``.

    Raises:
        UnknownName: where the format is another one.

    """
    writers: dict[str, Callable[[Board], str]] = {
        "md": _markdown,
        "csv": _csv,
        "json": _json,
        "latex": _latex,
        "text": _text,
    }
    if format not in writers:
        raise UnknownName("format", format, FORMATS)
    return writers[format](board)


def document(board: Board) -> dict[str, Any]:
    """Return a board as plain JSON values, with its schema."""
    fields = asdict(board)
    fields["winner"] = board.winner.label if board.winner else None
    for row, original in zip([*fields["rows"], *fields["controls"]], [*board.rows, *board.controls], strict=True):
        row |= {"seeds_run": original.runs, "seeds_ok": original.finished}
        for name in ("values", "rescaled", "failures"):
            row[name] = {str(seed): value for seed, value in row[name].items()}
    return {"schema": SCHEMA, **fields}


def frame(board: Board) -> pd.DataFrame:
    """Return a board as a pandas table, one line a method or control."""
    import pandas as pd

    cell = {
        "task": board.task,
        "task_version": board.task_version,
        "tier": board.tier,
        "domain": board.domain,
        "ladder": board.ladder,
        "point": board.point,
        "metric": board.metric,
        "direction": board.direction,
        "unit": board.unit,
        "inverse_crime": board.inverse_crime,
        "ruleset": board.ruleset,
    }
    lines = [cell | _line(row, "method") for row in board.rows]
    lines += [cell | _line(row, "control") for row in board.controls]
    return pd.DataFrame(lines).convert_dtypes()


def _line(row: Row, kind: str) -> dict[str, Any]:
    low, high = row.median_interval or (None, None)
    mean_low, mean_high = row.mean_interval or (None, None)
    versus = row.versus_leader
    difference_low, difference_high = (versus.interval if versus else None) or (None, None)
    return {
        "kind": kind,
        "rank": row.rank,
        "tied": row.tied,
        "label": row.label,
        "method": row.method,
        "method_version": row.method_version,
        "options": json.dumps(row.options, sort_keys=True),
        "mark": row.mark,
        "device": row.device,
        "seeds_run": row.runs,
        "seeds_ok": row.finished,
        "seeds_incomplete": row.incomplete,
        "failures": " ".join(f"{seed}:{status}" for seed, status in row.failures.items()),
        "undefined": row.undefined,
        "censored": len(row.censored),
        "median": row.median,
        "median_low": low,
        "median_high": high,
        "mean": row.mean,
        "mean_low": mean_low,
        "mean_high": mean_high,
        "rescaled_median": row.rescaled_median,
        "solver_seconds": row.solver_seconds,
        "ffts": row.ffts,
        "pairs": versus.pairs if versus else None,
        "wins": versus.wins if versus else None,
        "losses": versus.losses if versus else None,
        "difference": versus.difference if versus else None,
        "difference_low": difference_low,
        "difference_high": difference_high,
        "p": versus.p if versus else None,
        "p_holm": versus.p_holm if versus else None,
    }


def _csv(board: Board) -> str:
    text: str = frame(board).to_csv(index=False, lineterminator="\n")
    return text


def _json(board: Board) -> str:
    return json.dumps(document(board), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def heading(board: Board) -> str:
    """Return what a board is about, in one line."""
    point = f" at {board.ladder or 'point'} {board.point:g}" if board.point is not None else ""
    rules = f"ruleset {board.ruleset}" if board.ruleset else None
    cell = ", ".join(part for part in (board.tier, board.domain, rules) if part)
    version = f" v{board.task_version}" if board.task_version else ""
    crime = ", inverse crime" if board.inverse_crime else ""
    unit = f" / {board.unit}" if board.unit else ""
    about = f" ({cell}{crime})" if cell or crime else ""
    return f"{board.task}{version}{point}{about}: {board.metric}{unit}, {board.direction} is better"


def _interval(interval: tuple[float, float] | None) -> str:
    return f" [{number(interval[0], 3)}, {number(interval[1], 3)}]" if interval else ""


def _cells(row: Row) -> list[str]:
    versus = row.versus_leader
    place = EMPTY if row.rank is None else f"{row.rank}{' =' if row.tied else ''}"
    difference = ""
    if versus is not None:
        signed = "" if versus.difference is None or versus.difference <= 0 else "+"
        difference = signed + number(versus.difference, 3) + _interval(versus.interval)
    return [
        place,
        row.label,
        f"{len(row.censored)} censored"
        if row.censored and row.median is None
        else number(row.median) + _interval(row.median_interval),
        EMPTY if row.rescaled_median is None else f"{row.rescaled_median:.3f}",
        f"{row.finished}/{row.runs}{' †' if row.incomplete else ''}",
        difference,
        "" if versus is None else f"{versus.p_holm:.2g}",
        duration(row.solver_seconds),
        count(row.ffts),
    ]


def _markdown(board: Board) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    def shown(row: Row) -> list[str]:
        cells = _cells(row)
        if row is board.winner:
            cells[1:3] = [f"**{cell}**" for cell in cells[1:3]]
        return cells

    lines = [f"**{heading(board)}**", "", line(COLUMNS), "|" + "--:|:--|" + "--:|" * (len(COLUMNS) - 2)]
    lines += [line(shown(row)) for row in board.rows]
    lines += [line(["ref", f"*{row.label}*", *_cells(row)[2:]]) for row in board.controls]
    lines += ["", *(f"- {note}" for note in board.notes)] if board.notes else []
    return "\n".join(lines) + "\n"


def _text(board: Board) -> str:
    table = [list(COLUMNS), *(_cells(row) for row in board.rows)]
    table += [["ref", *_cells(row)[1:]] for row in board.controls]
    widths = [max(len(line[column]) for line in table) for column in range(len(COLUMNS))]

    def aligned(line: list[str]) -> str:
        cells = [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    rule = "─" * len(aligned(["x" * width for width in widths]))
    ranked = 1 + len(board.rows)
    lines = [heading(board), "", aligned(table[0]), rule, *map(aligned, table[1:ranked])]
    if board.controls:
        lines += [rule, *map(aligned, table[ranked:])]
    if board.winner:
        lines += ["", f"Winner: {board.winner.label}"]
    lines += ["", *board.notes] if board.notes else []
    return "\n".join(lines) + "\n"


_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", ">": r"\textgreater{}", "<": r"\textless{}", "–": "--",
        "†": r"$^\dagger$", "²": r"$^2$", "µ": r"$\mu$",
    }
)  # fmt: skip


def _latex(board: Board) -> str:
    def line(cells: Sequence[str], bold: bool = False) -> str:
        written = [cell.translate(_ESCAPES) for cell in cells]
        if bold:
            written[1:3] = [rf"\textbf{{{cell}}}" for cell in written[1:3]]
        return " & ".join(written) + r" \\"

    body = [line(_cells(row), row is board.winner) for row in board.rows]
    if board.controls:
        body += [r"\midrule", *(line(["", *_cells(row)[1:]]) for row in board.controls)]
    notes = [rf"% {note}" for note in board.notes]
    return (
        "\n".join(
            [
                "% needs \\usepackage{booktabs}",
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{heading(board).translate(_ESCAPES)}.}}",
                r"\begin{tabular}{rl" + "r" * (len(COLUMNS) - 2) + "}",
                r"\toprule",
                line(COLUMNS),
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                *notes,
                r"\end{table}",
            ]
        )
        + "\n"
    )
