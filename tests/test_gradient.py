"""The differentiable forward model against autograd, finite differences and its compiled kernel."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from problems import make_problem
from torch import Tensor
from torch.nn.functional import grid_sample

from ptybench.engines.gradient import Batch, Differentiable, Gradient, Sampler, Sampling, Wanted
from ptybench.engines.losses import LOSSES, Gaussian
from ptybench.engines.setting import Setting, smooth
from ptybench.native import library
from ptybench.optics.forward import ForwardModel
from ptybench.types import Measurement

SHAPE = (16, 18)
INDEX = [7, 2, 5, 0]
EVERYTHING = Wanted(True, True, True)
GEOMETRIES = ["far", "parallel", "diverging"]
FLOOR = 1e-8


class Bench:
    """A measurement, somewhere to be, and the model there; complex128 throughout."""

    def __init__(
        self, geometry: str, sampling: Sampling, loss: str, padding: bool = True, modes: int = 2, dark: bool = True
    ) -> None:
        near = geometry != "far"
        problem = make_problem(
            SHAPE, (3, 3), 3.0, modes=modes, near_field=near, photons=1e4, noise=True, bad_pixels=True
        )
        m = problem.measurement
        if near:
            m = replace(m, distance_m=0.5)
        else:
            m = replace(m, wavelength_m=1e-10, distance_m=1.0, pixel_size_m=(1e-8, 1e-8))
        if geometry == "diverging":
            m = replace(m, source_distance_m=1.5)
        if not dark:
            m = replace(m, intensities=m.intensities + 1)
        self.measurement: Measurement = m
        self.model = ForwardModel(m, torch.device("cpu"), dtype=torch.complex128)
        self.setting = Setting(m, torch.device("cpu"), torch.complex128, padding)
        self.of = Differentiable(self.model, LOSSES[loss](FLOOR))
        self.sampling: Sampling = sampling
        draw = torch.Generator().manual_seed(1)
        self.objects = torch.stack(
            [torch.as_tensor(problem.object), 0.2 * torch.randn(m.canvas, generator=draw, dtype=torch.complex128)]
        )
        self.probe = torch.as_tensor(problem.probe) * (1.1 + 0.2j)
        self.positions = m.positions_px[INDEX] + 0.013
        self.zeta = 1.07

    def batch(self, **changes: Any) -> Batch:
        sight = self.setting.at(changes.pop("zeta", self.zeta))
        there = Batch(INDEX, self.objects, self.probe, self.positions, sight, self.sampling, EVERYTHING)
        return replace(there, **changes)

    def gradient(self, **changes: Any) -> Gradient:
        return self.of(self.batch(**changes))

    def by_torch(self) -> Gradient:
        return Differentiable(self.model, self.of.loss).by_torch(self.batch())  # with arrays of its own

    def loss(self, objects: Tensor, probe: Tensor, positions: Tensor, zeta: Tensor) -> Tensor:
        """The loss in operations that autograd can differentiate, written apart from the package's."""
        m, (h, w) = self.measurement, SHAPE
        corner = positions.detach().floor()
        whole = [(int(y), int(x)) for y, x in corner]
        fraction = positions - corner
        if self.sampling == "bilinear":
            patches = bilinear(objects, positions)
            probes = probe.expand(len(INDEX), *probe.shape)
        else:
            patches = torch.stack([objects[:, y : y + h, x : x + w] for y, x in whole])
            probes = torch.fft.ifft2(torch.fft.fft2(probe) * ramp(fraction, SHAPE)[:, None])
        waves = probes[:, :, None] * patches[:, None]
        if m.propagation == "far_field":
            waves = torch.fft.fft2(waves, norm="ortho")
        else:
            assert m.wavelength_m is not None
            assert m.distance_m is not None
            assert m.pixel_size_m is not None
            size = self.setting.padded
            z, pixel = zeta * m.distance_m, torch.tensor(m.pixel_size_m[0], dtype=torch.float64)
            if m.source_distance_m is not None:
                z1 = m.source_distance_m
                z2 = m.distance_m * z1 / (z1 - m.distance_m)
                pitch = pixel * (z1 + z2) / z1
                pixel = pitch * zeta * z1 / (zeta * z1 + z2)
                z = zeta * z1 * z2 / (zeta * z1 + z2)
            fy, fx = (torch.fft.fftfreq(n, dtype=torch.float64) / pixel for n in size)
            squared = m.wavelength_m**2 * (fy[:, None] ** 2 + fx**2)
            phase = -2 * math.pi / m.wavelength_m * z * squared / (1 + (1 - squared).sqrt())
            kernel = torch.polar(torch.ones_like(phase), phase) * (self.setting.at(zeta.item()).transfer != 0)
            if self.sampling == "fourier":
                kernel = (kernel * ramp(-fraction, size))[:, None, None]
            waves = torch.fft.ifft2(torch.fft.fft2(waves, s=size) * kernel)[..., :h, :w]
        expected = (waves.real**2 + waves.imag**2).sum(dim=(1, 2))
        loss = self.of.loss
        values, _ = loss.terms(expected, self.model.amplitudes[INDEX])
        assert self.model.good is not None
        return loss.scale * (values * self.model.good).sum()


def ramp(fraction: Tensor, shape: tuple[int, int]) -> Tensor:
    fy, fx = (torch.fft.fftfreq(n, dtype=torch.float64) for n in shape)
    phase = -2 * math.pi * (fraction[:, :1, None] * fy[:, None] + fraction[:, 1:, None] * fx)
    return torch.polar(torch.ones_like(phase), phase)


def bilinear(objects: Tensor, positions: Tensor) -> Tensor:
    """Windows by torch's own sampler, real and imaginary parts as channels."""
    (h, w), (height, width) = SHAPE, objects.shape[-2:]
    y = (positions[:, 0, None] + torch.arange(h)) * 2 / (height - 1) - 1
    x = (positions[:, 1, None] + torch.arange(w)) * 2 / (width - 1) - 1
    grid = torch.stack([x[:, None, :].expand(-1, h, w), y[:, :, None].expand(-1, h, w)], dim=-1)
    planes = torch.cat([objects.real, objects.imag]).expand(len(positions), -1, -1, -1)
    seen = grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return torch.complex(*seen.chunk(2, dim=1))


def by_autograd(bench: Bench) -> tuple[float, list[Tensor]]:
    zeta = torch.tensor(bench.zeta, dtype=torch.float64)
    leaves = [bench.objects.clone(), bench.probe.clone(), torch.as_tensor(bench.positions), zeta]
    for leaf in leaves:
        leaf.requires_grad_()
    loss = bench.loss(*leaves)
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    return loss.item(), [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, gradients, strict=True)]


def parts(found: Gradient) -> list[Tensor]:
    return [
        found.object,
        found.probe,
        torch.as_tensor(found.positions),
        torch.tensor(found.distance, dtype=torch.float64),
    ]


def assert_same(found: list[Tensor], right: list[Tensor], tolerance: float) -> None:
    for a, b in zip(found, right, strict=True):
        assert float((a - b).abs().max()) <= tolerance * float(b.abs().max()) + 1e-12


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("sampling", ["fourier", "bilinear"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_gradients_are_those_of_autograd(geometry: str, sampling: Sampling, loss: str) -> None:
    bench = Bench(geometry, sampling, loss)
    value, right = by_autograd(bench)
    found = bench.by_torch()
    assert found.loss == pytest.approx(value, rel=1e-10)
    assert_same(parts(found), right, 1e-8)


@pytest.mark.skipif(library.loaded() is None, reason="no compiled kernels")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("sampling", ["fourier", "bilinear", "crop"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_kernel_does_what_torch_does(geometry: str, sampling: Sampling, loss: str, threads: int) -> None:
    bench = Bench(geometry, sampling, loss)
    if sampling == "crop":
        bench.positions = np.round(bench.positions)
    right = bench.by_torch()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = bench.gradient()
    finally:
        torch.set_num_threads(before)
    if sampling == "crop":
        right.positions[:] = 0
    assert found.loss == pytest.approx(right.loss, rel=1e-9)
    assert found.error == pytest.approx(right.error, rel=1e-9)
    assert_same(parts(found), parts(right), 1e-9)


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("sampling", ["fourier", "bilinear"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_gradients_are_finite_differences(geometry: str, sampling: Sampling, loss: str) -> None:
    bench = Bench(geometry, sampling, loss)
    found = bench.gradient()
    expected = [found.object.clone(), found.probe.clone(), found.positions.copy(), found.distance]
    rng = np.random.default_rng(3)

    def along(name: str, direction: Any, step: float) -> float:
        start = getattr(bench, name)
        values = [bench.gradient(**{name: start + t * step * direction}).loss for t in (-2, -1, 1, 2)]
        return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)

    for name, gradient, step in (("objects", expected[0], 1e-5), ("probe", expected[1], 1e-4)):
        draw = rng.standard_normal((2, *gradient.shape))
        direction = torch.as_tensor(draw[0] + 1j * draw[1])
        slope = float(torch.vdot(gradient.flatten(), direction.flatten()).real)
        assert along(name, direction, step) == pytest.approx(slope, rel=1e-6, abs=1e-6 * float(gradient.abs().max()))
    direction = rng.standard_normal((4, 2))
    assert along("positions", direction, 1e-4) == pytest.approx(float((expected[2] * direction).sum()), rel=1e-6)
    if geometry != "far":
        assert along("zeta", 1.0, 1e-4) == pytest.approx(expected[3], rel=1e-6)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_slopes_stay_finite_where_nothing_is_expected(loss: str) -> None:
    terms = LOSSES[loss](FLOOR).terms
    expected = torch.tensor([0.0, 0.0, 1e-30, 1e-12], dtype=torch.float64)
    amplitude = torch.tensor([0.0, 2.0, 2.0, 0.0], dtype=torch.float64)
    values, slopes = terms(expected, amplitude)
    assert torch.isfinite(values).all()
    assert torch.isfinite(slopes * expected.sqrt()).all()
    # where √D is above ten times √ε the slope is that of the loss without ε
    bright = torch.logspace(math.log10(100 * FLOOR), 3, 50, dtype=torch.float64)
    _, with_floor = terms(bright, torch.full_like(bright, 1.5))
    _, without = LOSSES[loss](0.0).terms(bright, torch.full_like(bright, 1.5))
    assert torch.allclose(with_floor, without, rtol=2e-2)


def test_losses_bend_alike_where_they_are_least() -> None:
    measured = torch.tensor(400.0, dtype=torch.float64)
    bends = {}
    for name, kind in LOSSES.items():
        low, high = (kind(0.0).terms(measured + step, measured.sqrt())[1] for step in (-0.01, 0.01))
        bends[name] = float((high - low) / 0.02)
    assert bends["gaussian"] / bends["poisson"] == pytest.approx(0.5, rel=1e-3)
    assert bends["poisson"] / bends["r"] == pytest.approx(1, rel=1e-3)
    assert bends["r"] / bends["gaussian"] == pytest.approx(2, rel=1e-3)
    assert {name: kind.scale for name, kind in LOSSES.items()} == {"poisson": 0.5, "gaussian": 1.0, "r": 0.5}


def test_splitting_counts_among_states_changes_no_loss() -> None:
    draw = torch.Generator().manual_seed(0)
    states = torch.rand(5, 40, generator=draw, dtype=torch.float64) + 0.1
    measured = torch.poisson(torch.full((40,), 3.0, dtype=torch.float64), generator=draw)
    total = states.sum(dim=0)
    shares = measured * states / total
    for name, kind in LOSSES.items():
        loss = kind(0.0)
        whole, _ = loss.terms(total, measured.sqrt())
        if name == "r":  # its floor of one photon is of the whole count
            split = torch.where(shares > 0, (states - shares) ** 2 / (2 * shares.clamp_min(1e-300)), states)
        elif name == "poisson":
            split = states - shares - torch.xlogy(shares, states / shares)
            split = torch.where(shares > 0, split, states)
            whole = torch.where(measured > 0, whole, total)
        else:
            split, _ = loss.terms(states, shares.sqrt())
        assert torch.allclose(split.sum(dim=0), whole)


@pytest.mark.parametrize("sampling", ["fourier", "bilinear"])
def test_the_sampler_and_its_adjoint(sampling: Sampling) -> None:
    bench = Bench("far", sampling, "gaussian")
    room = np.array(bench.model.canvas) - SHAPE
    positions = np.array([[0, 0], room, [0.25, room[1] - 0.5], [1.5, 2.75]], dtype=float)  # the edges too
    sampler = Sampler(bench.model, positions, sampling)
    draw = torch.Generator().manual_seed(2)
    windows = torch.randn(4, 2, *SHAPE, generator=draw, dtype=torch.complex128)
    canvas = torch.zeros_like(bench.objects)
    sampler.add(windows, canvas)
    seen = sampler.look(bench.objects)
    assert torch.allclose(
        torch.vdot(seen.flatten(), windows.flatten()), torch.vdot(bench.objects.flatten(), canvas.flatten())
    )
    if sampling == "bilinear":
        assert torch.allclose(seen, bilinear(bench.objects, torch.as_tensor(positions)))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_setting_at_the_nominal_distance_is_the_nominal_one(geometry: str) -> None:
    bench = Bench(geometry, "fourier", "gaussian")
    m, sight = bench.measurement, bench.setting.at(1.0)
    assert sight.pixel_m == pytest.approx(m.pixel_size_m)
    assert sight.distance_m == pytest.approx(m.distance_m)
    assert sight.shrinkage[0] == pytest.approx(1)
    assert bench.setting.of(bench.setting.at(1.2).distance_m or 0) == pytest.approx(1.2)
    step = 1e-6
    slope = (bench.setting.at(1.1 + step).shrinkage[0] - bench.setting.at(1.1 - step).shrinkage[0]) / (2 * step)
    assert bench.setting.at(1.1).shrinkage[1] == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_a_diverging_beam_follows_from_its_focus() -> None:
    # z1 = 0.2 m, z2 = 0.8 m: M = 5; with z1 = 0.3 m it is 11/3
    problem = make_problem((16, 16), near_field=True)
    m = replace(problem.measurement, source_distance_m=0.2, distance_m=0.8 / 5, pixel_size_m=(2e-6 / 5, 2e-6 / 5))
    sight = Setting(m, torch.device("cpu"), torch.complex128, padding=False).at(1.5)
    assert sight.distance_m == pytest.approx(0.8 / (1.1 / 0.3))
    assert sight.pixel_m == pytest.approx((2e-6 / (1.1 / 0.3),) * 2)


def test_padding_keeps_light_from_coming_back() -> None:
    """A window padded by what the sampling theorem asks for sees what one padded eightfold sees."""
    problem = make_problem((32, 32), (2, 2), near_field=True)
    m = replace(problem.measurement, distance_m=0.15 / 1.55)  # λ z is 15 square pixels
    errors = []
    wide = near_wave(m, (256, 256))
    for padding in (False, True):
        size = Setting(m, torch.device("cpu"), torch.complex128, padding).padded
        errors.append(float((near_wave(m, size) - wide).abs().max() / wide.abs().max()))
    assert errors[1] < 2e-2 < errors[0]
    assert [smooth(n) for n in (17, 42, 121)] == [18, 42, 126]


def near_wave(m: Measurement, size: tuple[int, int]) -> Tensor:
    setting = Setting(m, torch.device("cpu"), torch.complex128, padding=False)
    setting.padded = size
    transfer = setting.at(1.0).transfer
    assert transfer is not None
    light = torch.zeros(32, 32, dtype=torch.complex128)
    light[2:8, 12:20] = 1  # close to an edge
    return torch.fft.ifft2(torch.fft.fft2(light, s=size) * transfer)[:32, :32]


def test_memory_does_not_depend_on_the_number_of_patterns() -> None:
    bench = Bench("far", "fourier", "gaussian")
    bench.gradient()
    held = sum(tensor.numel() for tensor in bench.of._room.values())
    assert held == bench.objects.numel() + bench.probe.numel()
    assert isinstance(bench.of.loss, Gaussian)
