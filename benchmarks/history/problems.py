"""What the benchmarks work on, and where: measurements of any size, devices, engines."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ptybench.memory import usage_of
from ptybench.native import library
from ptybench.types import Estimate, Measurement

DEVICES = ["cpu", "cuda"]
DTYPES = {"complex64": torch.complex64, "complex128": torch.complex128}
STEP = 8  # a side of a pattern, in steps of the scan
PIXELS = 2**21  # of all patterns together, so that an epoch costs about the same at every size


@lru_cache(1)  # the rounds of one benchmark; nothing changes a measurement
def measurement(size: int, modes: int = 1, subpixel: bool = False) -> Measurement:
    """Return Poisson counts of a random object, :data:`PIXELS` in patterns of ``(size, size)``."""
    rng = np.random.default_rng(0)
    patterns = PIXELS // size**2
    grid = int(np.ceil(np.sqrt(patterns)))
    step = size // STEP
    corner = np.stack(np.meshgrid(np.arange(grid), np.arange(grid), indexing="ij"), -1).reshape(-1, 2)[:patterns] * step
    positions = (corner + (rng.uniform(0, 2, corner.shape) if subpixel else rng.integers(0, 3, corner.shape))).astype(
        np.float64
    )
    canvas = (grid - 1) * step + size + 4
    obj = np.exp(0.3j * rng.standard_normal((canvas, canvas))).astype(np.complex64)
    y, x = (np.arange(size) - size // 2)[:, None], (np.arange(size) - size // 2)[None, :]
    first = np.exp(-(x * x + y * y) * (1 / (2 * (size / 8) ** 2) + 0.03j))
    probe = np.stack([first, first * x / size, first * y / size, first * x * y / size**2][:modes])
    probe = (probe * np.sqrt(1e6 / np.sum(np.abs(probe) ** 2))).astype(np.complex64)
    counts = np.empty((patterns, size, size), np.float32)
    for k, (i, j) in enumerate(np.floor(positions).astype(int)):
        waves = np.fft.fftshift(np.fft.fft2(probe * obj[i : i + size, j : j + size], norm="ortho"), axes=(-2, -1))
        counts[k] = rng.poisson(np.sum(np.abs(waves) ** 2, axis=0))
    return Measurement(
        counts, np.zeros((size, size), bool), positions, Estimate(np.ones_like(obj), probe, positions.copy())
    )


def need(device: str) -> None:
    """Take one thread of a device; skip the benchmark (asv's ``n/a``) where it is not here."""
    if device == "cuda" and not torch.cuda.is_available():
        raise NotImplementedError("no CUDA device")
    torch.set_num_threads(1)


def synchronize(device: str) -> None:
    """Wait for all work of a device."""
    if device == "cuda":
        torch.cuda.synchronize()


def choose(engine: str) -> None:
    """Let the compiled kernels serve in this process where they can, or torch do it all."""
    os.environ[library.VARIABLE] = "off" if engine == "torch" else "on"
    library.loaded.cache_clear()


class Memory:
    """How many bytes a block adds to the memory of its device, at its peak.

    Not asv's own ``peakmem``: that is of the whole process, in which torch alone takes more than most benchmarks.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.bytes = 0

    def __enter__(self) -> Memory:
        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
            return self
        if not sys.platform.startswith("linux"):
            raise NotImplementedError("the peak of a process can be reset on Linux only")
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)  # what was freed before would hide what is asked for now
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is held now
        usage = usage_of()
        assert usage is not None
        self._before = usage.now
        return self

    def __exit__(self, *problem: object) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
            self.bytes = torch.cuda.max_memory_allocated() - self._before
        else:
            usage = usage_of()
            assert usage is not None
            self.bytes = max(usage.peak - self._before, 0)
