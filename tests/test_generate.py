"""Sets of generated images: the same bytes whatever happened on the way, nothing overwritten, read back by torch."""

from __future__ import annotations

import hashlib
import json
import pickle
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ptybench.datasets.dead_leaves import DeadLeaves
from torch.utils.data import DataLoader

from ptybench import registry
from ptybench.cli import main
from ptybench.cli.generate import parse_size
from ptybench.errors import (
    DuplicateName,
    InvalidData,
    InvalidOption,
    MethodFailed,
    UnknownName,
    UsageError,
)
from ptybench.generation import produce as producing
from ptybench.generation.produce import Produced, produce
from ptybench.generation.recipe import Recipe, encode, make_recipe
from ptybench.generation.shards import Part, open_images, part_of
from ptybench.generation.statistics import measure
from ptybench.generation.stream import EndlessImages, ImageFile
from ptybench.generation.workers import draw_images

SMALL: dict[str, Any] = {"shape": (20, 24), "parameters": {"max_leaves": 200}}

RAMPS = '''
import os
import numpy as np
from ptybench.generation.generator import Generator

class Ramps(Generator):
    """Ramps that lean at random."""
    generates = "ramps"
    bad: int = -1
    def image(self, index, shape, **where):
        if index == self.bad:
            {fate}
        return super().image(index, shape, **where)
    def draw(self, rng, shape):
        print("drawing")
        return np.outer(np.linspace(0, 1, shape[0]), np.full(shape[1], rng.random()))
'''


@pytest.fixture
def ramps(tmp_path: Path) -> Iterator[Path]:
    """A plug-in with a generator, forgotten afterwards."""
    plugin = tmp_path / "ramps.py"
    plugin.write_text(RAMPS.replace("{fate}", "raise ArithmeticError('too steep')"))
    before = dict(registry._generator_plugins)
    yield plugin
    registry._generator_plugins.clear()
    registry._generator_plugins.update(before)
    registry._load_file.cache_clear()


def leaves(count: int = 7, generator: str = "dead_leaves:diverse", **more: Any) -> Recipe:
    return make_recipe(generator, count=count, **SMALL | more)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.h5*")}


# --- the same bytes --------------------------------------------------------------------------------------------------


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


def wait(for_what: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not for_what():
        assert time.monotonic() < end
        time.sleep(0.01)


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


# --- what is there stays ---------------------------------------------------------------------------------------------


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


# --- generators ------------------------------------------------------------------------------------------------------


def test_a_plugin_brings_a_generator(tmp_path: Path, ramps: Path) -> None:
    assert registry.add_plugin(ramps) == ["ramps"]
    assert ("ramps", "Ramps that lean at random.") in [(one.name, one.title) for one in registry.list_generators()]
    recipe = make_recipe("ramps", count=6, shape=(8, 8))
    one, several = (produce(recipe, tmp_path / f"{jobs}.h5", jobs=jobs) for jobs in (1, 3))
    assert one.out.read_bytes() == several.out.read_bytes()
    assert one.card["title"] == "Ramps that lean at random"
    twin = tmp_path / "twin.py"
    twin.write_text(ramps.read_text())
    with pytest.raises(DuplicateName, match="ramps"):
        registry.add_plugin(twin)


@pytest.mark.parametrize(
    ("fate", "said"),
    [
        ("raise ArithmeticError('too steep')", "ArithmeticError: too steep"),
        ("os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("return np.full(shape, np.nan)", "grey values from 0 to 1"),
        ("return np.full(shape, 1.5)", "grey values from 0 to 1"),
        ("return np.zeros((3, 3))", r"image 3 as \(3, 3\)"),
    ],
)
def test_a_worker_that_fails_is_a_sentence_and_what_was_drawn_stays(
    tmp_path: Path, ramps: Path, fate: str, said: str
) -> None:
    ramps.write_text(RAMPS.replace("{fate}", fate))
    registry.add_plugin(ramps)
    with pytest.raises(MethodFailed, match=said) as caught:
        produce(make_recipe("ramps", count=40, shape=(8, 8), parameters={"bad": 3}), tmp_path / "ramps.h5", jobs=2)
    assert "\n" not in str(caught.value)
    with h5py.File(part_of(tmp_path / "ramps.h5")) as file:
        assert file["crc32"][1] != 0
        assert file["crc32"][3] == 0


def test_names_that_nothing_has_and_names_with_variants() -> None:
    with pytest.raises(UnknownName, match="'dead_leaves:textured'"):
        leaves(generator="dead_leaves:texturd")
    with pytest.raises(InvalidOption, match="--variant diverse or textured"):
        leaves(generator="dead_leaves")
    with pytest.raises(UnknownName, match="'contrast'"):
        leaves(generator="dead_leaves:textured", parameters={"contrats": 1})
    with pytest.raises(InvalidOption, match="radius"):
        leaves(parameters={"radius": [0, 1]})


def test_a_recipe_comes_back_from_its_line() -> None:
    recipe = leaves(generator="dead_leaves:textured", pixel="float32", per_file=3)
    assert Recipe.parse(recipe.line) == recipe
    generator = recipe.make()
    assert generator.generates == "dead_leaves:textured"
    assert generator.model_dump(mode="json") == recipe.parameters


def test_levels_are_as_frequent_as_greys() -> None:
    greys = (np.arange(2560) + 0.5) / 2560
    assert (np.bincount(encode(greys, "uint8")) == 10).all()
    assert encode(np.array([0.0, 1.0]), "uint8").tolist() == [0, 255]
    np.testing.assert_array_equal(encode(greys, "float32"), greys.astype(np.float32))


# --- the card --------------------------------------------------------------------------------------------------------


def test_the_card_says_what_is_there(tmp_path: Path) -> None:
    made = produce(leaves(9, per_file=4, seed=5), tmp_path / "leaves.h5")
    card = json.loads(made.paths["card"].read_text())
    assert card == made.card
    recipe = {key: card[key] for key in ("generator", "count", "shape", "seed", "domain", "pixel", "parameters")}
    assert recipe["generator"] == "dead_leaves:diverse"
    assert recipe["seed"] == 5
    assert recipe["parameters"]["max_leaves"] == 200
    for entry in card["files"]:
        assert hashlib.sha256((tmp_path / entry["name"]).read_bytes()).hexdigest() == entry["sha256"]
    with h5py.File(made.out) as file:
        grey = file["images"][()] / 255
    assert card["statistics"]["mean"] == pytest.approx(grey.mean())
    assert card["statistics"]["standard_deviation"] == pytest.approx(grey.std())
    assert sum(card["histogram"]) == pytest.approx(1, abs=1e-4)
    assert len(card["histogram"]) == 32
    text = made.paths["card_text"].read_text()
    assert all(entry["sha256"] in text for entry in card["files"])
    assert made.paths["contact_sheet"].read_bytes().startswith(b"\x89PNG")


def test_the_command_on_the_card_makes_the_set_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = produce(leaves(4, "dead_leaves:textured", seed=2), tmp_path / "leaves.h5")
    text = made.paths["card_text"].read_text()
    block = text.split("```")[1].replace("\\\n", " ")
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    assert main(shlex.split(block)[1:]) == 0
    assert digests(tmp_path / "again") == digests(tmp_path)


def test_statistics_of_known_images() -> None:
    rng = np.random.default_rng(0)
    uniform = measure([rng.random((40, 64, 64), dtype=np.float32)], 1.0)
    assert uniform.values["mean"] == pytest.approx(0.5, abs=0.01)
    assert uniform.values["standard_deviation"] == pytest.approx(12**-0.5, abs=0.01)
    assert uniform.values["mean_step"] == pytest.approx(1 / 3, abs=0.01)
    assert uniform.values["power_slope"] == pytest.approx(0, abs=0.05)
    assert uniform.histogram.max() < 1.2 / 256
    f = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256))
    f[0, 0] = np.inf
    noise = np.fft.rfft2(rng.standard_normal((10, 256, 256))) / f**1.25
    rough = np.fft.irfft2(noise)
    power_law = measure([(rough - rough.min()) / np.ptp(rough)], 1.0)
    assert power_law.values["power_slope"] == pytest.approx(-2.5, abs=0.1)
    flat = measure([np.full((2, 16, 16), 128, np.uint8)], 255.0)
    assert flat.values["power_slope"] is None
    assert flat.histogram[128] == 1


# --- streams ---------------------------------------------------------------------------------------------------------


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


# --- the command -----------------------------------------------------------------------------------------------------

QUICK = ["--n", "3", "--size", "16x20", "--jobs", "1"]


def test_the_command_writes_a_set_and_its_card(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "dead_leaves", "--variant", "textured", *QUICK, "--out", str(tmp_path / "leaves.h5")]
    assert main([*words, "--set", "contrast=[0.1, 0.2]"]) == 0
    shown = capfd.readouterr()
    assert "3 images of 16 × 20 pixels" in shown.out
    assert shown.err == ""
    assert main([*words, "--set", "contrast=[0.1, 0.2]", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["schema"] == "ptybench.images/1"
    assert document["drawn"] == 0
    assert document["parameters"]["contrast"] == [0.1, 0.2]
    assert all(Path(path).exists() for path in document["paths"].values())
    assert main(words) == 2
    shown = capfd.readouterr()
    assert "contrast [0.1, 0.2] there, [0.05, 0.25] asked" in shown.err
    assert shown.err.count("\n") == 1
    assert main([*words, "--force"]) == 0


def test_a_preview_is_a_picture_and_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "dead_leaves:diverse", *QUICK, "--out", str(tmp_path / "leaves.h5"), "--preview"]
    assert main([*words, "--json"]) == 0
    sheet = Path(json.loads(capfd.readouterr().out)["contact_sheet"])
    assert list(tmp_path.iterdir()) == [sheet]
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert main(words[:-1]) == 0
    assert main([*words, "--seed", "1"]) == 2


def test_what_a_plugin_prints_stays_out_of_the_document(tmp_path: Path, ramps: Path) -> None:
    for jobs in ("1", "2"):
        words = ["generate", "ramps", "--plugin", str(ramps), "--n", "4", "--size", "8", "--jobs", jobs, "--json"]
        words = [sys.executable, "-P", "-m", "ptybench", *words, "--out", str(tmp_path / f"{jobs}.h5")]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
        assert json.loads(done.stdout)["count"] == 4
        assert ("drawing" in done.stderr) == (jobs == "1")
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


@pytest.mark.parametrize(
    ("more", "hint"),
    [
        (["dead_leafs"], "'dead_leaves:diverse'"),
        (["dead_leaves"], "--variant diverse or textured"),
        (["dead_leaves", "--variant", "rough"], "dead_leaves:rough"),
        (["dead_leaves:diverse", "--n", "0"], "at least 1 image"),
        (["dead_leaves:diverse", "--size", "4"], "8 to 16384"),
        (["dead_leaves:diverse", "--size", "big"], "--size"),
        (["dead_leaves:diverse", "--jobs", "0"], "--jobs"),
        (["dead_leaves:diverse", "--per-file", "0"], "per file"),
        (["dead_leaves:diverse", "--set", "radios=1"], "'radius'"),
        (["dead_leaves:diverse", "--set", "radius=[0.9, 0.1]"], "radius"),
        (["dead_leaves:diverse", "--set", "slope=[1, 2]"], "'slope'"),
        (["dead_leaves:diverse", "--domain", "test"], "--domain"),
    ],
)
def test_wrong_use_is_one_sentence(
    tmp_path: Path, more: list[str], hint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", *more, "--out", str(tmp_path / "x.h5")]) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert hint in shown.err
    assert not list(tmp_path.iterdir())


def test_generators_are_listed_and_explained(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "generators", "--json"]) == 0
    listed = json.loads(capfd.readouterr().out)["generators"]
    assert {"dead_leaves:diverse", "dead_leaves:textured"} <= {one["name"] for one in listed}
    for one in listed:
        assert main(["info", one["name"], "--json"]) == 0
        facts = json.loads(capfd.readouterr().out)
        assert all(option["meaning"] for option in facts["options"])


def test_sizes() -> None:
    assert [parse_size(text) for text in ("128", "96x128", " 8 × 9 ")] == [(128, 128), (96, 128), (8, 9)]
    for text in ("", "x", "12x", "-4", "1.5"):
        with pytest.raises(InvalidOption, match="--size"):
            parse_size(text)


def test_the_generator_in_the_document_works(tmp_path: Path, ramps: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[1] / "docs" / "generate.md").read_text(encoding="utf-8")
    (source,) = [block for block in text.split("```python\n") if block.startswith('"""Gratings')]
    (tmp_path / "gratings.py").write_text(source.partition("```")[0])
    words = ["generate", "gratings", "--plugin", str(tmp_path / "gratings.py"), *QUICK, "--set", "finest=3"]
    assert main([*words, "--out", str(tmp_path / "gratings.h5")]) == 0
    images = ImageFile(tmp_path / "gratings.h5")
    assert images[0].std() > 0.2
    assert main(["info", "gratings"]) == 0
    assert "shortest period in pixels" in capfd.readouterr().out
