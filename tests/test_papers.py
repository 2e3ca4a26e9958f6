"""Tasks of papers: their physics is the paper's, and what was published before them is still today's."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from ptybench.errors import InvalidOption
from ptybench.io.manifest import load_measurement
from ptybench.optics.geometry import Grid, object_pixel_m, wavelength_m
from ptybench.optics.probes import PinholeProbe, diameter_px
from ptybench.optics.scans import Scan, mean_step, thinned
from ptybench.records import Store
from ptybench.registry import list_tasks, load_task, task_names
from ptybench.seeds import named_rng
from ptybench.simulation import simulate
from ptybench.task import Task, Tier

PAPER_TASKS = ("pine_low_dose", "pine_high_dose", "pine_overlap")


def test_papers_have_tasks_that_all_does_not_mean() -> None:
    assert set(PAPER_TASKS) <= {one.name for one in list_tasks()}
    assert not set(PAPER_TASKS) & set(task_names())


@pytest.mark.parametrize("name", ["low_dose", "low_overlap", "noisy_poisson", "position_jitter", "wrong_distance"])
def test_fields_that_came_later_leave_published_identities_alone(name: str) -> None:
    folder = Store.published().root / name / "epie"
    record = next(iter(Store(folder).records(tier="small", domain="release")))
    assert record.ladder is not None
    task = load_task(name, "small", {record.ladder: record.point})
    assert task.identity() == record.identity["task"]


def test_fields_that_came_later_count_where_they_change_something() -> None:
    plain = load_task("low_dose").identity()
    for key, value in (
        ("scan.every", 2),
        ("budget.curves", [5]),
        ("start.probe", {"kind": "pinhole", "diameter_m": 1e-6}),
    ):
        assert load_task("low_dose", "small", {key: value}).identity() != plain
    assert load_task("low_dose", "small", {"scan.every": 1}).identity() == plain


def probe_of(task: Task) -> np.ndarray:
    grid = Grid(task.geometry.shape, object_pixel_m(task.geometry))
    return task.probe.field(grid, wavelength_m(task.geometry.energy_ev), np.random.default_rng(0))[0]


@pytest.mark.parametrize("name", PAPER_TASKS)
@pytest.mark.parametrize("tier", ["small", "paper"])
def test_the_probe_of_pine_is_the_released_one(name: str, tier: Tier) -> None:
    task = load_task(name, tier)
    probe, scale = probe_of(task), 1.0 if tier == "paper" else 0.27
    assert object_pixel_m(task.geometry) == pytest.approx((20e-9, 20e-9), rel=1e-5)
    h = task.geometry.shape[0]
    assert h == (470 if tier == "paper" else 128)
    intensity = np.abs(probe) ** 2
    y, x = np.mgrid[:h, :h] - h // 2
    radius = np.hypot(y, x)
    inside = np.sort(radius.ravel())[np.searchsorted(np.cumsum(intensity.ravel()[np.argsort(radius.ravel())]), 0.99)]
    assert inside == pytest.approx(99.8 * scale, rel=0.02)  # 99 % of the energy
    middle, edge = probe[h // 2, h // 2], probe[h // 2, h // 2 + round(95 * scale)]
    assert np.angle(edge / middle) == pytest.approx(1.55, rel=0.06)
    share = np.abs(np.fft.fft2(probe, norm="ortho")) ** 2
    assert share.max() == share[0, 0]
    # 11.15 % of the energy in the brightest pixel, in the small tier on a smaller window of the same shape
    assert share[0, 0] == pytest.approx(0.1115, rel=0.03)
    dose = task.dose.photons / (math.pi * (100 * scale) ** 2)
    assert dose == pytest.approx(2.8e4 if name == "pine_low_dose" else 2.8e6, rel=0.02)
    assert task.dose.photons * share[0, 0] == pytest.approx(
        (1e8 if name == "pine_low_dose" else 1e10) * scale**2, rel=0.03
    )


@pytest.mark.parametrize("name", PAPER_TASKS)
def test_the_truth_of_pine_explains_its_patterns(name: str) -> None:
    measurement, truth = simulate(name, 0, domain="dev")
    assert truth.facts["energy_on_detector"] > 0.999
    assert truth.facts["r_factor_truth_noise_free"] < 1e-3
    assert truth.facts["overlap_linear"] == pytest.approx(0.75, abs=0.03)
    # the first probe is the paper's: flat to N/8, nothing from N/4, without a phase, of the right power
    first = measurement.initial.probe[0]
    y, x = np.mgrid[:128, :128] - 64
    radius = np.hypot(y, x)
    assert np.allclose(first[radius < 15.5], first[64, 64], rtol=1e-3)
    assert np.abs(first[radius > 33]).max() < 1e-3 * np.abs(first).max()
    assert np.abs(np.angle(first[radius < 31])).max() < 1e-3
    assert np.sum(np.abs(first) ** 2) == pytest.approx(np.sum(np.abs(truth.probe) ** 2), rel=1e-4)


@pytest.mark.parametrize("tier", ["small", "paper"])
def test_the_overlap_ladder_is_one_dense_scan_thinned_out(tier: Tier) -> None:
    streams = named_rng
    dense = load_task("pine_overlap", tier, {"every": 1})
    width = diameter_px(probe_of(dense)[None])
    diameter = 200 if tier == "paper" else 54
    everything = {tuple(one) for one in dense.scan.positions(width, streams("x"))}
    assert len(everything) == 169
    assert dense.ladder is not None
    for every, overlap, count in zip(dense.ladder.values, (0.75, 0.5, 0.375), (49, 16, 9), strict=True):
        positions = load_task("pine_overlap", tier, {"every": every}).scan.positions(width, streams("x"))
        assert len(positions) == count
        assert {tuple(one) for one in positions} <= everything
        assert 1 - mean_step(positions) / diameter == pytest.approx(overlap, abs=0.02)


def test_a_diverging_wave_leaves_a_pinhole() -> None:
    grid, wavelength = Grid((64, 64), (1e-8, 1e-8)), 1.5e-10
    flat = PinholeProbe(diameter_m=4e-7).field(grid, wavelength, np.random.default_rng(0))[0]
    bent = PinholeProbe(diameter_m=4e-7, wavefront_m=1e-3).field(grid, wavelength, np.random.default_rng(0))[0]
    y, x = grid.coordinates()
    lit = np.abs(flat) > 1e-6
    expected = np.broadcast_to(math.pi * (y**2 + x**2) / (wavelength * 1e-3), lit.shape)[lit]
    assert np.allclose(np.abs(flat), np.abs(bent))
    assert np.allclose(np.angle(bent[lit] / flat[lit]), expected, atol=1e-6)


# --- scans of any kind -----------------------------------------------------------------------------------------------


@given(st.integers(2, 14), st.integers(2, 14), st.integers(1, 6), st.floats(0.01, 50), st.floats(-1e3, 1e3))
def test_thinning_a_raster_takes_every_nth_row_and_column(
    ny: int, nx: int, every: int, step: float, origin: float
) -> None:
    raster = Scan(kind="raster", step_px=step, grid=(ny, nx)).positions(1.0, np.random.default_rng(0)) + origin
    index = np.arange(ny * nx).reshape(ny, nx)[::every, ::every].ravel()
    assert thinned(raster, every).tolist() == index.tolist()


@given(st.integers(0, 100), st.floats(1, 4))
def test_thinning_keeps_patterns_apart(seed: int, every: float) -> None:
    scan = Scan(kind="fermat", step_px=3.0, grid=(15, 15)).positions(1.0, np.random.default_rng(seed))
    kept = thinned(scan, every)
    assert len(set(kept.tolist())) == len(kept)
    assert len(kept) <= (15 / every + 1.5) ** 2
    assert len(kept) >= min(len(scan), (15 / every - 1) ** 2) * 0.8
    if len(kept) > 1:  # each lies within a step of the dense scan of its node
        nearest = cKDTree(scan[kept]).query(scan[kept], k=2)[0][:, 1]
        assert np.median(nearest) >= 0.8 * (every - 1) * mean_step(scan)


@pytest.mark.real_data
def test_the_real_star_has_the_overlaps_of_the_paper() -> None:
    if not (Path(__file__).resolve().parents[2] / "shared" / "data" / "siemens_star_aps.h5").exists():
        pytest.skip("the data are not here")
    overlaps = []
    for every in (1, 2, 2.5):
        measurement = load_measurement("siemens_star_aps", every=every).measurement
        overlaps.append(1 - mean_step(measurement.positions_px) / diameter_px(measurement.initial.probe))
    assert overlaps == pytest.approx([0.75, 0.5, 0.375], abs=0.02)
    with pytest.raises(InvalidOption, match="at least 1"):
        load_measurement("siemens_star_aps", every=0.5)
