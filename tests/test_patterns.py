"""Patterns on the device, on the host and in their file: the same numbers, in bounded memory."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from problems import make_problem

from ptybench import memory
from ptybench.engines import lost
from ptybench.errors import InvalidData, InvalidOption
from ptybench.io.hdf5 import load_measurement, save_measurement
from ptybench.io.patternfile import PatternFile, own_type
from ptybench.io.prepare import prepare
from ptybench.io.raw import Geometry, Raw
from ptybench.native import library
from ptybench.optics import patterns
from ptybench.optics.forward import ForwardModel
from ptybench.optics.patterns import InFile, OnHost, Streamed, place_for
from ptybench.registry import load_method, resolve_method
from ptybench.runner.job import ESTIMATE_FILE, JOB_FILE, MEASUREMENT_FILE, Job
from ptybench.runner.work import run_job
from ptybench.types import Measurement

CPU = torch.device("cpu")


def stored(measurement: Measurement, folder: Path) -> Measurement:
    path = folder / "stored.h5"
    save_measurement(path, measurement)
    return load_measurement(path, in_file=True)


def file_of(measurement: Measurement) -> PatternFile:
    frames: Any = measurement.intensities
    assert isinstance(frames, PatternFile)
    return frames


@pytest.fixture
def counts() -> Measurement:
    """25 patterns of counts with bad pixels."""
    return make_problem(noise=True, bad_pixels=True).measurement


@pytest.fixture
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 7 patterns of 32 by 32 (complex64), so that 25 patterns make several."""
    monkeypatch.setattr(patterns, "BLOCK_BYTES", 7 * 32 * 32 * 4)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 255], np.uint8), ([0, 256], np.uint16), ([1, 65536], np.uint32), ([0, 2.0**33], np.float32),
        ([0, 0.5], np.float32), ([-1, 3], np.float32), ([np.nan, 3], np.float32),
    ],
)  # fmt: skip
def test_counts_are_kept_in_the_smallest_type_that_holds_them(values: list[float], kind: type) -> None:
    assert own_type(np.array(values, np.float32).reshape(2, 1, 1)) == kind


def test_patterns_in_a_file_are_an_array_of_float32(counts: Measurement, tmp_path: Path) -> None:
    frames, array = file_of(stored(counts, tmp_path)), counts.intensities
    assert frames.kept == np.uint32
    assert frames.shape == array.shape
    assert frames.size == array.size
    corner = np.zeros(array.shape, bool)
    corner[3:5, 2:4, 7] = True
    for index in (
        3, -1, slice(2, 9, 3), np.s_[1:4, 5:, :7], np.s_[2, 3, 4], np.s_[[4, 2], 5], np.s_[..., 3:5], np.s_[None],
        corner,
    ):  # fmt: skip
        assert_array_equal(frames[index], array[index])
        assert frames[index].dtype == np.float32
    chosen = np.array([20, 3, 11])
    selected = frames[chosen]
    assert isinstance(selected, PatternFile)
    assert_array_equal(selected[np.array([2, 0])][:], array[[11, 20]])
    assert_array_equal(np.sqrt(frames), np.sqrt(array))
    assert_array_equal(frames * 2, array * 2)
    assert frames.mean() == array.mean()
    assert stored(counts, tmp_path).digest() == counts.digest()


def test_selected_patterns_are_those_of_the_measurement(counts: Measurement, tmp_path: Path) -> None:
    indices = np.array([9, 4, 4, 17])
    ours, theirs = stored(counts, tmp_path).subset(indices), counts.subset(indices)
    assert isinstance(ours.intensities, PatternFile)
    assert_array_equal(np.asarray(ours.intensities), theirs.intensities)


@pytest.mark.parametrize("layout", [{"chunks": (4, 16, 16)}, {"compression": "gzip"}])
def test_patterns_in_pieces_or_compressed(layout: dict[str, Any], counts: Measurement, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("a/b", data=counts.intensities.astype(">u4"), **layout)
    frames = PatternFile(tmp_path / "other.h5", "a/b")
    assert_array_equal(np.asarray(frames), counts.intensities)
    assert_array_equal(frames[np.array([7, 2])][:], counts.intensities[[7, 2]])


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("kind", [">u2", ">u4", "<u8", "i1", "<f2", ">f4"])
@pytest.mark.parametrize("place", ["host", "file"])
def test_patterns_of_any_type_in_a_file_can_be_streamed(
    place: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = make_problem(noise=True).measurement
    m = replace(m, intensities=np.minimum(m.intensities, np.float32(100)))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["patterns"] = m.intensities.astype(kind)
    frames: Any = PatternFile(tmp_path / "other.h5", "patterns")
    monkeypatch.setenv("PTYBENCH_PATTERNS", place)
    model = ForwardModel(replace(m, intensities=frames), CPU)
    assert model.patterns.place == place
    assert torch.equal(model.amplitudes, torch.from_numpy(np.fft.ifftshift(np.sqrt(m.intensities), axes=(1, 2))))
    assert all(torch.equal(model.measured(k), model.amplitudes[k]) for k in model.ahead([3, 24, 0]))


METHODS: list[tuple[str, dict[str, Any]]] = [
    ("epie", {}), ("rpie", {"batch": 4}), ("wasp", {}), ("mpie", {}), ("sdr", {"batch": 2}), ("lsqml", {"batch": 4}),
    ("lsqml", {"batch": 25, "likelihood": "poisson"}), ("ml", {}), ("epie+xcorr", {}), ("ad", {"batch": 4}),
]  # fmt: skip


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(("method", "options"), METHODS, ids=str)
def test_a_reconstruction_is_the_same_to_the_bit_wherever_patterns_are(
    method: str,
    options: dict[str, Any],
    compiled: bool,
    counts: Measurement,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not compiled:
        monkeypatch.setattr(library, "able", lambda model: False)
    measurement, found = stored(counts, tmp_path), []
    for place in ("device", "host", "file"):
        monkeypatch.setenv("PTYBENCH_PATTERNS", place)
        solver = resolve_method(method, dict(options)).create(measurement, CPU, 3)
        assert solver.model.patterns.place == place
        errors = [solver.step() for _ in range(2)]
        found.append((errors, solver.estimate(), solver.cost()))
    (errors, first, cost), *others = found
    for other_errors, other, other_cost in others:
        assert_array_equal(other.object, first.object)
        assert_array_equal(other.probe, first.probe)
        assert_array_equal(other.positions_px, first.positions_px)
        assert other_errors == pytest.approx(errors, rel=1e-12)
        assert other_cost == cost


@pytest.mark.usefixtures("_small_blocks")
def test_lost_patterns_are_looked_for_wherever_patterns_are(
    counts: Measurement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost, "doubtful", lambda errors: [2, 7])
    monkeypatch.setattr(lost, "EXPLAINED", 10.0)  # they move wherever they fit best
    measurement, found = stored(replace(counts, position_error_px=2.0), tmp_path), []
    options = {"position_rate": 0.1, "searches": 1, "blur_share": 0.4, "batch": 4}
    for place in ("device", "host", "file"):
        monkeypatch.setenv("PTYBENCH_PATTERNS", place)
        solver = resolve_method("ad", options).create(measurement, CPU, 3)
        assert solver.model.patterns.place == place
        for progress in (0.0, 0.4, 0.75):
            solver.progress = progress
            solver.step()
        found.append(solver.estimate())
    away = np.hypot(*(found[0].positions_px - measurement.positions_px).T)
    assert away[[2, 7]].max() > 1  # looked for, and moved
    for other in found[1:]:
        assert_array_equal(other.object, found[0].object)
        assert_array_equal(other.positions_px, found[0].positions_px)


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("method", "options"),
    [("dm", {}), ("admm", {}), ("raar", {"inner": 2}), ("ad", {"batch": 25}), ("ad", {"optimiser": "lbfgs"})],
    ids=str,
)
def test_sums_over_all_patterns_differ_by_their_order_alone(
    method: str, options: dict[str, Any], compiled: bool, counts: Measurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(library, "able", lambda model: False)
    base: Any = load_method(method)
    kind = type(base.__name__, (base,), {"dtype": torch.complex128})
    solvers = []
    for place in ("device", "host"):
        monkeypatch.setenv("PTYBENCH_PATTERNS", place)
        solvers.append(kind(counts, kind.Options(**options), seed=3))
        for _ in range(3):
            solvers[-1].step()
    assert (solvers[0].object - solvers[1].object).norm() < 1e-10 * solvers[0].object.norm()
    if method != "ad":
        assert (solvers[0].residual - solvers[1].residual).norm() < 1e-10 * solvers[0].residual.norm()
    else:
        assert len(solvers[1].model.patterns.window) <= 2 * 7  # and never had all of them


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("case", [{}, {"near_field": True}, {"shape": (21, 26)}, {"bad_pixels": True}], ids=str)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_amplitudes_are_at_hand_in_any_turn(
    case: dict[str, Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    measurement = make_problem(noise=True, **case).measurement
    here = ForwardModel(measurement, CPU, dtype=dtype)
    roots = np.sqrt(np.where(measurement.bad_pixels, 0, measurement.intensities))
    ordered = np.fft.ifftshift(roots, axes=(1, 2)) if here.centred else roots
    assert_array_equal(here.amplitudes.numpy(), ordered)
    monkeypatch.setenv("PTYBENCH_PATTERNS", "host")
    there = ForwardModel(measurement, CPU, dtype=dtype)
    assert there.power == here.power
    assert there.strongest == here.strongest
    indices: list[Any] = [4, 4, slice(3, 6), [9, 2, 20], [5, 6, 7], slice(0, 25), [1], 0]
    for index in indices:
        assert torch.equal(there.measured(index), here.measured(index))
    for index, asked in zip(indices, there.ahead(indices), strict=True):
        assert asked == index
        assert torch.equal(there.measured(index), here.measured(index))
        assert torch.equal(there.measured(13), here.measured(13))  # out of turn
    for _ in there.ahead(list(range(25))):
        break  # somebody who does not come to the end
    for k in there.ahead(list(range(24, -1, -1))):
        assert torch.equal(there.measured(k), here.measured(k))
    assert torch.equal(there.amplitudes, here.amplitudes)
    every, counted = list(range(25)), 0
    for k in there.ahead(every):
        for other in there.ahead(every[:-10:-1]) if k == 3 else ():  # somebody else in between
            assert torch.equal(there.measured(other), here.measured(other))
        assert torch.equal(there.measured(k), here.measured(k))
        counted += 1
    assert counted == 25


def test_a_gpu_would_make_the_same_amplitudes(counts: Measurement) -> None:
    for shape in ((32, 32), (21, 26)):
        m = make_problem(shape, noise=True, bad_pixels=True).measurement
        kept = Streamed(m, CPU, torch.float32)
        for kind in (np.uint8, np.uint16, np.uint32, np.float32):
            raw = np.minimum(m.intensities[:5], 200).astype(kind)
            out = np.empty((5, *shape), np.float32)
            kept.amplitudes_of(raw, out)
            # torch's root is off by the last bit here and there
            assert_allclose(kept.on_device(torch.from_numpy(raw)).numpy(), out, rtol=2e-7)


def test_memory_is_bounded_by_the_window(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PTYBENCH_PATTERNS", "file")
    m = make_problem(noise=True).measurement
    many = stored(
        replace(
            m,
            intensities=np.concatenate([m.intensities] * 8),
            positions_px=np.concatenate([m.positions_px] * 8),
            initial=replace(m.initial, positions_px=np.concatenate([m.positions_px] * 8)),
        ),
        tmp_path,
    )
    monkeypatch.setattr(patterns, "BLOCK_BYTES", 7 * 32 * 32 * 4)
    solver = resolve_method("rpie", {"batch": 4}).create(many, CPU, 0)
    solver.step()
    kept = solver.model.patterns
    assert isinstance(kept, InFile)
    assert len(kept.window) == 14
    assert isinstance(kept.frames, PatternFile)
    assert not any(isinstance(value, np.ndarray) and value.size > 14 * 32 * 32 for value in vars(kept).values())


@pytest.mark.parametrize(
    ("free", "filed", "place"),
    [
        (None, True, "device"), (100.0, True, "device"), (4.1, True, "device"), (3.9, True, "host"),
        (3.9, False, "host"), (1.0, True, "file"), (1.0, False, "host"),
    ],
)  # fmt: skip
def test_patterns_are_kept_where_there_is_room(
    free: float | None, filed: bool, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``free`` is memory in units of the amplitudes; the patterns of this problem take half of that in their file."""
    m = make_problem(noise=True, photons=1e5).measurement
    measurement = stored(m, tmp_path) if filed else m
    if filed:
        assert file_of(measurement).kept == np.uint16
    room = None if free is None else int(free * m.intensities.size * 4)
    monkeypatch.setattr(memory, "available_bytes", lambda: room)
    assert place_for(measurement, CPU, torch.float32) == place


def test_an_unknown_place_is_refused(counts: Measurement, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTYBENCH_PATTERNS", "moon")
    with pytest.raises(InvalidOption, match="PTYBENCH_PATTERNS must be auto, device, host or file, got 'moon'"):
        resolve_method("epie", {}).create(counts, CPU, 0)


@pytest.mark.usefixtures("_small_blocks")
def test_a_file_that_is_cut_off_meanwhile_is_one_sentence(
    counts: Measurement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTYBENCH_PATTERNS", "file")
    solver = resolve_method("epie", {}).create(stored(counts, tmp_path), CPU, 0)
    solver.step()
    path = tmp_path / "stored.h5"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 3)
    with pytest.raises(InvalidData, match="can no longer be read"):
        solver.step()


@pytest.mark.usefixtures("_small_blocks")
def test_a_job_reads_its_patterns_from_the_file(
    counts: Measurement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimates = []
    for place in ("file", "device"):
        monkeypatch.setenv("PTYBENCH_PATTERNS", place)
        folder = tmp_path / place
        folder.mkdir()
        save_measurement(folder / MEASUREMENT_FILE, counts)
        options = resolve_method("epie", {}).options
        job = Job(method="epie", options=options, seed=0, epochs=2, seconds=None, checkpoints=[], device="cpu")
        (folder / JOB_FILE).write_text(job.model_dump_json())
        said: list[dict[str, Any]] = []
        run_job(folder, said.append)
        assert "done" in said[-1]
        with h5py.File(folder / ESTIMATE_FILE) as file:
            estimates.append(file["object"][()])
    assert_array_equal(*estimates)


def test_host_patterns_keep_their_own_type(counts: Measurement, tmp_path: Path) -> None:
    kept = OnHost(stored(counts, tmp_path), CPU, torch.float32)
    assert kept.frames.dtype == np.uint32


@pytest.mark.parametrize(("gain", "kept"), [(1.0, np.uint16), (2.5, np.float32)])
def test_a_real_measurement_that_is_too_large_for_memory_is_prepared_into_a_file(
    gain: float, kept: type, counts: Measurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    patterns_ = np.minimum(counts.intensities, 65535).astype(np.uint16)
    raw = Raw(patterns_, counts.positions_px, "px", Geometry(), bad_pixels=counts.bad_pixels, gain=gain)
    found = []
    for place in ("device", "file"):
        monkeypatch.setenv("PTYBENCH_PATTERNS", place)
        found.append(prepare(raw, ("transpose",), crop=28))
    here, there = found
    frames = file_of(there)
    assert frames.kept == kept
    assert_array_equal(np.asarray(frames), here.intensities)
    assert_array_equal(there.initial.probe, here.initial.probe)
    assert here.digest() == there.digest()
    path, some = frames.path, frames[np.array([3, 1])]
    del frames, there, found
    assert_array_equal(some[:], here.intensities[[3, 1]])
    del some
    gc.collect()
    assert not path.exists()
