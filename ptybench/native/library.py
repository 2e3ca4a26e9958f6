"""Compiled CPU kernels: what the torch engines do, for a whole run of patterns in one call.

They are built with the package where a C++ compiler is at hand, and used on a CPU where they can serve. The torch code
of :mod:`ptybench.engines` is the reference that they are tested against, and what runs everywhere else and with
``PTYBENCH_NATIVE=off``.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ptybench.engines.rules import TINY_POWER
from ptybench.optics.forward import TINY, ForwardModel, NearField

VARIABLE = "PTYBENCH_NATIVE"
_SUFFIX = {torch.complex64: "f32", torch.complex128: "f64"}


class _Problem(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("patterns", "modes", "h", "w", "H", "W")),
        *(
            (name, ctypes.c_void_p)
            for name in ("amplitudes", "slots", "good", "corners", "ramp_y", "ramp_x", "transfer")
        ),
        *((name, ctypes.c_double) for name in ("tiny_wave", "tiny_power")),
    )


def suffix_of(dtype: torch.dtype) -> str:
    """How the functions for a complex type end."""
    return _SUFFIX[dtype]


def flavours() -> list[str]:
    """Builds that this processor can run, the fastest first."""
    capability = torch.backends.cpu.get_cpu_capability()
    return ["avx2", "plain"] if capability.startswith("AVX") else ["plain"]


@cache
def loaded() -> tuple[str, Any] | None:
    """The flavour and the library that are used; ``None`` where torch does it all."""
    if os.environ.get(VARIABLE, "").lower() in ("off", "0", "no"):
        return None
    folder = Path(__file__).parent
    for flavour in flavours():
        for suffix in EXTENSION_SUFFIXES:
            path = folder / f"_{flavour}{suffix}"
            if path.exists():
                return flavour, ctypes.CDLL(str(path))
    return None


def flavour() -> str | None:
    """Name of the build that is used: ``avx2``, ``plain``, or ``None`` where torch does it all."""
    found = loaded()
    return found[0] if found else None


def able(model: ForwardModel) -> bool:
    """Whether the kernels can serve a model: on a CPU, with sides that are products of small primes."""
    found = loaded()
    if found is None or model.device.type != "cpu" or model.dtype not in _SUFFIX:
        return False
    return all(found[1].pty_able(ctypes.c_int64(side)) for side in model.shape)


def settled(kind: type, statement: str, hooks: tuple[str, ...]) -> bool:
    """Whether the class that states, in one method, what a kernel needs to know has the last word on all these others.

    A subclass that changes one of them does something that the kernel cannot know.
    """
    for base in kind.__mro__:
        if statement in vars(base):
            return True
        if any(hook in vars(base) for hook in hooks):
            return False
    return False


class Kernel:
    """Compiled work on a model as it is now; to be made anew where positions or distance have changed.

    Args:
        model: the forward model, on a CPU.
        modes: probe modes.
        threads: CPU threads.

    """

    kind = ""

    def __init__(self, model: ForwardModel, modes: int, threads: int) -> None:
        found = loaded()
        assert found is not None
        self._library, self._suffix = found[1], _SUFFIX[model.dtype]
        self.model, self.modes = model, modes
        propagator = model.propagator
        transfer = propagator.transfer if isinstance(propagator, NearField) else None
        ramps = model.ramps or (None, None)
        # all that the kernels point to must live as long as they do
        self._corners = np.array(model.corners, np.int64).reshape(-1, 2)
        window, slots = model.patterns.window, model.patterns.slots
        self._tensors = window, slots, model.good, transfer, *ramps
        self._made_for = model.windows, propagator, window, modes, threads
        self._problem = _Problem(
            model.count, modes, *model.shape, *model.canvas,
            address(window), None if slots is None else slots.ctypes.data, address(model.good),
            self._corners.ctypes.data, *map(address, ramps), address(transfer), TINY, TINY_POWER,
        )  # fmt: skip
        make = self.function(f"make_{self.kind}", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int64])
        self.address: int | None = make(ctypes.byref(self._problem), threads)
        if not self.address:
            raise MemoryError("no memory for the workspaces of a reconstruction")

    @classmethod
    def on(cls, model: ForwardModel, modes: int, threads: int, kept: Kernel | None) -> Self:
        """The one that was kept, where the model is still what it was made for, or a new one."""
        now = model.windows, model.propagator, model.patterns.window, modes, threads
        if isinstance(kept, cls) and all(a is b for a, b in zip(now, kept._made_for, strict=True)):
            return kept
        return cls(model, modes, threads)

    def function(self, name: str, result: Any, arguments: list[Any]) -> Any:
        """A function of the library, declared."""
        found = getattr(self._library, f"pty_{name}_{self._suffix}")
        found.restype, found.argtypes = result, arguments
        return found

    def __del__(self) -> None:
        if getattr(self, "address", None):
            self.function(f"free_{self.kind}", None, [ctypes.c_void_p])(self.address)


def address(tensor: Tensor | None) -> int | None:
    """Where a contiguous tensor lies in memory; ``None`` of none."""
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    return tensor.data_ptr()
