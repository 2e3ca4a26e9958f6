"""``ptybench check``: good methods keep every promise, and each broken promise is seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ptybench import registry
from ptybench.contract import CHECKS, check_method
from ptybench.errors import InvalidData, UnknownName

HEAD = """
import numpy as np
import torch
from ptybench.baselines.epie import EPIE
from ptybench.solver import Solver

"""

BROKEN = {
    "same_seed_same_result": "        self.object += 1e-3 * torch.rand(1)\n",
    "leaves_input_alone": "        self.measurement.positions_px[0] += 0.1\n",
    "well_formed": "        return float('nan')\n",
    "keeps_a_known_probe": "        self.shifted._held *= 1.1\n",
    "beats_the_initial_guess": "        self.object.fill_(1)\n        return 0.0\n",
    "counts_its_cost": "        self.model.ffts = 0\n",
    "ignores_bad_pixels": "        self.object *= 1 + 1e-9 * float(self.measurement.intensities.sum())\n",
}


@pytest.fixture(autouse=True)
def _no_plugins_stay() -> Iterator[None]:
    before = dict(registry._plugins)
    yield
    registry._plugins.clear()
    registry._plugins.update(before)


@pytest.mark.parametrize("name", ["epie", "rpie"])
def test_the_projects_methods_keep_the_contract(name: str) -> None:
    results = check_method(name)
    assert len(results) == len(CHECKS)
    assert [r for r in results if r.verdict == "failed"] == []
    assert {r.check for r in results if r.verdict == "skipped"} <= {"respects_device"}


@pytest.mark.parametrize("promise", BROKEN)
def test_a_broken_promise_is_seen(tmp_path: Path, promise: str) -> None:
    body = (
        f'class Bad(EPIE):\n    """Breaks one promise."""\n\n    name = "bad_{promise}"\n\n'
        f"    def epoch(self):\n        error = super().epoch()\n{BROKEN[promise]}        return error\n"
    )
    path = tmp_path / f"{promise}.py"
    path.write_text(HEAD + body)
    failed = {result.check for result in check_method(f"{path}:Bad") if result.verdict == "failed"}
    assert promise in failed


def test_targets_are_named_clearly(tmp_path: Path) -> None:
    path = tmp_path / "two.py"
    one = 'class {0}(Solver):\n    """D."""\n\n    name = "{1}"\n\n    def epoch(self):\n        return 0.0\n\n\n'
    path.write_text(HEAD + one.format("One", "one") + one.format("Two", "two"))
    with pytest.raises(InvalidData, match="holds the methods one, two"):
        check_method(str(path))
    with pytest.raises(UnknownName, match="did you mean"):
        check_method(f"{path}:Too")
    with pytest.raises(UnknownName, match="unknown method"):
        check_method("epi_e")
