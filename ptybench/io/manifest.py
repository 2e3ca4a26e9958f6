"""Measurements by name or file: find the file, check it, read it, and say where it came from."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import ptybench
from ptybench.errors import InvalidData, InvalidOption, UnknownName
from ptybench.io import hdf5
from ptybench.io.arrays import open_raw, read_bad_pixels
from ptybench.io.files import hdf5_file, sha256_file
from ptybench.io.frames import parse_orientation
from ptybench.io.layout import Manifest, parse_manifest, read_manifest
from ptybench.io.prepare import prepare
from ptybench.optics.scans import thinned
from ptybench.types import Measurement

FOLDER_VARIABLE = "PTYBENCH_DATA"


@dataclass(frozen=True, eq=False)
class LoadedData:
    """A measurement and where it came from.

    Args:
        measurement: ready for a solver.
        name: of the dataset, or the file's name without its suffix.
        provenance: file, SHA-256, licence, citation, source and what was done on loading, as JSON values.
        manifest: what was known beyond the file.

    """

    measurement: Measurement
    name: str
    provenance: dict[str, Any] = field(default_factory=dict)
    manifest: Manifest = field(default_factory=Manifest)


def dataset_names() -> list[str]:
    """Names of the real measurements that ptybench has manifests of, whether or not their files are here."""
    folder = resources.files("ptybench.datasets.real")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def dataset_manifest(name: str) -> Manifest:
    """Return the manifest of a real measurement.

    Raises:
        UnknownName: where there is none of this name.

    """
    if name not in dataset_names():
        raise UnknownName("dataset", name, dataset_names())
    text = (resources.files("ptybench.datasets.real") / f"{name}.toml").read_text(encoding="utf-8")
    return parse_manifest(text, f"{name}.toml")


def data_folders() -> list[Path]:
    """Where files of named datasets are looked for: ``$PTYBENCH_DATA``, then ``../shared/data`` beside the checkout."""
    told = os.environ.get(FOLDER_VARIABLE)
    checkout = Path(ptybench.__file__).resolve().parents[1]
    beside = [base.parent / "shared" / "data" for base in (checkout, Path.cwd())]
    return list(dict.fromkeys(([Path(told)] if told else []) + beside))


def dataset_file(name: str) -> Path:
    """Return the file of a named dataset; its checksum is for :func:`load_measurement` to check.

    Raises:
        UnknownName: where there is no such dataset.
        InvalidData: where its file is not here, with what to put where.

    """
    manifest = dataset_manifest(name)
    assert manifest.file is not None, f"{name}.toml names no file"
    folders = data_folders()
    for folder in folders:
        if (folder / manifest.file).is_file():
            return folder / manifest.file
    raise InvalidData(
        f"the file of dataset {name!r} is not here: put {manifest.file} (SHA-256 {manifest.sha256}, from "
        f"{manifest.source}, {manifest.licence}) into {folders[0]} or into a folder that ${FOLDER_VARIABLE} names"
    )


def load_measurement(
    source: str | Path,
    geometry: Path | None = None,
    crop: int | None = None,
    bin: int | None = None,
    orient: str | None = None,
    bad_pixels: Path | None = None,
    every: float | None = None,
) -> LoadedData:
    """Load a real measurement.

    Args:
        source: name of a dataset, or a file: CXI, any HDF5, ``.npz``, or a manifest ``.toml`` that names one.
        geometry: a manifest with what the file does not say, or says wrongly.
        crop: central detector pixels to keep along both axes (far field: the object pixel grows).
        bin: detector pixels to sum along both axes (far field: the window shrinks).
        orient: turns after those of the manifest, see :func:`ptybench.io.frames.parse_orientation`.
        bad_pixels: an image of the stored patterns' shape, not 0 = bad, in addition to the file's own.
        every: thin the scan out, so that neighbours are this many times as far apart.

    Raises:
        UnknownName: where ``source`` is no dataset and looks like no file, or a turn does not exist.
        InvalidData: where a file is missing, damaged, not the one that the manifest means, or makes no sense.
        InvalidOption: where crop or bin ask for too much.
        NotEnoughMemory: where the patterns do not fit.

    Example:
        >>> dataset_names()
        ['siemens_star_aps', 'siemens_star_petra_p25_nearfield', 'virus_particles_cryo_4dstem']

    """
    path, name, manifest = _locate(source)
    if geometry is not None:
        manifest = _over(read_manifest(geometry), manifest)
    checksum = sha256_file(path)
    if manifest.sha256 is not None and checksum != manifest.sha256:
        raise InvalidData(
            f"{path} is not the file that its manifest means: expected SHA-256 {manifest.sha256}, got {checksum}, "
            f"fetch it again from {manifest.source or 'its source'}"
        )
    turns = parse_orientation(manifest.orient) + parse_orientation(orient)
    if _is_ours(path):
        if turns or geometry or crop or bin or bad_pixels:
            raise InvalidData(f"{path} is a measurement as ptybench keeps it: it takes no geometry, crop, bin or turns")
        measurement = hdf5.load_measurement(path, in_file=True)
    else:
        with open_raw(path, manifest) as raw:
            if bad_pixels is not None:
                more = read_bad_pixels(bad_pixels)
                if more.shape != raw.patterns.shape[1:]:
                    raise InvalidData(
                        f"expected bad pixels of the stored patterns' shape {tuple(raw.patterns.shape[1:])}, "
                        f"got {more.shape} in {bad_pixels}"
                    )
                raw = replace(raw, bad_pixels=more if raw.bad_pixels is None else raw.bad_pixels | more)
            measurement = prepare(raw, turns, crop, bin)
    if every == 1:
        every = None
    if every is not None:
        measurement = _thinned(measurement, every)
    provenance = {
        "file": path.name,
        "sha256": checksum,
        "title": manifest.title,
        "licence": manifest.licence,
        "source": manifest.source,
        "citation": manifest.citation,
        "geometry": manifest.geometry.model_dump(mode="json", exclude_none=True),
        "orient": list(turns),
        "crop": crop,
        "bin": bin,
        "bad_pixels_sha256": None if bad_pixels is None else sha256_file(bad_pixels),
        "every": every,
    }
    return LoadedData(measurement, name, provenance, manifest)


def _thinned(measurement: Measurement, every: float) -> Measurement:
    if not 1 <= every < math.inf:
        raise InvalidOption(f"every must be at least 1, got {every}: 2 makes neighbours twice as far apart")
    kept = thinned(measurement.positions_px, every)
    if len(kept) < 2:
        raise InvalidOption(
            f"every = {every} leaves {len(kept)} of {len(measurement.positions_px)} patterns: take less"
        )
    return measurement.subset(kept)


def _locate(source: str | Path) -> tuple[Path, str, Manifest]:
    """The data file, a name for it, and what its manifest says."""
    text, path = str(source), Path(source)
    if not path.exists():
        if text in dataset_names():
            return dataset_file(text), text, dataset_manifest(text)
        if path.suffix or len(path.parts) > 1:
            raise InvalidData(f"there is no file {path}: check the name, or see `ptybench list datasets`")
        raise UnknownName("dataset", text, dataset_names())
    if path.suffix != ".toml":
        return path, path.stem, Manifest()
    manifest = read_manifest(path)
    if manifest.file is None:
        raise InvalidData(f'the manifest {path} names no file: add file = "…", or pass it as --geometry of a file')
    for folder in (path.parent, *data_folders()):
        if (folder / manifest.file).is_file():
            return folder / manifest.file, path.stem, manifest
    raise InvalidData(f"the manifest {path} means {manifest.file}, which is not beside it: put it there")


def _over(above: Manifest, below: Manifest) -> Manifest:
    """A user's manifest over a dataset's own, table by table, field by field."""
    merged = {name: getattr(below, name) for name in below.model_fields_set}
    for name in above.model_fields_set:
        mine, theirs = getattr(above, name), merged.get(name)
        if name == "geometry" and theirs is not None:
            merged[name] = mine.over(theirs)
        elif name in ("patterns", "positions", "bad_pixels", "probe", "noise") and theirs is not None:
            merged[name] = type(mine)(**{**_set_fields(theirs), **_set_fields(mine)})
        else:
            merged[name] = mine
    return Manifest(**merged)


def _set_fields(spec: Any) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.model_fields_set}


def _is_ours(path: Path) -> bool:
    if path.suffix in (".npz", ".npy"):
        return False
    with hdf5_file(path) as file:
        return hdf5.is_measurement(file)
