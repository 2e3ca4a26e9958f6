"""Dead leaves against what is known of them: who hides whom, how large, how grey, how rough."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ptybench.datasets.dead_leaves import DRAWS, DeadLeaves, TexturedLeaves, corner_angles, cover, radius_quantile
from ptybench.datasets.textures import fold, power_law_textures
from scipy import stats
from skimage.measure import points_in_poly

KINDS = ("circle", "square", "rectangle", "triangle", "quadrilateral")
VARIANTS = [DeadLeaves(), TexturedLeaves()]
NAMES = [one.generates for one in VARIANTS]


def deviates(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).random((count, DRAWS))


def inside(generator: DeadLeaves, row: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Which pixel centres one leaf covers, by its corners and another package's point-in-polygon test."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    centre = row[2:4] * shape
    radius = radius_quantile(row[1:2], *generator.radius)[0] * min(shape)
    kind = np.array(generator.shapes)[[int(row[0] * len(generator.shapes))]]
    if kind[0] == "circle":
        return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
    angles = corner_angles(kind, row[None, 5:], generator.turned)[0]
    corners = centre + radius * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    return points_in_poly(np.stack([y.ravel(), x.ravel()], axis=1), corners).reshape(shape)


# --- who hides whom --------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5),
    turned=st.booleans(),
    low=st.floats(0.02, 0.3),
)
def test_topmost_first_is_what_a_painter_gets_from_below(
    seed: int, shape: tuple[int, int], kinds: list[Any], turned: bool, low: float
) -> None:
    count = 60
    generator = DeadLeaves(shapes=tuple(kinds), turned=turned, radius=(low, 1.0), max_leaves=count)
    rows = deviates(seed, count)
    painted = np.full(shape, count - 1)  # what no leaf covers is the last one's
    for k in reversed(range(count)):
        painted[inside(generator, rows[k], shape)] = k
    np.testing.assert_array_equal(generator.labels(rows, shape), painted)


def test_leaves_cover_every_pixel_long_before_there_are_no_more() -> None:
    for seed in range(20):
        seen = DeadLeaves().labels(deviates(seed, 5000), (128, 128))
        assert seen.min() == 0
        assert 500 < seen.max() < 4500


def test_more_leaves_below_change_nothing() -> None:
    rows = deviates(1, 6000)
    few, many = (DeadLeaves().labels(rows[:count], (64, 96)) for count in (4000, 6000))
    np.testing.assert_array_equal(few, many)


@given(st.sampled_from(KINDS), st.lists(st.floats(0, 0.999), min_size=4, max_size=4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_leafs_area_is_that_of_its_polygon(kind: Any, angles: list[float], turned: bool) -> None:
    generator = DeadLeaves(shapes=(kind,), turned=turned, radius=(0.39, 0.4))
    row = np.array([[0.0, 0.5, 0.5, 0.5, 0.0, *angles]])
    leaves = generator.leaves(row, (300, 300))
    radius = leaves.radius[0]
    pixels, _ = cover(leaves, (300, 300))
    corners = np.exp(1j * corner_angles(np.array([kind]), row[:, 5:], turned)[0])
    area = np.pi if kind == "circle" else np.sum((np.conj(corners) * np.roll(corners, -1)).imag) / 2
    # a border of length L is off by at most half a pixel along it
    assert abs(len(pixels) - area * radius**2) < 0.5 * 2 * np.pi * radius
    assert len(np.unique(pixels)) == len(pixels)


def test_upright_boxes_have_level_edges() -> None:
    boxes = DeadLeaves(shapes=("square", "rectangle"), radius=(0.2, 0.9), turned=False)
    seen = boxes.labels(deviates(3, 400), (80, 80))
    top = np.argwhere(seen == 0)
    (first_y, first_x), (last_y, last_x) = top.min(0), top.max(0)
    assert len(top) == (last_y - first_y + 1) * (last_x - first_x + 1)
    turned = DeadLeaves(shapes=("square",), radius=(0.2, 0.9)).labels(deviates(3, 400), (80, 80))
    corners = np.argwhere(turned == 0)
    assert len(corners) < 0.95 * np.prod(np.ptp(corners, axis=0) + 1)


def test_a_larger_image_shows_the_same_leaves_larger() -> None:
    small, large = (DeadLeaves().labels(deviates(5, 5000), (size, size)) for size in (64, 192))
    assert np.mean(small == large[1::3, 1::3]) > 0.99


# --- how large, how grey ---------------------------------------------------------------------------------------------


def below(r: np.ndarray, low: float, high: float) -> np.ndarray:
    """The distribution of p(r) ~ r^-3 - high^-3, integrated by hand."""

    def integral(x: np.ndarray | float) -> Any:
        return -0.5 / np.square(x) - x / high**3

    return (integral(r) - integral(low)) / (integral(high) - integral(low))


@given(st.floats(0.001, 0.5), st.floats(1.05, 50))
@settings(max_examples=50, deadline=None)
def test_radii_follow_their_law(low: float, ratio: float) -> None:
    u = np.linspace(0, 1, 501)
    radii = radius_quantile(u, low, low * ratio)
    assert radii[0] == pytest.approx(low)
    assert radii[-1] == pytest.approx(low * ratio)
    np.testing.assert_allclose(below(radii, low, low * ratio), u, atol=3e-4)


def test_many_leaves_have_the_sizes_places_and_kinds_that_they_should() -> None:
    count, shape = 100_000, (60, 90)
    rows = deviates(11, count)
    leaves = DeadLeaves().leaves(rows, shape)
    assert stats.kstest(leaves.radius / 60, lambda r: below(r, 0.03, 1.0)).pvalue > 0.001
    for axis in (0, 1):
        assert stats.kstest(leaves.centre[:, axis] / shape[axis], "uniform").pvalue > 0.001
    circles = np.isinf(leaves.offset).all(axis=1)
    assert stats.binomtest(int(circles.sum()), count, 0.2).pvalue > 0.001
    # the mean of r² under the law, from the closed form; it decides how much a leaf covers
    mean = (np.log(1 / 0.03) - (1 - 0.03**3) / 3) / ((0.03**-2 - 1) / 2 - (1 - 0.03))
    assert np.mean((leaves.radius / 60) ** 2) == pytest.approx(mean, rel=0.05)


@pytest.mark.parametrize(
    "generator", [DeadLeaves(), TexturedLeaves(), TexturedLeaves(contrast=(0.5, 1.0))], ids=["flat", "textured", "much"]
)
def test_all_grey_values_are_equally_frequent(generator: DeadLeaves) -> None:
    # one pixel of each image: those of one image depend on each other
    greys = [generator.image(k, (8, 8))[3, 4] for k in range(500)]
    assert stats.kstest(greys, "uniform").pvalue > 0.001


@given(st.floats(-50, 50))
def test_folding_reflects_at_black_and_white(grey: float) -> None:
    folded = fold(np.array([grey, -grey, grey + 2, 2 - grey]))
    assert ((folded >= 0) & (folded <= 1)).all()
    np.testing.assert_allclose(folded, folded[0], atol=1e-12)
    if 0 <= grey <= 1:
        assert folded[0] == pytest.approx(grey)


# --- textures --------------------------------------------------------------------------------------------------------


@given(st.floats(0, 4), st.integers(0, 2**32), st.tuples(st.integers(8, 48), st.integers(8, 48)))
@settings(max_examples=30, deadline=None)
def test_a_textures_spectrum_is_its_power_law(slope: float, seed: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    textures = power_law_textures(rng, 3, shape, (slope, slope), (1, 1), (0.01, 1))
    np.testing.assert_allclose(textures.mean(axis=(1, 2)), 0, atol=1e-10)
    np.testing.assert_allclose(textures.std(axis=(1, 2)), 1)
    f = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1]))
    amplitude = np.abs(np.fft.fft2(textures))[:, f > 0]
    law = f[f > 0] ** -slope
    scale = amplitude.sum(axis=1, keepdims=True) / law.sum()
    np.testing.assert_allclose(amplitude, scale * law, rtol=1e-6, atol=1e-9 * amplitude.max())


def test_a_stretched_texture_has_an_axis() -> None:
    textures = power_law_textures(np.random.default_rng(0), 8, (96, 96), (2, 2), (3, 3), (1, 1))
    f = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.fftfreq(96))
    ring = (f > 0.2) & (f < 0.21)
    for texture in textures:
        amplitude = np.abs(np.fft.fft2(texture))[ring]
        assert amplitude.max() / amplitude.min() == pytest.approx(3**2, rel=0.15)


def test_sparse_noise_makes_spots() -> None:
    def kurtosis(density: float) -> float:
        textures = power_law_textures(np.random.default_rng(1), 4, (64, 64), (0, 0), (1, 1), (density, density))
        return float(np.mean(textures**4))

    assert kurtosis(1.0) == pytest.approx(3, abs=0.2)
    assert kurtosis(0.01) > 10


@pytest.mark.parametrize("slope", [1.0, 2.0])
def test_a_leaf_is_as_rough_as_its_texture(slope: float) -> None:
    one = {"shapes": ("circle",), "radius": (1.9, 2.0), "textures": 1, "stretch": (1, 1), "slope": (slope, slope)}
    image = TexturedLeaves(**one, contrast=(0.01, 0.01)).image(4, (64, 64))
    assert image.min() > 0.05
    assert image.max() < 0.95  # nothing was reflected
    assert image.std() == pytest.approx(0.01)
    f = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64))
    power = np.abs(np.fft.fft2(image)) ** 2
    fit = np.polyfit(np.log(f[f > 0]), np.log(power[f > 0]), 1)
    assert fit[0] == pytest.approx(-2 * slope, abs=1e-6)


def test_neighbouring_leaves_have_greys_and_textures_of_their_own() -> None:
    generator = TexturedLeaves(contrast=(0.1, 0.1), slope=(0.5, 0.5))
    rng = np.random.default_rng(3)
    labels = np.repeat([[0], [1], [2], [3]], 32, axis=0).repeat(128, axis=1)
    image = generator.paint(rng, labels, np.array([0.5, 0.5, 0.2, 0.8]))
    bands = image.reshape(4, 32, 128)
    # the share of the grey scale that is doubled is reflected: a leaf's mean is its grey or what white reflects
    for band, grey in zip(bands, (0.5, 0.5, 0.2, 0.8), strict=True):
        assert min(abs(band.mean() - grey), abs(band.mean() - (1 - grey))) < 0.05
        assert band.std() == pytest.approx(0.1, abs=0.03)
    together = np.corrcoef(bands.reshape(4, -1))
    assert np.abs(together[np.triu_indices(4, 1)]).max() < 0.2


# --- the images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generator", VARIANTS, ids=NAMES)
@given(shape=st.tuples(st.integers(8, 50), st.integers(8, 50)), seed=st.integers(0, 9), scale=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_any_size_gives_grey_values(generator: DeadLeaves, shape: tuple[int, int], seed: int, scale: int) -> None:
    image = generator.model_copy(update={"oversampling": scale}).image(0, shape, seed=seed)
    assert image.shape == shape
    assert image.dtype == np.float64
    assert image.min() >= 0
    assert image.max() <= 1
    assert image.std() > 0.05


@pytest.mark.parametrize("generator", VARIANTS, ids=NAMES)
def test_each_image_has_a_stream_of_its_own(generator: DeadLeaves) -> None:
    first = generator.image(3, (32, 32), domain="train", seed=1)
    np.testing.assert_array_equal(first, generator.image(3, (32, 32), domain="train", seed=1))
    others = [
        generator.image(4, (32, 32), domain="train", seed=1),
        generator.image(3, (32, 32), domain="train", seed=2),
        generator.image(3, (32, 32), domain="dev", seed=1),
    ]
    for other in others:
        assert np.mean(first == other) < 0.2


def test_the_variants_are_flat_and_textured() -> None:
    flat, textured = (one.image(0, (128, 128)) for one in VARIANTS)
    assert 100 < len(np.unique(flat)) < 600
    assert len(np.unique(textured)) > 16000


def test_oversampling_is_the_mean_of_a_finer_image() -> None:
    rows = deviates(8, 5000)
    fine = rows[:, 4][DeadLeaves().labels(rows, (96, 120))]
    soft = DeadLeaves(oversampling=3).draw(np.random.default_rng(8), (32, 40))
    np.testing.assert_allclose(soft, fine.reshape(32, 3, 40, 3).mean(axis=(1, 3)))


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (DeadLeaves, {"radius": (0.5, 0.5)}),
        (DeadLeaves, {"radius": (0.0, 0.5)}),
        (DeadLeaves, {"shapes": ()}),
        (DeadLeaves, {"shapes": ("star",)}),
        (DeadLeaves, {"slope": (1, 2)}),  # of textured leaves only
        (TexturedLeaves, {"contrast": (0.2, 0.1)}),
        (TexturedLeaves, {"stretch": (0.5, 1)}),
        (TexturedLeaves, {"density": (0, 1)}),
    ],
)
def test_parameters_out_of_range_are_refused(kind: type[DeadLeaves], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kind(**wrong)


@pytest.mark.parametrize("generator", VARIANTS, ids=NAMES)
def test_a_thousand_images_take_seconds(generator: DeadLeaves) -> None:
    # 20 s on two processors are 40 ms of processor time an image; this leaves room for a slow machine
    begin = time.process_time()
    for index in range(20):
        generator.image(index, (128, 128))
    assert (time.process_time() - begin) / 20 < 0.08
