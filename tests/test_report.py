"""The picture and the card of a run: colours and lengths against closed forms, odd inputs without a warning."""

from __future__ import annotations

import hashlib
import io
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import rgb_to_hsv
from matplotlib.image import imread
from rich.console import Console

from ptybench.leaderboard.ranking import rank_of
from ptybench.readable import count, duration, memory, number, quantity
from ptybench.records import Cost, Provenance, Record, RunBudget, TracePoint
from ptybench.runner.card import ordinal, result_card
from ptybench.runner.pictures import (
    Range,
    bar_length,
    bounding_box,
    complex_colours,
    length_scale,
    limits,
    mean_phase,
    phase,
    phase_limits,
    round_length,
    shrink,
    symmetric_limits,
    without_ramp,
)
from ptybench.runner.report import write_report
from ptybench.scoring import Scores, evaluate
from ptybench.types import Estimate, Measurement, Truth, Withheld

ALL = np.ones((32, 32), dtype=np.bool_)


# --- what a picture shows --------------------------------------------------------------------------------------------


def test_bounding_box_holds_the_mask_and_its_margin() -> None:
    mask = np.zeros((20, 30), dtype=np.bool_)
    mask[5:9, 0:4] = True
    assert bounding_box(mask, 2) == (slice(3, 11), slice(0, 6))
    assert bounding_box(np.zeros((4, 4), dtype=np.bool_)) == (slice(None), slice(None))


def test_shrink_averages_blocks() -> None:
    field = np.arange(24.0).reshape(4, 6) * (1 + 1j)
    expected = [[field[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(shrink(field, 3), expected)
    assert shrink(field, 6) is field
    assert shrink(np.ones((5, 5), dtype=np.bool_), 2).dtype == np.bool_


def test_phase_is_relative_to_its_mean() -> None:
    field = np.exp(1j * (2.5 + 0.1 * np.random.default_rng(0).normal(size=(32, 32))))
    reference = mean_phase(field, ALL)
    assert reference == pytest.approx(2.5, abs=0.02)
    assert abs(phase(field, reference).mean()) < 0.02


@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5))
def test_a_ramp_is_removed_exactly(slope_y: float, slope_x: float) -> None:
    y, x = np.mgrid[:32, :32]
    flat = without_ramp(np.exp(1j * (slope_y * y + slope_x * x + 0.3)), ALL)
    assert np.abs(flat - flat[0, 0]).max() < 1e-9


def test_limits_are_never_empty_and_ignore_what_is_not_finite() -> None:
    values = np.full((32, 32), 0.7)
    assert limits(values, ALL).low < 0.7 < limits(values, ALL).high
    values[0, 0], values[0, 1] = math.nan, math.inf
    assert limits(values, ALL).high < 1
    assert limits(values, np.zeros_like(ALL)) == Range(0, 1)
    ramp = np.linspace(0, 1, 1024).reshape(32, 32)
    assert limits(ramp, ALL, 0.1).low == pytest.approx(0.1, abs=2e-3)
    assert symmetric_limits(-ramp, ALL, 0.0).low == pytest.approx(-0.995, abs=2e-3)
    assert symmetric_limits(0 * ramp, ALL, 0.2) == Range(-0.2, 0.2)


def test_a_phase_round_the_circle_gets_a_cyclic_scale() -> None:
    wide = np.linspace(-3, 3, 1024).reshape(32, 32)
    assert phase_limits(wide, ALL) == Range(-math.pi, math.pi, cyclic=True)
    assert not phase_limits(wide / 4, ALL).cyclic


def test_a_range_widens_by_half_of_itself_at_most() -> None:
    assert Range(0, 1).widened(Range(-0.2, 9)) == Range(-0.2, 1.5)
    assert Range(0, 1).widened(Range(0.4, 0.6)) == Range(0, 1)


@given(st.floats(-3, 3))
def test_colours_tell_amplitude_and_phase_and_not_the_global_phase(turn: float) -> None:
    field = np.array([[1.0, 0.5j], [0.25, -0.25j]])
    colours = rgb_to_hsv(complex_colours(field * np.exp(1j * turn)))
    np.testing.assert_allclose(colours[..., 2], np.abs(field), atol=1e-12)
    difference = (colours[0, 1, 0] - colours[0, 0, 0]) % 1
    assert difference == pytest.approx(0.25, abs=1e-9)
    np.testing.assert_allclose(complex_colours(0 * field), 0)


@given(st.floats(1e-9, 1e6))
def test_round_lengths(length: float) -> None:
    found = round_length(length)
    assert length / 2.5 * (1 - 1e-9) <= found <= length * (1 + 1e-9)
    assert f"{found:.0e}"[0] in "125"


def test_lengths_get_units_that_read_well() -> None:
    assert bar_length(1e-8, 300) == (pytest.approx(100), "1 µm")
    assert bar_length(2e-9, 100) == (pytest.approx(25), "50 nm")
    assert bar_length(None, 100) == (20, "20 px")
    assert bar_length(1e-14, 30) == (pytest.approx(10), "0.0001 nm")
    assert (length_scale(1e-8, 300).unit, length_scale(1e-8, 300).per_pixel) == ("µm", pytest.approx(0.01))
    assert length_scale(None, 300).unit == "px"


def test_readable_numbers() -> None:
    assert [number(v) for v in (0.9, 12345.6, 1.23e-5, 0.0, None, -0.5, 1e9)] == [
        "0.9000", "12346", "1.230e-05", "0", "–", "-0.5000", "1.000e+09",
    ]  # fmt: skip
    assert [quantity(1.23e-8, "m"), quantity(0.5, "px"), quantity(None, "m")] == ["12.30 nm", "0.5000 px", "–"]
    assert [duration(s) for s in (0.0042, 2.5, 312.0, 7500.0, None, 0.0)] == [
        "4.2 ms", "2.5 s", "5 min 12 s", "2 h 05 min", "–", "0 s",
    ]  # fmt: skip
    assert [count(v) for v in (1312000, 7, None)] == ["1.31 M", "7", "–"]
    assert [memory(v) for v in (2**29, 3 * 2**30, None)] == ["512 MiB", "3.00 GiB", "–"]


# --- the whole page --------------------------------------------------------------------------------------------------


def record(**more: Any) -> Record:
    metrics = more.pop("metrics", {"frc_truth_area": 0.8, "cpcc_abs": 0.99, "resolution_m_frc_truth_0.5": None})
    fields: dict[str, Any] = {
        "key": hashlib.sha256(str(sorted(more)).encode()).hexdigest(),
        "status": "ok",
        "stop_reason": "budget",
        "task": "made_up",
        "task_version": 1,
        "ladder": "overlap",
        "point": 0.5,
        "domain": "dev",
        "tier": "small",
        "seed": 0,
        "method": "made_up",
        "method_version": "1",
        "device": "cpu",
        "budget": RunBudget(epochs=20),
        "epochs": 20,
        "wall_seconds": 3.0,
        "metrics": metrics,
        "censored": {"resolution_m_frc_truth_0.5": True},
        "directions": {"frc_truth_area": "higher", "cpcc_abs": "higher", "r_factor": "lower"},
        "primary_metric": "frc_truth_area",
        "trace": [
            TracePoint(epoch=e, data_error=1 / e, metrics={"frc_truth_area": 1 - 1 / e, "r_factor": 1 / e})
            for e in range(1, 21)
        ],
        "cost": Cost(ffts=14400, solver_seconds=2.0, peak_rss_bytes=2**28),
        "facts": {"patterns": 25, "overlap_linear": 0.5, "photons_per_m2": 3e18},
        "provenance": Provenance(package_version="0", code_hash="0"),
        "created": "2026-01-01T00:00:00",
        "path": "/tmp/runs/made_up",
        "artifacts": {"report": "/tmp/runs/made_up/report.png"},
    } | more
    return Record.model_validate(fields)


@pytest.fixture(scope="module")
def problem() -> tuple[Measurement, Truth]:
    """A scan of 5 × 5 patterns over a random object, by the far-field formula; H ≠ W and h ≠ w on purpose."""
    rng = np.random.default_rng(0)
    h, w, step = 24, 28, 5
    positions = np.stack(np.meshgrid(np.arange(5) * step, np.arange(5) * step, indexing="ij"), -1).reshape(-1, 2) + 2.0
    size = (4 * step + h + 4, 4 * step + w + 4)
    thickness = np.kron(rng.random((size[0] // 6 + 1, size[1] // 6 + 1)), np.ones((6, 6)))[: size[0], : size[1]]
    true = np.exp((-0.3 - 1j) * thickness)
    y, x = np.mgrid[:h, :w]
    radius = np.hypot(y - h // 2, x - w // 2)
    probe = (100 * np.exp(-((radius / 6) ** 2) + 0.05j * radius**2))[None]
    windows = [true[int(r) : int(r) + h, int(c) : int(c) + w] for r, c in positions]
    expected = np.array(
        [np.abs(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(probe[0] * o), norm="ortho"))) ** 2 for o in windows]
    )
    dose = np.zeros(size)
    for r, c in positions.astype(int):
        dose[r : r + h, c : c + w] += np.abs(probe[0]) ** 2
    pixel = (1e-8, 1.2e-8)
    truth = Truth(true, probe.astype(np.complex128), positions, expected, dose, pixel, 1.0, 1.5e-10)
    start = Estimate(np.ones(size, np.complex64), probe.astype(np.complex64), positions, pixel, 1.0)
    bad = np.zeros((h, w), dtype=np.bool_)
    bad[3, 4] = True
    measurement = Measurement(
        rng.poisson(expected).astype(np.float32), bad, positions, start, pixel_size_m=pixel, distance_m=1.0,
        wavelength_m=1.5e-10,
    )  # fmt: skip
    return measurement, truth


def nearly(truth: Truth, noise: float = 0.02) -> Estimate:
    rng = np.random.default_rng(1)
    grain = rng.normal(size=truth.object.shape) + 1j * rng.normal(size=truth.object.shape)
    moved = truth.positions_px + rng.normal(size=truth.positions_px.shape)
    return Estimate(truth.object + noise * grain, truth.probe, moved, truth.pixel_size_m, truth.distance_m)


def check_page(path: Path) -> None:
    page = imread(path)
    assert page.shape[0] > 1500
    assert page.shape[1] > 2000
    assert page[..., :3].std() > 0.1  # something is drawn
    assert (page[:, :5, :3] == 1).all()  # nothing runs off the page
    assert (page[:, -5:, :3] == 1).all()
    assert (page[-5:, :, :3] == 1).all()


def test_page_with_a_truth(tmp_path: Path, problem: tuple[Measurement, Truth]) -> None:
    measurement, truth = problem
    estimate = nearly(truth)
    path = tmp_path / "report.png"
    write_report(path, record(), evaluate(estimate, truth, measurement), estimate, truth, measurement)
    check_page(path)


def test_the_report_needs_no_pyplot() -> None:
    """Its import takes half a second, and its state is the caller's."""
    code = "import sys, ptybench.runner.report; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("case", ["nan", "infinite", "flat", "modes", "no_scores", "short"])
def test_odd_estimates_are_drawn_without_a_warning(
    tmp_path: Path, problem: tuple[Measurement, Truth], case: str
) -> None:
    measurement, truth = problem
    estimate, about = nearly(truth), record()
    scores: Scores | None = Scores()
    if case == "nan":
        estimate = replace(estimate, object=estimate.object * np.nan, probe=estimate.probe * np.nan)
        about = record(status="diverged", metrics={}, trace=[], cost=Cost(), stop_reason=None)
    elif case == "infinite":
        broken = estimate.object.copy()
        broken[10:20] = complex(math.inf, math.nan)
        scores = Scores(object_aligned=broken, truth_object=truth.object, scored=truth.scored)
        estimate = replace(estimate, object=broken, positions_px=estimate.positions_px * np.nan)
    elif case == "flat":
        estimate = measurement.initial
        scores = evaluate(estimate, truth, measurement)
        flat = [TracePoint(epoch=e, data_error=0.5, metrics={"frc_truth_area": 0.0}) for e in (1, 2)]
        about = record(trace=flat, metrics={"frc_truth_area": 0.0})
    elif case == "modes":
        estimate = replace(
            estimate, probe=np.concatenate([estimate.probe * 0.8, 0.6j * estimate.probe, 0 * estimate.probe])
        )
    elif case == "no_scores":
        scores = None
    elif case == "short":
        about = record(trace=[TracePoint(epoch=1, data_error=0.0)], ladder=None, point=None, facts={})
    path = tmp_path / "report.png"
    write_report(path, about, scores, estimate, truth, measurement)
    check_page(path)


@pytest.mark.parametrize("pixel_known", [True, False])
def test_page_of_a_real_measurement(tmp_path: Path, problem: tuple[Measurement, Truth], pixel_known: bool) -> None:
    measurement, truth = problem
    if not pixel_known:
        start = replace(measurement.initial, pixel_size_m=None)
        measurement = replace(measurement, pixel_size_m=None, wavelength_m=None, distance_m=None, initial=start)
    estimate = replace(nearly(truth), pixel_size_m=measurement.pixel_size_m)
    used, out = np.arange(24), np.arange(24, 25)
    withheld = Withheld(measurement.intensities[out], measurement.positions_px[out], used, out)
    estimate = replace(estimate, positions_px=estimate.positions_px[used])
    seen = measurement.subset(used)
    halves = (estimate, replace(estimate, object=nearly(truth, 0.1).object))
    scores = evaluate(estimate, None, seen, withheld, halves)
    about = record(task=None, data="star", ladder=None, point=None, primary_metric="deviance_withheld",
                   metrics=scores.values, censored=scores.censored, facts={})  # fmt: skip
    for name, found, hidden in (("all", scores, withheld), ("bare", Scores(), None)):
        path = tmp_path / f"{name}.png"
        write_report(path, about, found, estimate, None, seen, hidden)
        check_page(path)


# --- the card --------------------------------------------------------------------------------------------------------


def card(about: Record, others: list[Record] | None, width: int = 80) -> str:
    out = io.StringIO()
    rank = None if others is None else rank_of(about, others, defaults={})
    result_card(about, rank, Console(file=out, width=width, color_system=None))
    return out.getvalue()


def test_card_tells_what_and_where() -> None:
    about = record()
    values = {"better": 0.9, "worse": 0.2, "initial_guess": 0.0, "oracle": 1.0}
    text = card(about, [record(method=name, metrics={"frc_truth_area": value}) for name, value in values.items()])
    for part in (
        "made_up · made_up  ok",
        "overlap 0.5 · small · dev · seed 0 · v1",
        "frc_truth_area ↑  0.8000",
        "80.0% of the way",
        "2nd of 3 on made_up, overlap 0.5, small, dev, seed 0",
        "beyond Nyquist",
        "14.4 k",
        "256 MiB",
        "100 ms",
        "report.png",
    ):
        assert part in text
    order = [text.index(f" {name} ") for name in ("better", "worse", "initial_guess")]
    assert order == sorted(order)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_card_fits_its_terminal(width: int) -> None:
    about = record(method="a_very_long_method_name>another_very_long_method_name", warnings=["short of memory"])
    text = card(about, [record(method="other")], width)
    framed = [line for line in text.splitlines() if line[:1] in "╭│╰"]
    assert {len(line) for line in framed} == {min(width, 100)}
    assert "/tmp/runs/made_up\n" in text


def test_card_of_a_failure_says_why() -> None:
    about = record(status="timeout", error="stopped after 600 s", metrics={"frc_truth_area": None}, stop_reason=None)
    text = card(about, [record(method="other")])
    assert "the run ended as timeout" in text
    assert "stopped after 600 s" in text
    assert "1 ranked on made_up" in text
    assert "ranked" not in card(about, None)


def test_ordinals() -> None:
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th",
    ]  # fmt: skip
