"""Every hot operation: the pieces of an epoch, the simulator, the scores, training images."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch

from ptybench.native import library
from ptybench.optics.forward import ForwardModel, NearField, ShiftedProbe
from ptybench.registry import load_generator, load_task, task_names
from ptybench.scoring import score
from ptybench.scoring.align import align
from ptybench.simulation import simulate
from ptybench.types import Estimate

from .problems import DEVICES, DTYPES, Memory, measurement, need, synchronize

PATTERNS = 8


class Torch:
    """The pieces of an epoch in torch, eight patterns at a time, positions between pixels."""

    params = ([64, 128, 256, 512], ["complex64", "complex128"], DEVICES)
    param_names = ("size", "dtype", "device")
    number = 1  # each call finds what setup made
    warmup_time = 0.1
    repeat = (10, 50, 2.0)

    def setup(self, size: int, dtype: str, device: str) -> None:
        need(device)
        kind = DTYPES[dtype]
        everything = measurement(size, subpixel=True)
        self.model = ForwardModel(everything.subset(np.arange(PATTERNS)), torch.device(device), dtype=kind)
        self.held = ShiftedProbe(self.model, torch.ones(1, size, size, dtype=kind, device=device))
        self.object = torch.ones(self.model.canvas, dtype=kind, device=device)
        self.waves = torch.randn(PATTERNS, 1, size, size, dtype=kind, device=device)
        self.out = torch.empty_like(self.waves)
        self.all = slice(0, PATTERNS)
        self.near = NearField((size, size), (1e-7, 1e-7), 1e-10, 1e-3, torch.device(device), kind)
        synchronize(device)

    def time_transform(self, size: int, dtype: str, device: str) -> None:
        torch.fft.fft2(self.waves, out=self.out)
        synchronize(device)

    def time_near_field(self, size: int, dtype: str, device: str) -> None:
        self.near.forward(self.waves)
        synchronize(device)

    def time_modulus_change(self, size: int, dtype: str, device: str) -> None:
        self.model.modulus_change(self.waves, self.all)
        synchronize(device)

    def time_patches(self, size: int, dtype: str, device: str) -> None:
        self.model.patches(self.object, self.all)
        synchronize(device)

    def time_overlap_add(self, size: int, dtype: str, device: str) -> None:
        self.model.overlap_add(self.waves[:, 0], self.object, self.all)
        synchronize(device)

    def time_shifted_probe(self, size: int, dtype: str, device: str) -> None:
        self.held.at(self.all)
        synchronize(device)

    def time_shifted_back(self, size: int, dtype: str, device: str) -> None:
        self.model.shifted_back(self.waves, self.all)
        synchronize(device)

    def time_place(self, size: int, dtype: str, device: str) -> None:
        self.model.place(self.model.positions_px)
        synchronize(device)


class Kernels:
    """The compiled transforms, which are the floor of an epoch by kernels."""

    params = ([64, 128, 256, 512],)
    param_names = ("size",)
    number = 1
    warmup_time = 0.1
    repeat = (10, 50, 2.0)

    def setup(self, size: int) -> None:
        found = library.loaded()
        if found is None:
            raise NotImplementedError("no compiled kernels")
        self.transforms = found[1].pty_transforms_f32
        self.transforms.restype, self.transforms.argtypes = None, [ctypes.c_int64] * 3

    def time_transforms(self, size: int) -> None:
        """Eight there and eight back."""
        self.transforms(size, size, PATTERNS)


class Simulate:
    """A task of tier small: what a sweep does before each cell."""

    params = (task_names(),)
    param_names = ("task",)
    number = 1
    warmup_time = 0
    repeat = (3, 10, 4.0)
    unit = "bytes"

    def setup(self, task: str) -> None:
        torch.set_num_threads(1)
        self.task = load_task(task)
        simulate(self.task, 0)

    def time_simulate(self, task: str) -> None:
        simulate(self.task, 0)

    def track_memory(self, task: str) -> int:
        with Memory("cpu") as memory:
            simulate(self.task, 0)
        return memory.bytes


class Score:
    """A reconstruction of so many pixels a side, with noise: all metrics, and the alignment alone."""

    params = ([128, 512],)
    param_names = ("size",)
    number = 1
    warmup_time = 0
    repeat = (2, 5, 4.0)
    timeout = 120

    def setup_cache(self) -> dict[int, Any]:
        found = {}
        for size in self.params[0]:
            field_of_view = {"scan.field_of_view_px": [size - 64, size - 64]}
            problem, truth = simulate(load_task("low_overlap", "small", field_of_view), 0)
            rng = np.random.default_rng(0)
            noise = 0.1 * (rng.standard_normal(truth.object.shape) + 1j * rng.standard_normal(truth.object.shape))
            start = problem.initial
            estimate = Estimate(
                (truth.object + noise).astype(np.complex64), start.probe, start.positions_px, start.pixel_size_m
            )
            found[size] = estimate, truth, problem
        return found

    def setup(self, cases: dict[int, Any], size: int) -> None:
        torch.set_num_threads(1)
        self.case = cases[size]

    def time_score(self, cases: dict[int, Any], size: int) -> None:
        score(*self.case)

    def time_align(self, cases: dict[int, Any], size: int) -> None:
        estimate, truth, _ = self.case
        align(estimate, truth)


class Generate:
    """One training image."""

    params = (["dead_leaves:flat", "dead_leaves:textured"], [128, 512])
    param_names = ("generator", "size")
    number = 1
    warmup_time = 0
    repeat = (3, 10, 4.0)

    def setup(self, generator: str, size: int) -> None:
        self.generator = load_generator(generator)()

    def time_image(self, generator: str, size: int) -> None:
        self.generator.image(0, (size, size))
