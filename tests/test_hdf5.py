"""Our own HDF5 files: exact round trips, reconstructions by other software, atomic writes, damage."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from problems import make_problem

from ptybench.errors import InvalidData, NotEnoughMemory
from ptybench.io import files, hdf5
from ptybench.io.tiff import write_images
from ptybench.types import Estimate, Gauges, Measurement, Noise, Truth


def full_measurement() -> Measurement:
    """Every field set, none to its default."""
    m = make_problem((16, 20), modes=2, near_field=True, bad_pixels=True, noise=True).measurement
    return replace(
        m,
        initial=replace(m.initial, pixel_size_m=(1e-8, 2e-8), distance_m=0.003),
        pixel_size_m=(1e-8, 2e-8),
        pitch_m=55e-6,
        source_distance_m=0.0123456789,
        known_probe=True,
        position_error_px=1.25,
        noise=Noise(0.1, 0.7, 65535.0),
    )


def make_truth() -> Truth:
    rng = np.random.default_rng(0)

    def wave(*shape: int) -> Any:
        return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)

    return Truth(
        wave(30, 31), wave(2, 16, 20), rng.random((5, 2)), rng.random((5, 16, 20)), rng.random((30, 31)),
        (1e-8 / 3, 2e-8 / 3), 1 / 3, 1e-10 / 7, Gauges(scale=False, shift=True, ramp=False), 0.9, 2.1, 0.01,
        {"overlap_linear": 1 / 3, "patterns": 5.0},
    )  # fmt: skip


def assert_same(a: Any, b: Any) -> None:
    """Equal in every field, arrays bit for bit and of one type."""
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif hasattr(a, "__dataclass_fields__"):
        for item in fields(a):
            assert_same(getattr(a, item.name), getattr(b, item.name))
    else:
        assert a == b


@pytest.mark.parametrize("bare", [False, True])
def test_measurement_survives_exactly(tmp_path: Path, bare: bool) -> None:
    m = make_problem().measurement if bare else full_measurement()
    hdf5.save_measurement(tmp_path / "m.h5", m)
    assert_same(hdf5.load_measurement(tmp_path / "m.h5"), m)


def test_truth_survives_exactly(tmp_path: Path) -> None:
    truth = make_truth()
    hdf5.save_truth(tmp_path / "truth.h5", truth)
    assert_same(hdf5.load_truth(tmp_path / "truth.h5"), truth)


def test_truth_has_the_names_of_the_contract(tmp_path: Path) -> None:
    hdf5.save_truth(tmp_path / "truth.h5", make_truth())
    with h5py.File(tmp_path / "truth.h5") as file:
        shapes = {name: file[name].shape for name in ("object", "probe", "positions_px", "expected")}
        assert shapes == {
            "object": (30, 31), "probe": (2, 16, 20), "positions_px": (5, 2), "expected": (5, 16, 20)
        }  # fmt: skip
        assert file.attrs["pixel_size_m"].shape == (2,)
        assert file.attrs["distance_m"] == 1 / 3
        assert file.attrs["wavelength_m"] == 1e-10 / 7


def test_reconstruction_survives_exactly_and_takes_scores(tmp_path: Path) -> None:
    path = tmp_path / "reconstruction.h5"
    estimate = full_measurement().initial
    hdf5.save_reconstruction(path, estimate, wavelength_m=1e-10)
    assert_same(hdf5.load_reconstruction(path), estimate)
    image = np.arange(12.0).reshape(3, 4) + 1j
    for factor in (1, 2):  # scoring again replaces
        scores = SimpleNamespace(object_aligned=image * factor, truth_object=image, scored=image.real > 3)
        hdf5.add_scores(path, scores)
    with h5py.File(path) as file:
        assert file.attrs["wavelength_m"] == 1e-10
        np.testing.assert_array_equal(file["object_aligned"], 2 * image)
        np.testing.assert_array_equal(file["truth"], image)
        assert file["scored"].dtype == bool
    assert_same(hdf5.load_reconstruction(path), estimate)


def test_scores_of_different_shapes_are_refused(tmp_path: Path) -> None:
    hdf5.save_reconstruction(tmp_path / "r.h5", full_measurement().initial)
    scores = SimpleNamespace(object_aligned=np.ones((3, 3)), truth_object=np.ones((3, 4)), scored=np.ones((3, 3)))
    with pytest.raises(InvalidData, match="of one shape"):
        hdf5.add_scores(tmp_path / "r.h5", scores)  # type: ignore[arg-type]


def write(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


PROBE = np.ones((8, 9), np.complex64)
OBJECT, POSITIONS = np.full((24, 25), 1 + 0.5j, np.complex64), np.array([[0, 0], [3, 4]])


def test_other_software_may_write_less(tmp_path: Path) -> None:
    found = hdf5.load_reconstruction(write(tmp_path / "r.h5", object=OBJECT, positions_px=POSITIONS), window=(8, 9))
    assert found.probe.shape == (0, 8, 9)
    assert found.pixel_size_m is None
    assert found.positions_px.dtype == np.float64


def test_other_software_may_write_more_axes_and_its_own_complex(tmp_path: Path) -> None:
    matlab = np.zeros((1, 1, 24, 25), np.dtype([("real", "f4"), ("imag", "f4")]))
    matlab["real"], matlab["imag"] = OBJECT.real, OBJECT.imag
    probe = np.ones((1, 2, 8, 8), np.complex128)
    path = write(tmp_path / "r.h5", object=matlab, probe=probe, positions_px=POSITIONS)
    with h5py.File(path, "r+") as file:
        file.attrs["pixel_size_m"] = 5e-8
        file.attrs["distance_m"] = np.array([0.5])
    found = hdf5.load_reconstruction(path)
    np.testing.assert_array_equal(found.object, OBJECT)
    assert found.probe.shape == (2, 8, 8)
    assert found.pixel_size_m == (5e-8, 5e-8)
    assert found.distance_m == 0.5


def test_a_probe_of_two_dimensions_is_one_mode(tmp_path: Path) -> None:
    path = write(tmp_path / "r.h5", object=OBJECT, probe=OBJECT[:8, :8], positions_px=POSITIONS)
    assert hdf5.load_reconstruction(path).probe.shape == (1, 8, 8)


NAN = OBJECT.copy()
NAN[3, 3] = np.nan


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"object": None}, "no dataset 'object'"),
        ({"positions_px": None}, "no dataset 'positions_px'.*has object"),
        ({"probe": None}, "no dataset 'probe'"),
        ({"object": OBJECT.real}, "amplitude·exp"),
        ({"object": NAN}, "NaN"),
        ({"object": np.stack([OBJECT, OBJECT])}, r"shape \(H, W\)"),
        ({"object": "text"}, "expected numbers"),
        ({"probe": np.ones((2, 2, 8, 8), complex)}, r"\(M, h, w\)"),
        ({"probe": OBJECT.real}, "complex numbers for the probe"),
        ({"positions_px": np.zeros((2, 3))}, r"\(K, 2\)"),
        ({"positions_px": np.full((2, 2), np.inf)}, "infinite"),
        ({"positions_px": POSITIONS * 1j}, r"\(K, 2\)"),
        ({"object": POSITIONS, "positions_px": OBJECT}, "complex numbers for the object"),  # swapped
    ],
)
def test_wrong_reconstructions_get_one_sentence(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    arrays = {"object": OBJECT, "probe": PROBE, "positions_px": POSITIONS} | change
    path = write(tmp_path / "r.h5", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(InvalidData, match=sentence):
        hdf5.load_reconstruction(path)


@pytest.mark.parametrize("value", ["x", [1.0, 2.0, 3.0], -1.0, np.nan])
def test_wrong_attributes_get_one_sentence(tmp_path: Path, value: Any) -> None:
    path = write(tmp_path / "r.h5", object=OBJECT, probe=PROBE, positions_px=POSITIONS)
    with h5py.File(path, "r+") as file:
        file.attrs["pixel_size_m"] = value
    with pytest.raises(InvalidData, match="pixel_size_m"):
        hdf5.load_reconstruction(path)


def test_missing_folders_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="no file"):
        hdf5.load_reconstruction(tmp_path / "nowhere.h5")
    with pytest.raises(InvalidData, match="is a folder"):
        hdf5.load_reconstruction(tmp_path)
    (tmp_path / "text.h5").write_text("object")
    with pytest.raises(InvalidData, match="not an HDF5 file"):
        hdf5.load_reconstruction(tmp_path / "text.h5")
    hdf5.save_truth(tmp_path / "truth.h5", make_truth())
    with pytest.raises(InvalidData, match="no measurement of ptybench"):
        hdf5.load_measurement(tmp_path / "truth.h5")
    hdf5.save_reconstruction(tmp_path / "r.h5", full_measurement().initial)
    with pytest.raises(InvalidData, match="no dataset 'expected'"):
        hdf5.load_truth(tmp_path / "r.h5")


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_truncated_files_get_one_sentence(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "m.h5"
    hdf5.save_measurement(path, full_measurement())
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InvalidData, match=r"truncated or damaged|not an HDF5"):
        hdf5.load_measurement(path)


def test_a_damaged_chunk_gets_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    noise = np.random.default_rng(0).standard_normal((64, 64)) * (1 + 1j)
    with h5py.File(path, "w") as file:
        file.create_dataset("object", data=noise, compression="gzip")
        file["positions_px"] = POSITIONS
        place = file["object"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place : place + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(InvalidData, match="damaged"):
        hdf5.load_reconstruction(path)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "r.h5"
    estimate = full_measurement().initial
    hdf5.save_reconstruction(path, estimate)
    before = path.read_bytes()
    broken = Estimate(estimate.object, estimate.probe, object())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        hdf5.save_reconstruction(path, broken)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["r.h5"]


def test_a_folder_that_cannot_be_made_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InvalidData, match="cannot write"):
        hdf5.save_reconstruction(tmp_path / "taken" / "r.h5", full_measurement().initial)


def test_checksum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert files.sha256_file(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_more_than_the_machine_has_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "r.h5", "w") as file:  # chunks that nobody wrote take no room on disk
        file.create_dataset("object", (10**6, 10**6), np.complex128, chunks=(64, 64))
    with pytest.raises(NotEnoughMemory, match=r"needs about 14901\.2 GiB"):
        hdf5.load_reconstruction(tmp_path / "r.h5")


def test_images(tmp_path: Path) -> None:
    phase = np.linspace(-3, 3, 12).reshape(3, 4)
    object = np.linspace(0.1, 1, 12).reshape(3, 4) * np.exp(1j * phase)
    paths = write_images(tmp_path / "images", object, (50e-9, 25e-9))
    for name, expected in (("amplitude", np.abs(object)), ("phase", phase)):
        with tifffile.TiffFile(paths[name]) as image:
            page = image.pages.first
            found = page.asarray()
            y, x = (page.tags[f"{axis}Resolution"].value for axis in "YX")
            assert page.tags["ResolutionUnit"].value == 3  # centimetre
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert 0.01 / (y[0] / y[1]) == pytest.approx(50e-9, rel=1e-6)
        assert 0.01 / (x[0] / x[1]) == pytest.approx(25e-9, rel=1e-6)
