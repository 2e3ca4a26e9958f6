"""The five standard tasks: what DESIGN.md promises of them, and that their set-ups are physically sound."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from ptybench.cards import render_task_card, save_task_picture, task_card
from ptybench.optics.geometry import Grid, object_pixel_m, wavelength_m
from ptybench.optics.probes import diameter_px
from ptybench.registry import load_task, task_names
from ptybench.scoring.metrics import METRICS
from ptybench.seeds import named_rng
from ptybench.simulation import simulate
from ptybench.task import DOMAINS, TIERS, Domain, Task, Tier

# name: (ladder's values, default, epochs, primary metric, kinds of specimen): the contract
CONTRACT: dict[str, tuple[list[float], float, int, str, list[str]]] = {
    "low_dose": ([1e3, 1e4, 1e5, 1e6], 1e4, 200, "frc_truth_area", ["particles"]),
    "low_overlap": (
        [0.75, 0.5, 0.375, 0.25, 0.0, -0.25, -0.5],
        0.375,
        200,
        "frc_truth_area",
        ["particles", "pictures"],
    ),
    "position_jitter": ([0.5, 1, 2, 5, 10], 2.0, 300, "position_error_median_px", ["pictures"]),
    "wrong_distance": ([0.05, 0.1, 0.2, 0.3], 0.2, 500, "distance_error_relative", ["pictures"]),
    "noisy_poisson": ([0.01, 0.1, 1.0], 0.1, 200, "frc_truth_area", ["particles"]),
}
NAMES = sorted(CONTRACT)
SHAPES: dict[Tier, tuple[int, int]] = {"small": (64, 64), "paper": (128, 128), "large": (256, 256)}
WIDTHS: dict[Tier, float] = {"small": 24.0, "paper": 48.0, "large": 96.0}


def probe_width_px(task: Task, domain: Domain = "dev", seed: int = 0) -> float:
    """D95 in solver pixels, without a simulation."""
    s = task.geometry.oversampling
    grid = Grid(task.geometry.shape, object_pixel_m(task.geometry)).refined(s)
    rng = named_rng(task.name, domain, seed, "probe")
    return diameter_px(task.probe.field(grid, wavelength_m(task.geometry.energy_ev), rng)) / s


def counts(task: Task, width: float) -> tuple[int, int]:
    return task.scan.counts(task.scan.step(width))


def test_the_five_are_registered() -> None:
    assert set(NAMES) <= set(task_names())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tier", TIERS)
def test_contract(name: str, tier: Tier) -> None:
    values, default, epochs, metric, kinds = CONTRACT[name]
    task = load_task(name, tier)
    assert task.name == name
    assert task.tier == tier
    assert task.ladder is not None
    assert task.ladder.values == values
    assert task.point == default
    assert task.budget.epochs == epochs
    assert task.primary_metric == metric
    assert {metric, *task.metrics} <= set(METRICS)
    specimens = task.specimen if isinstance(task.specimen, list) else [task.specimen]
    assert [specimen.kind for specimen in specimens] == kinds
    assert task.geometry.energy_ev == 8000
    assert task.geometry.shape == SHAPES[tier]
    assert not task.geometry.inverse_crime
    assert task.start.defocus_error == 0.2
    assert task.start.modes == 1
    near = name == "wrong_distance"
    assert task.geometry.propagation == ("near_field" if near else "far_field")
    assert task.geometry.source_distance_m is None
    if not near:
        assert task.geometry.pitch_m == 75e-6
        assert task.scan.kind == "jittered_raster"
    if name != "low_overlap":
        assert task.scan.overlap == (0.7 if near else 0.75)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tier", TIERS)
def test_probe_and_number_of_patterns(name: str, tier: Tier) -> None:
    task = load_task(name, tier)
    width = probe_width_px(task)
    # the texture of the near-field probe differs with the seed, and so does its diameter
    assert width == pytest.approx(WIDTHS[tier], rel=0.1 if name == "wrong_distance" else 0.025)
    patterns = math.prod(counts(task, width))
    if tier == "large":
        assert patterns >= 10_000
    else:
        assert 36 <= patterns <= 144


def test_every_overlap_scans_the_same_field() -> None:
    for tier in TIERS:
        task = load_task("low_overlap", tier)
        width = probe_width_px(task)
        assert task.ladder is not None
        for overlap in task.ladder.values:
            point = load_task("low_overlap", tier, {"overlap": overlap})
            (step, _), (ny, nx) = point.scan.step(width), counts(point, width)
            assert ny == nx
            assert point.scan.field_of_view_px is not None
            assert abs(ny * step - point.scan.field_of_view_px[0]) <= step / 2
            if tier != "large":
                assert ny * nx <= 256


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("name", NAMES)
def test_draws_are_sound(name: str, domain: Domain) -> None:
    task = load_task(name)
    for seed in (0, 1):
        measurement, truth = simulate(task, seed, domain=domain)
        facts = truth.facts
        assert facts["energy_on_detector"] >= 0.999
        assert facts["probe_diameter_px"] == pytest.approx(24, abs=2.5)
        assert task.scan.overlap is not None
        assert facts["overlap_linear"] == pytest.approx(task.scan.overlap, abs=0.03)
        # what the coarse grid cannot say is small beside the noise
        assert facts["r_factor_truth_noise_free"] < 0.15 * facts["r_factor_truth"]
        signal = truth.expected.sum(axis=(1, 2)) - truth.background_photons * truth.expected[0].size
        assert signal.max() == pytest.approx(task.dose.photons, rel=1e-6)
        assert np.abs(truth.object).max() <= 1.01  # the band limit may ring a little
        assert np.angle(truth.object).std() > 0.02
        if task.detector.saturation_photons is not None:
            clipped = np.mean(measurement.intensities >= task.detector.saturation_photons)
            assert 0 < clipped < 2e-3


@pytest.mark.slow
@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tier", ["small", "paper"])
def test_energy_on_the_detector_at_every_seed(name: str, tier: Tier, domain: Domain) -> None:
    task = load_task(name, tier)
    assert task.ladder is not None
    for seed in range(5):
        assert simulate(task, seed, domain=domain)[1].facts["energy_on_detector"] >= 0.999
    for value in task.ladder.values:
        point = load_task(name, tier, {task.ladder.name: value})
        assert simulate(point, 0, domain=domain)[1].facts["energy_on_detector"] >= 0.999


def test_specimens_of_low_overlap_alternate_with_the_seed() -> None:
    # particles hardly absorb, pictures do
    darkest = [np.abs(simulate("low_overlap", seed)[1].object).min() for seed in range(4)]
    assert darkest[0] > 0.85
    assert darkest[2] > 0.85
    assert darkest[1] < 0.75
    assert darkest[3] < 0.75


def middle(field: np.ndarray, size: int) -> np.ndarray:
    y, x = (n // 2 - size // 2 for n in field.shape)
    cut = field[y : y + size, x : x + size]
    return (cut - cut.mean()) / np.linalg.norm(cut - cut.mean())


def test_points_of_a_ladder_show_the_same_specimen() -> None:
    """The canvases differ by some pixels; the specimen hangs at their middle, to half a pixel."""
    reference = middle(simulate("low_overlap", 1, overlap=0.75)[1].object, 80)
    for overlap in (0.375, 0.0, -0.5):
        found = middle(simulate("low_overlap", 1, overlap=overlap)[1].object, 80)
        assert abs(np.vdot(reference, found)) > 0.85
    assert abs(np.vdot(reference, middle(simulate("low_overlap", 3, overlap=0.75)[1].object, 80))) < 0.5


# --- cards -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cards() -> dict[str, dict[str, Any]]:
    return {name: task_card(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_card_is_json_and_true(name: str, cards: dict[str, dict[str, Any]]) -> None:
    card = json.loads(json.dumps(cards[name], allow_nan=False))
    task = load_task(name)
    measurement, truth = simulate(task, 0)
    physics = card["physics"]
    assert physics["patterns"] == len(measurement.intensities) == card["facts"]["patterns_measured"]
    assert physics["pattern_shape"] == [64, 64]
    assert physics["wavelength_m"] == pytest.approx(1.5498e-10, rel=1e-4)
    assert physics["pixel_size_m"] == list(measurement.pixel_size_m or ())
    assert physics["probe_diameter_m"] == pytest.approx(physics["probe_diameter_px"] * physics["pixel_size_m"][0])
    assert physics["photons_total"] == pytest.approx(truth.facts["photons_total"])
    assert card["facts"]["r_factor_truth"] == truth.facts["r_factor_truth"]
    assert card["ladder"]["value"] == card["ladder"]["default"] == CONTRACT[name][1]
    assert card["errors"].keys() <= {"position_error_px", "distance"}


def test_card_does_not_tell_the_true_distance(cards: dict[str, dict[str, Any]]) -> None:
    physics = cards["wrong_distance"]["physics"]
    assert physics["distance_m"] == 0.26
    radius = physics["probe_diameter_m"] / 2
    assert physics["fresnel_number"] == pytest.approx(radius**2 / (physics["wavelength_m"] * 0.26))


@pytest.mark.parametrize("name", NAMES)
def test_card_as_text(name: str, cards: dict[str, dict[str, Any]]) -> None:
    text = render_task_card(cards[name])
    assert max(len(line) for line in text.split("\n")) <= 100
    # every number that a reader looks for, in lines of a label and a value
    for label in ("ladder", "primary metric", "object pixel", "overlap", "dose", "energy on detector"):
        assert re.search(rf"^  {label} +\S", text, re.MULTILINE), label
    assert CONTRACT[name][3] in text
    assert " ".join(load_task(name).source.split()[:4]) in text


def test_card_of_a_task_without_ladder_and_errors() -> None:
    task = load_task("low_overlap").model_copy(update={"ladder": None, "name": "mine"})
    card = task_card(task, seed=1)
    assert card["ladder"] is None
    assert "ladder" not in render_task_card(card)
    assert "photon noise only" in render_task_card(card)


def test_card_of_a_large_scan_measures_a_corner_of_it() -> None:
    task = load_task("low_overlap", overrides={"scan.field_of_view_px": (600, 600), "overlap": 0.5})
    card = task_card(task)
    assert card["physics"]["patterns"] == 50 * 50
    assert card["facts"]["patterns_measured"] == 144
    assert card["physics"]["photons_total"] == pytest.approx(2500 * 1e6, rel=0.1)


def test_picture_of_a_task(tmp_path: Path) -> None:
    path = tmp_path / "task.png"
    save_task_picture("noisy_poisson", path)
    pixels = imread(path)[..., :3]
    assert min(pixels.shape[:2]) > 800
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 500  # not an empty page
