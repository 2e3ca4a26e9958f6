"""``ptybench map``: a metric over two options of a method, from the records of a sweep with ``--grid``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ptybench.cli.options import Json, Names, add_plugins, split_names
from ptybench.cli.output import Output
from ptybench.cli.recorded import DEFAULT_RECORDS, Recorded
from ptybench.errors import InvalidData, InvalidOption, UnknownName


def map_(
    *,
    task: Annotated[str, Parameter("--task", help="Name of a task, or of a real measurement.")],
    method: Annotated[Names, Parameter(("--method", "--methods"), help="Names of methods; all unless given.")] = None,
    axes: Annotated[str, Parameter("--axes", help="Two options in a comma list, rows first.")] = "alpha,beta",
    metric: Annotated[str | None, Parameter("--metric", help="What is mapped; the primary metric.")] = None,
    figure: Annotated[Path | None, Parameter("--figure", help="Also draw the maps into this file (SVG, PNG).")] = None,
    recorded: Recorded = DEFAULT_RECORDS,
    json: Json = False,
) -> None:
    """Show how much the two options of a method matter: the mean over the seeds in every setting, and the best one."""
    out = Output(json)
    with out.reserved():
        from ptybench.leaderboard.breakdown import save
        from ptybench.leaderboard.hypermap import draw_maps, maps_of
        from ptybench.scoring.metrics import METRICS

        add_plugins(recorded.plugin)
        names = [one.strip() for one in axes.split(",")]
        if len(names) != 2 or not all(names) or names[0] == names[1]:
            raise InvalidOption(f"--axes: expected two options such as alpha,beta, got {axes!r}")
        if metric is not None and metric not in METRICS:
            raise UnknownName("metric", metric, METRICS)
        wanted = split_names(method)
        records = [
            one
            for one in {one.key: one for one in recorded.read()}.values()  # once, if published and here too
            if one.problem == task
            and (one.task is None or (one.domain, one.tier) == (recorded.domain, recorded.tier))
            and (not wanted or one.method in wanted)
        ]
        shown = metric or next((one.primary_metric for one in records if one.primary_metric), None)
        maps = [] if shown is None else maps_of(records, (names[0], names[1]), shown)
        if shown is None or not maps:
            raise InvalidData(
                f"no records of {task} ({recorded.tier}, {recorded.domain}) span {names[0]} and {names[1]}: run "
                f"`ptybench sweep --tasks {task} --grid {names[0]}=… --grid {names[1]}=…` first"
            )
        higher = METRICS[shown].direction == "higher"
        if figure is not None:
            save(draw_maps(maps, shown), figure)
            out.note(f"wrote {figure}")
        for one in maps:
            best = one.best(higher)
            end = "" if best is None else f"\n\nbest: {names[0]}={best[0]:g} {names[1]}={best[1]:g}"
            out.text(f"**{one.title}: {shown}, mean over {one.seeds} seeds**\n\n{one.markdown()}{end}\n")
        if json:
            out.document("map", {"metric": shown, "maps": [one.document(higher) for one in maps]})
