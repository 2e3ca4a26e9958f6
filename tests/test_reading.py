"""What claims read off records: at an end, an epoch, a second or a frequency, and what several runs become."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from papers import points, record, side

from ptybench.claims.reading import Reading, better, curve_at, rank_correlation, read, reduced, win_rate
from ptybench.records import Record, TracePoint

FAILED = Reading.of(-math.inf)  # the worst of a metric of which more is better


def test_a_run_is_read_at_its_end_at_an_epoch_or_at_a_second() -> None:
    one = record(trace=points({10: 0.3, 20: 0.5, 40: 0.6}))
    assert read(one, side()) == Reading.of(0.6)
    assert read(one, side(epoch=20)) == Reading.of(0.5)
    assert read(one, side(epoch=30)) is None, "no checkpoint there"
    assert read(one, side(epoch=100)) == Reading.of(0.6), "it had converged before"
    assert read(one, side(seconds=2.5)) == Reading.of(0.5)
    assert read(one, side(seconds=0.5)) is None
    assert read(None, side()) is None
    assert read(record(status="killed"), side()) is None
    assert read(record(status="diverged"), side()) == FAILED
    assert read(record(status="timeout"), side(metric="nrmse_complex")) == Reading.of(math.inf)


def test_epochs_and_seconds_until_a_value() -> None:
    one = record(trace=points({10: 0.3, 20: 0.5, 40: 0.6}))
    assert read(one, side(until=0.55)) == Reading.of(pytest.approx(30))
    assert read(one, side(until=0.55, counted_in="seconds")) == Reading.of(pytest.approx(3.0))
    assert read(one, side(until=0.2)) == Reading(0, 10), "no later than its first checkpoint"
    assert read(one, side(until=0.7)) == Reading(40, math.inf)
    assert read(record(status="diverged"), side(until=0.5)) == Reading.of(math.inf)
    falling = record(trace=points({1: 4.0, 3: 2.0}, "nrmse_complex"))
    assert read(falling, side(until=3.0, metric="nrmse_complex")) == Reading.of(pytest.approx(2))
    assert better(side(until=0.5)) == -1


@given(st.lists(st.floats(0, 1), min_size=2, max_size=10), st.floats(0, 1), st.floats(0, 1))
def test_a_harder_goal_is_reached_later(values: list[float], first: float, second: float) -> None:
    one = record(trace=points(dict(enumerate(values, 1))))
    easy, hard = (read(one, side(until=goal)) for goal in sorted((first, second)))
    assert easy is not None
    assert hard is not None
    assert easy.low <= hard.low + 1e-9
    assert easy.high <= hard.high + 1e-9


def test_the_correlation_at_a_frequency() -> None:
    point = TracePoint(epoch=5, metrics={"frc_truth_area": 0.5}, frc_truth=[1.0, 0.5, 0.0])
    one = record(trace=[point], frc_frequency=[1e6, 2e6, 3e6])
    assert curve_at(one, point, 1.5e6) == pytest.approx(0.75)
    assert read(one, side(metric="frc_truth", frequency_per_um=2.5)) == Reading.of(pytest.approx(0.25))
    assert read(one, side(metric="frc_truth", frequency_per_um=3.5)) is None
    again = Record.model_validate(one.document())
    assert again.trace[0].frc_truth == [1.0, 0.5, 0.0]
    assert "frc_frequency" not in record(trace=points({1: 0.5})).document()


def test_reductions() -> None:
    values = [Reading.of(0.8), Reading.of(0.5), Reading.of(0.6)]

    def of(how: str, **fields: Any) -> float | None:
        found = reduced(values, side(reduce=how, points=[1, 2, 3], **fields))
        return None if found is None else found.value

    assert of("mean") == pytest.approx(1.9 / 3)
    assert of("best") == 0.8
    assert of("worst") == 0.5
    assert of("best", metric="nrmse_complex") == 0.5
    assert of("range") == pytest.approx(0.3)
    assert of("spread") == pytest.approx(np.std([0.8, 0.5, 0.6], ddof=1))
    assert of("loss") == pytest.approx(0.2)
    assert of("loss", metric="nrmse_complex") == pytest.approx(-0.2)
    broken = reduced([Reading.of(0.8), FAILED], side(reduce="loss", points=[1, 2]))
    assert broken == Reading.of(math.inf)
    assert reduced([Reading.of(0.8), None], side(reduce="mean", points=[1, 2])) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_win_rates_of_both_sides_add_up_to_one(first: list[float], second: list[float]) -> None:
    a, b = ([Reading.of(one) for one in values] for values in (first, second))
    both = [win_rate(*two, side(reduce="win_rate:b", vary="grid"), False) for two in ((a, b), (b, a))]
    assert sum(one.low for one in both if one is not None) == pytest.approx(1)
    wins = sum((x > y) + 0.5 * (x == y) for x, y in itertools.product(first, second))
    assert both[0] == Reading.of(pytest.approx(wins / len(first) / len(second)))


def test_rank_correlation_over_the_epochs() -> None:
    trace = [
        TracePoint(epoch=epoch, metrics={"ssim_phase": epoch / 10, "distance_error_relative": 1 / epoch})
        for epoch in range(1, 9)
    ]
    one = record(trace=trace)
    assert rank_correlation(one, "ssim_phase", "distance_error_relative") == pytest.approx(-1)
    assert rank_correlation(record(trace=trace[:2]), "ssim_phase", "distance_error_relative") is None
    ranked = side(metric="ssim_phase", other_metric="distance_error_relative", reduce="rank_correlation")
    assert read(one, ranked) == Reading.of(pytest.approx(-1))
    assert read(record(status="diverged"), ranked) is None, "-inf would be a perfect correlation for `<=`"


def test_costs_are_those_of_an_epoch() -> None:
    one = record(trace=points({10: 0.3})).model_copy(update={"epochs": 20})
    one = one.model_copy(update={"cost": one.cost.model_copy(update={"solver_seconds": 4.0, "ffts": 100})})
    assert read(one, side(metric="seconds_per_epoch")) == Reading.of(0.2)
    assert read(one, side(metric="ffts_per_epoch")) == Reading.of(5)
