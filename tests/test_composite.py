"""Variants, additions and composites of methods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from problems import Problem

from ptybench import registry
from ptybench.errors import InvalidOption, UnknownName
from ptybench.solver import Limit, solve

PLUGIN = '''
from typing import Annotated
from pydantic import Field
from ptybench.baselines.epie import EPIE
from ptybench.solver import Addition
from ptybench.specs import Spec, Tunable


class Bold(EPIE):
    """Steps of a fixed size."""

    name = "bold"
    version = 3
    variants = {"meek": {"alpha": 0.25}, "wild": {"alpha": 1.0}}
    versions = {"meek": 2}


class Drift(Addition):
    """Moves every position by the same step."""

    adds = "drift"
    refines = {"positions"}
    bases = ("bold", "epie")

    class Options(Spec):
        beta: float = 7.0
        step: Annotated[float, Field(ge=0), Tunable(0.0, 1.0)] = 0.125

    def after_epoch(self):
        self.solver.place(self.solver.model.positions_px + self.options.step)
'''


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path) -> Iterator[None]:
    path = tmp_path / "bold.py"
    path.write_text(PLUGIN)
    assert registry.add_plugin(path) == ["bold", "bold:meek", "bold:wild", "drift"]
    yield
    registry._plugins.clear()


def test_a_variant_fixes_options() -> None:
    meek = registry.resolve_method("bold:meek", {"beta": 0.5})
    assert (meek.options["alpha"], meek.options["beta"]) == (0.25, 0.5)
    assert registry.resolve_method("bold:meek", {"alpha": 0.25}).options == registry.resolve_method("bold:meek").options
    with pytest.raises(InvalidOption, match=r"bold:meek fixes alpha=0\.25: for alpha=1 use bold"):
        registry.resolve_method("bold:meek", {"alpha": 1})
    with pytest.raises(UnknownName, match="bold:meek"):
        registry.resolve_method("bold:meak")


def test_a_variant_may_have_a_version_of_its_own() -> None:
    names = "bold", "bold:meek", "bold:wild", "bold:meek>bold"
    assert [registry.resolve_method(name).version for name in names] == ["3", "2", "3", "2>3"]


def test_options_find_their_owner() -> None:
    options = registry.resolve_method("epie+drift", {"beta": 0.5, "drift.beta": 3.0, "step": 0.5}).options
    assert (options["beta"], options["drift.beta"], options["drift.step"]) == (0.5, 3.0, 0.5)
    assert registry.resolve_method("epie+drift", options).options == options  # as they are written in a record
    assert {"beta", "drift.beta", "drift.step", "step", "alpha"} <= registry.option_keys("epie+drift")
    assert set(registry.option_space("epie+drift")) == {"alpha", "beta", "drift.step"}
    assert set(registry.option_space("bold:meek")) == {"beta"}


def test_a_composite_stands_in_a_chain() -> None:
    chain = registry.resolve_method("rpie>epie+drift", {"2.drift.step": 0.25, "epie+drift.beta": 0.75, "1.beta": 2.0})
    assert chain.options["2.drift.step"] == 0.25
    assert (chain.options["1.beta"], chain.options["2.beta"]) == (2.0, 0.75)
    assert registry.resolve_method("rpie>epie+drift", chain.options).options == chain.options
    assert "2.drift.step" in registry.option_keys("rpie>epie+drift")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("epie+", {}, "empty part"),
        ("+drift", {}, "empty part"),
        ("epie+drift+drift", {}, "twice"),
        ("oracle+drift", {}, "control"),
        ("epie+drifd", {}, "did you mean 'drift'"),
        ("epie+drift", {"stepp": 1}, "did you mean"),
        ("epie+drift", {"drift.step": -1}, "greater than or equal to 0"),
        ("epie+drift", {"drift.alpha": 1}, "unknown option"),
    ],
)
def test_composites_refuse_nonsense(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidOption, UnknownName), match=message):
        registry.resolve_method(name, options)


def test_all_methods_of_a_task() -> None:
    task = registry.load_task("position_jitter")
    names = registry.standard_methods(task)
    assert {"bold", "bold:meek", "epie+drift", "bold+drift", "oracle"} <= set(names)
    assert "drift" not in names
    assert "epie+drift" not in registry.standard_methods(registry.load_task("low_dose"))
    assert "drift" in [one.name for one in registry.list_additions()]


def test_an_addition_moves_positions_and_the_estimate_says_so(problem: Problem) -> None:
    """Positions that were whole pixels at the start go on as fractions, with the probe that was there."""
    m = problem.measurement
    whole = replace(m, positions_px=np.floor(m.positions_px))
    solver = registry.resolve_method("epie+drift", {"step": 0.125}).create(whole, "cpu", 1, None)
    before = solver.model.ramps
    outcome = solve(solver, Limit(epochs=3))
    assert before is None
    assert solver.model.ramps is not None
    assert outcome.estimate.positions_px == pytest.approx(whole.positions_px + 3 * 0.125)
    assert np.isfinite(outcome.estimate.object).all()
