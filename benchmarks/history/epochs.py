"""One epoch of every method, as fast as it goes and in torch alone: its time, the memory of solver and epoch."""

from __future__ import annotations

from typing import Any, ClassVar

from ptybench.leaderboard.scale import CONTROLS
from ptybench.registry import load_task, method_names, option_keys, resolve_method, standard_methods
from ptybench.simulation import simulate
from ptybench.solver import Solver
from ptybench.types import Measurement

from .problems import DEVICES, DTYPES, Memory, choose, measurement, need, synchronize

METHODS = [name for name in method_names() if name not in CONTROLS]
BATCHED = [name for name in METHODS if "batch" in option_keys(name)]
ENGINES = ["fastest", "torch"]
REFINED = ["position_jitter", "wrong_distance"]
ADDED = [f"{name} on {task}" for task in REFINED for name in standard_methods(load_task(task)) if "+" in name]


class Epoch:
    """Each method as it is by default, one probe mode, positions on whole pixels."""

    params: tuple[list[Any], ...] = (METHODS, ENGINES, [64, 128, 256, 512], ["complex64"], DEVICES)
    param_names = ("method", "engine", "size", "dtype", "device")
    number = 1
    warmup_time = 0  # each sample has a solver of its own, which has done an epoch before
    repeat = (3, 10, 4.0)
    timeout = 120
    unit = "bytes"

    options: ClassVar[dict[str, Any]] = {}
    modes = 1
    subpixel = False

    def solver(self, method: str, dtype: str, device: str) -> Solver:
        """A fresh solver."""
        solver = resolve_method(method, self.options).create(self.problem, device, 1, None)
        if DTYPES[dtype] is solver.dtype:
            return solver
        kind = type(solver)
        return type(kind.__name__, (kind,), {"dtype": DTYPES[dtype]})(self.problem, solver.options, device, 1)

    def data(self, size: int) -> Measurement:
        """What is reconstructed."""
        return measurement(size, self.modes, self.subpixel)

    def setup(self, method: str, engine: str, size: int, dtype: str, device: str) -> None:
        choose(engine)
        need(device)
        self.problem = self.data(size)
        self.ready = self.solver(method, dtype, device)
        self.ready.step()
        synchronize(device)

    def teardown(self, *params: Any) -> None:
        self.ready = None

    def time_epoch(self, method: str, engine: str, size: int, dtype: str, device: str) -> None:
        self.ready.step()
        synchronize(device)

    def track_memory(self, method: str, engine: str, size: int, dtype: str, device: str) -> int:
        self.ready = None
        with Memory(device) as memory:
            solver = self.solver(method, dtype, device)
            solver.step()
        return memory.bytes


class EpochOfFractions(Epoch):
    """Positions between pixels: the probe is shifted for each pattern."""

    params = (METHODS, ENGINES, [64], ["complex64"], DEVICES)
    subpixel = True


class EpochOfModes(Epoch):
    """Four incoherent probe modes."""

    params = (METHODS, ENGINES, [64], ["complex64"], DEVICES)
    modes = 4


class EpochOfBatches(Epoch):
    """32 patterns at a time."""

    params = (BATCHED, ENGINES, [64, 256], ["complex64"], DEVICES)
    options: ClassVar[dict[str, Any]] = {"batch": 32}


class EpochInDouble(Epoch):
    """Twice the bytes."""

    params = (METHODS, ENGINES, [128], ["complex128"], DEVICES)


class EpochWithAddition:
    """What refines positions or distance, on the small task that needs it."""

    params = (ADDED, DEVICES)
    param_names = ("method", "device")
    number = 1
    warmup_time = 0
    repeat = (3, 10, 4.0)

    def setup_cache(self) -> dict[str, Measurement]:
        return {task: simulate(task, 0)[0] for task in REFINED}

    def setup(self, problems: dict[str, Measurement], method: str, device: str) -> None:
        need(device)
        name, task = method.split(" on ")
        self.ready = resolve_method(name).create(problems[task], device, 1, None)
        self.ready.step()
        synchronize(device)

    def time_epoch(self, problems: dict[str, Measurement], method: str, device: str) -> None:
        self.ready.step()
        synchronize(device)
