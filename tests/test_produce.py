"""Sets of generated images: the same bytes whatever happened on the way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leaves import digests, leaves
from ptybench.datasets.dead_leaves import DeadLeaves
from waiting import wait

from ptybench.errors import InvalidData
from ptybench.generation.produce import produce
from ptybench.generation.recipe import Recipe, make_recipe
from ptybench.generation.shards import Part, open_images, part_of
from ptybench.generation.stream import ImageFile
from ptybench.generation.workers import draw_images


def test_a_file_holds_the_images_of_its_recipe(tmp_path: Path) -> None:
    made = produce(leaves(5, seed=3, domain="dev"), tmp_path / "leaves.h5")
    assert made.drawn == 5
    generator = DeadLeaves(max_leaves=200)
    with h5py.File(made.out) as file:
        assert file["images"].dtype == np.uint8
        for k in range(5):
            grey = generator.image(k, (20, 24), domain="dev", seed=3)
            np.testing.assert_array_equal(file["images"][k], np.minimum(np.floor(256 * grey), 255))
    assert not part_of(made.out).exists()


@pytest.mark.parametrize("pixel", ["uint8", "float32"])
def test_jobs_leave_no_trace(tmp_path: Path, pixel: Any) -> None:
    for jobs in (1, 3):
        (tmp_path / str(jobs)).mkdir()
        produce(leaves(8, "dead_leaves:textured", pixel=pixel), tmp_path / str(jobs) / "leaves.h5", jobs=jobs)
    assert digests(tmp_path / "1") == digests(tmp_path / "3")


def test_time_leaves_no_trace(tmp_path: Path) -> None:
    first = digests(produce(leaves(per_file=4), tmp_path / "a" / "leaves.h5").out.parent)
    time.sleep(1.1)  # HDF5 counts seconds
    assert digests(produce(leaves(per_file=4), tmp_path / "b" / "leaves.h5").out.parent) == first
    assert len(first) == 3


@pytest.mark.parametrize("name", ["leaves.h5", "100%b.h5", "no_suffix", "dots.in.name.h5"])
def test_files_are_an_index_and_numbered_ones_where_images_are_many(tmp_path: Path, name: str) -> None:
    whole = produce(leaves(7), tmp_path / "whole" / name)
    split = produce(leaves(7, per_file=3), tmp_path / "split" / name)
    names = [entry["name"] for entry in split.card["files"]]
    assert len(names) == 3
    assert [entry["count"] for entry in split.card["files"]] == [3, 3, 1]
    with h5py.File(whole.out) as one, h5py.File(split.out) as index:
        np.testing.assert_array_equal(one["images"][()], index["images"][()])
    parts = [open_images(split.out.with_name(name)) for name in names]
    np.testing.assert_array_equal(np.concatenate(parts), open_images(whole.out))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_whatever_a_kill_left_is_found_and_made_good(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("killed")
    recipe = leaves(6, shape=(8, 9))
    fill(folder / "whole.h5", recipe)
    written = data.draw(st.permutations(range(6)))[: data.draw(st.integers(0, 6))]
    torn = data.draw(st.sets(st.sampled_from(written))) if written else set()
    images = dict(draw_images(recipe, range(6)))
    with Part(folder / "killed.h5", recipe, range(6)) as part:
        for k in written:
            part.write(k, images[k])
    with h5py.File(part_of(folder / "killed.h5"), "r+") as file:
        for k in torn:  # a page that never reached the disk
            file["images"][k, data.draw(st.integers(0, 7))] ^= 1
    assert fill(folder / "killed.h5", recipe) == sorted(set(range(6)) - (set(written) - torn))
    assert (folder / "killed.h5").read_bytes() == (folder / "whole.h5").read_bytes()


def fill(path: Path, recipe: Recipe) -> list[int]:
    """Draw what is missing of a file, and say what that was."""
    with Part(path, recipe, range(recipe.count)) as part:
        missing = part.missing()
        for index, image in draw_images(recipe, missing):
            part.write(index, image)
        part.finish()
    return missing


def test_a_part_that_cannot_be_read_is_not_thrown_away_unasked(tmp_path: Path) -> None:
    out = tmp_path / "leaves.h5"
    part_of(out).write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    with pytest.raises(InvalidData, match="damaged"):
        produce(leaves(), out)
    assert part_of(out).exists()
    assert produce(leaves(), out, force=True).drawn == 7


def command(out: Path, *more: str) -> list[str]:
    size = ["--n", "300", "--size", "64", "--per-file", "100", "--jobs", "2"]
    words = ["generate", "dead_leaves", "--variant", "diverse", *size, "--out", str(out), *more]
    return [sys.executable, "-P", "-m", "ptybench", *words]


def written(out: Path) -> int:
    """How many images are there, by their checksums."""
    count = 0
    for path in out.parent.glob(f"{out.stem}-*"):
        with h5py.File(path) as file:
            count += int(np.count_nonzero(file["crc32"]))
    return count


def workers() -> set[str]:
    """Processes that draw images, on this machine."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"ptybench.generation.workers" in words:
            found.add(entry.name)
    return found


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_command_goes_on_where_it_was(tmp_path: Path, end: signal.Signals) -> None:
    out = tmp_path / "killed.h5"
    before = workers()
    process = subprocess.Popen(
        command(out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait(lambda: list(tmp_path.glob("killed-*")) and written(out) > 120)
    mine = workers() - before
    process.send_signal(end)
    _, said = process.communicate(timeout=30)
    wait(lambda: not workers() & mine)  # nobody draws on for nobody
    if end is signal.SIGINT:
        assert process.returncode == 130
        assert said.count("\n") == 1
        assert "run again to go on" in said
    there = written(out)
    assert 120 < there < 300
    assert not out.exists()
    with pytest.raises(InvalidData, match="unfinished"):
        ImageFile(out)
    again = subprocess.run([*command(out), "--json"], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(again.stdout)["drawn"] == 300 - there
    recipe = make_recipe("dead_leaves:diverse", count=300, shape=(64, 64), per_file=100)
    whole = produce(recipe, tmp_path / "whole" / "killed.h5", jobs=2)
    assert digests(tmp_path) == digests(whole.out.parent)
