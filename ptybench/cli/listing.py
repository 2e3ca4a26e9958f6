"""``ptybench list`` and ``ptybench info``."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ptybench.cli.explain import EXPLAIN, find_kind, metric_facts
from ptybench.cli.options import (
    Domain,
    DomainName,
    Json,
    Plugins,
    Settings,
    Tier,
    TierName,
    add_plugins,
    parse_settings,
)
from ptybench.cli.output import Output, columns
from ptybench.errors import InvalidOption

Kind = Literal["tasks", "methods", "additions", "datasets", "generators", "metrics"]


def listing(kind: Kind, /, *, plugin: Plugins = None, json: Json = False) -> None:
    """List what there is: a name and a sentence each.

    Args:
        kind: what to list.

    """
    out = Output(json)
    with out.reserved():
        add_plugins(plugin)
        rows = _metrics() if kind == "metrics" else _listed(kind)
        told = ("name", "unit", "better", "title") if kind == "metrics" else ("name", "title", "origin")
        if rows:
            out.text(columns([[str(row[key]) for key in told] for row in rows]))
        else:
            out.note(f"there are no {kind}")
        if json:
            out.document(kind, {kind: rows})


def _listed(kind: Kind) -> list[dict[str, Any]]:
    from ptybench import registry

    source = {
        "tasks": registry.list_tasks,
        "methods": registry.list_methods,
        "additions": registry.list_additions,
        "datasets": registry.list_datasets,
        "generators": registry.list_generators,
    }[kind]
    return [{"name": one.name, "title": one.title, "origin": one.origin} for one in source()]


def _metrics() -> list[dict[str, Any]]:
    from ptybench.scoring.metrics import METRICS

    return [metric_facts(metric) for metric in METRICS.values()]


def info(
    name: str,
    /,
    *,
    picture: Annotated[
        Path | None, Parameter("--picture", help="Write a picture of the task's specimen, scan and patterns (PNG).")
    ] = None,
    domain: Domain = "dev",
    seed: Annotated[int, Parameter("--seed", help="Seed of what is shown of a task.")] = 0,
    tier: Tier = "small",
    set_: Settings = None,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Explain one task, method, dataset or metric.

    Args:
        name: its name, or the FILE.toml of a task.

    """
    out = Output(json)
    with out.reserved():
        add_plugins(plugin)
        kind = find_kind(name)
        if kind != "task" and (picture is not None or set_):
            raise InvalidOption(f"--picture and --set are for tasks, and {name} is a {kind}")
        if kind == "task":
            text, facts = _explain_task(name, seed, domain, tier, parse_settings(set_), picture)
        else:
            text, facts = EXPLAIN[kind](name)
        out.text(text)
        if json:
            out.document(kind, facts)


def _explain_task(
    name: str, seed: int, domain: DomainName, tier: TierName, settings: dict[str, Any], picture: Path | None
) -> tuple[str, dict[str, Any]]:
    from ptybench.cards import render_task_card, save_task_picture, task_card
    from ptybench.cli.settings import field_values, sort_settings
    from ptybench.registry import load_task

    task = load_task(name, tier, sort_settings(settings, load_task(name, tier), None).task)
    card = task_card(task, domain=domain, seed=seed)
    fields = field_values(task)
    rows = [(path, json_format.dumps(value)) for path, value in fields.items()]
    text = f"{render_task_card(card)}\n\nFields, for --set task.NAME=VALUE:\n{columns(rows, indent='  ')}"
    if picture is not None:
        save_task_picture(task, picture, domain=domain, seed=seed)
        text += f"\n\nwrote {picture.resolve()}"
    return text, {**card, "fields": fields, "picture": None if picture is None else str(picture.resolve())}
