"""What ``ptybench info`` says about a method, a metric and a real measurement."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ptybench.cli.output import columns
from ptybench.errors import InvalidData, UnknownName
from ptybench.readable import number
from ptybench.specs import Spec, Tunable

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from ptybench.scoring.metrics import Metric
    from ptybench.solver import Addition, Solver

_LIMITS = {
    "exclusiveMinimum": "above {}",
    "minimum": "at least {}",
    "exclusiveMaximum": "below {}",
    "maximum": "at most {}",
}
_ABOUT = ("file", "sha256", "licence", "source", "citation")
_TABLES = ("geometry", "patterns", "positions", "bad_pixels", "probe", "noise")


def find_kind(name: str) -> str:
    """Return what a name stands for: ``task``, ``method`` (with chains and additions), ``dataset`` or ``metric``.

    Raises:
        UnknownName: where it is nothing, with the nearest name.

    """
    from ptybench.registry import list_additions, list_datasets, list_generators, list_methods, list_tasks
    from ptybench.scoring.metrics import METRICS

    if name.endswith(".toml"):
        return "task"
    if "+" in name or ">" in name:
        return "method"
    names = {
        "task": [one.name for one in list_tasks()],
        "method": [one.name for one in [*list_methods(), *list_additions()]],
        "dataset": [one.name for one in list_datasets()],
        "generator": [one.name for one in list_generators()],
        "metric": list(METRICS),
    }
    for kind, known in names.items():
        if name in known:
            return kind
    hint = "`ptybench list tasks|methods|datasets|generators|metrics` shows what there is"
    raise UnknownName("name", name, [one for known in names.values() for one in known], hint)


def explain_method(name: str) -> tuple[str, dict[str, Any]]:
    """Text and facts of a method, a variant, a composite, a chain, or of an addition alone.

    Raises:
        UnknownName: where a part of it is none.

    """
    from ptybench.registry import list_additions, load_addition, resolve_method

    if name in [one.name for one in list_additions()]:
        facts = method_facts(load_addition(name))
        return method_text(facts), facts
    resolved = resolve_method(name)
    parts = method_parts(name)
    told = [method_facts(kind) for kind in parts.values()]
    facts = told[0] | {
        "name": resolved.name,
        "version": resolved.version,
        "description": "\n\n".join(dict.fromkeys(one["description"] for one in told)),
        "refines": sorted({what for one in told for what in one["refines"]}),
        "options": [
            option | {"name": f"{prefix}{option['name']}", "default": resolved.options[f"{prefix}{option['name']}"]}
            for prefix, kind in parts.items()
            for option in option_facts(kind.Options)
        ],
        "presets": preset_facts(resolved.name, resolved.version),
    }
    return method_text(facts), facts


def method_parts(name: str) -> dict[str, type[Solver | Addition]]:
    """The classes that a method is made of, by the prefix of their options; in a chain ``1.`` and ``2.``."""
    from ptybench.registry import load_addition, load_method

    chain = [part.strip() for part in name.split(">")]
    found: dict[str, type[Solver | Addition]] = {}
    for place, part in enumerate(chain, 1):
        prefix = f"{place}." if len(chain) > 1 else ""
        base, *additions = (one.strip() for one in part.split("+"))
        found |= {prefix: load_method(base)} | {f"{prefix}{one}.": load_addition(one) for one in additions}
    return found


def preset_facts(method: str, version: str) -> list[dict[str, Any]]:
    """What was tuned for a method: task, values of defaults and preset, what differs, and whether it is stale."""
    from ptybench.presets import current_task_version, list_presets

    return [
        {
            "task": one.task,
            "tier": one.budget.tier,
            "trials": one.budget.trials,
            "metric": one.metric,
            "default_value": one.default_value,
            "value": one.value,
            "changed": one.changed,
            "stale": one.stale(version, current_task_version(one.task)),
        }
        for one in list_presets(method=method)
    ]


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


def explain_generator(name: str) -> tuple[str, dict[str, Any]]:
    """Text and facts of a generator of training images."""
    from ptybench.registry import load_generator

    kind = load_generator(name)
    # what its parameters mean is told below
    description = re.sub(r"^Args:\n(?: .*\n|\n)*", "", inspect.getdoc(kind) or "", flags=re.MULTILINE)
    description = description.partition("Example:\n")[0].strip().replace("``", "")
    options = [{key: value for key, value in one.items() if key != "tuned"} for one in option_facts(kind)]
    rows = [(one["name"], str(one["default"]), one["meaning"]) for one in options]
    text = (
        f"{name} · generator of training images, version {kind.version}\n\n{description}\n\n"
        f"Parameters, for --set NAME=VALUE (name, default, meaning):\n{columns(rows, indent='  ')}"
    )
    return text, {"name": name, "version": kind.version, "description": description, "options": options}


EXPLAIN: dict[str, Callable[[str], tuple[str, dict[str, Any]]]] = {
    "method": explain_method,
    "metric": explain_metric,
    "dataset": explain_dataset,
    "generator": explain_generator,
}


def method_facts(kind: type[Solver | Addition]) -> dict[str, Any]:
    """Everything about a method, or an addition, that its class declares."""
    return {
        "name": getattr(kind, "name", None) or getattr(kind, "adds", ""),
        "version": kind.version,
        "description": (inspect.getdoc(kind) or "").replace("``", ""),
        "refines": sorted(kind.refines),
        "options": option_facts(kind.Options),
    }


def option_facts(options: type[Spec]) -> list[dict[str, Any]]:
    """Name, type, default, allowed values, range of a search and meaning of every option."""
    meanings = option_meanings(options)
    return [
        {
            "name": name,
            "type": _type(declared),
            "default": declared.get("default"),
            "allowed": _allowed(declared),
            "tuned": _tuned(options.model_fields[name]),
            "meaning": meanings.get(name, ""),
        }
        for name, declared in options.model_json_schema().get("properties", {}).items()
    ]


def option_meanings(options: type[Spec]) -> dict[str, str]:
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


def _tuned(field: FieldInfo) -> str:
    """Where ``ptybench tune`` looks; empty where it leaves the option alone."""
    for entry in field.metadata:
        if isinstance(entry, Tunable):
            if entry.choices or not entry.low < entry.high:
                return "tuned" + "".join(f" {choice}" for choice in entry.choices)
            return f"tuned {entry.low:g} to {entry.high:g}{' (log)' if entry.log else ''}"
    return ""


def method_text(facts: dict[str, Any]) -> str:
    """The facts of a method for a reader."""
    refines = ", ".join(facts["refines"]) or "nothing"
    rows = [
        (
            option["name"],
            str(option["default"]),
            option["allowed"] or option["type"],
            option["tuned"],
            option["meaning"],
        )
        for option in facts["options"]
    ]
    text = (
        f"{facts['name']} · method, version {facts['version']} · refines {refines}\n\n{facts['description']}\n\n"
        "Options, for --set method.NAME=VALUE (name, default, allowed, searched by `ptybench tune`, meaning):\n"
        f"{columns(rows, indent='  ')}"
    )
    return text + preset_text(facts["presets"]) if facts.get("presets") else text


def preset_text(presets: list[dict[str, Any]]) -> str:
    """What was tuned, a line a task."""
    from ptybench.runner.summary import brief

    rows = []
    for one in presets:
        options = ", ".join(f"{key}={brief(value)}" for key, value in one["changed"].items()) or "the defaults"
        gain = f"{one['metric']} {number(one['default_value'])} → {number(one['value'])}"
        place = one["task"] if one["tier"] == "small" else f"{one['task']} ({one['tier']})"
        rows.append((place, options, gain if one["trials"] else "nothing to tune", "stale" if one["stale"] else ""))
    return f"\n\nPresets (task, options, tuning objects before and after):\n{columns(rows, indent='  ')}"


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
