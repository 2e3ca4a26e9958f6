"""Patterns that stay in their HDF5 file, in their own type, and are read where they are asked for."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptybench import memory
from ptybench.errors import InvalidData, NotEnoughMemory
from ptybench.io.files import DAMAGE, find_dataset, hdf5_file
from ptybench.types import blocks

VARIABLE = "PTYBENCH_PATTERNS"  # where patterns are kept: auto, device, host or file
SHARE = 0.25  # of the free memory that patterns may take; the exit waves of some methods take twice as much
OWN_TYPES = (np.uint8, np.uint16, np.uint32)


def own_type(frames: Any) -> np.dtype[Any]:
    """The smallest unsigned integer type that holds frames ``(K, h, w)`` exactly, else the type they have.

    Frames in a file have their type already.
    """
    if isinstance(frames, PatternFile):
        kept: np.dtype[Any] = frames.kept
        return kept
    given: np.dtype[Any] = frames.dtype
    if given.kind not in "iuf":
        return given
    highest = 0.0
    for part in blocks(frames):
        values = frames[part]
        if values.min() < 0 or not (values == np.floor(values)).all():
            return given
        highest = max(highest, float(values.max()))
    held = (np.dtype(kind) for kind in OWN_TYPES if highest <= np.iinfo(kind).max)
    return next((kind for kind in held if kind.itemsize <= given.itemsize), given)


class PatternFile(np.lib.mixins.NDArrayOperatorsMixin):
    """Patterns ``(K, h, w)`` in an HDF5 file, or some of them, to be used like an array of float32.

    A number or a slice reads those patterns, an array of indices selects them without reading. Whatever else an array
    can do reads them all. Patterns that lie in one piece in the file are read past HDF5, without Python's lock.

    Args:
        path: the file.
        key: the dataset.
        indices: which patterns, in this order; all where ``None``.

    Attributes:
        kept: the type in the file, in the byte order of this machine.

    Raises:
        InvalidData: where the file has no such patterns.

    """

    dtype = np.dtype(np.float32)
    ndim = 3

    def __init__(self, path: Path, key: str, indices: NDArray[np.intp] | None = None) -> None:
        self.path, self.key = Path(path), key
        with hdf5_file(self.path) as file:
            node = find_dataset(file, key, "patterns")
            if node.ndim != 3 or node.dtype.kind not in "iuf":
                raise InvalidData(f"expected patterns (K, h, w) under {key!r} of {path}, got {node.shape} {node.dtype}")
            self.kept: np.dtype[Any] = node.dtype.newbyteorder("=")
            # None where the dataset is chunked or compressed
            self._offset: int | None = node.id.get_offset() if node.dtype.isnative else None
            stored: tuple[int, int, int] = node.shape
        self._indices = indices
        self.shape = (stored[0] if indices is None else len(indices), *stored[1:])
        self._lock = threading.Lock()
        self._handle: int | None = None
        self._file: h5py.File | None = None
        self._owner: object = None  # of a temporary folder, which goes with the last of those that read from it

    @property
    def size(self) -> int:
        """Pixels in all patterns."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, indices: NDArray[np.intp], out: NDArray[Any]) -> None:
        """Read patterns into ``out`` ``(B, h, w)`` of the type that is :attr:`kept`.

        Raises:
            InvalidData: where the file has gone or is truncated.

        """
        stored = indices if self._indices is None else self._indices[indices]
        try:
            if self._offset is None:
                self._read_hdf5(stored, out)
            else:
                self._read_flat(stored, out, self._offset)
        except (*DAMAGE, EOFError) as error:
            detail = " ".join(str(error).split())
            raise InvalidData(f"the patterns in {self.path} can no longer be read ({detail})") from None

    def _read_flat(self, stored: NDArray[np.intp], out: NDArray[Any], offset: int) -> None:
        if self._handle is None:
            with self._lock:
                self._handle = self._handle or os.open(self.path, os.O_RDONLY)
        size = out[0].nbytes
        for place in np.argsort(stored):  # from the front of the file to its end
            view = memoryview(out[place]).cast("B")
            at = offset + int(stored[place]) * size
            while view:
                got = os.preadv(self._handle, [view], at)
                if not got:
                    raise EOFError("it ends early")
                view, at = view[got:], at + got

    def _read_hdf5(self, stored: NDArray[np.intp], out: NDArray[Any]) -> None:
        with self._lock:
            if self._file is None:
                self._file = h5py.File(self.path, "r")
            node = self._file[self.key]
            for place in np.argsort(stored):
                node.read_direct(out, np.s_[int(stored[place])], np.s_[int(place)])

    def whole(self) -> NDArray[Any]:
        """All patterns, in the type that is :attr:`kept`."""
        found = np.empty(self.shape, self.kept)
        self.read(np.arange(len(self)), found)
        return found

    def __getitem__(self, index: Any) -> Any:
        few = isinstance(index, int | np.integer | slice)
        if isinstance(index, tuple) and index and isinstance(index[0], int | np.integer | slice):
            return self[index[0]][(slice(None), *index[1:]) if isinstance(index[0], slice) else index[1:]]
        if not few and (isinstance(index, tuple) or np.ndim(index) != 1):
            return np.asarray(self)[index]
        chosen = np.arange(len(self))[index]
        if not few:
            some = PatternFile(self.path, self.key, chosen if self._indices is None else self._indices[chosen])
            some._owner = self._owner
            return some
        out = np.empty((chosen.size, *self.shape[1:]), self.kept)
        self.read(chosen.reshape(-1), out)
        frames = out.astype(np.float32, copy=False)
        return frames if chosen.ndim else frames[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.whole().astype(np.float32 if dtype is None else dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = [np.asarray(one) if isinstance(one, PatternFile) else one for one in inputs]
        return getattr(ufunc, method)(*arrays, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __del__(self) -> None:
        handle, file = self.__dict__.get("_handle"), self.__dict__.get("_file")
        if handle is not None:
            os.close(handle)
        if file is not None:
            file.close()


def in_memory(frames: Any) -> NDArray[Any]:
    """Patterns as an array, in the type in which they are kept."""
    found: NDArray[Any] = frames.whole() if isinstance(frames, PatternFile) else frames
    return found


def for_a_file(shape: tuple[int, ...]) -> bool:
    """Whether patterns of this shape are kept in a file and not in memory: where they would fill a quarter of it."""
    told = os.environ.get(VARIABLE, "auto").lower()
    room = memory.available_bytes()
    return told == "file" or (told == "auto" and room is not None and 4 * math.prod(shape) > SHARE * room)


class _Owner:
    """Somebody who can be waited for to go."""


def spooled(shape: tuple[int, ...], kept: np.dtype[Any], parts: Iterable[tuple[slice, NDArray[Any]]]) -> PatternFile:
    """Patterns in a temporary file that lasts as long as they do.

    Args:
        shape: ``(K, h, w)``.
        kept: type in the file.
        parts: all of them, a few at a time, and which.

    Raises:
        NotEnoughMemory: where the disk has no room for them either.

    """
    needed, free = math.prod(shape) * kept.itemsize, shutil.disk_usage(tempfile.gettempdir()).free
    if needed > 0.9 * free:
        raise NotEnoughMemory(
            f"{shape[0]} patterns fit neither into memory nor, with {needed / 2**30:.1f} GiB of {free / 2**30:.1f} GiB "
            f"free, on the disk of {tempfile.gettempdir()}: take --crop or --bin, or set TMPDIR to a larger one"
        )
    folder = Path(tempfile.mkdtemp(prefix="ptybench-patterns-"))
    owner = _Owner()
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    path = folder / "patterns.h5"
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("patterns", shape, kept)
        for part, frames in parts:  # what is raised here takes the folder with it
            stored[part] = frames
    found = PatternFile(path, "patterns")
    found._owner = owner
    return found
