"""The card of a task: what it asks, what there is to measure it with, and a picture of one of its draws."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ptybench.readable import count, number, quantity
from ptybench.task import Domain, Task, Tier

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ptybench.types import Measurement, Truth

SAMPLE = 12
"""A scan of more than ``SAMPLE²`` patterns is measured on a corner of ``SAMPLE`` by ``SAMPLE``."""
LABEL_WIDTH = 23
TEXT_WIDTH = 100


def task_card(
    task: str | Path | Task, tier: Tier = "small", *, domain: Domain = "dev", seed: int = 0
) -> dict[str, Any]:
    """Return all that a reader wants to know of a task, as plain JSON values.

    Args:
        task: a task's name, its TOML file, or a resolved task (which has its tier in it).
        tier: which tier.
        domain: seed domain of the draw on which the facts are measured.
        seed: its seed.

    Returns:
        ``name``, ``asks``, ``ladder`` … as in the task; ``physics``: the nominal numbers that follow from it, each
        with its unit in its name; ``facts``: what was measured on one draw. Nothing tells what a solver must find.

    """
    task = _resolved(task, tier)
    draw = _draw(task, domain, seed)
    return {
        "name": task.name,
        "version": task.version,
        "tier": task.tier,
        "title": task.title,
        "asks": task.asks,
        "source": task.source,
        "primary_metric": task.primary_metric,
        "metrics": task.metrics,
        "ladder": None if task.ladder is None else {**task.ladder.model_dump(mode="json"), "value": task.point},
        "epochs": task.budget.epochs,
        "physics": _physics(task, draw),
        "specimen": [one.model_dump(mode="json") for one in _specimens(task)],
        "probe": task.probe.model_dump(mode="json"),
        "scan": task.scan.model_dump(mode="json"),
        "detector": task.detector.model_dump(mode="json"),
        "errors": {name: value for name, value in task.errors.model_dump(mode="json").items() if value},
        "start": task.start.model_dump(mode="json"),
        "facts": {
            "domain": domain,
            "seed": seed,
            "patterns_measured": len(draw.truth.positions_px),
            **{
                name: draw.truth.facts[name]
                for name in ("energy_on_detector", "r_factor_truth", "r_factor_truth_noise_free")
            },
        },
    }


def _resolved(task: str | Path | Task, tier: Tier) -> Task:
    if isinstance(task, Task):
        return task
    from ptybench.registry import load_task

    return load_task(task, tier)


def _specimens(task: Task) -> list[Any]:
    return list(task.specimen) if isinstance(task.specimen, list) else [task.specimen]


@dataclass(frozen=True, eq=False)
class Draw:
    """One draw of a task, of a corner of the scan where the scan is large, and the patterns of the whole scan."""

    measurement: Measurement
    truth: Truth
    patterns: int


def _draw(task: Task, domain: Domain, seed: int) -> Draw:
    from ptybench.optics.geometry import Grid, object_pixel_m, wavelength_m
    from ptybench.optics.probes import diameter_m
    from ptybench.seeds import named_rng
    from ptybench.simulation import simulate

    grid = Grid(task.geometry.shape, object_pixel_m(task.geometry)).refined(task.geometry.oversampling)
    light = task.probe.field(grid, wavelength_m(task.geometry.energy_ev), named_rng(task.name, domain, seed, "probe"))
    diameter, s = diameter_m(light, grid.pixel_m), grid.refinement
    step, every = task.scan.step((diameter / grid.pixel_m[0] / s, diameter / grid.pixel_m[1] / s)), task.scan.every
    ny, nx = (-(-count // every) for count in task.scan.counts(step))
    if ny * nx > 4 * SAMPLE**2:
        corner = {"field_of_view_px": None, "grid": (every * min(SAMPLE, ny), every * min(SAMPLE, nx))}
        task = task.model_copy(update={"scan": task.scan.model_copy(update=corner)})
    return Draw(*simulate(task, seed, domain=domain), ny * nx)


def _physics(task: Task, draw: Draw) -> dict[str, Any]:
    m, truth, geometry = draw.measurement, draw.truth, task.geometry
    assert m.pixel_size_m is not None
    assert m.wavelength_m is not None
    assert m.distance_m is not None
    facts = truth.facts
    pixel, true_pixel = (math.sqrt(dy * dx) for dy, dx in (m.pixel_size_m, truth.pixel_size_m))
    diameter = facts["probe_diameter_px"] * true_pixel
    return {
        "propagation": geometry.propagation,
        "energy_ev": geometry.energy_ev,
        "wavelength_m": m.wavelength_m,
        "distance_m": geometry.distance_m,
        "pitch_m": geometry.pitch_m,
        "pixel_size_m": list(m.pixel_size_m),
        "pattern_shape": list(m.shape),
        "patterns": draw.patterns,
        "probe_diameter_px": diameter / pixel,
        "probe_diameter_m": diameter,
        "probe_modes": len(truth.probe),
        "step_px": facts["step_px"] * true_pixel / pixel,
        "overlap_linear": facts["overlap_linear"],
        "overlap_area": facts["overlap_area"],
        "fresnel_number": (diameter / 2) ** 2 / (m.wavelength_m * m.distance_m),
        "photons": task.dose.photons,
        "photons_total": facts["photons_total"] * draw.patterns / len(truth.positions_px),
        "photons_per_m2": facts["photons_per_m2"],
    }


def render_task_card(card: dict[str, Any]) -> str:
    """Return a card as text for the terminal.

    Args:
        card: from :func:`task_card`.

    """
    head = f"{card['name']} · task, version {card['version']}, tier {card['tier']}\n\n{card['title']}: {card['asks']}"
    blocks = [_wrapped(line) for line in head.split("\n")]
    for title, rows in (("Task", _task_rows(card)), ("Set-up", _physics_rows(card)), ("Draw", _fact_rows(card))):
        blocks += ["", title]
        blocks += [
            textwrap.fill(f"  {label:<{LABEL_WIDTH}}{value}", TEXT_WIDTH, subsequent_indent=" " * (LABEL_WIDTH + 2))
            for label, value in rows
        ]
    return "\n".join([*blocks, "", _wrapped(f"Source: {' '.join(card['source'].split())}")])


def _wrapped(text: str) -> str:
    return textwrap.fill(text, TEXT_WIDTH)


def _task_rows(card: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("primary metric", card["primary_metric"]), ("epochs", str(card["epochs"]))]
    ladder = card["ladder"]
    if ladder is not None:
        points = ", ".join(f"{value:g}" for value in ladder["values"])
        rows.insert(0, ("ladder", f"{ladder['name']} ({ladder['field']}): {points}; here {ladder['value']:g}"))
    start = card["start"]
    known = f"{start['defocus_error']:.0%} wrong defocus and {_plural(start['modes'], 'mode')}"
    return [*rows, ("start", f"flat object; probe {'known' if start['known_probe'] else f'with {known}'}")]


def _plural(number_of: int, noun: str) -> str:
    return f"{number_of} {noun}" + ("" if number_of == 1 else "s")


def _physics_rows(card: dict[str, Any]) -> list[tuple[str, str]]:
    p, detector = card["physics"], card["detector"]
    pixel = " x ".join(dict.fromkeys(quantity(d, "m", 3) for d in p["pixel_size_m"]))
    h, w = p["pattern_shape"]
    rows = [
        ("specimen", " or ".join(one["kind"].replace("_", " ") for one in card["specimen"])),
        ("energy, wavelength", f"{p['energy_ev'] / 1e3:g} keV, {quantity(p['wavelength_m'], 'm')}"),
        ("propagation", f"{p['propagation'].replace('_', ' ')}, {quantity(p['distance_m'], 'm', 3)}"),
        ("patterns", f"{p['patterns']} of {h} x {w} pixels of {quantity(p['pitch_m'], 'm', 3)}"),
        ("object pixel", pixel),
        (
            "probe",
            f"{card['probe']['kind'].replace('_', ' ')}, {_plural(p['probe_modes'], 'mode')}, D95 "
            f"{quantity(p['probe_diameter_m'], 'm', 3)} = {p['probe_diameter_px']:.1f} px",
        ),
        ("scan", f"{card['scan']['kind'].replace('_', ' ')}, mean step {p['step_px']:.2f} px"),
        ("overlap", f"{p['overlap_linear']:.3f} linear, {p['overlap_area']:.3f} by area (as measured)"),
        ("Fresnel number", number(p["fresnel_number"], 3)),
        ("photons", f"{count(p['photons'])} in the brightest pattern, {count(p['photons_total'])} in all"),
        ("dose", f"{p['photons_per_m2'] * 1e-18:.3g} photons/nm²"),
    ]
    hurts = [f"{name.replace('_', ' ')} {value:g}" for name, value in {**detector, **card["errors"]}.items() if value]
    return [*rows, ("disturbances", ", ".join(hurts) or "photon noise only")]


def _fact_rows(card: dict[str, Any]) -> list[tuple[str, str]]:
    facts = card["facts"]
    return [
        ("measured on", f"seed {facts['seed']} of {facts['domain']}, {facts['patterns_measured']} patterns"),
        ("energy on detector", f"{facts['energy_on_detector']:.4%}"),
        (
            "R-factor of the truth",
            f"{number(facts['r_factor_truth'], 3)} with noise, {number(facts['r_factor_truth_noise_free'], 2)} without",
        ),
    ]


def save_task_picture(
    task: str | Path | Task, path: Path, tier: Tier = "small", *, domain: Domain = "dev", seed: int = 0
) -> None:
    """Draw one draw of a task as PNG: amplitude, phase, probe, scan, and a pattern expected and measured.

    Args:
        task: a task's name, its TOML file, or a resolved task.
        path: where to.
        tier: which tier.
        domain: seed domain of the draw.
        seed: its seed.

    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ptybench.runner import panels

    task = _resolved(task, tier)
    draw = _draw(task, domain, seed)
    measurement, truth = draw.measurement, draw.truth
    figure = Figure(figsize=(12.6, 8.0), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.03, 0.965, f"{task.name}: {task.title.lower()}", fontsize=15, weight="bold", color=panels.INK)
    told = f"tier {task.tier}, {domain} seed {seed}"
    if task.ladder is not None:
        told += f", {task.ladder.name.replace('_', ' ')} {task.point:g}"
    figure.text(0.03, 0.938, told, fontsize=9.5, color=panels.FAINT)
    places = [figure.add_axes((0.03 + 0.33 * (i % 3), 0.54 - 0.45 * (i // 3), 0.25, 0.36)) for i in range(6)]
    amplitude, probe, expected, phase, scan, measured = places
    _draw_object(amplitude, phase, truth)
    panels.probes(probe, [("", truth.probe)], truth.pixel_size_m[1])
    panels.title(probe, "probe", "brightness: amplitude, colour: phase")
    _draw_scan(scan, measurement, truth)
    _draw_pattern(expected, measured, measurement, truth)
    figure.savefig(path, format="png", metadata={"Title": f"ptybench {task.name}"})


def _draw_object(amplitude: Axes, phase: Axes, truth: Truth) -> None:
    from ptybench.runner import panels
    from ptybench.runner.pictures import bounding_box, limits, shrink

    box = bounding_box(truth.scored, 2)
    field, scored = shrink(truth.object[box]), shrink(truth.scored[box])
    width = truth.object[box].shape[1]
    for ax, name, values, unit, cmap in (
        (amplitude, "amplitude", np.abs(field), "", "gray"),
        (phase, "phase", np.angle(field), "rad", "viridis"),
    ):
        panels.picture(ax, values, scored, limits(values, scored), cmap, unit)
        panels.title(ax, name, "where the dose counts" if ax is phase else "")
        panels.scale_bar(ax, width, truth.pixel_size_m[1])


def _draw_scan(ax: Axes, measurement: Measurement, truth: Truth) -> None:
    from ptybench.runner import panels
    from ptybench.runner.pictures import length_scale

    assert measurement.pixel_size_m is not None
    middle, pixel_m = np.array(measurement.shape) // 2, truth.pixel_size_m[1]
    scale = length_scale(pixel_m, max(truth.object.shape))
    nominal, true = (
        (positions + middle) * pixel / pixel_m * scale.per_pixel
        for positions, pixel in (
            (measurement.positions_px, measurement.pixel_size_m),
            (truth.positions_px, truth.pixel_size_m),
        )
    )
    moved = not np.allclose(nominal, true)
    diameter = truth.facts["probe_diameter_px"] * scale.per_pixel
    panels.scan(ax, nominal, true if moved else None, None, diameter, scale)
    panels.title(ax, "scan", f"{len(true)} patterns, overlap {truth.facts['overlap_linear']:.2f}")


def _draw_pattern(expected: Axes, measured: Axes, measurement: Measurement, truth: Truth) -> None:
    from ptybench.runner import panels
    from ptybench.runner.pictures import Range

    brightest = int(np.argmax(truth.expected.sum(axis=(1, 2))))
    high = float(truth.expected[brightest].max())
    for ax, name, values, low in (
        (expected, "pattern, expected", truth.expected[brightest], high * 1e-6),
        (measured, "pattern, measured", measurement.intensities[brightest], min(0.5, high * 1e-2)),
    ):
        bad = measurement.bad_pixels if ax is measured else np.zeros_like(measurement.bad_pixels)
        panels.pattern(ax, values, bad, Range(low, high), "photons", bar=True)
        panels.title(ax, name, f"{float(values.sum()):.3g} photons")
