"""`ptybench generate` on the command line, and what its document says of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ptybench.cli import main
from ptybench.cli.generate import parse_size
from ptybench.errors import InvalidOption
from ptybench.generation.stream import ImageFile

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
