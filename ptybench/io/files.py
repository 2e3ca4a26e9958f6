"""Files with manners: atomic writes, checksums, and reads whose every failure is one sentence."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptybench import memory
from ptybench.errors import InvalidData

DAMAGE = (OSError, RuntimeError, KeyError, UnicodeDecodeError)  # how h5py reports a damaged file, by place


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits.

    Raises:
        InvalidData: where the file cannot be read.

    """
    require_file(path)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InvalidData(f"cannot read {path}: {error.strerror}") from None


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` that takes its place at the end, or goes where the body raises.

    A kill at any moment leaves either the old or the new file. The folder is made where it does not exist.

    Raises:
        InvalidData: where the folder cannot be written to.

    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise InvalidData(f"cannot write {path}: {error.strerror}, choose a folder that can be written") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """The process's mask for new files; reading it means setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def require_file(path: Path) -> None:
    """Raise :class:`InvalidData` where ``path`` is no file."""
    if path.is_dir():
        raise InvalidData(f"expected a file, {path} is a folder")
    if not path.is_file():
        raise InvalidData(f"there is no file {path}")


@contextmanager
def hdf5_file(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; whatever h5py finds wrong with it is :class:`InvalidData`.

    Raises:
        InvalidData: where the file is missing, a folder, not HDF5, truncated or damaged.

    """
    require_file(path)
    try:
        with path.open("rb") as stream:
            start = stream.read(2048)
    except OSError as error:
        raise InvalidData(f"cannot read {path}: {error.strerror}") from None
    # the signature stands at 0, 512, 1024, … behind a user block
    if not any(start[offset : offset + 8] == b"\x89HDF\r\n\x1a\n" for offset in (0, 512, 1024)):
        raise InvalidData(f"{path} is not an HDF5 file ({path.stat().st_size} bytes): check what was written")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DAMAGE as error:
        detail = " ".join(str(error).split())
        raise InvalidData(f"{path} is truncated or damaged, fetch or export it again ({detail})") from None


def dataset_keys(file: h5py.Group, limit: int = 24) -> str:
    """The datasets of a file with their shapes, for error messages."""
    found: list[str] = []

    def visit(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset):
            found.append(f"{name} {node.shape}")

    try:
        file.visititems(visit)
    except DAMAGE:
        found.append("(some cannot be read)")
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more if found else "no dataset"


def find_dataset(file: h5py.Group, key: str, what: str) -> h5py.Dataset:
    """Return a dataset of an open file.

    Raises:
        InvalidData: where ``key`` is missing or no dataset, with the keys that are there.

    """
    try:
        node = file.get(key)
    except (KeyError, OSError, RuntimeError, ValueError):
        node = None
    if not isinstance(node, h5py.Dataset):
        raise InvalidData(
            f"{file.file.filename} has no dataset {key!r} for {what}, it has {dataset_keys(file.file)}: "
            "name the right key in --geometry"
        )
    return node


def read_array(file: h5py.Group, key: str, what: str) -> NDArray[np.generic]:
    """Return a whole dataset of an open file as a numeric array.

    Raises:
        InvalidData: where it is missing, cannot be read or does not hold numbers.
        NotEnoughMemory: where it does not fit.

    """
    node = find_dataset(file, key, what)
    return as_numeric(_whole(node, key), f"{what} ({key!r} of {file.file.filename})")


def _whole(node: h5py.Dataset, key: str) -> NDArray[np.generic]:
    memory.require(node.size * node.dtype.itemsize if node.size else 0, f"reading {key!r}")
    try:
        return np.asarray(node[()])
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        detail = " ".join(str(error).split())
        raise InvalidData(
            f"{node.file.filename} is truncated or damaged, {key!r} cannot be read: fetch or export it again ({detail})"
        ) from None


def as_numeric(array: NDArray[np.generic], what: str) -> NDArray[np.generic]:
    """Return an array of numbers or truth values; a compound of a real and an imaginary part becomes complex.

    Raises:
        InvalidData: where it holds anything else.

    """
    if array.dtype.names is not None and len(array.dtype.names) == 2:
        # MATLAB writes {real, imag}, others {re, im}; numpy's own {r, i} is known to h5py
        compound: NDArray[Any] = array
        real, imaginary = (compound[name] for name in array.dtype.names)
        if np.issubdtype(real.dtype, np.floating):
            return as_numeric(real + 1j * imaginary, what)
    if array.dtype.kind not in "biufc":
        raise InvalidData(f"expected numbers for {what}, got the type {array.dtype}")
    return array
