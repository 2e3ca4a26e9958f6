"""``ptybench tune``: the best options of a method on a task, found with the same budget for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ptybench.cli.grids import Grid, grid_points, parse_grid
from ptybench.cli.options import (
    Json,
    Names,
    Plugins,
    Results,
    Tier,
    TierName,
    add_plugins,
    parse_duration,
    parse_seeds,
    split_names,
)
from ptybench.cli.output import Output
from ptybench.errors import UsageError
from ptybench.runner.quiet import load_numpy_quietly

if TYPE_CHECKING:
    from ptybench.tuning.tune import Tuned


def tune(
    *,
    task: Annotated[
        Names, Parameter(("--task", "--tasks"), help="Names of tasks, FILE.toml, or all; repeatable, or a comma list.")
    ] = None,
    method: Annotated[
        Names,
        Parameter(
            ("--method", "--methods"), help="Names of methods, composites, chains, or all; repeatable, or a comma list."
        ),
    ] = None,
    trials: Annotated[
        int | None, Parameter(help="Sets of options that are tried, the defaults among them; 20 unless said otherwise.")
    ] = None,
    grid: Grid = None,
    seeds: Annotated[
        str, Parameter(help="Objects of the domain dev to tune on, 1000 and above: boards never show those.")
    ] = "1000-1001",
    epochs: Annotated[
        int | None, Parameter(help="Of every reconstruction; the task's budget unless said otherwise.")
    ] = None,
    tier: Tier = "small",
    point: Annotated[
        float | None, Parameter(help="Value of the task's ladder; its default unless said otherwise.")
    ] = None,
    device: Annotated[str, Parameter(help="auto, cpu, cuda or cuda:N.")] = "auto",
    timeout: Annotated[str, Parameter(help="A reconstruction that takes longer has failed.")] = "1h",
    jobs: Annotated[int, Parameter(help="Studies (a method on a task) at a time.")] = 1,
    out: Annotated[
        Path | None,
        Parameter(help="Folder of presets; baselines/presets of a checkout, else ./presets.", show_default=False),
    ] = None,
    results: Results = Path("runs"),
    force: Annotated[
        bool, Parameter(negative="", show_default=False, help="Forget the trials that are there.")
    ] = False,
    plugin: Plugins = None,
    json: Json = False,
) -> int:
    """Search for the best options of methods on tasks, with the same budget for all, on the domain dev.

    Finished trials are kept: a search that was stopped goes on where it was.
    """
    out_ = Output(json)
    with out_.reserved():
        if not split_names(task) or not split_names(method):
            raise UsageError(
                "give --task NAME and --method NAME, or all: `ptybench list tasks` or `list methods` names them"
            )
        if jobs < 1:
            raise UsageError(f"--jobs must be at least 1, got {jobs}")
        load_numpy_quietly()
        limit, numbers = parse_duration(timeout), parse_seeds(seeds)
        points = grid_points(parse_grid(grid)) if grid else None
        add_plugins(plugin)
        from ptybench.cli.studies import StudyLine
        from ptybench.tuning.study import make_study
        from ptybench.tuning.tune import tune as run

        studies = [
            make_study(
                problem,
                name,
                trials=trials,
                seeds=numbers,
                epochs=epochs,
                tier=tier,
                point=point,
                device=device,
                grid=points,
            )
            for problem, name in _pairs(split_names(task), split_names(method), tier)
        ]
        with StudyLine(studies, jobs) as line:

            def tell(tuned: Tuned) -> None:
                with line.finished(tuned.study):
                    _show(tuned, out_)

            found = run(
                studies,
                results=results,
                out=_folder(out),
                jobs=jobs,
                force=force,
                timeout=limit,
                progress=line.step,
                on_result=tell,
            )
        if json:
            out_.document("tuning", {"studies": [_document(tuned) for tuned in found]})
        return 0 if all(tuned.preset is not None and _any_value(tuned) for tuned in found) else 1


def _pairs(tasks: Sequence[str], methods: Sequence[str], tier: TierName) -> Iterator[tuple[str, str]]:
    """Every task with every method; ``all`` methods are those that a sweep would run, without the controls."""
    from ptybench.leaderboard.scale import CONTROLS
    from ptybench.registry import load_task, standard_methods, task_names

    for task in dict.fromkeys(name for word in tasks for name in (task_names() if word == "all" else [word])):
        known = [name for name in standard_methods(load_task(task, tier)) if name not in CONTROLS]
        for method in dict.fromkeys(name for word in methods for name in (known if word == "all" else [word])):
            yield task, method


def _folder(out: Path | None) -> Path | None:
    """Where presets go: an installed package is not written to."""
    from ptybench.presets import preset_folder

    if out is not None:
        return out
    return None if (preset_folder().parents[1] / "pyproject.toml").is_file() else Path("presets")


def _any_value(tuned: Tuned) -> bool:
    return not tuned.trials or any(trial.value is not None for trial in tuned.trials)


def _show(tuned: Tuned, out: Output) -> None:
    """Say what came of a study: from where to where, by which options, and where that lies."""
    from ptybench.readable import duration, number
    from ptybench.runner.summary import brief

    if tuned.preset is None:
        out.note(f"ptybench: {tuned.refused}")
        return
    preset, study = tuned.preset, tuned.study
    if not tuned.trials:
        out.text(f"{study.title}: nothing to tune, its preset is its defaults · {tuned.path}")
        return
    told = ", ".join(f"{key}={brief(value)}" for key, value in preset.changed.items()) or "the defaults are best"
    failed = sum(value is None for value in preset.values)
    trials = [f"{len(tuned.trials)} trials"]
    trials += [f"{failed} failed"] if failed else []
    trials += [f"{tuned.resumed} were there"] if tuned.resumed else []
    facts = [
        f"{preset.metric} {number(preset.default_value)} → {number(preset.value)}",
        told,
        ", ".join(trials),
        duration(sum(trial.seconds for trial in tuned.trials)),
        str(tuned.path),
    ]
    out.text(f"{study.title}: {' · '.join(facts)}")
    if preset.other_code:
        out.note(
            f"ptybench: {preset.other_code} trials of {study.title} were made by other code: --force runs all again"
        )


def _document(tuned: Tuned) -> dict[str, Any]:
    return {
        "task": tuned.study.task.name,
        "method": tuned.study.method,
        "preset": None if tuned.preset is None else tuned.preset.document(),
        "path": None if tuned.path is None else str(tuned.path.resolve()),
        "refused": tuned.refused,
        "resumed": tuned.resumed,
        "trials": [trial.model_dump(mode="json") for trial in tuned.trials],
    }
