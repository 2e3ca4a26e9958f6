"""The power of a raster's artefact on images whose artefact is known."""

from __future__ import annotations

import numpy as np
import pytest

from ptybench.scoring.raster import artefact_power, raster_steps

SIZE, STEP = 192, 18.0
Y, X = np.mgrid[:SIZE, :SIZE]


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = (0.7 + 0.2 * rng.random((SIZE, SIZE))) * np.exp(1j * rng.random((SIZE, SIZE)))
    scored = np.zeros((SIZE, SIZE), bool)
    scored[20:-20, 16:-18] = True
    return truth, scored


def grid(dy: float, dx: float, jitter: float = 0.0) -> np.ndarray:
    places = np.stack(np.meshgrid(np.arange(8) * dy + 3.3, np.arange(9) * dx + 1.2, indexing="ij"), -1).reshape(-1, 2)
    return places + np.random.default_rng(1).uniform(-jitter, jitter, places.shape)


def test_the_step_of_a_raster_is_read_from_its_positions() -> None:
    assert raster_steps(grid(18, 22.5)) == pytest.approx((18, 22.5))
    assert raster_steps(np.random.default_rng(0).permutation(grid(18, 22.5))) == pytest.approx((18, 22.5))
    assert raster_steps(grid(18, 18, jitter=1.0)) is None
    assert raster_steps(grid(18, 18)[:9]) is None  # one line


@pytest.mark.parametrize("strength", [0.02, 0.1])
@pytest.mark.parametrize("orders", [(1, 0), (0, 2), (1, 3)])
def test_a_wave_with_the_raster_s_period_has_half_its_square(
    scene: tuple[np.ndarray, np.ndarray], strength: float, orders: tuple[int, int]
) -> None:
    truth, scored = scene
    wave = strength * np.cos(2 * np.pi * (orders[0] * Y + orders[1] * X) / STEP + 0.4)
    found = artefact_power(truth * (1 + wave), truth, scored, (STEP, STEP))
    assert found == pytest.approx(strength**2 / 2, rel=0.1)


def test_a_periodic_factor_of_any_shape_counts_with_its_variance(scene: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scored = scene
    cell = 0.05 * np.random.default_rng(2).standard_normal((18, 18)) * np.exp(0.3j)
    factor = np.tile(cell - cell.mean(), (11, 11))[:SIZE, :SIZE]
    found = artefact_power(truth * (1 + factor), truth, scored, (STEP, STEP))
    assert found == pytest.approx(float(np.mean(np.abs(factor) ** 2)), rel=0.1)


def test_noise_blur_scale_and_other_periods_are_no_artefact(scene: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scored = scene
    noise = np.random.default_rng(3).standard_normal((2, SIZE, SIZE)) * 0.1
    images = [
        truth * (1 + noise[0] + 1j * noise[1]),
        truth * 1.2,
        truth * (1 + 0.1 * np.cos(2 * np.pi * Y / 13)),
        truth,
    ]
    powers = [artefact_power(image, truth, scored, (STEP, STEP)) for image in images]
    assert max(powers) < 5e-4
    assert powers[3] == 0
