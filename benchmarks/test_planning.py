"""How long a sweep takes to begin: ``pytest benchmarks/test_planning.py`` (promised: 100,000 cells in under 10 s)."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from ptybench import registry
from ptybench.cli.grids import parse_grid
from ptybench.cli.selection import Selection, axes
from ptybench.records import Record, Store
from ptybench.runner.cells import Conditions
from ptybench.runner.planning import Planned, combine
from ptybench.runner.provenance import provenance
from ptybench.runner.survey import survey

WORDS = shlex.split(
    "plan --tasks all --methods epie --seeds 0-4 --grid alpha=0.01:1.0:200 --grid beta=0.05:1:20 --json"
)


def test_the_command(benchmark: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ptybench", *WORDS, "--results", str(tmp_path)]
    with (tmp_path / "plan.json").open("w") as file:
        benchmark.pedantic(subprocess.run, [command], {"check": True, "stdout": file}, rounds=3)


def test_settling_and_combining(benchmark: Any) -> None:
    registry.resolve_method("epie")  # torch is imported once
    asked = Selection(tasks=["all"], methods=["epie"], grid=parse_grid(["alpha=0.01:1.0:200", "beta=0.05:1:20"]))

    def cells() -> int:
        return len(combine(axes(asked, print), range(5), Conditions(device="cpu")))

    assert benchmark.pedantic(cells, rounds=3, warmup_rounds=1) == 100_000


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[Planned]]:
    """A results folder of 2000 cells that are all done."""
    asked = Selection(tasks=["low_dose"], methods=["epie"], grid=parse_grid(["alpha=0.01:1.0:200"]))
    cells = combine(axes(asked, print), range(10), Conditions(device="cpu"))
    published = next(iter(Store.published().records(status="ok")))
    store = Store(tmp_path_factory.mktemp("runs"))
    for cell in cells:
        record: Record = published.model_copy(update={"key": cell.key, "artifacts": {}})
        store.save(PurePosixPath(cell.folder), record)
    return store, cells


def test_surveying_what_is_done(benchmark: Any, done: tuple[Store, list[Planned]]) -> None:
    store, cells = done
    found = benchmark.pedantic(survey, (store, cells, provenance()), rounds=3, warmup_rounds=1)
    assert len(found) == len(cells)
