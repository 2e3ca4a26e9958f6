"""What spares a CUDA device launches and memory traffic: graphs of visits, kernels in Triton.

The plain torch engines are the reference. Whatever is here compares itself with them on the device where it runs, on
the numbers of the problem that it is to serve, before any of its results is used; where it differs, one warning says
so and torch goes on.
"""

from __future__ import annotations

import os
import warnings

VARIABLE = "PTYBENCH_CUDA"


def wanted(what: str) -> bool:
    """Whether ``graphs`` or ``kernels`` are to be used: ``PTYBENCH_CUDA`` is ``all``, one of them, or ``off``."""
    return os.environ.get(VARIABLE, "all").lower() in ("all", "", what)


def distrust(what: str, why: str) -> None:
    """Say that torch does what was meant to be done faster."""
    warnings.warn(f"CUDA: {what} is left to torch on this device: {why}", RuntimeWarning, stacklevel=3)
