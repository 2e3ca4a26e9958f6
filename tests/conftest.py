"""Fixtures that many tests share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # tests import problems.py by name, also with importlib mode

from problems import Problem, make_problem

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def problem() -> Problem:
    """The standard small problem: far field, one mode, sub-pixel positions, wrong start, no noise."""
    return make_problem()
