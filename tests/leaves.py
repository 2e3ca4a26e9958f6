"""Small sets of generated images, and a generator of somebody else, for the tests of `ptybench generate`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ptybench.generation.recipe import Recipe, make_recipe

SMALL: dict[str, Any] = {"shape": (20, 24), "parameters": {"max_leaves": 200}}

RAMPS = '''
import os
import numpy as np
from ptybench.generation.generator import Generator

class Ramps(Generator):
    """Ramps that lean at random."""
    generates = "ramps"
    bad: int = -1
    def image(self, index, shape, **where):
        if index == self.bad:
            {fate}
        return super().image(index, shape, **where)
    def draw(self, rng, shape):
        print("drawing")
        return np.outer(np.linspace(0, 1, shape[0]), np.full(shape[1], rng.random()))
'''


def leaves(count: int = 7, generator: str = "dead_leaves:diverse", **more: Any) -> Recipe:
    return make_recipe(generator, count=count, **SMALL | more)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.h5*")}
