"""Fixtures that many tests share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # tests import problems.py by name, also with importlib mode

from problems import Problem, make_problem

torch.set_num_threads(1)

# CI judges the code, so it draws the same examples each time; elsewhere hypothesis goes on looking for new ones
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="session")
def problem() -> Problem:
    """The standard small problem: far field, one mode, sub-pixel positions, wrong start, no noise."""
    return make_problem()
