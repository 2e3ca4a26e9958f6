"""``ptybench table``: every method at every point of several tasks, in one table and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ptybench.cli.options import Json, add_plugins, split_names
from ptybench.cli.output import Output
from ptybench.cli.recorded import DEFAULT_RECORDS, Recorded

if TYPE_CHECKING:
    import pandas as pd

    from ptybench.leaderboard.rulesets import RulesetName
    from ptybench.task import Task


def table(
    *,
    task: Annotated[
        list[str] | None,
        Parameter(
            ("--task", "--tasks"), negative="", help="Names of tasks, FILE.toml, or all; all unless said otherwise."
        ),
    ] = None,
    format: Annotated[
        Literal["md", "csv", "json"], Parameter("--format", help="How the table is written; csv and json in full.")
    ] = "md",
    points: Annotated[
        list[str] | None,
        Parameter(
            "--points",
            negative="",
            help="Values of the ladder of every task, or TASK=VALUES for one: numbers, 'default' and 'all', in a comma "
            "list; repeatable. Every point that has records unless given.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        Parameter("--metric", negative="", help="Metrics beside each task's primary one; repeatable, or a comma list."),
    ] = None,
    ruleset: Annotated[
        Literal["default", "tuned", "both"],
        Parameter(
            "--ruleset", help="Methods with their default options, with their presets of `ptybench tune`, or both."
        ),
    ] = "both",
    figures: Annotated[
        Path | None, Parameter("--figures", help="Also draw each task's metric along its ladder, as TASK.svg in here.")
    ] = None,
    epochs: Annotated[
        int | None,
        Parameter("--epochs", help="Budget of the runs that are shown; each task's own unless said otherwise."),
    ] = None,
    presets: Annotated[Path | None, Parameter("--presets", help="Folder of presets; the project's own.")] = None,
    recorded: Recorded = DEFAULT_RECORDS,
    json: Json = False,
) -> None:
    """Show every method at every point of the tasks that there are records of, in both rulesets."""
    out = Output(json)
    with out.reserved():
        from ptybench.leaderboard.overview import overview
        from ptybench.leaderboard.rulesets import RULESETS
        from ptybench.registry import load_task, task_names

        add_plugins(recorded.plugin)
        names = [name for word in split_names(task) or ["all"] for name in (task_names() if word == "all" else [word])]
        rules: tuple[RulesetName, ...] = RULESETS if ruleset == "both" else (ruleset,)
        tasks = [load_task(name, recorded.tier) for name in dict.fromkeys(names)]
        lines = overview(
            recorded.read(),
            tasks,
            domain=recorded.domain,
            rulesets=rules,
            metrics=split_names(metric),
            points=_wanted(points, tasks),
            epochs=epochs,
            presets=presets,
        )
        if figures is not None:
            for path in draw_all(lines, figures):
                out.note(f"wrote {path}")
        if json or format == "json":
            out.document("table", {"lines": records_of(lines)})
        elif format == "csv":
            out.text(str(lines.to_csv(index=False, lineterminator="\n")).rstrip("\n"))
        else:
            out.text("\n\n".join(section(lines, one, presets) for one in tasks if (lines["task"] == one.name).any()))


def _wanted(points: list[str] | None, tasks: Sequence[Task]) -> dict[str, list[float]] | None:
    from ptybench.cli.points import parse_points

    if not points:
        return None
    known = {one.name: one for one in tasks}
    return {
        name: [value for point in own if (value := known[name].point if point is None else point) is not None]
        for name, own in parse_points(points, known).items()
    }


def section(lines: pd.DataFrame, task: Task, presets: Path | None = None) -> str:
    """One task's tables as Markdown, with what a reader has to know."""
    from ptybench.leaderboard.overview import markdown, notes
    from ptybench.leaderboard.overview import table as shown

    own = lines[lines["task"] == task.name]
    parts = []
    for metric in own["metric"].unique():
        first = own[own["metric"] == metric].iloc[0]
        place = f"{task.name} v{task.version} ({first['tier']}, {first['domain']})"
        unit = f" / {first['unit']}" if first["unit"] else ""
        parts.append(
            f"**{place}: {metric}{unit}, {first['direction']} is better**\n\n{markdown(shown(own, str(metric)))}"
        )
    parts.append("\n".join(f"- {note}" for note in notes(own, task, presets)))
    return "\n\n".join(parts)


def draw_all(lines: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw every task that has several points; return the files.

    A metric beside the primary one has a file of its own.
    """
    from ptybench.leaderboard.breakdown import draw, save

    paths = []
    for name in lines["task"].unique():
        own = lines[lines["task"] == name]
        for number, metric in enumerate(own["metric"].unique()):
            if own["point"].nunique() < 2:
                continue
            paths.append(folder / (f"{name}.{metric}.svg" if number else f"{name}.svg"))
            save(draw(own, str(metric)), paths[-1])
    return paths


def records_of(lines: pd.DataFrame) -> list[dict[str, object]]:
    """The lines as plain JSON values."""
    plain = lines.astype(object).where(lines.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in plain.to_dict("records")]
