"""The runner: identity of a cell, and one record for every way in which a method can end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Problem

from ptybench import memory, registry
from ptybench.errors import InvalidOption, NotEnoughMemory, UnknownName, UsageError
from ptybench.io.manifest import LoadedData
from ptybench.records import RECORD_FILE, Store, TracePoint
from ptybench.runner.attempt import TRACE_POINTS, thinned
from ptybench.runner.cells import Cell, Plan, plan
from ptybench.runner.devices import resolve
from ptybench.runner.job import Job
from ptybench.runner.run import Progress, RunResult, run, run_cells
from ptybench.runner.supervisor import Child, Ended, Nursery, cause_of_death
from ptybench.runner.workfolder import WorkFolder, sweep
from ptybench.types import Measurement

FAULTY = Path(__file__).with_name("faulty_methods.py")
SMALL = {"scan.overlap": 0.0, "scan.field_of_view_px": (48, 48), "geometry.oversampling": 1}


@pytest.fixture(autouse=True)
def _plugin() -> Iterator[None]:
    before = dict(registry._plugins)
    registry.add_plugin(FAULTY)
    yield
    registry._plugins.clear()
    registry._plugins.update(before)


def small(method: str, **fields: Any) -> Plan:
    return plan(task="low_overlap", method=method, task_overrides=SMALL, **({"epochs": 3, "device": "cpu"} | fields))


# --- identity --------------------------------------------------------------------------------------------------------

CELL: dict[str, Any] = {
    "task": {"name": "low_dose", "version": 1, "dose": {"photons": 1e4}, "scan": {"overlap": 0.75}},
    "domain": "dev",
    "tier": "small",
    "seed": 0,
    "method": "epie",
    "method_version": "1",
    "options": {"alpha": 1.0, "beta": 1.0},
    "epochs": 200,
    "device": "cpu",
}
AXES: dict[str, Any] = {
    "task": {**CELL["task"], "version": 2},
    "data": {"name": "star", "sha256": "0", "preparation": {}},
    "domain": "release",
    "tier": "paper",
    "seed": 1,
    "method": "rpie",
    "method_version": "2",
    "options": {"alpha": 0.5, "beta": 1.0},
    "epochs": 100,
    "seconds": 10.0,
    "device": "cuda:NVIDIA H200",
    "weights": "ab",
    "withheld": 0.05,
    "split": True,
}


def test_every_axis_is_part_of_the_key() -> None:
    assert set(AXES) == set(Cell.model_fields)
    keys = {Cell(**(CELL | {axis: value})).key for axis, value in AXES.items()}
    assert len(keys | {Cell(**CELL).key}) == len(AXES) + 1


@given(st.permutations(list(CELL)), st.permutations(list(CELL["task"])))
def test_the_order_of_dictionaries_is_no_part_of_the_key(fields: list[str], inner: list[str]) -> None:
    shuffled = {name: CELL[name] for name in fields} | {"task": {name: CELL["task"][name] for name in inner}}
    assert Cell(**shuffled).key == Cell(**CELL).key


@settings(max_examples=25)
@given(st.floats(0.01, 2.0), st.floats(-0.5, 0.9))
def test_every_option_and_task_field_reaches_the_key(alpha: float, overlap: float) -> None:
    base = Cell(**CELL)
    changed = Cell(**(CELL | {"options": {"alpha": alpha, "beta": 1.0}}))
    assert (changed.key == base.key) == (alpha == 1.0)
    moved = Cell(**(CELL | {"task": CELL["task"] | {"scan": {"overlap": overlap}}}))
    assert (moved.key == base.key) == (overlap == 0.75)


def test_a_plan_holds_every_resolved_field() -> None:
    first = plan(task="low_overlap", method="epie", device="cpu")
    assert first.cell.task is not None
    assert first.cell.task["scan"]["overlap"] == 0.375
    assert first.cell.epochs == 200
    assert set(first.cell.options) >= {"alpha", "beta"}
    spelt_out = plan(
        task="low_overlap", method="epie", device="cpu", epochs=200,
        task_overrides={"overlap": 0.375}, options={"alpha": first.cell.options["alpha"]},
    )  # fmt: skip
    assert spelt_out.cell.key == first.cell.key
    assert plan(task="low_overlap", method="epie", device="cpu", task_overrides={"overlap": 0.5}).cell != first.cell


def test_the_solver_is_not_told_the_seed() -> None:
    seeds = [small("still", seed=seed, domain=domain).solver_seed for seed in (0, 1) for domain in ("dev", "train")]
    assert len(set(seeds)) == 4
    assert not set(seeds) & {0, 1}
    assert small("still").solver_seed == small("raises").solver_seed  # paired between methods


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"method": "epei", "task": "low_overlap"}, UnknownName, "did you mean 'epie'"),
        ({"method": "epie", "task": "low_overlpa"}, UnknownName, "did you mean 'low_overlap'"),
        ({"method": "epie", "task": "low_overlap", "domain": "test"}, UnknownName, "domain"),
        ({"method": "epie", "task": "low_overlap", "tier": "smal"}, UnknownName, "'small'"),
        ({"method": "epie", "task": "low_overlap", "epochs": 0}, InvalidOption, "at least 1"),
        ({"method": "epie", "task": "low_overlap", "seconds": -1.0}, InvalidOption, "above 0"),
        ({"method": "epie", "task": "low_overlap", "seed": -1}, InvalidOption, "at least 0"),
        ({"method": "epie", "task": "low_overlap", "withheld": 0.5}, InvalidOption, "below 0.5"),
        ({"method": "epie", "task": "low_overlap", "device": "tpu"}, InvalidOption, "unknown device"),
        ({"method": "epie", "task": "low_overlap", "device": "cuda:99"}, InvalidOption, "is not there"),
        ({"method": "epie"}, UsageError, "either a task or the data"),
        ({"method": "epie", "task": "low_overlap", "options": {"alhpa": 1}}, UnknownName, "did you mean 'alpha'"),
    ],
)
def test_wrong_use_is_one_sentence(wrong: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        plan(**wrong)
    assert "\n" not in str(caught.value)


def test_device_classes() -> None:
    assert resolve("cpu") == ("cpu", "cpu")
    told, kind = resolve("auto")
    assert told.partition(":")[0] == kind.partition(":")[0]


def test_a_long_trace_is_thinned_but_keeps_what_was_scored() -> None:
    steps = [TracePoint(epoch=epoch, data_error=1.0) for epoch in range(1, 1001)]
    kept = thinned(steps, {7: {"cpcc_abs": 0.5}, 1000: {"cpcc_abs": 1.0}})
    assert len(kept) <= TRACE_POINTS + 2
    assert (kept[0].epoch, kept[-1].epoch) == (1, 1000)
    assert [point.epoch for point in kept if point.metrics] == [7, 1000]
    assert thinned(steps[:50], {}) == steps[:50]


# --- the child -------------------------------------------------------------------------------------------------------


def job(method: str, **fields: Any) -> Job:
    common: dict[str, Any] = {"method": method, "options": {}, "seed": 5, "epochs": 3, "seconds": None}
    common |= {"checkpoints": [1], "device": "cpu", "plugins": [str(FAULTY)]}
    return Job(**(common | fields))


@pytest.fixture(scope="module")
def gentle() -> Iterator[Child]:
    """A child for those that go wrong without ending it: one start for all of them."""
    hoard = np.ones(2**27)  # a gigabyte of the parent's, which must not be counted as the child's
    with Child(threads=1) as child:
        del hoard
        yield child


@pytest.fixture
def _gently(gentle: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let cells run in the child that is there already."""
    monkeypatch.setattr(Nursery, "take", lambda self: nullcontext(gentle))


def solve_in(child: Child, method: str, measurement: Measurement, **fields: Any) -> Ended:
    return child.run(job(method, **fields), measurement, timeout=60)


@pytest.mark.parametrize(
    ("method", "status", "words"),
    [
        ("raises", "error", "ArithmeticError: the second epoch is cursed"),
        ("quits", "error", "SystemExit"),
        ("asks_too_much", "oom", "Unable to allocate"),
        ("not_installed", "not_installed", "a_package_that_nobody_has"),
        ("refuses", "skipped", "expected a near field"),
    ],
)
def test_exceptions_become_statuses(gentle: Child, problem: Problem, method: str, status: str, words: str) -> None:
    ended = solve_in(gentle, method, problem.measurement)
    assert ended.status == status
    assert ended.error is not None
    assert words in ended.error
    assert "\n" not in ended.error
    assert ended.traceback is not None
    assert "Traceback" in ended.traceback.read_text()


def test_what_a_solver_prints_is_not_the_protocol(gentle: Child, problem: Problem) -> None:
    ended = solve_in(gentle, "chatty", problem.measurement)
    assert ended.status == "done"
    assert ended.done is not None
    assert ended.done.epochs == 3
    assert [step.epoch for step in ended.steps] == [1, 2, 3]
    assert [step.data_error for step in ended.steps] == pytest.approx([1, 1 / 2, 1 / 3])
    assert list(ended.checkpoints) == [1]
    assert "hello from the solver" in gentle.log.read_text(errors="replace")
    assert gentle.threads == 1


def test_a_data_error_that_is_nan_is_divergence(gentle: Child, problem: Problem) -> None:
    ended = solve_in(gentle, "nan_error", problem.measurement)
    assert ended.done is not None
    assert ended.done.status == "diverged"
    assert ended.steps[-1].data_error is None


def test_the_child_is_told_neither_task_nor_truth(gentle: Child, problem: Problem) -> None:
    ended = solve_in(gentle, "still", problem.measurement)
    names = {path.name for path in ended.folder.iterdir()}
    assert "truth.h5" not in names
    told = json.loads((ended.folder / "job.json").read_text())
    assert set(told) == set(Job.model_fields)
    assert told["seed"] == 5
    assert (ended.folder.stat().st_mode | ended.folder.parent.stat().st_mode) & 0o077 in (0, 0o055, 0o022)
    assert ended.folder.parent.stat().st_mode & 0o077 == 0


def test_memory_of_the_child_is_its_own(gentle: Child, problem: Problem) -> None:
    ended = solve_in(gentle, "still", problem.measurement)
    assert ended.done is not None
    assert ended.done.peak_rss_bytes is not None
    usage = memory.usage_of()
    assert usage is not None
    assert 100e6 < ended.done.peak_rss_bytes < 2**30 < usage.peak


def test_a_child_that_is_ended_takes_its_group_with_it(problem: Problem) -> None:
    with Child(threads=1) as child:
        solve_in(child, "still", problem.measurement)  # the clock below is not to run while torch is imported
        ended = child.run(job("hangs"), problem.measurement, timeout=1.5)
        group = child.pid
    assert ended.status == "timeout"
    assert ended.error == "the method was stopped after 1.5 s"
    assert [step.epoch for step in ended.steps] == [1]
    assert not _alive_in_group(group)


def test_a_waiting_child_that_died_is_replaced() -> None:
    with Nursery(threads=1) as nursery:
        nursery.warm()
        nursery.warm()
        first = nursery._ready[0]
        os.kill(first.pid, signal.SIGKILL)
        while first.alive:
            time.sleep(0.01)
        with nursery.take() as second:
            assert second.alive
            assert second is not first


@pytest.mark.parametrize(
    ("code", "starved", "status"),
    [(0, False, "error"), (3, True, "error"), (-9, False, "killed"), (-9, True, "oom"), (-15, True, "killed"),
     (-11, True, "error"), (-6, False, "error"), (-200, False, "error")],
)  # fmt: skip
def test_causes_of_death(code: int, starved: bool, status: str) -> None:
    assert cause_of_death(code, starved)[0] == status


def _alive_in_group(group: int) -> list[int]:
    """Processes of a group that are not zombies."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


def test_a_work_folder_goes_with_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    script = "import os, ptybench.runner.workfolder as w; print(w.WorkFolder().path, flush=True); os._exit(0)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    left = Path(done.stdout.strip())
    assert left.parent == tmp_path
    with WorkFolder() as used:
        sweep(older_than_s=3600)
        assert left.exists()  # young
        sweep(older_than_s=-1)
        assert not left.exists()
        assert used.path.exists()  # locked
    assert not used.path.exists()


# --- whole cells -----------------------------------------------------------------------------------------------------


Results = tuple[Path, list[RunResult], list[Progress]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Every way to end that takes the process with it, and a good one, two cells at a time."""
    before = dict(registry._plugins)
    registry.add_plugin(FAULTY)
    folder = tmp_path_factory.mktemp("runs")
    told: list[Progress] = []
    plans = [small(method) for method in ("kills_itself", "grows", "exits", "crashes", "epie>rpie")]
    got = run_cells(plans, jobs=2, results=folder, progress=told.append, memory_bytes=900 * 2**20)
    registry._plugins.clear()
    registry._plugins.update(before)
    return folder, got, told


def test_each_cell_leaves_one_record_with_its_status(results: Results) -> None:
    folder, got, _ = results
    statuses = {result.record.method: result.record.status for result in got}
    assert statuses == {
        "kills_itself": "killed",
        "grows": "oom",
        "exits": "error",
        "crashes": "error",
        "epie>rpie": "ok",
    }
    assert len(list(folder.rglob(RECORD_FILE))) == len(got)
    assert {r.key for r in Store(folder).records()} == {result.record.key for result in got}
    for result in got:
        record = result.record
        assert (record.error is None) == (record.status == "ok")
        assert set(record.directions) == set(record.metrics) == set(record.units)
        if record.status != "ok":
            assert set(record.metrics.values()) == {None}
    errors = {result.record.method: result.record.error or "" for result in got}
    assert "SIGKILL" in errors["kills_itself"]
    assert "exit code 0" in errors["exits"]
    assert "SIGSEGV" in errors["crashes"]
    (grown,) = [result.record for result in got if result.record.method == "grows"]
    assert grown.cost.peak_rss_bytes
    assert 900 * 2**20 < grown.cost.peak_rss_bytes < 4 * 2**30


def test_a_good_record_is_complete(results: Results) -> None:
    record = results[1][-1].record
    assert record.stop_reason == "budget"
    assert record.metrics["cpcc_abs"] is not None
    assert record.metrics["r_factor"] is not None
    assert (record.task, record.ladder, record.point, record.tier, record.domain) == (
        "low_overlap", "overlap", 0.0, "small", "dev",
    )  # fmt: skip
    assert record.epochs == len(record.trace) == 3
    assert record.trace[-1].metrics["cpcc_abs"] == record.metrics["cpcc_abs"]
    assert record.trace[0].metrics["cpcc_abs"] is not None
    assert record.cost.ffts
    assert record.cost.solver_seconds
    assert record.cost.peak_rss_bytes
    assert record.wall_seconds is not None
    assert record.wall_seconds > record.cost.solver_seconds
    assert record.facts["patterns"]
    assert len(record.provenance.code_hash) == 64
    assert list(record.provenance.plugins) == [FAULTY.name]
    assert record.warnings == []
    assert set(record.artifacts) >= {"reconstruction", "report", "amplitude", "phase"}
    assert all(Path(path).stat().st_size > 100 for path in record.artifacts.values())
    assert set(record.sha256) == {"reconstruction", "amplitude", "phase"}
    with h5py.File(record.artifacts["reconstruction"]) as file:
        assert file["object_aligned"].shape == file["truth"].shape == file["scored"].shape
        assert np.iscomplexobj(file["object"])
    assert Path(record.path, RECORD_FILE).stat().st_size < 50_000


def test_progress_tells_what_remains(results: Results) -> None:
    mine = [p for p in results[2] if p.plan.cell.method == "epie>rpie"]
    assert [p.phase for p in mine] == ["simulating", "solving", "solving", "solving", "scoring"]
    assert [(p.epoch, p.epochs) for p in mine[1:4]] == [(1, 3), (2, 3), (3, 3)]
    assert mine[1].remaining_seconds == pytest.approx(2 * mine[1].seconds)
    assert mine[3].remaining_seconds == 0
    assert mine[1].data_error is not None


def test_final_records_are_not_run_again_and_others_are(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, got, _ = results
    started: list[str] = []

    def refuse(self: Nursery) -> None:
        started.append("a process")
        raise OSError("no process today")

    monkeypatch.setattr(Nursery, "take", refuse)
    finals = [result for result in got if result.record.final]
    assert {result.record.method for result in finals} == {"exits", "crashes", "epie>rpie"}
    plans = [small(result.record.method) for result in finals]
    again = run_cells(plans, results=folder)
    assert all(result.cached and not result.stale for result in again)
    assert [result.record for result in again] == [result.record for result in finals]
    with monkeypatch.context() as patch:
        patch.setattr("ptybench.runner.provenance.code_hash", lambda: "another")
        assert all(result.cached and result.stale for result in run_cells(plans, results=folder))
    assert started == []
    (retried,) = run_cells([small("kills_itself")], results=folder)
    (forced,) = run_cells([plans[0]], results=folder, force=True)
    assert len(started) == 2
    assert [(r.cached, r.record.status, r.record.error) for r in (retried, forced)] == [
        (False, "error", "OSError: no process today")
    ] * 2


@pytest.mark.usefixtures("_gently")
def test_what_a_method_leaves_is_judged_by_the_parent(tmp_path: Path) -> None:
    methods = ["nan_positions", "wrong_shape", "nan_error", "raises", "refuses", "oracle"]
    records = [result.record for result in run_cells([small(method) for method in methods], results=tmp_path)]
    assert [record.status for record in records] == ["diverged", "error", "diverged", "error", "skipped", "ok"]
    assert [record.status for record in records if record.final and set(record.metrics.values()) != {None}] == ["ok"]
    assert [step.epoch for step in records[3].trace] == [1]
    assert "cursed" in Path(records[3].artifacts["traceback"]).read_text()
    fidelity = records[-1].metrics["probe_cpcc_abs"]
    assert fidelity is not None
    assert fidelity > 0.999  # the control was given the truth


@pytest.mark.usefixtures("_gently")
def test_a_scorer_that_fails_leaves_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **more: Any) -> None:
        raise ZeroDivisionError("the scorer is broken")

    monkeypatch.setattr("ptybench.runner.finish.evaluate", broken)
    (result,) = run_cells([small("still")], results=tmp_path)
    assert result.record.status == "error"
    assert result.record.error == "ZeroDivisionError: the scorer is broken"
    assert "Traceback" in Path(result.record.artifacts["traceback"]).read_text()


@pytest.mark.usefixtures("_gently")
def test_too_little_memory_is_wrong_use_and_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 10 * 2**20)
    monkeypatch.setattr("ptybench.runner.run.prewarmed", nullcontext)
    with pytest.raises(NotEnoughMemory, match="take a smaller tier"):
        run(task="low_overlap", method="still", task_overrides=SMALL, device="cpu", results=tmp_path)
    (record,) = Store(tmp_path).records()
    assert record.status == "skipped"


_PARENT = """
import sys
from ptybench import registry
from ptybench.runner.cells import plan
from ptybench.runner.run import run_cells
registry.add_plugin(sys.argv[1])
small = {"scan.overlap": 0.0, "scan.field_of_view_px": (48, 48), "geometry.oversampling": 1}
def tell(progress):
    print(progress.phase, flush=True)
plans = [plan(task="low_overlap", method=m, task_overrides=small, epochs=3, device="cpu") for m in sys.argv[3:]]
run_cells(plans, results=sys.argv[2], progress=tell)
"""


def _parent(results: Path, *methods: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PARENT, str(FAULTY), str(results), *methods]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def _gone(pids: list[int], within: float = 10.0) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if not any(_alive_in_group(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_kill_9_of_the_parent_leaves_no_child_and_no_half_file(tmp_path: Path) -> None:
    parent = _parent(tmp_path, "still", "hangs")
    assert parent.stdout is not None
    phases = 0
    while phases < 6:  # the first cell is done, the second one hangs
        phases += parent.stdout.readline() != ""
    time.sleep(random.Random(0).uniform(0, 0.5))
    children = _children(parent.pid)
    parent.kill()
    parent.communicate()
    assert children
    assert _gone(children)
    for path in tmp_path.rglob("*.h5"):
        if not path.name.startswith("."):
            h5py.File(path).close()
    assert [record.status for record in Store(tmp_path).records() if record.method == "still"] in (["ok"], [])


def test_sigterm_leaves_a_killed_record_and_no_child(tmp_path: Path) -> None:
    parent = _parent(tmp_path, "hangs", "still")
    assert parent.stdout is not None
    while parent.stdout.readline().strip() != "solving":
        assert parent.poll() is None
    children = _children(parent.pid)
    parent.send_signal(signal.SIGTERM)
    parent.communicate(timeout=30)
    assert parent.returncode != 0
    assert _gone(children)
    (record,) = Store(tmp_path).records()
    assert (record.method, record.status, record.error) == ("hangs", "killed", "the run was interrupted")
    assert not record.final
    assert [step.epoch for step in record.trace] == [1]


@pytest.mark.usefixtures("_gently")
def test_real_data_hold_patterns_back_and_are_split(tmp_path: Path, problem: Problem) -> None:
    loaded = LoadedData(measurement=problem.measurement, name="my scan", provenance={})
    settled = plan(data=loaded, method="epie", epochs=3, device="cpu", withheld=0.1)
    assert settled.cell.split
    (result,) = run_cells([settled], results=tmp_path)
    record = result.record
    assert record.status == "ok", record.error
    assert (record.task, record.data, record.domain) == (None, "my scan", None)
    assert record.facts["patterns_withheld"]
    assert record.metrics["r_factor"] is not None
    assert record.metrics["deviance_withheld"] is not None
    assert record.metrics["frc_split_area"] is not None
    assert record.metrics["cpcc_abs"] is None
    assert record.cost.ffts
    used = record.facts["patterns"] - record.facts["patterns_withheld"]
    assert record.cost.ffts <= 3 * used * 6  # of the main reconstruction alone
    moved = replace(problem.measurement, positions_px=problem.measurement.positions_px + 0.25)
    other = plan(data=LoadedData(moved, "my scan", {}), method="epie", epochs=3, device="cpu", withheld=0.1)
    assert other.cell.key != settled.cell.key


def test_the_oracle_is_not_stopped_by_the_tasks_epochs() -> None:
    assert plan(task="low_dose", method="oracle").cell.epochs == 10_000
    assert plan(task="low_dose", method="oracle", epochs=3).cell.epochs == 3
    assert plan(task="low_dose", method="epie").cell.epochs == 200
