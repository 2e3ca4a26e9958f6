"""Our own HDF5 files with fixed names: ``truth.h5``, ``reconstruction.h5``, and a whole measurement.

Complex numbers are HDF5's native compound, positions object pixels (top-left corner of the patch), lengths metres,
intensities photons. Every file is written under a temporary name and renamed. A measurement and a truth come back bit
for bit.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from ptybench.errors import InvalidData
from ptybench.io.files import atomic, hdf5_file, read_array, require_file
from ptybench.io.patternfile import PatternFile, own_type
from ptybench.types import BoolArray, ComplexArray, Estimate, Gauges, Measurement, Noise, Truth, blocks

MEASUREMENT_FORMAT = "ptybench-measurement-1"


class ScoredImages(Protocol):
    """What scoring leaves for ``reconstruction.h5``: three arrays of one shape ``(H, W)``."""

    @property
    def object_aligned(self) -> ComplexArray | None: ...  # noqa: D102

    @property
    def truth_object(self) -> ComplexArray | None: ...  # noqa: D102

    @property
    def scored(self) -> BoolArray | None: ...  # noqa: D102


def save_truth(path: Path, truth: Truth) -> None:
    """Write ``truth.h5``: ``object``, ``probe``, ``positions_px``, ``expected``, ``dose`` and attributes in SI."""
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        for name in ("object", "probe", "positions_px", "expected", "dose"):
            file[name] = getattr(truth, name)
        for name in ("pixel_size_m", "distance_m", "wavelength_m", "background_photons"):
            file.attrs[name] = getattr(truth, name)
        for name in ("amplitude_range", "phase_range_rad"):
            file.attrs[name] = getattr(truth, name)
        file.attrs["gauges"] = json.dumps(asdict(truth.gauges))
        file.attrs["facts"] = json.dumps({name: float(fact) for name, fact in truth.facts.items()})


def load_truth(path: Path) -> Truth:
    """Read a file of :func:`save_truth`, bit for bit.

    Raises:
        InvalidData: where the file is not what it should be.

    """
    with hdf5_file(path) as file:
        arrays: dict[str, Any] = {
            name: read_array(file, name, "a truth") for name in ("object", "probe", "positions_px", "expected", "dose")
        }
        names = ("distance_m", "wavelength_m", "background_photons", "amplitude_range", "phase_range_rad")
        numbers: dict[str, Any] = {name: _number(file, name) for name in names}
        numbers["pixel_size_m"] = _pair(file, "pixel_size_m")
        gauges, facts = _json(file, "gauges"), _json(file, "facts")
    return Truth(**arrays, **numbers, gauges=Gauges(**gauges), facts=facts)


def save_reconstruction(path: Path, estimate: Estimate, wavelength_m: float | None = None) -> None:
    """Write ``reconstruction.h5``: ``object``, ``probe``, ``positions_px`` and attributes where known."""
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        write_estimate(file, estimate)
        _set(file, "wavelength_m", wavelength_m)


def write_estimate(group: h5py.Group, estimate: Estimate) -> None:
    """Write an estimate into an open HDF5 group."""
    group["object"], group["probe"] = estimate.object, estimate.probe
    group["positions_px"] = estimate.positions_px
    _set(group, "pixel_size_m", estimate.pixel_size_m)
    _set(group, "distance_m", estimate.distance_m)


def read_estimate(group: h5py.Group) -> Estimate:
    """Read an estimate from an open HDF5 group, bit for bit; see :func:`load_reconstruction` for checked input.

    Raises:
        InvalidData: where a dataset is missing.

    """
    arrays: dict[str, Any] = {
        name: read_array(group, name, "an estimate") for name in ("object", "probe", "positions_px")
    }
    return Estimate(**arrays, pixel_size_m=_pair(group, "pixel_size_m"), distance_m=_number(group, "distance_m", None))


def load_reconstruction(path: Path, window: tuple[int, int] | None = None) -> Estimate:
    """Read a reconstruction that any software may have written.

    Args:
        path: an HDF5 file with ``object (H, W)`` complex, ``positions_px (K, 2)``, ``probe (M, h, w)`` (two dimensions
            are one mode) and, where known, the attributes ``pixel_size_m`` (one number or ``(dy, dx)``) and
            ``distance_m``. Leading axes of length 1 are dropped.
        window: ``(h, w)`` of the patterns, with which a file may have no probe; without it there has to be one.

    Returns:
        The estimate; its probe is ``(0, h, w)``, no mode, where the file has none.

    Raises:
        InvalidData: where something is missing, of the wrong shape or type, or not finite.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "reconstruction.h5"
        >>> with h5py.File(path, "w") as file:
        ...     file["object"] = np.ones((32, 32), np.complex64)
        ...     file["probe"] = np.ones((16, 16), np.complex64)
        ...     file["positions_px"] = np.array([[0.0, 0.0], [8.0, 4.5]])
        >>> load_reconstruction(path).object.shape
        (32, 32)

    """
    with hdf5_file(path) as file:
        object = _complex(_squeezed(_required(file, "object"), 2), f"object of {path}")
        positions = _required(file, "positions_px")
        probe: ComplexArray = np.zeros((0, *(window or (0, 0))), np.complex64)
        if window is None or "probe" in file:
            raw = _required(file, "probe")
            probe = _complex(_squeezed(raw, 3 if raw.ndim > 2 else 2), f"probe of {path}")
            probe = probe[None] if probe.ndim == 2 else probe
        pixel, distance = _pair(file, "pixel_size_m"), _number(file, "distance_m", None)
    if object.ndim != 2:
        raise InvalidData(f"expected an object of shape (H, W) in {path}, got {object.shape}: write one slice")
    if probe.ndim != 3:
        raise InvalidData(f"expected a probe of shape (M, h, w) or (h, w) in {path}, got {probe.shape}")
    if positions.ndim != 2 or positions.shape[1] != 2 or positions.dtype.kind not in "iuf":
        raise InvalidData(
            f"expected positions_px of shape (K, 2) in {path}, top-left corners (y, x) in object pixels, "
            f"got {positions.shape} of {positions.dtype}"
        )
    if not np.isfinite(positions).all():
        raise InvalidData(f"the positions_px of {path} hold NaN or infinite values")
    return Estimate(object, probe, positions.astype(np.float64), pixel, distance)


def _required(file: h5py.File, name: str) -> NDArray[Any]:
    if name not in file:
        raise InvalidData(
            f"{file.filename} has no dataset {name!r}: a reconstruction has object (H, W), probe (M, h, w) and "
            f"positions_px (K, 2), this file has {', '.join(file) or 'nothing'}"
        )
    return read_array(file, name, "a reconstruction")


def _squeezed(array: NDArray[Any], ndim: int) -> NDArray[Any]:
    while array.ndim > ndim and array.shape[0] == 1:
        array = array[0]
    return array


def _complex(array: NDArray[Any], what: str) -> ComplexArray:
    if array.dtype.kind != "c":
        raise InvalidData(f"expected complex numbers for the {what}, got {array.dtype}: write amplitude·exp(i·phase)")
    if not np.isfinite(array).all():
        raise InvalidData(f"the {what} holds NaN or infinite values")
    return array


def add_scores(path: Path, scores: ScoredImages, truth: Truth | None = None) -> None:
    """Add ``object_aligned``, ``truth`` and ``scored`` to a ``reconstruction.h5``: every image metric follows.

    Args:
        path: the file.
        scores: the three images.
        truth: where given, its pixel size and the data ranges of PSNR and SSIM become attributes of ``truth``.

    Raises:
        InvalidData: where the three are not of one shape, or the file is missing.

    """
    images = {"object_aligned": scores.object_aligned, "truth": scores.truth_object, "scored": scores.scored}
    shapes = {name: None if image is None else image.shape for name, image in images.items()}
    if None in shapes.values() or len(set(shapes.values())) != 1:
        raise InvalidData(f"expected aligned object, truth and scored pixels of one shape, got {shapes}")
    require_file(path)
    with atomic(path) as temporary:
        shutil.copyfile(path, temporary)
        with h5py.File(temporary, "r+") as file:
            for name, image in images.items():
                if name in file:
                    del file[name]
                file[name] = image
            if truth is not None:
                for name in ("amplitude_range", "phase_range_rad", "pixel_size_m"):
                    file["truth"].attrs[name] = getattr(truth, name)


def save_measurement(path: Path, measurement: Measurement) -> None:
    """Write a whole measurement, for handing it to another process."""
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = MEASUREMENT_FORMAT
        frames = measurement.intensities
        stored = file.create_dataset("intensities", frames.shape, own_type(frames))
        for part in blocks(frames):  # counts come back as they were, in a half or a quarter of the space
            stored[part] = frames[part]
        for name in ("bad_pixels", "positions_px"):
            file[name] = getattr(measurement, name)
        write_estimate(file.create_group("initial"), measurement.initial)
        names = ("propagation", "wavelength_m", "distance_m", "pixel_size_m", "pitch_m", "source_distance_m")
        for name in (*names, "known_probe", "position_error_px"):
            _set(file, name, getattr(measurement, name))
        for name, value in asdict(measurement.noise).items():
            _set(file, name, value)


def load_measurement(path: Path, in_file: bool = False) -> Measurement:
    """Read a file of :func:`save_measurement`, bit for bit.

    Args:
        path: the file.
        in_file: leave the patterns in the file, to be read when they are asked for.

    Raises:
        InvalidData: where the file is not what it should be.

    """
    with hdf5_file(path) as file:
        if not is_measurement(file):
            raise InvalidData(f"{path} is no measurement of ptybench: its attribute 'format' is missing or unknown")
        arrays: dict[str, Any] = {
            name: read_array(file, name, "a measurement") for name in ("bad_pixels", "positions_px")
        }
        if in_file:
            arrays["intensities"] = PatternFile(path, "intensities")
        else:
            arrays["intensities"] = read_array(file, "intensities", "a measurement").astype(np.float32, copy=False)
        numbers: dict[str, Any] = {
            name: _number(file, name, None) for name in ("wavelength_m", "distance_m", "pitch_m", "source_distance_m")
        }
        return Measurement(
            **arrays,
            **numbers,
            initial=read_estimate(file["initial"]),
            propagation=str(file.attrs["propagation"]),  # type: ignore[arg-type]
            pixel_size_m=_pair(file, "pixel_size_m"),
            known_probe=bool(file.attrs["known_probe"]),
            position_error_px=_number(file, "position_error_px"),
            noise=Noise(
                _number(file, "background_photons"),
                _number(file, "read_noise_photons"),
                _number(file, "saturation_photons", None),
            ),
        )


def is_measurement(file: h5py.File) -> bool:
    """Whether an open file was written by :func:`save_measurement`."""
    return bool(file.attrs.get("format") == MEASUREMENT_FORMAT)


def _set(group: h5py.Group, name: str, value: object) -> None:
    """An attribute where there is a value; an absent attribute means unknown."""
    if value is not None:
        group.attrs[name] = value


def _number(group: h5py.Group, name: str, *default: None) -> Any:
    """A scalar attribute as float; ``default`` (``None``) where absent, without one it has to be there."""
    if name not in group.attrs:
        if default:
            return None
        raise InvalidData(f"{group.file.filename} has no attribute {name!r}")
    value = np.asarray(group.attrs[name])
    if value.size != 1 or value.dtype.kind not in "iuf" or not np.isfinite(value).all():
        raise InvalidData(f"expected one number as attribute {name!r} of {group.file.filename}, got {value}")
    return float(value.reshape(()))


def _pair(group: h5py.Group, name: str) -> tuple[float, float] | None:
    """An attribute ``(dy, dx)``, for which one number will do, or ``None`` where absent."""
    if name not in group.attrs:
        return None
    value = np.asarray(group.attrs[name])
    if value.size not in (1, 2) or value.dtype.kind not in "iuf" or not (np.isfinite(value) & (value > 0)).all():
        raise InvalidData(f"expected (dy, dx) in metres as attribute {name!r} of {group.file.filename}, got {value}")
    dy, dx = np.broadcast_to(value.reshape(-1), 2)
    return float(dy), float(dx)


def _json(group: h5py.Group, name: str) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(group.attrs[name])
        return read
    except (KeyError, TypeError, ValueError):
        raise InvalidData(f"{group.file.filename} has no attribute {name!r} in JSON: write it with ptybench") from None
