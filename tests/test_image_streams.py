"""Generated images as datasets of torch."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from leaves import leaves
from ptybench.datasets.dead_leaves import DeadLeaves
from torch.utils.data import DataLoader

from ptybench.errors import InvalidData
from ptybench.generation.produce import Produced, produce
from ptybench.generation.shards import Part
from ptybench.generation.stream import EndlessImages, ImageFile


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Produced]:
    folder = tmp_path_factory.mktemp("sets")
    return {
        "whole": produce(leaves(11), folder / "whole.h5"),
        "split": produce(leaves(11, per_file=4, pixel="float32"), folder / "split.h5"),
    }


@pytest.mark.parametrize("name", ["whole", "split"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_feeds_a_loader(sets: dict[str, Produced], name: str, workers: int) -> None:
    made = sets[name]
    images = ImageFile(made.out)
    with h5py.File(made.out) as file:
        expected = file["images"][()].astype(np.float32) / np.float32(made.recipe.white)
    assert len(images) == 11
    batches = list(DataLoader(images, batch_size=4, num_workers=workers))
    assert [tuple(batch.shape) for batch in batches] == [(4, 1, 20, 24), (4, 1, 20, 24), (3, 1, 20, 24)]
    together = torch.cat(batches)
    assert together.dtype == torch.float32
    np.testing.assert_allclose(together[:, 0].numpy(), expected, rtol=1e-6)
    torch.testing.assert_close(images[-1], together[-1])
    with pytest.raises(IndexError):
        images[11]


def test_a_dataset_is_small_to_send_and_transforms(sets: dict[str, Produced]) -> None:
    images = ImageFile(sets["whole"].out, transform=torch.flatten)
    first = images[0]
    assert first.shape == (480,)
    assert len(pickle.dumps(images)) < 2000
    torch.testing.assert_close(pickle.loads(pickle.dumps(images))[0], first)


def test_a_dataset_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="is missing or something else"):
        ImageFile(tmp_path / "nothing.h5")
    with Part(tmp_path / "part.h5", leaves(3), range(3)), pytest.raises(InvalidData, match="unfinished"):
        ImageFile(tmp_path / "part.h5")
    made = produce(leaves(5, per_file=2), tmp_path / "leaves.h5")
    (tmp_path / "leaves-00001.h5").unlink()
    with pytest.raises(InvalidData, match=r"leaves-00001\.h5 is not there"):
        ImageFile(made.out)


@pytest.mark.parametrize("workers", [0, 2])
def test_endless_images_are_shared_out(workers: int) -> None:
    generator, shape = DeadLeaves(max_leaves=100), (8, 12)
    stream = EndlessImages(generator, shape, seed=4, first=5)
    loader = iter(DataLoader(stream, batch_size=1, num_workers=workers))
    drawn = [next(loader)[0, 0].numpy() for _ in range(6)]
    del loader
    expected = [generator.image(5 + k, shape, seed=4).astype(np.float32) for k in range(6)]
    np.testing.assert_array_equal(drawn, expected)
