"""Generated images for training with torch: from files, or drawn as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from ptybench.errors import InvalidData
from ptybench.generation.generator import Generator, Shape
from ptybench.generation.shards import open_images, part_of, read_recipe

if TYPE_CHECKING:
    from ptybench.task import Domain

Transform = Callable[[torch.Tensor], torch.Tensor]


class ImageFile(Dataset[torch.Tensor]):
    """The images of ``ptybench generate`` as a map-style dataset of float32 tensors ``(1, H, W)`` from 0 to 1.

    Files are mapped when their first image is asked for, in each process of a ``DataLoader`` anew; nothing is read
    ahead, so that a set may be larger than the memory.

    Args:
        path: what was given as ``--out``.
        transform: applied to each image.

    Raises:
        InvalidData: where the set is missing, unfinished or incomplete.

    """

    def __init__(self, path: Path | str, transform: Transform | None = None) -> None:
        path = Path(path)
        recipe = read_recipe(path)
        if recipe is None:
            if part_of(path).exists() or list(path.parent.glob(f"{path.stem}-[0-9]*{path.suffix}.part")):
                raise InvalidData(f"{path} is unfinished: give the same `ptybench generate` again, and it goes on")
            raise InvalidData(f"expected images of `ptybench generate`, {path} is missing or something else")
        self.path, self.recipe, self.transform = path, recipe, transform
        self._files = [file for file, _ in recipe.files(path)]
        missing = [file.name for file in self._files if not file.exists()]
        if missing:
            raise InvalidData(
                f"{path} is an index of files beside it, and {missing[0]} is not there: keep them together"
            )
        self._open: dict[int, NDArray[np.generic]] = {}

    def __len__(self) -> int:
        return self.recipe.count

    def __getitem__(self, index: int) -> torch.Tensor:
        """Return an image; a negative index counts from the end.

        Raises:
            IndexError: beyond the last.

        """
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        number, within = divmod(place, self.recipe.per_file)
        if number not in self._open:
            self._open[number] = open_images(self._files[number])
        image = torch.from_numpy(self._open[number][within].astype(np.float32))[None].div_(self.recipe.white)
        return image if self.transform is None else self.transform(image)

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: no open files."""
        return self.__dict__ | {"_open": {}}


class EndlessImages(IterableDataset[torch.Tensor]):
    """Images drawn as they are needed, without end and never twice, as float32 tensors ``(1, H, W)`` from 0 to 1.

    The workers of a ``DataLoader`` share the sequence out: worker ``w`` of ``n`` draws images ``w``, ``w + n``, ….

    Args:
        generator: draws them.
        shape: ``(H, W)`` in pixels.
        domain: seed domain.
        seed: which sequence.
        first: the index to begin with, for going on where a training was stopped.

    """

    def __init__(
        self, generator: Generator, shape: Shape, *, domain: Domain = "train", seed: int = 0, first: int = 0
    ) -> None:
        self.generator, self.shape, self.domain, self.seed, self.first = generator, shape, domain, seed, first

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Draw one image after another."""
        worker = get_worker_info()
        index, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        index += self.first
        while True:
            grey = self.generator.image(index, self.shape, domain=self.domain, seed=self.seed)
            yield torch.from_numpy(grey.astype(np.float32))[None]
            index += step
