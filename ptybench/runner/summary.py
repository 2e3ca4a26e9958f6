"""A record in words, for the report and the card: what was run, what came of it, what it cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ptybench.errors import PtybenchError
from ptybench.readable import EMPTY, count, duration, memory, quantity
from ptybench.records import Record, canonical_json

Lines = list[tuple[str, str]]


@lru_cache(maxsize=256)
def _default_options(method: str) -> str | None:
    from ptybench.registry import resolve_method

    try:
        return canonical_json(resolve_method(method).options)
    except (PtybenchError, ImportError):
        return None


def standard_options(methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return method → default options, for the methods that are known here (this imports them)."""
    found = {method: _default_options(method) for method in set(methods)}
    return {method: json.loads(text) for method, text in found.items() if text is not None}


def changed(options: Mapping[str, Any], standard: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the options that differ from the standard ones, nested ones (of a chain) by their dotted path."""
    found: dict[str, Any] = {}
    for key in sorted(options):
        value, usual = options[key], standard.get(key)
        if isinstance(value, dict) and isinstance(usual, dict):
            found |= changed(value, usual, f"{prefix}{key}.")
        elif key not in standard or value != usual:
            found[prefix + key] = value
    return found


def brief(value: Any) -> str:
    """Return an option's value as one would type it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def title(record: Record) -> str:
    """Return what was run: ``low_overlap · epie``."""
    return f"{record.problem} · {record.method}"


def cell(record: Record) -> str:
    """Return which cell of the task it was: ``overlap 0.375 · small · dev · seed 0``."""
    point = f"{record.ladder or 'point'} {record.point:g}" if record.point is not None else None
    parts = [point, record.tier, record.domain, f"seed {record.seed}", *option_words(record)]
    return " · ".join(part for part in parts if part)


def option_words(record: Record, standard: Mapping[str, Any] | None = None) -> list[str]:
    """Return the options that were changed, as ``name=value``.

    Args:
        record: whose options.
        standard: the method's default options; ``None`` asks the method, and nothing is said where it is unknown.

    """
    standard = standard_options([record.method]).get(record.method) if standard is None else standard
    if standard is None:
        return []
    return [f"{name}={brief(value)}" for name, value in changed(record.options, standard).items()]


def primary(record: Record) -> str:
    """Return the value of the primary metric, or the status where there is none."""
    if record.status != "ok" or record.primary_metric is None:
        return record.status
    return metric_value(record, record.primary_metric)


def primary_title(record: Record) -> str:
    """Return the primary metric with the direction of better."""
    name = record.primary_metric
    return f"{name}, {record.directions.get(name, 'higher')} is better" if name else ""


def metric_value(record: Record, name: str) -> str:
    """Return a metric with its unit; where its curve never crosses its threshold, that instead."""
    value = record.metrics.get(name)
    if value is None:
        return "beyond Nyquist" if record.censored.get(name) else EMPTY
    return quantity(value, record.units.get(name, ""))


def metrics(record: Record) -> Lines:
    """Return ``(id, value)`` of every metric that was measured, the primary one first.

    Positions and distances that are exact from the start are left out: they say nothing about a method.
    """
    there = [
        name
        for name, value in record.metrics.items()
        if (value is not None or record.censored.get(name))
        and (value != 0 or name == record.primary_metric or not name.startswith(("position_", "distance_")))
    ]
    there.sort(key=lambda name: name != record.primary_metric)
    return [(name, metric_value(record, name)) for name in there]


def arrow(record: Record, name: str) -> str:
    """Return ``↑`` where higher is better, ``↓`` where lower is."""
    return {"higher": "↑", "lower": "↓"}.get(record.directions.get(name, ""), "")


def cost(record: Record) -> Lines:
    """Return what the run cost, line by line."""
    spent = record.cost
    per_epoch = spent.solver_seconds / record.epochs if spent.solver_seconds is not None and record.epochs else None
    lines = [
        ("epochs", f"{record.epochs}{' (converged)' if record.stop_reason == 'converged' else ''}"),
        ("solver time", duration(spent.solver_seconds)),
        ("per epoch", duration(per_epoch)),
        ("whole cell", duration(record.wall_seconds)),
        ("FFTs", count(spent.ffts)),
        ("network calls", count(spent.network_evaluations) if spent.network_evaluations else EMPTY),
        ("peak memory", memory(spent.peak_rss_bytes)),
        ("on the device", memory(spent.peak_device_bytes or None)),
        ("device", record.device),
    ]
    return [(label, value) for label, value in lines if value != EMPTY]


_FACTS: Sequence[tuple[str, str, str]] = (
    ("patterns", "patterns", ""),
    ("photons_total", "photons in all", "count"),
    ("photons_per_m2", "dose", "photons/m²"),
    ("overlap_linear", "overlap, linear", ""),
    ("overlap_area", "overlap, area", ""),
    ("probe_diameter_px", "probe diameter (95 %)", "px"),
    ("step_px", "step", "px"),
    ("fresnel_number", "Fresnel number", ""),
    ("energy_on_detector", "energy on the detector", "share"),
    ("r_factor_truth", "R-factor of the truth", ""),
)


def facts(record: Record) -> Lines:
    """Return what was measured on the simulation or the data, line by line."""
    return [
        (label, _fact(value, unit)) for name, label, unit in _FACTS if (value := record.facts.get(name)) is not None
    ]


def _fact(value: float, unit: str) -> str:
    if unit == "count":
        return count(value)
    if unit == "share":
        return f"{100 * value:.2f} %"
    if unit == "photons/m²":
        return f"{count(value * 1e-12)} photons/µm²"
    return f"{value:g}" if value == int(value) else quantity(value, unit, 3)
