"""The command that measures a CUDA device, in its CPU mode."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ptybench.native import library

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv(library.VARIABLE, "on")
    spec = importlib.util.spec_from_file_location("device_benchmark", FOLDER / "device.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "device_benchmark", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "CHECKED", [("rpie", {"batch": 7}), ("dm", {})])
    yield module
    library.loaded.cache_clear()  # it chooses engines for its process


def test_the_command_measures_and_writes_tables(
    device: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--device", "cpu", "--out", str(tmp_path / "out"), "--sizes", "16", "--modes", "1", "--no-peer"]
    assert device.main(words) == 0
    document = json.loads((tmp_path / "out" / "cuda.json").read_text())
    assert all(row["right"] and row["apart"] < 1e-4 for row in document["check"])
    assert len(document["cells"]) == len(device.METHODS) * len(device.VARIANTS)
    assert all(min(row["patterns_per_s"]) > 0 for row in document["cells"])
    assert document["floor"]["copy_bytes_per_s"] > 0
    printed = capsys.readouterr().out
    assert printed.strip() == (tmp_path / "out" / "cuda.md").read_text().strip()
    assert printed.count("| 16² | 1 |") == len(device.METHODS)
    assert "2 of 2 methods on the device are within 0.001" in printed


def test_what_time_does_not_allow_is_named(device: ModuleType, tmp_path: Path) -> None:
    words = ["--device", "cpu", "--out", str(tmp_path), "--sizes", "16", "--modes", "1", "--no-peer", "--seconds", "0"]
    assert device.main(words) == 0
    assert "Left out for want of time: 28 cells." in (tmp_path / "cuda.md").read_text()


def test_a_wrong_method_is_told(device: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "CLOSE", 0.0)
    words = ["--device", "cpu", "--out", str(tmp_path), "--sizes", "16", "--modes", "1", "--no-peer", "--seconds", "0"]
    assert device.main(words) == 1
    assert "Not right: rpie 7" in (tmp_path / "cuda.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_device_one_sentence(device: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert device.main([]) == 2
    assert capsys.readouterr().err == "device.py: no CUDA device is here: use --device cpu to try the command\n"
