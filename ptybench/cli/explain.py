"""What ``ptybench info`` says about a method, a metric and a real measurement."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ptybench.cli.output import columns
from ptybench.errors import InvalidData, UnknownName

if TYPE_CHECKING:
    from ptybench.scoring.metrics import Metric
    from ptybench.solver import Solver, SolverOptions

_LIMITS = {
    "exclusiveMinimum": "above {}",
    "minimum": "at least {}",
    "exclusiveMaximum": "below {}",
    "maximum": "at most {}",
}
_ABOUT = ("file", "sha256", "licence", "source", "citation")
_TABLES = ("geometry", "patterns", "positions", "bad_pixels", "probe", "noise")


def find_kind(name: str) -> str:
    """Return what a name stands for: ``task``, ``method``, ``dataset`` or ``metric``.

    Raises:
        UnknownName: where it is nothing, with the nearest name.

    """
    from ptybench.registry import list_datasets, list_methods, list_tasks
    from ptybench.scoring.metrics import METRICS

    if name.endswith(".toml"):
        return "task"
    names = {
        "task": [one.name for one in list_tasks()],
        "method": [one.name for one in list_methods()],
        "dataset": [one.name for one in list_datasets()],
        "metric": list(METRICS),
    }
    for kind, known in names.items():
        if name in known:
            return kind
    hint = "`ptybench list tasks|methods|datasets|metrics` shows what there is"
    raise UnknownName("name", name, [one for known in names.values() for one in known], hint)


def explain_method(name: str) -> tuple[str, dict[str, Any]]:
    """Text and facts of a method."""
    from ptybench.registry import load_method

    facts = method_facts(load_method(name))
    return method_text(facts), facts


def explain_metric(name: str) -> tuple[str, dict[str, Any]]:
    """Text and facts of a metric."""
    from ptybench.scoring.metrics import METRICS

    facts = metric_facts(METRICS[name])
    return metric_text(facts), facts


def explain_dataset(name: str) -> tuple[str, dict[str, Any]]:
    """Text and facts of a real measurement: its manifest, where its file is, and how to run it."""
    from ptybench.io.manifest import dataset_file, dataset_manifest

    facts = {"name": name, **dataset_manifest(name).model_dump(mode="json", exclude_defaults=True)}
    try:
        facts["path"] = str(dataset_file(name))
    except InvalidData as missing:
        facts["path"] = None
        facts["missing"] = str(missing)
    return dataset_text(facts), facts


EXPLAIN: dict[str, Callable[[str], tuple[str, dict[str, Any]]]] = {
    "method": explain_method,
    "metric": explain_metric,
    "dataset": explain_dataset,
}


def method_facts(kind: type[Solver]) -> dict[str, Any]:
    """Everything about a method that its class declares."""
    return {
        "name": kind.name,
        "version": kind.version,
        "description": (inspect.getdoc(kind) or "").replace("``", ""),
        "refines": sorted(kind.refines),
        "options": option_facts(kind.Options),
    }


def option_facts(options: type[SolverOptions]) -> list[dict[str, Any]]:
    """Name, type, default, allowed values and meaning of every option."""
    meanings = option_meanings(options)
    return [
        {
            "name": name,
            "type": _type(declared),
            "default": declared.get("default"),
            "allowed": _allowed(declared),
            "meaning": meanings.get(name, ""),
        }
        for name, declared in options.model_json_schema()["properties"].items()
    ]


def option_meanings(options: type[SolverOptions]) -> dict[str, str]:
    """The ``Args`` of the docstrings of an options class and of those it inherits from."""
    meanings: dict[str, str] = {}
    for base in reversed(options.__mro__):
        _, _, args = (inspect.cleandoc(base.__doc__ or "")).partition("Args:\n")
        for match in re.finditer(r"^    (\w+): (.*(?:\n {8,}.*)*)", args, re.MULTILINE):
            meanings[match[1]] = " ".join(match[2].split()).replace("``", "").rstrip(".")
    return meanings


def _type(declared: dict[str, Any]) -> str:
    kinds = [one.get("type", "any") for one in declared.get("anyOf", [declared])]
    return " or ".join("none" if kind == "null" else str(kind) for kind in kinds)


def _allowed(declared: dict[str, Any]) -> str:
    found = []
    for one in declared.get("anyOf", [declared]):
        found += [text.format(one[key]) for key, text in _LIMITS.items() if key in one]
        found += [", ".join(map(str, one["enum"]))] if "enum" in one else []
    return ", ".join(found)


def method_text(facts: dict[str, Any]) -> str:
    """The facts of a method for a reader."""
    refines = ", ".join(facts["refines"]) or "nothing"
    rows = [
        (option["name"], str(option["default"]), option["allowed"] or option["type"], option["meaning"])
        for option in facts["options"]
    ]
    return (
        f"{facts['name']} · method, version {facts['version']} · refines {refines}\n\n{facts['description']}\n\n"
        f"Options, for --set method.NAME=VALUE (name, default, allowed, meaning):\n{columns(rows, indent='  ')}"
    )


def metric_facts(metric: Metric) -> dict[str, Any]:
    """Everything that a metric declares."""
    return {
        "name": metric.id,
        "title": metric.title,
        "unit": metric.unit,
        "better": metric.direction,
        "low": metric.low,
        "high": metric.high,
        "needs": sorted(metric.needs),
    }


def metric_text(facts: dict[str, Any]) -> str:
    """The facts of a metric for a reader."""
    low, high = ("unbounded" if facts[end] is None else f"{facts[end]:g}" for end in ("low", "high"))
    rows = [
        ("unit", facts["unit"] or "none"),
        ("better", facts["better"]),
        ("range", f"{low} to {high}"),
        ("needs", ", ".join(facts["needs"]) or "the estimate alone"),
    ]
    return f"{facts['name']} · metric\n\n{facts['title']}\n\n{columns(rows, indent='  ')}"


def dataset_text(facts: dict[str, Any]) -> str:
    """The facts of a real measurement for a reader."""
    rows: list[tuple[str, str]] = [(key, str(facts[key])) for key in _ABOUT if key in facts]
    rows += [(f"{table}.{key}", str(value)) for table in _TABLES for key, value in facts.get(table, {}).items()]
    rows.append(("here", facts["path"] or "no"))
    parts = [f"{facts['name']} · dataset", facts.get("title", ""), columns(rows, indent="  ")]
    parts += [facts[key] for key in ("note", "missing") if key in facts]
    for method, settings in facts.get("recommended", {}).items():
        words = [f"--{key} {value}" if key == "epochs" else f"--set {key}={value}" for key, value in settings.items()]
        parts.append(f"  ptybench run --data {facts['name']} --method {method} {' '.join(words)}")
    return "\n\n".join(part for part in parts if part)
