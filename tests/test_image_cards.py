"""What the card of a set of images says, and its statistics of images that are known."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest
from leaves import digests, leaves

from ptybench.cli import main
from ptybench.generation.produce import produce
from ptybench.generation.statistics import measure


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
