"""One epoch of every method."""

from __future__ import annotations

from typing import Any

import torch

from ptybench.registry import resolve_method

from .problems import measurement, need, synchronize

METHODS = [
    *("pie", "epie", "rpie", "mpie", "wasp", "sdr"),
    *("ap", "dm", "raar", "admm", "admm:poisson", "lsqml", "lsqml:poisson", "ml", "ml:poisson"),
]
DTYPES = {"complex64": torch.complex64, "complex128": torch.complex128}


class Epoch:
    """Patterns one after another or all at once, as the method is by default; a fresh solver for each round."""

    params = (METHODS, [64, 128, 256], ["complex64"], ["cpu", "cuda"])
    param_names = ("method", "size", "dtype", "device")
    number = 1
    warmup_time = 0

    options: dict[str, Any] = {}
    patterns = 100
    modes = 1
    subpixel = False

    def setup(self, method: str, size: int, dtype: str, device: str) -> None:
        need(device)
        torch.set_num_threads(1)
        problem = measurement(size, self.patterns, self.modes, self.subpixel)
        self.solver = resolve_method(method, self.options).create(problem, device, 1, None)
        if DTYPES[dtype] is not self.solver.dtype:
            kind = type(self.solver)
            self.solver = type(kind.__name__, (kind,), {"dtype": DTYPES[dtype]})(
                problem, self.solver.options, device, 1
            )
        self.solver.step()
        synchronize(device)

    def time_epoch(self, method: str, size: int, dtype: str, device: str) -> None:
        self.solver.step()
        synchronize(device)

    def peakmem_epoch(self, method: str, size: int, dtype: str, device: str) -> None:
        self.solver.step()


class EpochOfFractions(Epoch):
    """Positions between pixels: the probe is shifted for each pattern."""

    params = (METHODS, [64], ["complex64"], ["cpu", "cuda"])
    subpixel = True


class EpochOfModes(Epoch):
    """Four incoherent probe modes."""

    params = (["epie", "dm", "lsqml"], [64], ["complex64"], ["cpu", "cuda"])
    modes = 4


class EpochOfBatches(Epoch):
    """32 patterns at a time."""

    params = (["epie", "rpie", "wasp"], [64, 128], ["complex64"], ["cpu", "cuda"])
    options = {"batch": 32}


class EpochInDouble(Epoch):
    """Twice the bytes."""

    params = (["epie", "dm", "lsqml"], [64], ["complex128"], ["cpu", "cuda"])
