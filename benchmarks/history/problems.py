"""What the benchmarks work on: measurements of any size, made at once and without files."""

from __future__ import annotations

import numpy as np
import torch

from ptybench.types import Estimate, Measurement

STEP = 8  # a side of a pattern, in steps of the scan


def measurement(size: int, patterns: int, modes: int = 1, subpixel: bool = False, seed: int = 0) -> Measurement:
    """Return Poisson counts of a smooth random object, ``patterns`` of ``(size, size)``, zero frequency in the middle."""
    rng = np.random.default_rng(seed)
    grid = int(np.ceil(np.sqrt(patterns)))
    step = size // STEP
    corner = np.stack(np.meshgrid(np.arange(grid), np.arange(grid), indexing="ij"), -1).reshape(-1, 2)[:patterns] * step
    positions = corner + (rng.uniform(0, 2, corner.shape) if subpixel else rng.integers(0, 3, corner.shape))
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
    start = Estimate(np.ones_like(obj), probe, positions.astype(np.float64))
    return Measurement(counts, np.zeros((size, size), bool), positions.astype(np.float64), start)


def synchronize(device: str) -> None:
    """Wait for all work of a device."""
    if device == "cuda":
        torch.cuda.synchronize()


def need(device: str) -> None:
    """Skip a benchmark whose device is not here."""
    if device == "cuda" and not torch.cuda.is_available():
        raise NotImplementedError("no CUDA device")
