"""``ptybench simulate`` and ``ptybench score``: data out, anybody's reconstruction in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ptybench.cli.options import Domain, Json, Plugins, Settings, Tier, add_plugins, parse_settings
from ptybench.cli.output import Output, columns

if TYPE_CHECKING:
    from ptybench.task import Task

TaskName = Annotated[str, Parameter("--task", help="Name of a task, or its FILE.toml.")]
Seed = Annotated[int, Parameter("--seed", help="Seed of the specimen and of everything random.")]


def _load(task: str, tier: Tier, settings: list[str] | None, plugins: list[Path] | None) -> Task:
    """The task with the fields of ``--set``."""
    from ptybench.cli.settings import sort_settings
    from ptybench.registry import load_task

    add_plugins(plugins)
    wanted = sort_settings(parse_settings(settings), load_task(task, tier), None)
    return load_task(task, tier, wanted.task)


def simulate(
    *,
    task: TaskName,
    out: Annotated[Path, Parameter("--out", help="The CXI file to write.")],
    with_truth: Annotated[Path | None, Parameter("--with-truth", help="Write the truth too (HDF5).")] = None,
    seed: Seed = 0,
    domain: Domain = "dev",
    tier: Tier = "small",
    set_: Settings = None,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Simulate a task's measurement and write it as CXI."""
    output = Output(json)
    with output.reserved():
        from ptybench.io.cxi import write_cxi
        from ptybench.io.hdf5 import save_truth
        from ptybench.simulation import simulate as make

        resolved = _load(task, tier, set_, plugin)
        measurement, truth = make(resolved, seed, domain=domain, tier=tier)
        written = {"measurement": out.resolve()}
        write_cxi(out, measurement)
        if with_truth is not None:
            save_truth(with_truth, truth)
            written["truth"] = with_truth.resolve()
        facts = {name: float(value) for name, value in truth.facts.items()}
        count, h, w = measurement.intensities.shape
        output.text(f"{count} patterns of {h} × {w} pixels")
        output.text(columns([(name, f"{value:.6g}") for name, value in facts.items()], indent="  "))
        for path in written.values():
            output.text(f"wrote {path}")
        if json:
            content: dict[str, Any] = {"task": resolved.name, "task_version": resolved.version}
            content |= {"domain": domain, "seed": seed, "tier": tier, "patterns": count, "shape": [h, w]}
            output.document("simulation", {**content, "facts": facts, "files": {k: str(v) for k, v in written.items()}})


def score(
    reconstruction: Path,
    /,
    *,
    task: TaskName,
    seed: Seed = 0,
    domain: Domain = "dev",
    tier: Tier = "small",
    set_: Settings = None,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Score a reconstruction that any software made of a task's data.

    Args:
        reconstruction: reconstruction.h5 with object, probe and positions_px.

    """
    output = Output(json)
    with output.reserved():
        from ptybench.io.hdf5 import load_reconstruction
        from ptybench.readable import number
        from ptybench.scoring import evaluate
        from ptybench.scoring.data import split_withheld
        from ptybench.scoring.metrics import METRICS
        from ptybench.simulation import simulate as make

        estimate = load_reconstruction(reconstruction)
        resolved = _load(task, tier, set_, plugin)
        measurement, truth = make(resolved, seed, domain=domain, tier=tier)
        withheld = None
        if resolved.withheld > 0 and len(estimate.positions_px) < len(measurement.positions_px):
            measurement, withheld = split_withheld(measurement, resolved.withheld)
        scores = evaluate(estimate, truth, measurement, withheld)
        rows = [
            (name, number(value, 6), METRICS[name].unit, METRICS[name].direction)
            for name, value in scores.values.items()
        ]
        output.text(columns(rows))
        if json:
            content: dict[str, Any] = {"task": resolved.name, "task_version": resolved.version}
            content |= {"domain": domain, "seed": seed, "tier": tier, "reconstruction": str(reconstruction.resolve())}
            content |= {"metrics": scores.values, "censored": scores.censored, "gauges": scores.gauges}
            directions = {name: METRICS[name].direction for name in scores.values}
            output.document("score", {**content, "directions": directions})
