"""Files of images that can be killed at any moment, and come out the same bytes.

A file is HDF5 with two contiguous datasets, laid out in full when it is made: ``images (n, H, W)`` and ``crc32 (n,)``.
Images are then written straight to their place, without the HDF5 library, which a kill could leave in between; an image
is there when its checksum is right. While images are missing the file's name ends in ``.part``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import zlib
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from numpy.typing import NDArray

from ptybench.errors import InvalidData, UsageError
from ptybench.generation.recipe import Pixels, Recipe
from ptybench.io.files import DAMAGE, atomic, hdf5_file

FORMAT = "ptybench-images-1"


def part_of(path: Path) -> Path:
    """Where a file lies while it is unfinished."""
    return path.with_name(f"{path.name}.part")


def read_recipe(path: Path) -> Recipe | None:
    """Return the recipe of a file of images; ``None`` where it is something else."""
    try:
        with hdf5_file(path) as file:
            if file.attrs.get("format") != FORMAT:
                return None
            return Recipe.parse(str(file.attrs["recipe"]))
    except (InvalidData, *DAMAGE, ValueError, TypeError):
        return None


def open_images(path: Path) -> NDArray[np.generic]:
    """Return the images ``(n, H, W)`` of one finished file, mapped and not read.

    Raises:
        InvalidData: where the file is missing or not one of ours.

    """
    with hdf5_file(path) as file:
        images = file.get("images")
        offset = None if images is None else images.id.get_offset()
        if file.attrs.get("format") != FORMAT or offset is None:
            raise InvalidData(f"{path} holds no images of `ptybench generate`")
        shape, kind = images.shape, images.dtype
    return np.memmap(path, kind, "r", offset, shape)


class Part:
    """An unfinished file of images; made where there is none.

    Args:
        path: the name of the finished file.
        recipe: of the whole set.
        indices: the images of this file.

    Raises:
        InvalidData: where what is there is damaged or of another recipe.
        UsageError: where another process is writing it.

    """

    def __init__(self, path: Path, recipe: Recipe, indices: range) -> None:
        self.path, self._recipe, self._indices = path, recipe, indices
        if not part_of(path).exists():
            _lay_out(part_of(path), recipe, indices)
        elif read_recipe(part_of(path)) != recipe:
            raise InvalidData(f"{part_of(path)} is damaged or holds other images: --force replaces it")
        with hdf5_file(part_of(path)) as file:
            self._images, self._sums = (int(file[name].id.get_offset()) for name in ("images", "crc32"))
        self._file = os.open(part_of(path), os.O_RDWR)
        _take(self._file, path)

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def missing(self) -> list[int]:
        """Return the indices of the images that are not there yet."""
        size = self._recipe.image_bytes
        sums = np.frombuffer(os.pread(self._file, 4 * len(self._indices), self._sums), "<u4")
        return [
            index
            for k, index in enumerate(self._indices)
            # a checksum of 0 stands for nothing written: to look at the image is only needed elsewhere
            if sums[k] == 0 or zlib.crc32(os.pread(self._file, size, self._images + k * size)) != sums[k]
        ]

    def write(self, index: int, image: Pixels) -> None:
        """Put an image in its place."""
        k, pixels = self._indices.index(index), image.tobytes()
        _write_at(self._file, pixels, self._images + k * len(pixels))
        _write_at(self._file, zlib.crc32(pixels).to_bytes(4, "little"), self._sums + 4 * k)

    def finish(self) -> None:
        """Give the file its name."""
        os.fsync(self._file)
        part_of(self.path).replace(self.path)


def _take(file: int, path: Path) -> None:
    """Keep a second process from writing the same file; the lock goes with the process."""
    try:
        # a lock of another kind than HDF5's own, which would keep readers out
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):  # otherwise the file system has no locks
            os.close(file)
            raise UsageError(f"another process is writing {path}: wait for it") from None


def _write_at(file: int, content: bytes, offset: int) -> None:
    rest = memoryview(content)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written


def _lay_out(path: Path, recipe: Recipe, indices: range) -> None:
    """Make a file with room for all its images; the file system gives the room when they come."""
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        _describe(file, recipe, indices.start)
        for name, shape, kind in (
            ("images", (len(indices), *recipe.shape), np.dtype(recipe.pixel).newbyteorder("<")),
            ("crc32", (len(indices),), np.dtype("<u4")),
        ):
            plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plan.set_layout(h5py.h5d.CONTIGUOUS)
            plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            _create(file, name, shape, kind, plan)


def write_index(out: Path, recipe: Recipe) -> None:
    """Write a file whose ``images`` are those of all files of a set, which lie beside it (an HDF5 virtual dataset)."""
    with atomic(out) as temporary, h5py.File(temporary, "w") as file:
        _describe(file, recipe, 0)
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.VIRTUAL)
        for path, indices in recipe.files(out):
            place = h5py.h5s.create_simple((recipe.count, *recipe.shape))
            place.select_hyperslab((indices.start, 0, 0), (len(indices), *recipe.shape))
            source = h5py.h5s.create_simple((len(indices), *recipe.shape))
            # a per cent sign would stand for the number of a block
            plan.set_virtual(place, path.name.replace("%", "%%").encode(), b"images", source)
        _create(file, "images", (recipe.count, *recipe.shape), np.dtype(recipe.pixel).newbyteorder("<"), plan)


def _describe(file: h5py.File, recipe: Recipe, first: int) -> None:
    file.attrs["format"] = FORMAT
    file.attrs["recipe"] = recipe.line
    file.attrs["first"] = first
    file.attrs["white"] = recipe.white


def _create(
    file: h5py.File, name: str, shape: tuple[int, ...], kind: np.dtype[np.generic], plan: h5py.h5p.PropDCID
) -> None:
    plan.set_obj_track_times(False)  # a time would make each file's bytes its own
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(kind), h5py.h5s.create_simple(shape), plan)
