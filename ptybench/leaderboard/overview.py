"""Many boards as one table: every method at several points of several tasks, in each ruleset."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptybench.errors import InvalidOption
from ptybench.leaderboard.aggregate import aggregate
from ptybench.leaderboard.rulesets import NOTHING, RULESETS, UNTUNED, Ruleset, RulesetName
from ptybench.leaderboard.scale import CONTROLS
from ptybench.leaderboard.tables import frame
from ptybench.readable import EMPTY, count, duration, number
from ptybench.records import Record
from ptybench.runner.summary import standard_options
from ptybench.task import Task, overridden

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "task", "task_version", "tier", "domain", "ladder", "point", "default_point", "ruleset",
    "metric", "direction", "unit", "kind", "method", "method_version", "options", "mark", "rank", "tied",
    "median", "median_low", "median_high", "mean", "mean_low", "mean_high", "rescaled_median",
    "seeds_run", "seeds_ok", "failures", "solver_seconds", "ffts", "device",
)  # fmt: skip


def overview(
    records: Iterable[Record],
    tasks: Sequence[Task],
    *,
    domain: str = "release",
    rulesets: Sequence[RulesetName] = RULESETS,
    metrics: Sequence[str] = (),
    points: Mapping[str, Collection[float]] | None = None,
    epochs: int | None = None,
    presets: Path | None = None,
) -> pd.DataFrame:
    """Return one line a method, point, ruleset and metric, with the numbers of its board.

    Only runs with the task's budget are shown, so that nobody has had more; of a method that was run on several devices
    or in several versions the row with most seeds is.

    Args:
        records: any records.
        tasks: the tasks, at any point.
        domain: seed domain.
        rulesets: ``default``, ``tuned`` or both.
        metrics: metric ids beside each task's primary metric; those that a task's records do not have are passed over.
        points: name of a task → values of its ladder; where it is missing, every value that has records is shown.
        epochs: budget of the runs that are shown; the default is each task's own.
        presets: folder of presets; ``None`` is that of the project.

    Raises:
        InvalidOption: where there is no record of these tasks at all.

    """
    import pandas as pd

    records = list(records)
    parts = []
    for task in tasks:
        budget = task.budget.epochs if epochs is None else epochs
        own = [r for r in records if _belongs(r, task, domain, budget)]
        for point in _points(task, own, (points or {}).get(task.name)):
            here = [r for r in own if r.point == point.point]
            known = {name for r in here for name in r.metrics}
            for metric in dict.fromkeys([task.primary_metric, *(name for name in metrics if name in known)]):
                for ruleset in rulesets:
                    parts.append(_part(here, point, domain, ruleset, metric, presets, task.point))
    found = [part for part in parts if part is not None]
    if not found:
        names = ", ".join(task.name for task in tasks)
        raise InvalidOption(f"expected records of {names} (domain {domain}) with the tasks' own budget, found none")
    return pd.concat(found, ignore_index=True)


def _belongs(record: Record, task: Task, domain: str, epochs: int) -> bool:
    budget = record.budget.epochs == epochs and record.budget.seconds is None
    own = (record.problem, record.tier, record.domain) == (task.name, task.tier, domain)
    return own and (budget or record.method in CONTROLS)


def _points(task: Task, records: Sequence[Record], wanted: Collection[float] | None) -> list[Task]:
    """The task at every wanted point that there are records of a method at, in the order of its ladder."""
    if task.ladder is None:
        return [task]
    there = {r.point for r in records if r.point is not None and r.method not in CONTROLS}
    there = there if wanted is None else there & set(wanted)
    ordered = [value for value in task.ladder.values if value in there]
    ordered += sorted(there - set(ordered))
    return [overridden(task, {task.ladder.field: value}) for value in ordered]


def _part(
    records: Sequence[Record],
    task: Task,
    domain: str,
    ruleset: RulesetName,
    metric: str,
    presets: Path | None,
    default_point: float | None,
) -> pd.DataFrame | None:
    """One board; ``None`` where the ruleset has no records there."""
    try:
        board = aggregate(records, task, domain=domain, metric=metric, ruleset=ruleset, presets=presets)
    except InvalidOption:
        return None
    lines = frame(board).sort_values("seeds_run", ascending=False, kind="stable").drop_duplicates("method")
    return lines.assign(default_point=default_point)[list(COLUMNS)].sort_index()


def table(lines: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return one task's lines of one metric as a table for readers: a row a method, a column a point and ruleset.

    Methods stand in the order of their median at the default point in the default ruleset, controls at the ends. Bold
    is the best median of a column.

    Args:
        lines: the lines of one task, from :func:`overview`.
        metric: which metric.

    """
    import pandas as pd

    lines = lines[lines["metric"] == metric]
    cells: dict[str, dict[str, str]] = {}
    for _, column in lines.groupby(["point", "ruleset"], sort=False, dropna=False):
        first = column.iloc[0]
        place = "" if pd.isna(first["point"]) else f"{first['ladder']} {first['point']:g}, "
        best = _best(column)
        cells[f"{place}{first['ruleset']}"] = {str(line.method): _cell(line, best) for line in column.itertuples()}
    home = lines[(lines["point"] == lines["default_point"]) | lines["point"].isna()]
    home = (home if len(home) else lines).drop_duplicates("method").set_index("method")
    cells["time"] = {str(method): duration(_plain(value)) for method, value in home["solver_seconds"].items()}
    cells["FFTs"] = {str(method): count(_plain(value)) for method, value in home["ffts"].items()}
    shown = pd.DataFrame(cells).reindex(_ordered(lines, home)).fillna(EMPTY)
    shown.index.name = "method"
    return shown


def _plain(value: Any) -> float | None:
    import pandas as pd

    return None if pd.isna(value) else float(value)


def _best(column: pd.DataFrame) -> float | None:
    """The best median of a column; ``None`` where all methods have the same."""
    values = column.loc[column["rank"].notna(), "median"].dropna()
    leading = column.loc[column["rank"] == 1, "median"]
    return None if leading.empty or values.nunique() < 2 else _plain(leading.iloc[0])


def _cell(line: Any, best: float | None) -> str:
    """``0.3809 [0.360, 0.637]``; where some seeds failed how many did not; instead of the interval a preset's mark."""
    if line.seeds_ok == 0:
        return f"failed {line.seeds_run}/{line.seeds_run}"
    middle = number(_plain(line.median))
    leads = line.kind == "method" and best is not None and _plain(line.median) == best
    text = f"**{middle}**" if leads else middle
    same = line.mark in (UNTUNED, NOTHING)  # the numbers are those of the default ruleset
    if not same and _plain(line.median_low) is not None:
        text += f" [{number(_plain(line.median_low), 3)}, {number(_plain(line.median_high), 3)}]"
    if line.seeds_ok < line.seeds_run:
        text += f" {line.seeds_ok}/{line.seeds_run} ok"
    return f"{text} *{line.mark}*" if line.mark else text


def _ordered(lines: pd.DataFrame, home: pd.DataFrame) -> list[str]:
    """Methods by their standing at the default point, those that are not there last; the oracle first of all."""
    sign = -1.0 if lines["direction"].iloc[0] == "higher" else 1.0

    def standing(method: str) -> tuple[bool, float, str]:
        value = _plain(home["median"].get(method))
        return value is None, 0.0 if value is None else sign * value, method

    names = [str(name) for name in lines["method"].unique()]
    ends = [name for name in CONTROLS if name in names]
    middle = sorted((name for name in names if name not in CONTROLS), key=standing)
    return ends[:1] + middle + ends[1:]


def notes(lines: pd.DataFrame, task: Task, presets: Path | None = None) -> list[str]:
    """What a reader of one task's table has to know, one sentence each.

    Args:
        lines: the lines of the task, from :func:`overview`.
        task: the task.
        presets: folder of presets; ``None`` is that of the project.

    """
    methods = lines[lines["kind"] == "method"]
    seeds = sorted({int(value) for value in methods["seeds_run"]})
    runs = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    found = [
        f"Median over {runs} seeds, in brackets its 95 % bootstrap interval; bold is the best median of a column, "
        "which is not to say that the others are significantly worse."
    ]
    if (methods["seeds_ok"] < methods["seeds_run"]).any():
        found.append("Where some seeds failed the median is of the others.")
    names = [str(name) for name in methods["method"].unique()]
    for ruleset in lines["ruleset"].unique():
        rules = Ruleset.of(ruleset, standard_options(names), task.name, task.tier, presets)
        found += rules.notes(names)
    return found


def markdown(shown: pd.DataFrame) -> str:
    """Return a table of :func:`table` as Markdown."""
    head = [shown.index.name, *shown.columns]
    lines = ["| " + " | ".join(map(str, head)) + " |", "|:--|" + "--:|" * len(shown.columns)]
    for method, row in shown.iterrows():
        name = f"*{method}*" if method in CONTROLS else f"`{method}`"
        lines.append("| " + " | ".join([name, *map(str, row)]) + " |")
    return "\n".join(lines)
