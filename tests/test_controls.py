"""The two controls, against what they are defined to do."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from ptybench.controls import InitialGuess, Oracle
from ptybench.scoring import score
from ptybench.simulation import simulate
from ptybench.solver import Limit, Step, solve
from ptybench.types import Measurement, Truth

FEW: dict[str, Any] = {"scan.field_of_view_px": [36, 36]}
SMALL: dict[str, dict[str, Any]] = {"low_dose": FEW, "noisy_poisson": FEW, "wrong_distance": {"scan.grid": [4, 4]}}


@pytest.fixture(scope="module", params=SMALL)
def simulated(request: pytest.FixtureRequest) -> tuple[Measurement, Truth]:
    return simulate(request.param, 0, **SMALL[request.param])


def test_the_initial_guess_scores_zero(simulated: tuple[Measurement, Truth]) -> None:
    measurement, truth = simulated
    outcome = solve(InitialGuess(measurement), Limit(epochs=50))
    assert (outcome.epochs, outcome.stop_reason) == (1, "converged")
    values = score(outcome.estimate, truth)
    assert values["cpcc_abs"] == values["frc_truth_area"] == 0


def test_the_oracles_gradient_is_that_of_the_poisson_likelihood(simulated: tuple[Measurement, Truth]) -> None:
    """Against central differences of the likelihood in float64, along random directions."""
    measurement, truth = simulated
    oracle = Oracle(measurement, truth=truth)
    _, gradient, _ = oracle._gradient()
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        direction = torch.randn(gradient.shape, dtype=gradient.dtype, generator=generator)
        losses = []
        for side in (1, -1):
            moved = Oracle(measurement, truth=truth)
            moved.object = moved.object + side * 1e-6 * direction
            moved.waves = [moved._propagated(moved.object, i, c) for i, c in enumerate(moved._chunks())]
            losses.append(moved._gradient()[0])
        slope = 2 * float((gradient.conj() * direction).real.sum())
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(slope, rel=2e-4, abs=1e-3 * float(gradient.abs().sum()))


def test_the_oracle_climbs_the_likelihood_until_it_stands_still(simulated: tuple[Measurement, Truth]) -> None:
    measurement, truth = simulated
    oracle = Oracle(measurement, Oracle.Options(tolerance=1e-6), truth=truth)
    losses: list[float] = []

    def note(step: Step) -> None:
        losses.append(oracle.loss)

    outcome = solve(oracle, Limit(epochs=500), (), note)
    assert outcome.stop_reason == "converged"
    assert all(b <= a + 1e-9 * abs(a) for a, b in pairwise(losses))
    assert losses[-1] < losses[0]
    assert abs(losses[-1] - losses[-2]) <= 1e-6 * abs(losses[-1])


def test_recomputing_waves_gives_the_same_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    measurement, truth = simulate("low_dose", 0, **FEW)
    kept = solve(Oracle(measurement, truth=truth), Limit(epochs=5)).estimate
    monkeypatch.setattr("ptybench.controls.KEPT_BYTES", 0)
    recomputed = solve(Oracle(measurement, truth=truth), Limit(epochs=5)).estimate
    assert np.abs(kept.object - recomputed.object).max() < 1e-5


def test_the_oracle_stays_at_the_truth_without_noise() -> None:
    measurement, truth = simulate(
        "low_dose", 0, **FEW, **{"geometry.inverse_crime": True, "dose.noise_free": True, "dose.photons": 1e6}
    )
    outcome = solve(Oracle(measurement, truth=truth), Limit(epochs=20))
    values = score(outcome.estimate, truth)
    assert values["cpcc_abs"] == pytest.approx(1, abs=1e-6)
    assert math.isfinite(values["frc_truth_area"] or math.nan)
    assert values["frc_truth_area"] == pytest.approx(1, abs=1e-3)
