"""A plug-in of solvers whose best options are known, for :mod:`test_tuning`: the best ``x`` is 0.3."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ptybench.errors import InvalidData
from ptybench.solver import Solver, SolverOptions
from ptybench.specs import Tunable
from ptybench.types import Estimate


class Dial(Solver):
    """Moves each position by ``|x − 0.3|`` pixels in a direction of its own."""

    name = "dial"
    refines = frozenset({"positions"})

    class Options(SolverOptions):
        """What is tuned.

        Args:
            x: distance is ``|x − 0.3|``.
            pause: seconds of an epoch.

        """

        x: Annotated[float, Field(ge=0, le=1), Tunable(0.05, 1.0)] = 0.9
        pause: Annotated[float, Field(ge=0)] = 0.0

    def epoch(self) -> float:
        time.sleep(self.options.pause)
        return 1.0 / (1 + self.epochs_done)

    def estimate(self) -> Estimate:
        found = super().estimate()
        angle = np.random.default_rng(0).uniform(0, 2 * np.pi, len(found.positions_px))
        moved = abs(self.options.x - 0.3) * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        return replace(found, positions_px=found.positions_px + moved)


class Treacherous(Dial):
    """A dial on which most values are a way to fail."""

    name = "treacherous"

    class Options(Dial.Options):
        """As the dial, with how to fail.

        Args:
            fault: what happens.

        """

        fault: Annotated[str, Tunable(choices=("none", "nan", "raise", "crash", "shape", "hang"))] = "none"

    def epoch(self) -> float:
        match self.options.fault:
            case "nan":
                return float("nan")
            case "raise":
                raise ArithmeticError("cursed")
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "hang":
                time.sleep(1000)
        return super().epoch()

    def estimate(self) -> Estimate:
        found = super().estimate()
        return replace(found, object=np.ones(3, np.complex64)) if self.options.fault == "shape" else found


class Hopeless(Dial):
    """Fails whatever its options are."""

    name = "hopeless"

    def epoch(self) -> float:
        raise ArithmeticError("never")


class Picky(Dial):
    """Does not take this measurement."""

    name = "picky"

    def setup(self) -> None:
        raise InvalidData("expected a near field, got a far field: choose another method")


class Plain(Solver):
    """Has nothing to tune."""

    name = "plain"

    def epoch(self) -> float:
        return 1.0


class Wide(Dial):
    """Its default lies outside the range that is searched."""

    name = "wide"

    class Options(Dial.Options):
        """As the dial."""

        x: Annotated[float, Field(ge=0), Tunable(0.05, 1.0, log=True)] = 7.0
        n: Annotated[int, Tunable(1, 4)] = 2
        flag: Annotated[bool, Tunable()] = False


def options_of(kind: Any) -> dict[str, Any]:
    """The defaults of a method."""
    found: dict[str, Any] = kind.Options().model_dump(mode="json")
    return found
