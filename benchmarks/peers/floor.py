"""The floor of an epoch: its transforms alone, two a pattern, as the fastest that can be had here and now."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.fft
import torch

from ptybench.native import library

ROUNDS = 7


def floors(size: int, patterns: int, threads: int) -> dict[str, float]:
    """Return seconds of two transforms of every pattern ``(size, size)``, complex64, by who does them."""
    found = {}
    torch.set_num_threads(threads)
    for chunk in (1, 8, 32):
        field = torch.randn(chunk, size, size, dtype=torch.complex64)
        out = torch.empty_like(field)

        def both(field: torch.Tensor = field, out: torch.Tensor = out) -> None:
            torch.fft.fft2(field, out=out)
            torch.fft.ifft2(out, out=field)

        found[f"torch, out=, {chunk} at a time"] = best(both) * patterns / chunk
    array = np.ones((32, size, size), np.complex64)

    def scipys() -> None:
        scipy.fft.ifft2(scipy.fft.fft2(array, overwrite_x=True, workers=threads), overwrite_x=True, workers=threads)

    found["scipy, 32 at a time"] = best(scipys) * patterns / 32
    if (seconds := ours(size, threads)) is not None:
        found["ptybench's kernels"] = seconds * patterns
    return found


def ours(size: int, threads: int, count: int = 64) -> float | None:
    """Seconds of two transforms of a pattern by the compiled kernels, each thread at its own; ``None`` without them."""
    loaded = library.loaded()
    if loaded is None:
        return None
    transforms = loaded[1].pty_transforms_f32
    transforms.restype, transforms.argtypes = None, [ctypes.c_int64] * 3

    with ThreadPoolExecutor(threads) as pool:
        return best(lambda: list(pool.map(lambda _: transforms(size, size, count), range(threads)))) / count / threads


def best(run: Callable[[], object], least_s: float = 0.05) -> float:
    """Seconds of a call, the best of some rounds of at least so long."""
    run()
    start = time.perf_counter()
    run()
    calls = max(1, int(least_s / max(time.perf_counter() - start, 1e-9)))
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(calls):
            run()
        rounds.append((time.perf_counter() - start) / calls)
    return min(rounds)
