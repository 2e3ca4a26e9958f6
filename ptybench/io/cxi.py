"""Coherent X-ray imaging files (CXI 1.60, SI units), read and written.

The laboratory's axes are CXI's: z along the beam, y up, and so x to the left of one who looks along the beam. The two
columns of ``basis_vectors`` are the steps from one detector pixel to the next along a pattern's row index (slow) and
column index (fast); where they are missing the image is upright, ``(0, −p, 0)`` and ``(−p, 0, 0)``. ``translation``
is that of the *specimen*, so the probe moves over it by the opposite, and

    position along rows, columns = −B⁺ · translation,   B = basis vectors of unit length.

For an upright image the rows' and columns' positions therefore grow with (+y, +x) of the translation.

The zero frequency is taken at ``[h // 2, w // 2]`` whatever ``corner_position`` says: patterns are usually cut out
about the beam while that entry still means the whole detector. What CXI has no place for (near field, focus to
specimen, photon statistics, canvas, first probe) travels in the group ``entry_1/ptybench_1``, which others ignore.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import constants

from ptybench.errors import InvalidData
from ptybench.io.files import atomic, dataset_keys, find_dataset, hdf5_file, read_array
from ptybench.io.prepare import prepare
from ptybench.io.raw import Geometry, Raw, pair
from ptybench.io.start import Start
from ptybench.specs import validation_sentence
from ptybench.types import BoolArray, ComplexArray, FloatArray, Measurement, Noise

VERSION = 160
DETECTOR = "entry_1/instrument_1/detector_1"
SOURCE = "entry_1/instrument_1/source_1"
OURS = "entry_1/ptybench_1"
TRANSLATIONS = (
    "entry_1/sample_1/geometry_1/translation",
    f"{DETECTOR}/translation",
    "entry_1/data_1/translation",
)
BAD_FLAG = 0x80
HARMLESS_FLAGS = 0x20 | 0x800 | 0x2000 | 0x4000 | 0x10000  # in a peak, corrected, a hit's peak, corrected, has signal
LARGEST_ENERGY_J = 1e-6  # 6 TeV; a larger number is not in joules


def is_cxi(file: h5py.File) -> bool:
    """Whether an open file has the layout of CXI."""
    return f"{DETECTOR}/data" in file or "entry_1/data_1/data" in file or "cxi_version" in file


def read_cxi(path: Path, geometry: Geometry | None = None) -> Measurement:
    """Read a measurement.

    Args:
        path: a CXI file of any program.
        geometry: what is to stand in for the file's own numbers; near-field data of other programs need it.

    Raises:
        InvalidData: where the file is not what it should be.
        NotEnoughMemory: where the patterns do not fit.

    """
    with hdf5_file(path) as file:
        return prepare(read_raw_cxi(file, geometry))


def read_raw_cxi(file: h5py.File, geometry: Geometry | None = None) -> Raw:
    """Read what a CXI file holds; the patterns stay in the open file until they are asked for.

    Raises:
        InvalidData: where something is missing or of the wrong shape.

    """
    data = f"{DETECTOR}/data"
    patterns = find_dataset(file, data if data in file else "entry_1/data_1/data", "patterns")
    ours = file.get(OURS)
    ours = ours if isinstance(ours, h5py.Group) else None
    found = _geometry(file, ours)
    known = found if geometry is None else geometry.over(found)
    slow, fast = _basis(file)[0]
    translation = _translation(file)
    steps = np.linalg.pinv(np.stack([slow, fast], axis=1))
    positions = -(translation @ steps.T)
    raw = Raw(patterns, positions, "m", known, bad_pixels=_bad_pixels(file, patterns.shape))
    return raw if ours is None else _with_ours(raw, ours, same_geometry=known == found)


def _number(file: h5py.File, key: str, what: str) -> float | None:
    if key not in file:
        return None
    values = np.unique(np.asarray(read_array(file, key, what), np.float64))
    if values.size != 1 or not np.isfinite(values[0]):
        raise InvalidData(f"expected one {what} at {key!r} of {file.filename}, got {values[:4]}: give it in --geometry")
    return abs(float(values[0]))


def _geometry(file: h5py.File, ours: h5py.Group | None) -> Geometry:
    wavelength = _number(file, f"{SOURCE}/wavelength", "wavelength")
    energy = _number(file, f"{SOURCE}/energy", "energy")
    if wavelength is None and energy:
        if energy > LARGEST_ENERGY_J:
            raise InvalidData(
                f"the energy {energy:g} of {file.filename} is not in joules: give energy_ev in --geometry"
            )
        wavelength = constants.h * constants.c / energy
    pitch = _basis(file)[1]
    facts: dict[str, Any] = {
        "wavelength_m": wavelength or None,
        "distance_m": _number(file, f"{DETECTOR}/distance", "distance") or None,
        "pitch_m": pitch,
    }
    if ours is not None:
        for name in ("propagation", "source_distance_m", "pixel_size_m"):
            if name in ours.attrs:
                value = ours.attrs[name]
                facts[name] = tuple(map(float, value)) if np.ndim(value) else value
    try:
        return Geometry(**facts)
    except ValidationError as problem:
        raise InvalidData(f"{file.filename}: {validation_sentence(problem)}") from None


def _basis(file: h5py.File) -> tuple[FloatArray, tuple[float, float] | None]:
    """Unit vectors ``(2, 3)`` along rows and columns, and the pitch ``(y, x)``."""
    pitches = [_number(file, f"{DETECTOR}/{axis}_pixel_size", "pixel size") for axis in "yx"]
    basis = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])
    key = f"{DETECTOR}/basis_vectors"
    if key in file:
        stored = np.asarray(read_array(file, key, "basis vectors"), np.float64)
        if stored.shape not in ((3, 2), (2, 3)) or np.linalg.matrix_rank(stored) < 2:
            raise InvalidData(
                f"expected two independent basis vectors of shape (3, 2) at {key!r} of {file.filename}, "
                f"got {stored.shape}: repair or remove them"
            )
        stored = stored.T if stored.shape == (3, 2) else stored
        lengths = np.linalg.norm(stored, axis=1)
        basis = stored / lengths[:, None]
        pitches = [float(length) for length in lengths]
    y, x = pitches
    return basis, (float(y), float(x)) if y and x else None


def _translation(file: h5py.File) -> FloatArray:
    for key in TRANSLATIONS:
        if key in file:
            translation = np.asarray(read_array(file, key, "translations"), np.float64)
            if translation.ndim != 2 or translation.shape[1] != 3:
                raise InvalidData(f"expected {key!r} of {file.filename} of shape (K, 3), got {translation.shape}")
            return translation
    raise InvalidData(
        f"{file.filename} has no {TRANSLATIONS[0]!r}: positions are needed, the file has {dataset_keys(file)}"
    )


def _bad_pixels(file: h5py.File, shape: tuple[int, ...]) -> BoolArray | None:
    """``(h, w)``; of a mask for each pattern, whatever is bad in one of them."""
    key = f"{DETECTOR}/mask"
    if key not in file:
        return None
    mask = read_array(file, key, "a mask")
    if mask.shape not in (shape, shape[1:]):
        raise InvalidData(f"expected {key!r} of {file.filename} of shape {shape[1:]} or {shape}, got {mask.shape}")
    bad = mask.astype(np.int64) & ~HARMLESS_FLAGS != 0 if mask.dtype.kind in "iu" else mask != 0
    merged: BoolArray = bad.any(axis=0) if bad.ndim == 3 else bad
    return merged


def _with_ours(raw: Raw, ours: h5py.Group, same_geometry: bool) -> Raw:
    """The rest of what :func:`write_cxi` wrote; canvas and probe hold only while the sampling is the file's."""
    attributes = ours.attrs
    fields = dict(vars(raw))
    fields["noise"] = Noise(
        float(attributes.get("background_photons", 0.0)),
        float(attributes.get("read_noise_photons", 0.0)),
        float(attributes["saturation_photons"]) if "saturation_photons" in attributes else None,
    )
    fields["position_error_px"] = float(attributes.get("position_error_px", 0.0))
    if "initial_probe" in ours:
        fields["probe"] = _array(ours, "initial_probe")
        fields["start"] = Start(unit="sqrt_photons")
        fields["known_probe"] = bool(attributes.get("known_probe", False))
    if same_geometry and "canvas" in attributes:
        height, width = attributes["canvas"]
        fields["canvas"] = int(height), int(width)
        if "initial_object" in ours:
            fields["initial_object"] = _array(ours, "initial_object")
    return Raw(**fields)


def _array(group: h5py.Group, name: str) -> ComplexArray:
    array: NDArray[Any] = read_array(group, name, name.replace("_", " "))
    return array


def write_cxi(path: Path, measurement: Measurement, compression: int | None = 1) -> None:
    """Write a measurement; :func:`read_cxi` gives the same patterns bit for bit and positions to 1e-6 px.

    Args:
        path: where to, conventionally ``*.cxi``.
        measurement: with known object pixel and wavelength, as CXI knows nothing but metres.
        compression: gzip level of the patterns, ``None`` for none.

    Raises:
        InvalidData: where a length is unknown, or the file cannot be written.

    Example:
        ``ptybench simulate --task low_dose --out low_dose.cxi``

    """
    m = measurement
    if m.pixel_size_m is None or m.wavelength_m is None:
        raise InvalidData(
            "CXI holds positions in metres: give wavelength_m, distance_m and pitch_m (or pixel_size_m) in --geometry"
        )
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        file["cxi_version"], file["number_of_entries"] = VERSION, 1
        _write_source(file, m.wavelength_m)
        _write_detector(file, m, compression)
        metres = m.positions_px * m.pixel_size_m
        translation = np.zeros((len(metres), 3))
        translation[:, 0], translation[:, 1] = metres[:, 1], metres[:, 0]
        file[TRANSLATIONS[0]] = translation
        for key in TRANSLATIONS[1:]:
            file[key] = h5py.SoftLink(f"/{TRANSLATIONS[0]}")
        file["entry_1/data_1/data"] = h5py.SoftLink(f"/{DETECTOR}/data")
        _write_ours(file.create_group(OURS), m)


def _write_source(file: h5py.File, wavelength_m: float) -> None:
    file[f"{SOURCE}/wavelength"] = wavelength_m
    file[f"{SOURCE}/energy"] = constants.h * constants.c / wavelength_m


def _write_detector(file: h5py.File, m: Measurement, compression: int | None) -> None:
    h, w = m.shape
    file.create_dataset(
        f"{DETECTOR}/data",
        data=m.intensities,
        chunks=(1, h, w),
        compression=compression,
        shuffle=compression is not None,
    )
    file[f"{DETECTOR}/mask"] = m.bad_pixels.astype(np.uint32) * BAD_FLAG
    pitch = _pitch(m)
    if pitch is None:
        return
    (py, px), distance = pitch, _detector_distance(m)
    basis = np.array([[0, -px], [-py, 0], [0, 0]])
    file[f"{DETECTOR}/y_pixel_size"], file[f"{DETECTOR}/x_pixel_size"] = py, px
    file[f"{DETECTOR}/basis_vectors"] = basis
    # where the outer corner of pixel [0, 0] lies, the centre of [h // 2, w // 2] being on the beam
    corner = -basis @ (h // 2 + 0.5, w // 2 + 0.5)
    if distance is not None:
        file[f"{DETECTOR}/distance"] = distance
        corner[2] = distance
    file[f"{DETECTOR}/corner_position"] = corner


def _detector_distance(m: Measurement) -> float | None:
    """Specimen to detector; of the effective ``z`` of a diverging beam ``z / (1 − z / z_source)``."""
    if m.distance_m is None or m.source_distance_m is None or m.propagation == "far_field":
        return m.distance_m
    return m.distance_m / (1 - m.distance_m / m.source_distance_m)


def _pitch(m: Measurement) -> tuple[float, float] | None:
    """The detector's ``(y, x)`` pitch, from the object pixel where it is not square."""
    if m.pitch_m is not None:
        return pair(m.pitch_m)
    assert m.pixel_size_m is not None
    assert m.wavelength_m is not None
    if m.propagation == "near_field":
        distance = _detector_distance(m)
        scale = 1.0 if distance is None or m.distance_m is None else distance / m.distance_m
        return m.pixel_size_m[0] * scale, m.pixel_size_m[1] * scale
    if m.distance_m is None:
        return None
    (h, w), (dy, dx), scale = m.shape, m.pixel_size_m, m.wavelength_m * m.distance_m
    return scale / (h * dy), scale / (w * dx)


def _write_ours(group: h5py.Group, m: Measurement) -> None:
    values: dict[str, Any] = {
        "propagation": m.propagation,
        "source_distance_m": m.source_distance_m,
        "pixel_size_m": m.pixel_size_m,
        "position_error_px": m.position_error_px,
        "known_probe": m.known_probe,
        "canvas": m.canvas,
        **vars(m.noise),
    }
    for name, value in values.items():
        if value is not None:
            group.attrs[name] = value
    group["initial_probe"] = m.initial.probe
    if not np.all(m.initial.object == 1):
        group["initial_object"] = m.initial.object
