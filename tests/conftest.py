"""Fixtures that many tests share."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))  # tests import problems.py by name, also with importlib mode

from leaves import RAMPS
from problems import Problem, make_problem

from ptybench import registry

torch.set_num_threads(1)
# in a shell's background SIGINT is ignored, and would be by all that tests start and interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
# tests neither wait for what else runs on this machine nor for each other; children inherit it
os.environ["PTYBENCH_LEASES"] = tempfile.mkdtemp(prefix="test-leases-")
atexit.register(shutil.rmtree, os.environ["PTYBENCH_LEASES"], ignore_errors=True)

# CI judges the code, so it draws the same examples each time; elsewhere hypothesis goes on looking for new ones, and
# nowhere does it judge how busy the machine is
settings.register_profile(
    "ptybench",
    derandomize=bool(os.environ.get("CI")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ptybench")


@pytest.fixture(scope="session")
def problem() -> Problem:
    """The standard small problem: far field, one mode, sub-pixel positions, wrong start, no noise."""
    return make_problem()


@pytest.fixture
def ramps(tmp_path: Path) -> Iterator[Path]:
    """A plug-in with a generator, forgotten afterwards."""
    plugin = tmp_path / "ramps.py"
    plugin.write_text(RAMPS.replace("{fate}", "raise ArithmeticError('too steep')"))
    before = dict(registry._generator_plugins)
    yield plugin
    registry._generator_plugins.clear()
    registry._generator_plugins.update(before)
    registry._load_file.cache_clear()
