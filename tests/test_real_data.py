"""Real measurements: that their geometry and orientation are right, seen by an independent reconstruction."""

from __future__ import annotations

import numpy as np
import pytest

from ptybench.errors import InvalidData
from ptybench.io.manifest import dataset_file, dataset_manifest, load_measurement
from ptybench.optics.geometry import Grid
from ptybench.optics.waves import angular_spectrum
from ptybench.types import Measurement

pytestmark = pytest.mark.real_data


def load(name: str, orient: str | None = None, crop: int | None = None) -> Measurement:
    """The measurement, or a skip that says what is missing."""
    try:
        dataset_file(name)
    except InvalidData as missing:
        pytest.skip(str(missing))
    return load_measurement(name, orient=orient, crop=crop).measurement


def plain_epie(m: Measurement, epochs: int, step: float) -> float:
    """Amplitude R-factor of the last of some epochs of ePIE at rounded positions, in numpy alone."""
    h, w = m.shape
    corners = np.round(m.positions_px).astype(int)
    good, amplitude = ~m.bad_pixels, np.sqrt(m.intensities)
    transfer = None
    if m.propagation == "near_field":
        assert m.pixel_size_m is not None
        assert m.wavelength_m is not None
        assert m.distance_m is not None
        transfer = angular_spectrum(Grid(m.shape, m.pixel_size_m), m.wavelength_m, m.distance_m).astype(np.complex64)
    else:
        good, amplitude = np.fft.ifftshift(good), np.fft.ifftshift(amplitude, axes=(1, 2))
    obj, probe = m.initial.object.copy(), m.initial.probe[0].copy()
    rng = np.random.default_rng(0)
    wrong = 0.0
    for _ in range(epochs):
        wrong = 0.0
        for k in rng.permutation(len(corners)):
            y, x = corners[k]
            patch = obj[y : y + h, x : x + w].copy()
            wave = np.fft.fft2(patch * probe, norm="ortho")
            if transfer is not None:
                wave = np.fft.ifft2(wave * transfer, norm="ortho")
            modulus = np.abs(wave)
            wrong += float(np.abs(modulus - amplitude[k])[good].sum())
            wave = np.where(good, amplitude[k] / (modulus + 1e-9) * wave, wave)
            if transfer is not None:
                wave = np.fft.fft2(wave, norm="ortho") * transfer.conj()
            change = np.fft.ifft2(wave, norm="ortho") - patch * probe
            obj[y : y + h, x : x + w] += step * probe.conj() / np.abs(probe).max() ** 2 * change
            probe += step * patch.conj() / np.abs(patch).max() ** 2 * change
    return wrong / float(amplitude[:, good].sum())


def test_siemens_star_of_aps() -> None:
    m = load("siemens_star_aps")
    assert m.intensities.shape == (448, 128, 128)
    assert not m.bad_pixels.any()
    assert (m.wavelength_m, m.distance_m, m.pixel_size_m) == (None, None, None)
    assert 4.2e5 < m.intensities.sum(axis=(1, 2)).min() < m.intensities.sum(axis=(1, 2)).max() < 5e5
    assert plain_epie(m, 3, 0.9) < 0.205


@pytest.mark.parametrize("orient", ["transpose", "flip-y", "negate-x"])
def test_siemens_star_of_aps_in_a_wrong_orientation(orient: str) -> None:
    assert plain_epie(load("siemens_star_aps", orient), 3, 0.9) > 0.27


def test_siemens_star_of_p25() -> None:
    m = load("siemens_star_petra_p25_nearfield")
    assert m.intensities.shape == (180, 100, 100)
    assert m.bad_pixels.sum() == 5
    assert m.pixel_size_m == pytest.approx((178.66e-9, 178.66e-9), rel=1e-4)
    assert m.distance_m == pytest.approx(3.638e-3, rel=1e-4)
    assert m.wavelength_m == pytest.approx(97.949e-12, rel=1e-4)
    assert m.source_distance_m == 3.65e-3
    assert plain_epie(m, 6, 0.6) < 0.092


@pytest.mark.parametrize("orient", ["swap-xy", "negate-y", "flip-x"])
def test_siemens_star_of_p25_in_a_wrong_orientation(orient: str) -> None:
    assert plain_epie(load("siemens_star_petra_p25_nearfield", orient), 6, 0.6) > 0.115


def test_crop_of_a_real_measurement() -> None:
    """A crop rescales positions: with the old ones no star would come out."""
    assert plain_epie(load("siemens_star_aps", crop=96), 3, 0.9) < 0.17


def alignment(m: Measurement, defocus_m: float, turn: np.ndarray) -> float:  # type: ignore[type-arg]
    """Energy of the sum of virtual images, one for each part of the bright field, each moved back by its own parallax.

    A ray at ``q`` of a patch at ``r`` meets the specimen at ``r + λ Δz q``: where defocus and orientation are right all
    virtual images show one specimen and add up.
    """
    assert m.pixel_size_m is not None
    assert m.wavelength_m is not None
    (h, w), size = m.shape, 10
    images = m.intensities.reshape(-1, h // size, size, w // size, size).sum(axis=(2, 4))
    q = np.stack(np.meshgrid(*(np.arange(n // size) * size + size / 2 - n / 2 for n in (h, w)), indexing="ij"), -1)
    bright = np.hypot(q[..., 0], q[..., 1]) < 52
    rays = q[bright] / (np.array(m.shape) * m.pixel_size_m) @ turn.T * m.wavelength_m * defocus_m / m.pixel_size_m
    images = images[:, bright] - images[:, bright].mean(axis=0)
    images /= images.std(axis=0)
    f = np.linspace(-0.04, 0.04, 25)  # cycles per pixel; the raster's step is 8.4 px
    kappa = np.stack(np.meshgrid(f, f), -1).reshape(-1, 2)
    kappa = kappa[np.hypot(*kappa.T) > 0.006]
    spectra = np.exp(-2j * np.pi * kappa @ m.positions_px.T) @ images
    return float(np.sum(np.abs(np.sum(spectra * np.exp(-2j * np.pi * kappa @ rays.T), axis=1)) ** 2))


def test_orientation_and_defocus_of_the_virus_particles() -> None:
    m = load("virus_particles_cryo_4dstem")
    assert m.intensities.shape == (1024, 160, 160)
    assert m.pixel_size_m == pytest.approx((7.44e-10, 7.44e-10), rel=1e-3)
    steps = np.linalg.norm(np.diff(m.positions_px[:32], axis=0), axis=1)
    np.testing.assert_allclose(steps * 7.44e-10, 62.5e-10, rtol=1e-3)
    defocus = dataset_manifest("virus_particles_cryo_4dstem").probe.defocus_m
    assert defocus is not None
    same = np.eye(2)
    right = alignment(m, defocus, same)
    for wrong in (-same, same[::-1], np.diag([1.0, -1.0]), np.array([[0.0, -1.0], [1.0, 0.0]])):
        assert alignment(m, defocus, wrong) < 0.6 * right
    for factor in (0.6, 1.5):
        assert alignment(m, defocus * factor, same) < right
    for angle in (-0.5, 0.5):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        assert alignment(m, defocus, turn) < right
