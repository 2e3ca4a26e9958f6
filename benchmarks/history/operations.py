"""Every hot operation."""

from __future__ import annotations

import numpy as np
import torch

from ptybench.optics.forward import ForwardModel, ShiftedProbe
from ptybench.registry import load_task
from ptybench.scoring import score
from ptybench.simulation import simulate
from ptybench.types import Estimate

from .problems import measurement, need, synchronize


class Forward:
    """The pieces of an epoch in torch, eight patterns at a time."""

    params = ([64, 128, 256, 512], ["cpu", "cuda"])
    param_names = ("size", "device")

    def setup(self, size: int, device: str) -> None:
        need(device)
        torch.set_num_threads(1)
        self.model = ForwardModel(measurement(size, 8, subpixel=True), torch.device(device))
        self.probe = torch.ones(1, size, size, dtype=torch.complex64, device=device)
        self.held = ShiftedProbe(self.model, self.probe)
        self.object = torch.ones(self.model.canvas, dtype=torch.complex64, device=device)
        self.waves = torch.randn(8, 1, size, size, dtype=torch.complex64, device=device)
        self.out = torch.empty_like(self.waves)
        self.all = slice(0, 8)

    def time_transform(self, size: int, device: str) -> None:
        torch.fft.fft2(self.waves, out=self.out)
        synchronize(device)

    def time_modulus_change(self, size: int, device: str) -> None:
        self.model.modulus_change(self.waves, self.all)
        synchronize(device)

    def time_patches(self, size: int, device: str) -> None:
        self.model.patches(self.object, self.all)
        synchronize(device)

    def time_overlap_add(self, size: int, device: str) -> None:
        self.model.overlap_add(self.waves[:, 0], self.object, self.all)
        synchronize(device)

    def time_shifted_probe(self, size: int, device: str) -> None:
        self.held.at(self.all)
        synchronize(device)

    def time_shifted_back(self, size: int, device: str) -> None:
        self.model.shifted_back(self.waves, self.all)
        synchronize(device)

    def time_place(self, size: int, device: str) -> None:
        self.model.place(self.model.positions_px)
        synchronize(device)


class Simulate:
    """A task of tier small."""

    params = (["low_dose", "low_overlap", "position_jitter", "wrong_distance", "noisy_poisson"],)
    param_names = ("task",)
    number = 1

    def setup(self, task: str) -> None:
        self.task = load_task(task)
        torch.set_num_threads(1)

    def time_simulate(self, task: str) -> None:
        simulate(self.task, 0)

    def peakmem_simulate(self, task: str) -> None:
        simulate(self.task, 0)


class Score:
    """All metrics of a reconstruction of 512 by 512 pixels, and of a small task's."""

    number = 1
    timeout = 600

    def setup(self) -> None:
        torch.set_num_threads(2)
        self.problem, self.truth = simulate("low_dose", 0)
        rng = np.random.default_rng(0)
        noise = 0.1 * (rng.standard_normal(self.truth.object.shape) + 1j * rng.standard_normal(self.truth.object.shape))
        start = self.problem.initial
        self.estimate = Estimate(
            (self.truth.object + noise).astype(np.complex64), start.probe, start.positions_px, start.pixel_size_m
        )

    def time_score(self) -> None:
        score(self.estimate, self.truth, self.problem)
