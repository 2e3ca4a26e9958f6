"""Children forked from a process that has imported torch: as those of a new interpreter, and gone when they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ptybench.records import Store
from ptybench.runner.cells import plan
from ptybench.runner.nest import supported
from ptybench.runner.run import run_cells
from ptybench.runner.supervisor import Nursery

pytestmark = pytest.mark.skipif(not supported(), reason="no subreapers on this system")


def members(group: int, zombies: bool = True) -> list[int]:
    """The processes of a group that are there."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(state[2]) == group and (zombies or state[0] != "Z"):
            found.append(int(folder.name))
    return found


def test_children_end_without_a_trace_and_their_end_is_judged() -> None:
    with Nursery(1, many=True) as nursery:
        with nursery.take() as first, nursery.take() as second:
            assert first.pid != second.pid
            assert os.getpgid(first.pid) == first.pid
            os.kill(first.pid, signal.SIGSEGV)
            while first.alive:
                time.sleep(0.01)
            assert first.kill() == -signal.SIGSEGV
            assert second.alive
            groups = [first.pid, second.pid]
        assert [members(group) for group in groups] == [[], []]


def test_a_dead_nest_is_replaced_by_new_interpreters() -> None:
    with Nursery(1, many=True) as nursery:
        assert nursery._nest is not None
        nursery._nest._process.kill()
        nursery._nest._process.wait()
        with nursery.take() as child:
            assert child.alive


@pytest.mark.timeout(60)
def test_a_nest_that_dies_after_its_guard_was_set_is_replaced_too() -> None:
    with Nursery(1, many=True) as nursery:
        assert nursery._nest is not None
        nest = nursery._nest._process.pid
        while len(members(nest)) < 2:  # the guard, who watches the same socket
            time.sleep(0.01)
        os.kill(nest, signal.SIGKILL)
        with nursery.take() as child:
            assert child.alive
    assert members(nest) == []


def test_children_die_with_their_parent(tmp_path: Path) -> None:
    code = (
        "import time\nfrom ptybench.runner.supervisor import Nursery\n"
        "with Nursery(1, many=True) as n, n.take() as child:\n"
        "    print(child.pid, n._nest._process.pid, flush=True)\n    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    groups = [int(pid) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    # whoever inherits them may take its time to reap them
    while any(members(group, zombies=False) for group in groups) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [members(group, zombies=False) for group in groups] == [[], []]


def test_a_sweep_from_a_nest_finds_the_numbers_of_a_single_run(tmp_path: Path) -> None:
    plans = [plan(task="low_overlap", method="epie", seed=seed, epochs=2) for seed in range(4)]
    run_cells(plans, results=tmp_path / "many", report=False)
    run_cells(plans[:1], results=tmp_path / "one", report=False)
    many = {record.key: record for record in Store(tmp_path / "many").records()}
    (one,) = Store(tmp_path / "one").records()
    assert len(many) == 4
    assert all(record.status == "ok" for record in many.values())
    mine, same = many[one.key].metrics, one.metrics
    assert mine.keys() == same.keys()
    for name, value in same.items():
        assert (mine[name] is None) == (value is None)
        assert value is None or np.isclose(mine[name], value, rtol=1e-5, atol=1e-7), name
