"""Operator norms of convolutions: the certified bound against the singular values of the convolution itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ptybench.networks.denoisers import network_names, network_path
from ptybench.networks.dncnn import DnCNN, NormalizedConv2d, deployed, nonexpansive
from ptybench.networks.files import read_chain
from ptybench.networks.lipschitz import largest_stretch, power_iteration
from ptybench.networks.norms import NormEstimate, certified_norm

RNG = np.random.default_rng(0)


def dense(kernel: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The matrix of the zero-padded convolution on an image, column by column."""
    inputs = kernel.shape[1]
    images = torch.eye(inputs * shape[0] * shape[1], dtype=torch.float64).reshape(-1, inputs, *shape)
    return (
        torch.nn.functional.conv2d(images, torch.from_numpy(kernel), padding=kernel.shape[-1] // 2).flatten(1).numpy().T
    )


def periodic(kernel: np.ndarray, side: int) -> float:
    """The largest singular value of the periodic convolution on ``side²`` pixels, exact by Sedghi et al. 2019."""
    symbols = np.fft.fft2(kernel, (side, side), axes=(2, 3)).transpose(2, 3, 0, 1)
    return float(np.linalg.svd(symbols, compute_uv=False).max())


@pytest.mark.parametrize(("outputs", "inputs", "side"), [(3, 3, 3), (1, 4, 3), (5, 1, 3), (2, 2, 5), (2, 3, 1)])
def test_bound_against_the_matrix_of_the_convolution(outputs: int, inputs: int, side: int) -> None:
    kernel = RNG.standard_normal((outputs, inputs, side, side))
    bound = certified_norm(kernel)
    found = np.linalg.svd(dense(kernel, (20, 20)), compute_uv=False)[0]
    assert found <= bound
    # zero padding of a finite image costs some; the periodic convolution has the plane's norm but for its grid
    exact = periodic(kernel, 128)
    assert exact <= bound <= 1.001 * exact


@settings(max_examples=15, deadline=None)
@given(arrays(np.float64, (2, 2, 3, 3), elements=st.floats(-1, 1, width=32)))
def test_bound_is_never_below_the_periodic_convolution(kernel: np.ndarray) -> None:
    bound = certified_norm(kernel)
    exact = periodic(kernel, 48)
    assert exact <= bound + 1e-300
    assert bound <= 1.01 * exact + 1e-9


def test_bound_of_kernels_whose_norm_is_known() -> None:
    shift = np.zeros((1, 1, 3, 3))
    shift[0, 0, 0, 2] = -2
    assert certified_norm(shift) == pytest.approx(2, rel=2e-4)
    laplacian = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None] * 1.0
    assert certified_norm(laplacian) == pytest.approx(8, rel=2e-4)
    # the maximum lies between the points of every power-of-two grid: at ω = 2π/3 along both axes
    tilted = np.zeros((1, 1, 3, 3))
    tilted[0, 0, 0] = [1, -0.5, -0.5]
    assert 1 <= certified_norm(tilted) / periodic(tilted, 96) <= 1.0002
    assert certified_norm(np.full((1, 1, 3, 3), np.nan)) == np.inf


def test_estimate_of_training_finds_the_norm_and_its_gradient() -> None:
    kernel = torch.from_numpy(RNG.standard_normal((6, 5, 3, 3))).float()
    estimate = NormEstimate(kernel)
    for _ in range(100):
        value = estimate(kernel)
    assert float(value) == pytest.approx(certified_norm(kernel.double().numpy()), rel=0.02)
    change = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(0))
    leaf = kernel.clone().requires_grad_()
    estimate(leaf).backward()
    assert leaf.grad is not None
    step = 1e-2
    ahead, behind = (float(_settled(kernel + sign * step * change)) for sign in (1, -1))
    assert float((leaf.grad * change).sum()) == pytest.approx((ahead - behind) / (2 * step), rel=0.05)


def _settled(kernel: torch.Tensor) -> torch.Tensor:
    estimate = NormEstimate(kernel)
    for _ in range(200):
        value = estimate(kernel)
    return value


def test_power_iteration_stays_below_the_bound() -> None:
    kernel = torch.from_numpy(RNG.standard_normal((8, 8, 3, 3)))
    bound, found = certified_norm(kernel.numpy()), power_iteration(kernel, (40, 40))
    assert 0.97 * bound < found < bound


def test_no_input_stretches_a_network_that_is_proved_nonexpansive() -> None:
    torch.manual_seed(0)
    network = DnCNN(6, 8, "realsn")
    with torch.no_grad():  # as training may leave it: far from its beginning
        for part in network.parts:
            if isinstance(part, NormalizedConv2d):
                part.weight.add_(0.3 * torch.randn(part.weight.shape))
    chain = deployed(network)
    images = torch.rand(3, 16, 16)
    found = max(largest_stretch(chain.residual, images, ascent=ascent) for ascent in (0.0, 0.1, 1.0))
    assert 0 < found <= 1
    # pairs of images, too
    a, b = torch.randn(2, 50, 1, 24, 24)
    assert ((chain.residual(a) - chain.residual(b)).flatten(1).norm(dim=1) <= (a - b).flatten(1).norm(dim=1)).all()


def test_a_stretch_is_found() -> None:
    kernel = torch.from_numpy(RNG.standard_normal((1, 1, 3, 3))).float()

    def twice(image: torch.Tensor) -> torch.Tensor:
        return 2 * torch.nn.functional.conv2d(image, nonexpansive(kernel), padding=1)

    assert largest_stretch(twice, torch.rand(2, 32, 32), steps=200) == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("name", network_names())
def test_layers_of_the_shipped_networks(name: str) -> None:
    chain = read_chain(network_path(name))
    for layer in chain.convolutions:
        kernel = layer.weight.double().numpy()
        bound = certified_norm(kernel)
        exact = periodic(kernel, 32)
        assert exact <= bound <= 1.01 * exact
        assert power_iteration(layer.weight, (24, 24), steps=30) <= bound
        if name == "realsn":
            assert layer.bias is None
            assert bound <= 1


def test_the_shipped_nonexpansive_network_is() -> None:
    chain = read_chain(network_path("realsn"))
    found = largest_stretch(chain.residual, torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert 0 < found <= 1
