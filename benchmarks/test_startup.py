"""How long the commands take that a shell user waits for: ``pytest benchmarks`` (promised: below 0.5 s)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

WORDS = [("--help",), ("run", "--help"), ("list", "tasks"), ("list", "methods")]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_startup(benchmark: Any, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "ptybench", *words]
    quietly = {"check": True, "stdout": subprocess.DEVNULL}
    benchmark.pedantic(subprocess.run, [command], quietly, rounds=7, warmup_rounds=1)
