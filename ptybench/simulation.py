"""Simulation: a task and a seed become what a solver may see and what only the scorer knows.

The true wavelength, distance, pixel and positions make the patterns; the nominal ones go into the measurement. The
specimen and the probe are drawn on a grid ``oversampling`` times finer than the solver's, the truth is what of them
lies inside the solver's band. A wrong distance (or wavelength) means ``nominal = true · (1 + error)``, so that a method
that does not refine it scores the error itself.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptybench import memory
from ptybench.datasets.specimen import Specimen
from ptybench.errors import InvalidOption
from ptybench.optics.detector import blur, detect
from ptybench.optics.disturbances import Streams
from ptybench.optics.exposure import Bench, amplitude_r_factor, dose_map, patterns
from ptybench.optics.geometry import Grid
from ptybench.optics.layout import Layout, Setup, lay_out, setups
from ptybench.optics.probes import Probe, diameter_m
from ptybench.optics.scans import overlap_area, overlap_linear
from ptybench.optics.waves import Field, fourier_crop
from ptybench.seeds import named_rng
from ptybench.task import DOMAINS, Domain, Task, Tier
from ptybench.types import Estimate, FloatArray, Gauges, Measurement, Noise, Truth

RIM_PX = 8  # solver's pixels around the canvas over which the specimen fades, so that its spectrum has no edges
FACT_PATTERNS = 256  # facts that need the solver's formula look at this many patterns at most


def simulate(
    task: str | Path | Task, seed: int = 0, *, domain: Domain = "dev", tier: Tier = "small", **overrides: Any
) -> tuple[Measurement, Truth]:
    """Simulate a task: ``I_k = Σ_m |D_z[P_m · S_k O]|²`` and what the detector makes of it.

    Args:
        task: a task's name, its TOML file, or a resolved task (which has its tier and overrides in it already).
        seed: any integer; it names the specimen, the scan's errors and the noise.
        domain: ``"train"``, ``"dev"`` or ``"release"``.
        tier: ``"small"``, ``"paper"`` or ``"large"``.
        overrides: fields of the task, by unique last name or (``**{"scan.overlap": 0.5}``) by dotted path; they do not
            enter the random streams, so that the points of a ladder are paired.

    Returns:
        What a solver may see, and the truth.

    Raises:
        UsageError: an unknown task, field or domain, a value out of range, or patterns that do not fit into memory.

    Example:
        >>> measurement, truth = simulate("low_overlap", seed=0, overlap=0.5)  # doctest: +SKIP

    """
    task = _resolve(task, tier, overrides)
    if domain not in DOMAINS:
        raise InvalidOption(f"expected a domain of {', '.join(DOMAINS)}, got {domain!r}")
    streams = partial(named_rng, task.name, domain, seed)
    true, nominal = setups(task, streams)
    probe = _fine_probe(task, true, streams, defocus_factor=1.0)
    width = diameter_m(probe, true.grid.refined(task.geometry.oversampling).pixel_m)
    design_width = _nominal_width(task, true, nominal, width, streams)
    layout = lay_out(task, true, nominal, design_width, streams)
    count, (h, w) = len(layout.true), true.grid.shape
    # expected (8 bytes) and measured (4) values, and as much to work with
    memory.require(24 * count * h * w, f"simulating {count} patterns of {h} × {w}")
    specimen = task.specimen[seed % len(task.specimen)] if isinstance(task.specimen, list) else task.specimen
    fine, coarse = _draw_object(task, specimen, true, layout.true_canvas, streams, domain)
    expected, caught = _expose(task, true, layout, fine, coarse, probe)
    scale = _photon_scale(task, expected, design_width, nominal, streams)
    expected *= scale
    expected += task.detector.background_photons
    intensities, bad = detect(expected, task.detector, task.dose, streams)
    coarse_probe = _to_solver_grid(probe, true) * math.sqrt(scale)
    ranges = specimen.ranges(nominal.wavelength_m)
    truth = Truth(
        object=coarse,
        probe=coarse_probe,
        positions_px=layout.true,
        expected=expected,
        dose=_dose(task, layout, coarse_probe),
        pixel_size_m=true.grid.pixel_m,
        distance_m=true.distance_m,
        wavelength_m=true.wavelength_m,
        gauges=_gauges(task),
        amplitude_range=ranges[0],
        phase_range_rad=ranges[1],
        background_photons=task.detector.background_photons,
    )
    measurement = Measurement(
        intensities=intensities,
        bad_pixels=bad,
        positions_px=layout.nominal,
        initial=_initial(task, nominal, layout, truth, streams),
        propagation=task.geometry.propagation,
        wavelength_m=nominal.wavelength_m,
        distance_m=nominal.distance_m,
        pixel_size_m=nominal.grid.pixel_m,
        pitch_m=task.geometry.pitch_m,
        source_distance_m=task.geometry.source_distance_m if task.geometry.propagation == "near_field" else None,
        known_probe=task.start.known_probe,
        position_error_px=layout.declared_px,
        noise=Noise(
            background_photons=task.detector.background_photons,
            read_noise_photons=task.detector.read_noise_photons,
            saturation_photons=task.detector.saturation_photons,
        ),
    )
    facts = _scan_facts(truth, layout, nominal, width) | {"energy_on_detector": caught}
    return measurement, replace(truth, facts=facts | _model_facts(task, true, truth, measurement))


def _resolve(task: str | Path | Task, tier: Tier, overrides: dict[str, Any]) -> Task:
    if isinstance(task, Task):
        if overrides:
            raise InvalidOption(
                "expected a task's name or file with overrides, got a resolved task: override when loading it"
            )
        return task
    from ptybench.registry import load_task

    return load_task(task, tier, overrides)


def _gauges(task: Task) -> Gauges:
    if task.start.known_probe:
        return Gauges(scale=False, shift=False, ramp=False)
    # in the near field the detector sees where the beam is, so object and probe cannot move together
    return Gauges(shift=task.geometry.propagation == "far_field")


# --- specimen and probe ----------------------------------------------------------------------------------------------


def _draw_object(
    task: Task, specimen: Specimen, true: Setup, canvas: tuple[int, int], streams: Streams, domain: Domain
) -> tuple[Field, Field]:
    """Return the transmission on the finer grid, a rim wider than the canvas, and its band limit on the canvas."""
    s = task.geometry.oversampling
    rimmed = Grid((canvas[0] + 2 * RIM_PX, canvas[1] + 2 * RIM_PX), true.grid.pixel_m)
    fine = specimen.draw(streams("specimen"), rimmed.refined(s), rimmed.pixel_m, true.wavelength_m, domain)
    weight_y, weight_x = (_fade(n * s, RIM_PX * s) for n in rimmed.shape)
    around = fine.mean()
    fine = around + (fine - around) * weight_y[:, None] * weight_x[None, :]
    coarse = fourier_crop(fine, rimmed.shape)[RIM_PX:-RIM_PX, RIM_PX:-RIM_PX]
    return fine, np.ascontiguousarray(coarse)


def _fade(size: int, rim: int) -> FloatArray:
    """Return a window that is 1 inside and falls to 0 over ``rim`` pixels at either end."""
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    window: FloatArray = np.sin(0.5 * math.pi * np.minimum(distance / rim, 1.0)) ** 2
    return window


def _fine_probe(task: Task, setup: Setup, streams: Streams, defocus_factor: float, other: Probe | None = None) -> Field:
    grid = setup.grid.refined(task.geometry.oversampling)
    return (other or task.probe).field(grid, setup.wavelength_m, streams("probe"), defocus_factor)


def _nominal_width(task: Task, true: Setup, nominal: Setup, width_m: float, streams: Streams) -> float:
    """Return the D95 by which the scan is designed: that of the beam which the nominal set-up would have."""
    if true.grid == nominal.grid and true.wavelength_m == nominal.wavelength_m:
        return width_m
    probe = _fine_probe(task, nominal, streams, defocus_factor=1.0)
    return diameter_m(probe, nominal.grid.refined(task.geometry.oversampling).pixel_m)


def _to_solver_grid(probe: Field, setup: Setup) -> Field:
    """Return a probe's band limit on the solver's grid; its energy inside the band is kept."""
    cropped = fourier_crop(probe, setup.grid.shape, origin="centre")
    return cropped * math.sqrt(probe[0].size / cropped[0].size)


def _initial(task: Task, nominal: Setup, layout: Layout, truth: Truth, streams: Streams) -> Estimate:
    """Return the flat object and the probe to start from: right in power, wrong in defocus, few modes."""
    probe = truth.probe
    if not task.start.known_probe:
        guess = _fine_probe(task, nominal, streams, 1.0 + task.start.defocus_error, task.start.probe)
        probe = _to_solver_grid(guess, nominal)[: task.start.modes]
        probe = probe * np.sqrt(np.sum(np.abs(truth.probe) ** 2) / np.sum(np.abs(probe) ** 2))
    return Estimate(
        object=np.ones(layout.canvas, dtype=np.complex64),
        probe=probe.astype(np.complex64),
        positions_px=layout.nominal.copy(),
        pixel_size_m=nominal.grid.pixel_m,
        distance_m=nominal.distance_m,
    )


# --- patterns --------------------------------------------------------------------------------------------------------


def _bench(task: Task, true: Setup, *, solver_formula: bool) -> Bench:
    distance = true.distance_m if task.geometry.propagation == "near_field" else None
    bench = Bench(true.grid, true.wavelength_m, distance)
    return bench if solver_formula else replace(bench, oversampling=task.geometry.oversampling, pad=2)


def _expose(
    task: Task, true: Setup, layout: Layout, fine: Field, coarse: Field, probe: Field
) -> tuple[NDArray[np.float64], float]:
    """Return expected patterns ``(K, h, w)`` for one photon in the probe, and the part of the light that they hold."""
    crime = task.geometry.inverse_crime
    bench = _bench(task, true, solver_formula=crime)
    obj, light, rim = (coarse, _to_solver_grid(probe, true), 0) if crime else (fine, probe, RIM_PX)
    expected = np.zeros((len(layout.true), *true.grid.shape))
    entered = 0.0
    count = len(layout.exposure_px)
    for offset in layout.exposure_px:
        for part, intensity, energy in patterns(bench, obj, light, layout.true + offset + rim):
            expected[part] += intensity / count
            entered += energy / count
    caught = float(expected.sum()) / entered
    blur(expected, task.detector.point_spread_px)
    return expected, caught


def _photon_scale(task: Task, expected: NDArray[np.float64], width_m: float, nominal: Setup, streams: Streams) -> float:
    """Return the photons in the probe that give the brightest pattern, or the whole scan, the task's photons."""
    photons = task.dose.photons
    if task.dose.fixed_total_dose:
        photons *= _default_count(task, width_m, nominal, streams) / len(expected)
    return photons / float(expected.sum(axis=(1, 2)).max())


def _default_count(task: Task, width_m: float, nominal: Setup, streams: Streams) -> int:
    """Return the number of patterns at the ladder's default point."""
    scan = task.scan
    if task.ladder is not None and task.ladder.default is not None and task.ladder.field.startswith("scan."):
        scan = scan.model_copy(update={task.ladder.field.removeprefix("scan."): task.ladder.default})
    pixel = nominal.grid.pixel_m
    return len(scan.positions((width_m / pixel[0], width_m / pixel[1]), streams("scan")))


def _dose(task: Task, layout: Layout, probe: Field) -> NDArray[np.float64]:
    places = (layout.true + layout.exposure_px[:, None]).reshape(-1, 2)
    return dose_map(places, np.sum(np.abs(probe) ** 2, axis=0) / len(layout.exposure_px), layout.true_canvas)


# --- facts -----------------------------------------------------------------------------------------------------------


def _scan_facts(truth: Truth, layout: Layout, nominal: Setup, width_m: float) -> dict[str, float]:
    """Return overlap, dose and the Fresnel number as they came out."""
    area = truth.pixel_size_m[0] * truth.pixel_size_m[1]
    positions_m = layout.nominal * nominal.grid.pixel_m
    overlap = overlap_linear(positions_m, width_m)
    return {
        "probe_diameter_px": width_m / math.sqrt(area),
        "step_px": (1.0 - overlap) * width_m / math.sqrt(area),
        "overlap_linear": overlap,
        "overlap_area": overlap_area(overlap),
        "patterns": float(len(layout.true)),
        "photons_total": float(truth.expected.sum() - truth.background_photons * truth.expected.size),
        "photons_per_m2": float(truth.dose[truth.scored].mean() / area),
        "fresnel_number": (width_m / 2) ** 2 / (truth.wavelength_m * truth.distance_m),
    }


def _model_facts(task: Task, true: Setup, truth: Truth, measurement: Measurement) -> dict[str, float]:
    """Return the R-factors that the truth has through the solver's formula: with the noise, and without it."""
    count = len(truth.expected)
    chosen = np.unique(np.linspace(0, count - 1, min(count, FACT_PATTERNS)).astype(np.intp))
    bench = _bench(task, true, solver_formula=True)
    parts = patterns(bench, truth.object, truth.probe, truth.positions_px[chosen])
    measured = measurement.intensities[chosen]
    # what scoring counts: pixels that are neither bad nor saturated
    good = np.broadcast_to(~measurement.bad_pixels, measured.shape)
    if task.detector.saturation_photons is not None:
        good = good & (measured < task.detector.saturation_photons * (1 - 1e-6))
    modelled = np.concatenate([intensity for _, intensity, _ in parts])[good] + truth.background_photons
    return {
        "r_factor_truth": amplitude_r_factor(modelled, measured[good]),
        "r_factor_truth_noise_free": amplitude_r_factor(modelled, truth.expected[chosen][good]),
    }
