"""Sets of images that are there: nothing of them is overwritten unasked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from leaves import digests, leaves

from ptybench.errors import InvalidData, UsageError
from ptybench.generation import produce as producing
from ptybench.generation.produce import produce
from ptybench.generation.recipe import Recipe
from ptybench.generation.shards import Part, open_images, part_of


def test_a_finished_set_is_left_alone(tmp_path: Path) -> None:
    first = produce(leaves(per_file=4), tmp_path / "leaves.h5")
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = produce(leaves(per_file=4), tmp_path / "leaves.h5")
    assert again.drawn == 0
    assert again.card == first.card
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"seed": 1}, "seed 0 there, 1 asked"),
        ({"count": 9}, "count 7 there, 9 asked"),
        ({"domain": "dev"}, "domain train there, dev asked"),
        ({"parameters": {"max_leaves": 300}}, "max_leaves 200 there, 300 asked"),
        ({"generator": "dead_leaves:textured"}, "generator dead_leaves:diverse there, dead_leaves:textured asked"),
        ({"per_file": 3}, "per_file"),
        ({"pixel": "float32"}, "pixel uint8 there, float32 asked"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_other_images_are_refused_and_force_replaces_them(
    tmp_path: Path, other: dict[str, Any], said: str, finished: bool
) -> None:
    out, recipe = tmp_path / "leaves.h5", leaves(**{"count": 7} | other)
    if finished:
        produce(leaves(7), out)
    else:
        with Part(out, leaves(7), range(7)):
            pass
    kept = digests(tmp_path)
    with pytest.raises(InvalidData, match=said) as caught:
        produce(recipe, out)
    assert "\n" not in str(caught.value)
    assert digests(tmp_path) == kept
    assert produce(recipe, out, force=True).drawn == recipe.count
    assert not part_of(out).exists()
    with h5py.File(out) as file:
        assert Recipe.parse(file.attrs["recipe"]) == recipe


def test_force_takes_away_the_files_of_a_larger_set_and_nobody_elses(tmp_path: Path) -> None:
    produce(leaves(7, per_file=2), tmp_path / "leaves.h5")
    stranger = tmp_path / "leaves-00009.h5"
    stranger.write_text("mine")
    produce(leaves(2), tmp_path / "leaves.h5", force=True)
    assert sorted(path.name for path in tmp_path.glob("*.h5")) == ["leaves-00009.h5", "leaves.h5"]
    assert stranger.read_text() == "mine"


def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "leaves.h5"
    with h5py.File(out, "w") as file:
        file["images"] = np.zeros((3, 4, 4), np.uint8)
    with pytest.raises(InvalidData, match="no file of `ptybench generate`"):
        produce(leaves(), out)
    with pytest.raises(InvalidData, match="no images of"):
        open_images(out)
    assert produce(leaves(), out, force=True).drawn == 7


def test_a_file_that_was_changed_is_noticed(tmp_path: Path) -> None:
    made = produce(leaves(), tmp_path / "leaves.h5")
    with h5py.File(made.out, "r+") as file:
        file["images"][2, 3, 4] ^= 1
    with pytest.raises(InvalidData, match="not what its card"):
        produce(leaves(), made.out)
    made.paths["card"].unlink()
    assert produce(leaves(), made.out).card["files"] != made.card["files"]


def test_two_do_not_write_one_file(tmp_path: Path) -> None:
    out = tmp_path / "leaves.h5"
    words = ["generate", "dead_leaves:diverse", "--n", "7", "--size", "20x24", "--set", "max_leaves=200"]
    command = [sys.executable, "-P", "-m", "ptybench", *words, "--out", str(out)]
    with Part(out, leaves(), range(7)):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "another process" in done.stderr
    assert done.stderr.count("\n") == 1
    assert produce(leaves(), out).drawn == 7


def test_a_full_disk_is_said_before_anything_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producing.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(UsageError, match="GiB free"):
        produce(leaves(), tmp_path / "leaves.h5")
    assert not (tmp_path / "leaves.h5").exists()
