"""A plug-in of solvers that go wrong, each in its own way; :mod:`test_runner` wants one record of each."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ptybench.errors import InvalidData
from ptybench.solver import Solver
from ptybench.types import Estimate


class Still(Solver):
    """Does nothing at all, and does it right."""

    name = "still"

    def epoch(self) -> float:
        return 1.0 / (1 + self.epochs_done)


class Raises(Still):
    """Raises in its second epoch."""

    name = "raises"

    def epoch(self) -> float:
        if self.epochs_done == 1:
            raise ArithmeticError("the second\nepoch is cursed")
        return super().epoch()


class Quits(Still):
    """Calls sys.exit, which is an exception."""

    name = "quits"

    def epoch(self) -> float:
        sys.exit(0)


class Hangs(Still):
    """Never comes back from its second epoch, and has a child of its own that does not either."""

    name = "hangs"

    def epoch(self) -> float:
        if self.epochs_done == 1:
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            elif "HANGING" in os.environ:  # where to leave word that it does
                Path(os.environ["HANGING"]).touch()
            time.sleep(1000)
        return super().epoch()


class NanError(Still):
    """Returns a data error that is not a number."""

    name = "nan_error"

    def epoch(self) -> float:
        return float("nan")


class NanPositions(Still):
    """Finds positions that are not numbers, which only the parent looks at."""

    name = "nan_positions"

    def estimate(self) -> Estimate:
        found = super().estimate()
        return replace(found, positions_px=found.positions_px * np.nan)


class Exits(Still):
    """Leaves without a word, and says that all was well."""

    name = "exits"

    def epoch(self) -> float:
        os._exit(0)


class KillsItself(Still):
    """Dies as if somebody had killed it."""

    name = "kills_itself"

    def epoch(self) -> float:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0.0


class Crashes(Still):
    """Dies of a segmentation fault."""

    name = "crashes"

    def epoch(self) -> float:
        os.kill(os.getpid(), signal.SIGSEGV)
        return 0.0


class AsksTooMuch(Still):
    """Asks for more memory than there is."""

    name = "asks_too_much"

    def epoch(self) -> float:
        return float(np.ones(2**55)[0])


class Grows(Still):
    """Takes memory until something stops it."""

    name = "grows"

    def epoch(self) -> float:
        hoard: list[Any] = []
        while True:
            hoard.append(np.ones(2**22))
            time.sleep(0.02)


class Chatty(Still):
    """Prints, and writes nonsense to whatever it takes for the standard output."""

    name = "chatty"

    def epoch(self) -> float:
        print("hello from the solver")
        os.write(1, b'{"done": {"status": "ok"}}\n\xff\x00{"failed": 3}\n')
        sys.stdin.read()
        return super().epoch()


class NotInstalled(Still):
    """Needs a package that is not there."""

    name = "not_installed"

    def setup(self) -> None:
        import a_package_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401


class Refuses(Still):
    """Does not take this measurement."""

    name = "refuses"

    def setup(self) -> None:
        raise InvalidData("expected a near field, got a far field: choose another method")


class WrongShape(Still):
    """Leaves an object that is no image."""

    name = "wrong_shape"

    def estimate(self) -> Estimate:
        return replace(super().estimate(), object=np.ones(7, np.complex64))
