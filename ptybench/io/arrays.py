"""Patterns in arrays of any name, ``.npz`` or HDF5, read as a manifest says."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
from numpy.typing import NDArray

from ptybench import memory
from ptybench.errors import InvalidData
from ptybench.io.cxi import is_cxi, read_raw_cxi
from ptybench.io.files import as_numeric, find_dataset, hdf5_file, read_array, require_file
from ptybench.io.layout import Manifest
from ptybench.io.raw import Raw, Stack
from ptybench.types import BoolArray

Array = NDArray[Any]
Read = Callable[[str, str], Array]


@contextmanager
def open_raw(path: Path, manifest: Manifest) -> Iterator[Raw]:
    """Open a file of patterns, by its content: ``.npz``, CXI or any other HDF5.

    Args:
        path: the file, which stays open until the context ends.
        manifest: what the file does not say; of a CXI file it replaces what it does.

    Raises:
        InvalidData: where the file is not what it should be.

    """
    require_file(path)
    if zipfile.is_zipfile(path):
        with _npz(path) as read:
            yield _raw(read(manifest.patterns.key, "patterns"), read, manifest)
        return
    if path.suffix == ".npy":
        raise InvalidData(f"{path} holds one array, and patterns need positions: put both into one .npz file")
    with hdf5_file(path) as file:
        if is_cxi(file):
            yield _cxi_with(read_raw_cxi(file, manifest.geometry), file, manifest)
            return
        patterns = find_dataset(file, manifest.patterns.key, "patterns")
        yield _raw(patterns, lambda key, what: read_array(file, key, what), manifest)


@contextmanager
def _npz(path: Path) -> Iterator[Read]:
    # nothing is ever unpickled: an array of Python objects is an error
    try:
        with np.load(path, allow_pickle=False) as archive:
            yield lambda key, what: _npz_array(archive, path, key, what)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise InvalidData(f"{path} cannot be read as .npz, export it again ({error})") from None


def _npz_array(archive: Any, path: Path, key: str, what: str) -> Array:
    if key not in archive:
        names = ", ".join(archive.files) or "no array"
        raise InvalidData(f"{path} has no array {key!r} for {what}, it has {names}: name the right key in --geometry")
    return as_numeric(archive[key], f"{what} ({key!r} of {path})")


def _raw(patterns: Stack, read: Read, manifest: Manifest) -> Raw:
    probe = None if manifest.probe.key is None else read(manifest.probe.key, "a probe")
    metres = manifest.positions.metres
    return Raw(
        _stack(patterns, manifest.patterns.axes),
        _positions(read, manifest) * manifest.positions.scale * (1.0 if metres is None else metres),
        "px" if metres is None else "m",
        manifest.geometry,
        bad_pixels=_bad_pixels(read, manifest),
        probe=probe,
        start=manifest.probe,
        zero_frequency=manifest.patterns.zero_frequency,
        gain=manifest.patterns.gain,
        offset=manifest.patterns.offset,
        noise=manifest.noise.noise,
        position_error_px=manifest.position_error_px,
    )


def _stack(patterns: Stack, axes: str) -> Stack:
    """Patterns as ``(K, h, w)``; those already so stay in the file."""
    if len(patterns.shape) != len(axes):
        raise InvalidData(
            f"expected patterns with the axes {axes!r}, got the shape {tuple(patterns.shape)}: "
            "check their key and axes in --geometry"
        )
    if axes == "kyx":
        return patterns
    memory.require(int(np.prod(patterns.shape)) * patterns.dtype.itemsize, "turning the patterns' axes")
    order = [axes.index(axis) for axis in ("ijyx" if "i" in axes else "kyx")]
    turned = np.transpose(patterns[:], order)
    return turned.reshape(-1, *turned.shape[-2:])


def _positions(read: Read, manifest: Manifest) -> Array:
    """``(K, 2)`` as (y, x), rotated, in the file's unit."""
    spec = manifest.positions
    if isinstance(spec.key, str):
        table = read(spec.key, "positions")
        if table.ndim == 2 and table.shape[0] == 2 and table.shape[1] != 2:
            table = table.T
        if table.ndim != 2 or table.shape[1] != 2:
            raise InvalidData(
                f"expected positions of shape (K, 2) under {spec.key!r}, got {table.shape}: check their key"
            )
        first, second = table[:, 0], table[:, 1]
    else:
        first, second = (read(key, "positions") for key in spec.key)
        if spec.raster:
            first, second = np.meshgrid(first.ravel(), second.ravel(), indexing="ij")
        if first.shape != second.shape:
            raise InvalidData(f"positions along y and x differ in number: {first.shape} and {second.shape}")
    if first.dtype.kind not in "iuf" or second.dtype.kind not in "iuf":
        raise InvalidData(f"expected real numbers for positions under {spec.key!r}, got {first.dtype}")
    first, second = first.ravel().astype(np.float64), second.ravel().astype(np.float64)
    y, x = (first, second) if spec.axes == "yx" else (second, first)
    return np.stack(manifest.rotate(y, x), axis=1)


def _bad_pixels(read: Read, manifest: Manifest) -> BoolArray | None:
    spec = manifest.bad_pixels
    if spec is None:
        return None
    return _as_bad(read(spec.key, "bad pixels"), spec.means)


def _as_bad(mask: Array, means: str) -> BoolArray:
    """``(h, w)``, true = bad; of one mask for each pattern whatever is bad in one of them."""
    bad = mask == 0 if means == "good" else mask != 0
    merged: BoolArray = bad.any(axis=0) if bad.ndim == 3 else bad
    return merged


def _cxi_with(raw: Raw, file: h5py.File, manifest: Manifest) -> Raw:
    """A CXI file's contents with what a manifest says beyond the geometry."""
    fields = dict(vars(raw))
    told = manifest.model_fields_set

    def read(key: str, what: str) -> Array:
        return read_array(file, key, what)

    if "bad_pixels" in told:
        fields["bad_pixels"] = _bad_pixels(read, manifest)
    if "probe" in told:
        key = manifest.probe.key
        fields.update(start=manifest.probe, probe=None if key is None else read(key, "a probe"), known_probe=False)
    if "noise" in told:
        fields["noise"] = manifest.noise.noise
    if "position_error_px" in told:
        fields.update(position_error_px=manifest.position_error_px, canvas=None)
    patterns = manifest.patterns
    fields.update(zero_frequency=patterns.zero_frequency, gain=patterns.gain, offset=patterns.offset)
    return Raw(**fields)


def read_bad_pixels(path: Path) -> BoolArray:
    """Read a user's ``--bad-pixels`` file, ``(h, w)`` in the orientation of the stored patterns, true (not 0) = bad.

    Args:
        path: ``.npy``, ``.npz`` or HDF5 with one array, or an image (TIFF).

    Raises:
        InvalidData: where it cannot be read or holds more than one array.

    """
    require_file(path)
    try:
        if path.suffix in (".tif", ".tiff"):
            mask = np.asarray(tifffile.imread(path))
        elif path.suffix == ".npy":
            mask = np.load(path, allow_pickle=False)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                mask = archive[_only(archive.files, path)]
        else:
            with hdf5_file(path) as file:
                names: list[str] = []
                file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
                mask = read_array(file, _only(names, path), "bad pixels")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, tifffile.TiffFileError) as error:
        raise InvalidData(f"{path} cannot be read as an image of bad pixels ({error})") from None
    mask = as_numeric(mask, f"the bad pixels of {path}")
    if mask.ndim not in (2, 3):
        raise InvalidData(f"expected bad pixels of shape (h, w) in {path}, got {mask.shape}")
    return _as_bad(mask, "bad")


def _only(names: list[str], path: Path) -> str:
    if len(names) != 1:
        raise InvalidData(f"expected one array of bad pixels in {path}, got {', '.join(names) or 'none'}")
    return names[0]
