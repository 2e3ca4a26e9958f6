"""``ptybench leaderboard``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ptybench.cli.options import Json, Settings, Tier, add_plugins, parse_settings
from ptybench.cli.output import Output
from ptybench.cli.recorded import DEFAULT_RECORDS, Recorded
from ptybench.errors import InvalidOption, UnknownName

if TYPE_CHECKING:
    from ptybench.leaderboard.aggregate import Board
    from ptybench.records import Record


def leaderboard(
    *,
    task: Annotated[str, Parameter("--task", help="Name of a task or dataset, or FILE.toml.")],
    format: Annotated[
        Literal["md", "csv", "json", "latex", "text"], Parameter("--format", help="How the table is written.")
    ] = "md",
    metric: Annotated[str | None, Parameter("--metric", help="What is ranked; the task's primary metric.")] = None,
    ruleset: Annotated[
        Literal["default", "tuned"] | None,
        Parameter(
            "--ruleset", help="Only methods with their default options, or with their presets of `ptybench tune`."
        ),
    ] = None,
    presets: Annotated[Path | None, Parameter("--presets", help="Folder of presets; the project's own.")] = None,
    set_: Settings = None,
    recorded: Recorded = DEFAULT_RECORDS,
    json: Json = False,
) -> None:
    """Rank the methods on one point of a task, from the records of their runs."""
    out = Output(json)
    with out.reserved():
        from ptybench.leaderboard.tables import document, render

        add_plugins(recorded.plugin)
        if presets is not None and ruleset != "tuned":
            raise InvalidOption("--presets is for --ruleset tuned")
        rules = {"ruleset": ruleset, "presets": presets, "metric": metric}
        settings, records = parse_settings(set_), list(recorded.read())
        board = _board(task, recorded.domain, recorded.tier, settings, records, rules)
        if json:
            out.document("leaderboard", document(board))
        else:
            out.text(render(board, format).rstrip("\n"))


def _board(
    name: str, domain: str, tier: Tier, settings: dict[str, Any], records: list[Record], rules: dict[str, Any]
) -> Board:
    from ptybench.cli.settings import sort_settings
    from ptybench.leaderboard.aggregate import aggregate
    from ptybench.registry import load_task

    try:
        task = load_task(name, tier)
    except UnknownName:
        # a real measurement, or the task of somebody else's plug-in, that there are records of
        if not any(record.problem == name for record in records):
            raise
        if settings:
            raise InvalidOption(f"--set: {name} is no task here, so there is no field to set") from None
        return aggregate(records, name, tier, domain, **rules)
    overrides = sort_settings(settings, task, None).task
    return aggregate(records, load_task(name, tier, overrides), domain=domain, **rules)
