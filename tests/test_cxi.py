"""CXI: round trips, the signs of translations and basis vectors, files of other programs, bad files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import make_problem
from scipy import constants

from ptybench.errors import InvalidData
from ptybench.io.cxi import read_cxi, write_cxi
from ptybench.io.raw import Geometry
from ptybench.simulation import simulate
from ptybench.types import Measurement, Noise

DETECTOR, SOURCE = "entry_1/instrument_1/detector_1", "entry_1/instrument_1/source_1"
TRANSLATION = "entry_1/sample_1/geometry_1/translation"


def far_field(shape: tuple[int, int] = (16, 20)) -> Measurement:
    """Different sizes and pixels along the axes, everything set."""
    m = make_problem(shape, modes=2, bad_pixels=True, noise=True).measurement
    wavelength, distance, pitch = 1.3e-10, 1.7, 75e-6
    pixel = (wavelength * distance / (shape[0] * pitch), wavelength * distance / (shape[1] * pitch))
    initial = replace(m.initial, pixel_size_m=pixel, distance_m=distance)
    noise = Noise(0.1, 0.5, 1e6)
    return replace(
        m, initial=initial, wavelength_m=wavelength, distance_m=distance, pixel_size_m=pixel, pitch_m=pitch,
        noise=noise, position_error_px=0.25, known_probe=True,
    )  # fmt: skip


def near_field(source_distance_m: float | None) -> Measurement:
    m = make_problem((16, 16), near_field=True).measurement
    if source_distance_m is None:
        return replace(m, pitch_m=1e-6)
    assert m.distance_m is not None
    magnification = 1 / (1 - m.distance_m / source_distance_m)
    assert m.pixel_size_m is not None
    return replace(m, source_distance_m=source_distance_m, pitch_m=m.pixel_size_m[0] * magnification)


def assert_same(found: Measurement, m: Measurement) -> None:
    np.testing.assert_array_equal(found.intensities, m.intensities)
    assert found.intensities.dtype == np.float32
    np.testing.assert_array_equal(found.bad_pixels, m.bad_pixels)
    np.testing.assert_allclose(found.positions_px, m.positions_px, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.initial.probe, m.initial.probe)
    np.testing.assert_array_equal(found.initial.object, m.initial.object)
    for name in ("propagation", "known_probe", "position_error_px", "noise"):
        assert getattr(found, name) == getattr(m, name)
    for name in ("wavelength_m", "distance_m", "pitch_m", "pixel_size_m", "source_distance_m"):
        wanted = getattr(m, name)
        assert getattr(found, name) == (None if wanted is None else pytest.approx(wanted, rel=1e-9))


@pytest.mark.parametrize(
    "make", [far_field, lambda: far_field((15, 17)), lambda: near_field(None), lambda: near_field(0.25)]
)
def test_round_trip(tmp_path: Path, make: Callable[[], Measurement]) -> None:
    m = make()
    write_cxi(tmp_path / "m.cxi", m)
    assert_same(read_cxi(tmp_path / "m.cxi"), m)


@pytest.mark.parametrize("task", ["noisy_poisson", "wrong_distance", "position_jitter"])
def test_round_trip_of_a_task(tmp_path: Path, task: str) -> None:
    m, _ = simulate(task, seed=1)
    write_cxi(tmp_path / "m.cxi", m)
    assert_same(read_cxi(tmp_path / "m.cxi"), m)


def test_a_file_has_what_other_programs_look_for(tmp_path: Path) -> None:
    m = far_field()
    write_cxi(tmp_path / "m.cxi", m)
    with h5py.File(tmp_path / "m.cxi") as file:
        assert file["cxi_version"][()] == 160
        detector = file[DETECTOR]
        assert detector["mask"].dtype == np.uint32
        np.testing.assert_array_equal(detector["mask"][()] != 0, m.bad_pixels)
        np.testing.assert_array_equal(detector["basis_vectors"], [[0, -75e-6], [-75e-6, 0], [0, 0]])
        for key in ("entry_1/data_1/translation", f"{DETECTOR}/translation"):
            np.testing.assert_array_equal(file[key], file[TRANSLATION])
        np.testing.assert_array_equal(file["entry_1/data_1/data"], detector["data"])
        assert file[f"{SOURCE}/energy"][()] == pytest.approx(constants.h * constants.c / 1.3e-10)
        # the centre of pixel [h // 2, w // 2] is on the beam
        centre = detector["corner_position"][()] + detector["basis_vectors"][()] @ (8.5, 10.5)
        np.testing.assert_allclose(centre, [0, 0, 1.7], atol=1e-12)


def foreign(path: Path, translation: Any = None, **changes: Any) -> Path:
    """A minimal far-field CXI file as another program would write it; ``None`` leaves a dataset out."""
    rng = np.random.default_rng(0)
    if translation is None:
        translation = np.zeros((12, 3))
        translation[:, :2] = rng.uniform(0, 2e-6, (12, 2))
    content = {
        "cxi_version": 160,
        f"{DETECTOR}/data": rng.poisson(50, (len(translation), 32, 40)).astype(np.int32),
        f"{DETECTOR}/distance": 2.0,
        f"{DETECTOR}/x_pixel_size": 55e-6,
        f"{DETECTOR}/y_pixel_size": 55e-6,
        f"{SOURCE}/energy": 8000 * constants.e,
        TRANSLATION: translation,
    }
    short = {"data": f"{DETECTOR}/data", "mask": f"{DETECTOR}/mask", "basis": f"{DETECTOR}/basis_vectors"}
    short |= {"energy": f"{SOURCE}/energy", "distance": f"{DETECTOR}/distance", "translation_at": TRANSLATION}
    content |= {short[name]: value for name, value in changes.items()}
    with h5py.File(path, "w") as file:
        for key, value in content.items():
            if value is not None:
                file[key] = value
    return path


def test_a_specimen_that_moves_up_and_left_brings_later_rows_and_columns(tmp_path: Path) -> None:
    # CXI: y is up and x to the left of one who looks along the beam, so what is seen next lies below and to the right
    pixel = np.array([constants.h * constants.c / (8000 * constants.e) * 2 / (n * 55e-6) for n in (32, 40)])
    up, left = np.array([0, 5 * pixel[0], 0]), np.array([3 * pixel[1], 0, 0])
    for basis in (None, [[0, -55e-6], [-55e-6, 0], [0, 0]]):
        changes = {} if basis is None else {"basis": basis}
        m = read_cxi(foreign(tmp_path / "m.cxi", np.array([0 * up, up, left]), **changes))
        np.testing.assert_allclose(m.positions_px - m.positions_px[0], [[0, 0], [5, 0], [0, 3]], atol=1e-9)
        assert m.pixel_size_m == pytest.approx(tuple(pixel))


@settings(max_examples=25, deadline=None)
@given(angle=st.floats(-np.pi, np.pi), mirrored=st.booleans(), transposed=st.booleans(), seed=st.integers(0, 99))
def test_a_turned_detector_sees_turned_positions(
    tmp_path_factory: pytest.TempPathFactory, angle: float, mirrored: bool, transposed: bool, seed: int
) -> None:
    """The probe's way over the specimen, −translation, is the same vector in the laboratory whatever the detector."""
    translation = np.random.default_rng(seed).uniform(-1e-6, 1e-6, (6, 3))
    slow = np.array([np.sin(angle), np.cos(angle), 0])
    fast = np.array([np.cos(angle), -np.sin(angle), 0]) * (-1 if mirrored else 1)
    basis = np.stack([slow, fast], axis=1) * 55e-6
    data = np.ones((6, 36, 36), np.uint16)
    path = tmp_path_factory.mktemp("turned") / "m.cxi"
    m = read_cxi(foreign(path, translation, basis=basis.T if transposed else basis, data=data))
    assert m.pixel_size_m is not None
    steps = (m.positions_px - m.positions_px[0]) * m.pixel_size_m
    laboratory = steps @ np.stack([slow, fast])
    wanted = -(translation - translation[0])
    wanted[:, 2] = 0
    np.testing.assert_allclose(laboratory, wanted, atol=1e-15)


def test_masks_of_flags_and_of_every_pattern(tmp_path: Path) -> None:
    mask = np.zeros((12, 32, 40), np.uint32)
    mask[3, 4, 5] = 0x80  # bad in one pattern
    mask[:, 0, 1] = 0x10000  # has signal: fine
    mask[0, 0, 2] = 0x10000 | 0x8  # has signal, and dead
    m = read_cxi(foreign(tmp_path / "m.cxi", mask=mask))
    assert {tuple(place) for place in np.argwhere(m.bad_pixels)} == {(4, 5), (0, 2)}
    m = read_cxi(foreign(tmp_path / "m.cxi", mask=np.zeros((32, 40), bool)))
    assert not m.bad_pixels.any()


def test_bad_pixels_may_hold_anything_and_come_out_dark(tmp_path: Path) -> None:
    data = np.ones((12, 32, 40), np.float32)
    data[:, 1, 1], data[2, 2, 2], mask = np.nan, -1, np.zeros((32, 40), np.uint32)
    mask[1, 1] = mask[2, 2] = 2
    m = read_cxi(foreign(tmp_path / "m.cxi", data=data, mask=mask))
    assert m.intensities[:, m.bad_pixels].max() == 0
    assert np.isfinite(m.initial.probe).all()


def test_the_first_probe_has_the_power_of_the_brightest_pattern(tmp_path: Path) -> None:
    m = read_cxi(foreign(tmp_path / "m.cxi"))
    power = np.sum(np.abs(m.initial.probe) ** 2)
    assert power == pytest.approx(m.intensities.sum(axis=(1, 2)).max(), rel=1e-5)
    # and its modulus on the detector is that of the mean pattern
    field = np.abs(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(m.initial.probe[0]), norm="ortho")))
    mean = np.sqrt(m.intensities.mean(axis=0))
    np.testing.assert_allclose(field / field.mean(), mean / mean.mean(), rtol=1e-4)


def test_a_near_field_of_another_program_takes_its_geometry(tmp_path: Path) -> None:
    path = foreign(tmp_path / "m.cxi", translation=np.random.default_rng(0).uniform(0, 2e-7, (5, 3)))
    m = read_cxi(path, Geometry(propagation="near_field", source_distance_m=0.002, energy_ev=10_000))
    assert m.wavelength_m == pytest.approx(1.239842e-10, rel=1e-6)
    assert m.distance_m == pytest.approx(2.0 / 1001)
    assert m.pixel_size_m == pytest.approx((55e-6 / 1001,) * 2)
    assert m.source_distance_m == 0.002


def test_geometry_overrules_a_file_of_ours(tmp_path: Path) -> None:
    m = far_field()
    write_cxi(tmp_path / "m.cxi", m)
    found = read_cxi(tmp_path / "m.cxi", Geometry(distance_m=3.4))
    assert m.pixel_size_m is not None
    assert found.pixel_size_m == pytest.approx((2 * m.pixel_size_m[0], 2 * m.pixel_size_m[1]))
    np.testing.assert_allclose(np.ptp(found.positions_px, axis=0), np.ptp(m.positions_px, axis=0) / 2)


def test_unknown_lengths_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="metres"):
        write_cxi(tmp_path / "m.cxi", replace(far_field(), pixel_size_m=None))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": None}, "no dataset 'entry_1/data_1/data'.*distance"),
        ({"translation_at": None}, "positions are needed, the file has"),
        ({"energy": None}, "object pixel is unknown"),
        ({"distance": None}, "object pixel is unknown"),
        ({"distance": np.array([1.0, 2.0])}, "expected one distance"),
        ({"distance": "far"}, "expected numbers"),
        ({"energy": 8000.0}, "not in joules"),
        ({"basis": np.ones((3, 2))}, "two independent basis vectors"),
        ({"mask": np.zeros((40, 32), np.uint32)}, "mask"),
        ({"mask": np.ones((32, 40), np.uint32)}, "all detector pixels are marked as bad"),
        ({"data": np.ones((11, 32, 40))}, "one position for each of the 11 patterns, got 12"),
        ({"data": np.ones((12, 32))}, r"\(K, h, w\)"),
        ({"data": np.ones((12, 32, 40)) * 1j}, "expected patterns of counts"),
        ({"data": np.zeros((12, 32, 40))}, "no photons"),
        ({"data": -np.ones((12, 32, 40))}, "negative intensities"),
        ({"data": np.full((12, 32, 40), np.nan)}, "NaN"),
        ({"translation_at": np.zeros((12, 2))}, r"\(K, 3\)"),
        ({"translation_at": np.full((12, 3), np.nan)}, "positions are NaN"),
        ({"translation_at": np.zeros((12, 3))}, "all 12 positions lie within 0 px"),
        ({"translation_at": np.random.default_rng(0).uniform(0, 50, (12, 3))}, "positions span .* check their unit"),
        ({"translation_at": np.arange(36.0).reshape(12, 3) * 1e-5}, "none overlap"),
    ],
)
def test_bad_files_get_one_sentence(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidData, match=sentence) as problem:
        read_cxi(foreign(tmp_path / "m.cxi", **changes))
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("kept", [0.0, 0.05, 0.3, 0.6, 0.9, 0.999])
def test_truncated_files_get_one_sentence(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "m.cxi"
    write_cxi(path, far_field())
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InvalidData, match=r"truncated or damaged|not an HDF5"):
        read_cxi(path)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_are_read_or_get_one_sentence(tmp_path: Path, seed: int) -> None:
    """What is written over the end of a file may hit numbers, which nobody can tell, or the structure."""
    path = tmp_path / "m.cxi"
    write_cxi(path, far_field())
    rng = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    start = int(rng.integers(8, len(content) - 300))
    content[start : start + 256] = rng.bytes(256) if seed % 2 else bytes(256)
    path.write_bytes(content)
    with suppress(InvalidData):  # any other error fails the test
        read_cxi(path)
