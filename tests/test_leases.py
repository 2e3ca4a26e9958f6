"""Leases and claims: nobody shares, nobody waits for ever, and a process that dies leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ptybench.runner import devices
from ptybench.runner.devices import CudaDevice
from ptybench.runner.leases import CLAIMS, VARIABLE, Claim, Lease, Lock, Machine, kept_to, lease_folder, share_of

CORES = (3, 5, 6)
LONG = 20.0


def nobody(who: str) -> None:
    raise AssertionError(f"had to wait for {who}")


def quietly(who: str) -> None:
    """Wait without a word."""


def lease(machine: Machine, count: int) -> Lease:
    return machine.lease_cores(count, quietly, threading.Event())


def script(body: str, *words: str | Path) -> subprocess.Popen[str]:
    head = (
        "import os, random, sys, threading, time\nfrom pathlib import Path\nfrom ptybench.runner.leases import *\n"
        "folder = Path(sys.argv[1])\n"
    )
    command = [sys.executable, "-P", "-c", head + body, *map(str, words)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


_CROWD = """
marks, draw, stop = Path(sys.argv[2]), random.Random(sys.argv[3]), threading.Event()
machine = Machine(folder, (3, 5, 6))
(marks / f"here{sys.argv[3]}").touch()
while len(list(marks.glob("here*"))) < 4:  # so that they meet
    time.sleep(0.01)
for _ in range(30):
    wanted = draw.randint(1, 3)
    with machine.lease_cores(wanted, lambda who: None, stop) as lease:
        assert len(set(lease.cores)) == wanted and set(lease.cores) <= {3, 5, 6} and lease.exclusive
        for core in lease.cores:
            (marks / str(core)).touch(exist_ok=False)  # fails where another process is on that core
        time.sleep(draw.uniform(0, 0.003))
        for core in lease.cores:
            (marks / str(core)).unlink()
"""


def test_processes_that_want_some_cores_or_all_never_share_one(tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    crowd = [script(_CROWD, tmp_path, tmp_path / "marks", str(seed)) for seed in range(4)]
    ended = [process.communicate(timeout=100) for process in crowd]
    assert [(process.returncode, err) for process, (_, err) in zip(crowd, ended, strict=True)] == [(0, "")] * 4


_GREEDY = """
machine = Machine(folder, (3, 5, 6))
print("begun", flush=True)
while True:
    with machine.lease_cores(1, lambda who: None, threading.Event()):
        time.sleep(0.02)
"""


def test_who_wants_all_cores_is_served_between_many_who_want_one(tmp_path: Path) -> None:
    crowd = [script(_GREEDY, tmp_path) for _ in range(4)]
    try:
        for process in crowd:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
        start = time.monotonic()
        for _ in range(3):
            with lease(Machine(tmp_path, CORES), 3) as held:
                assert set(held.cores) == set(CORES)
        assert time.monotonic() - start < LONG
    finally:
        for process in crowd:
            process.kill()
            process.communicate()


_HOLDS = """
machine = Machine(folder, (3, 5, 6))
cores = machine.lease_cores(2, lambda who: None, threading.Event())
device = machine.lease_device(["cuda-a", "cuda-b"], lambda who: None, threading.Event())
claim = Claim.take(folder / "runs", "key")
print(*cores.cores, device.device, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_held_is_free_at_once(tmp_path: Path) -> None:
    process = script(_HOLDS, tmp_path)
    assert process.stdout is not None
    *cores, device = map(int, process.stdout.readline().split())
    machine, told, stop = Machine(tmp_path, CORES), list[str](), threading.Event()
    with machine.lease_device(["cuda-a", "cuda-b"], nobody, stop) as other:
        assert {device, other.device} == {0, 1}
    with machine.lease_cores(1, nobody, stop) as left:
        assert set(left.cores).isdisjoint(cores)
    assert Claim.take(tmp_path / "runs", "key") is None

    def tell(whom: str) -> None:
        told.append(whom)
        process.kill()

    with machine.lease_cores(3, tell, stop) as all_three:
        assert process.wait() == -signal.SIGKILL
        assert set(all_three.cores) == set(CORES)
    assert told == [f"process {process.pid}"]
    with machine.lease_device(["cuda-a", "cuda-b"], nobody, stop):
        pass
    claim = Claim.take(tmp_path / "runs", "key")
    assert claim is not None
    with claim:
        pass
    assert not (tmp_path / "runs" / CLAIMS / "key").exists()
    process.communicate()


def test_a_claim_is_one_persons_and_leaves_no_file(tmp_path: Path) -> None:
    first = Claim.take(tmp_path, "a")
    assert first is not None
    with first:
        assert Claim.take(tmp_path, "a") is None  # also within this process
    assert list(tmp_path.iterdir()) == []
    again = Claim.take(tmp_path, "a")
    assert again is not None
    again.__exit__(None, None, None)


_CLAIMS = """
marks, draw, won = Path(sys.argv[2]), random.Random(sys.argv[3]), 0
for _ in range(100):
    key = str(draw.randrange(3))
    claim = Claim.take(folder, key)
    if claim is not None:
        with claim:
            (marks / key).touch(exist_ok=False)
            (marks / key).unlink()
            won += 1
print(won)
"""


def test_claims_hold_while_their_files_come_and_go(tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    crowd = [script(_CLAIMS, tmp_path / "runs", tmp_path / "marks", str(seed)) for seed in range(4)]
    ended = [process.communicate(timeout=100) for process in crowd]
    assert [(process.returncode, err) for process, (_, err) in zip(crowd, ended, strict=True)] == [(0, "")] * 4
    assert all(int(out) > 0 for out, _ in ended)


def test_stop_ends_the_wait(tmp_path: Path) -> None:
    machine, stop = Machine(tmp_path, CORES), threading.Event()
    with lease(machine, 3):
        threading.Timer(0.2, stop.set).start()
        with pytest.raises(KeyboardInterrupt):
            machine.lease_cores(1, quietly, stop)
    with machine.lease_cores(3, nobody, threading.Event()):
        pass  # what it held while it waited, the gate too, is free again


def test_no_more_cores_are_asked_for_than_there_are(tmp_path: Path) -> None:
    with lease(Machine(tmp_path, CORES), 64) as held:
        assert set(held.cores) == set(CORES)


def test_leases_can_be_off_and_then_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "off")
    assert lease_folder() is None
    with lease(Machine(None, CORES), 3) as first, lease(Machine(None, CORES), 3) as second:
        assert not first.exclusive
        assert not second.exclusive
    file = tmp_path / "file"
    file.touch()
    with lease(Machine(file, CORES), 1) as held:  # no place for locks: a run all the same, that does not claim too much
        assert not held.exclusive


def test_the_folder_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))
    folder = lease_folder()
    assert folder == tmp_path / "mine"
    assert folder.stat().st_mode & 0o077 == 0
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # the same in every terminal
    folder = lease_folder()
    assert folder is not None
    assert tmp_path not in folder.parents


def test_a_lock_of_a_removed_file_is_no_lock(tmp_path: Path) -> None:
    first = Lock.take(tmp_path / "a")
    assert first is not None
    (tmp_path / "a").unlink()
    second = Lock.take(tmp_path / "a")
    assert second is not None
    assert Lock.take(tmp_path / "a") is None
    first.release()
    second.release()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no processor affinity")
def test_a_thread_and_its_processes_keep_to_their_cores() -> None:
    before = os.sched_getaffinity(0)
    one = min(before)
    with kept_to([one]):
        assert os.sched_getaffinity(0) == {one}
        shown = subprocess.run(
            [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"], capture_output=True, check=True
        )
        assert shown.stdout.split() == [str(one).encode()]
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(("asked", "jobs", "share"), [("", 1, 3), ("", 2, 1), ("", 9, 1), ("2", 1, 2), ("many", 1, 3)])
def test_each_job_is_given_its_share(monkeypatch: pytest.MonkeyPatch, asked: str, jobs: int, share: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert share_of(Machine(None, CORES), jobs) == share


GPUS = (CudaDevice("H200", "aa"), CudaDevice("T4", "bb"), CudaDevice("H200", "cc"))


def test_any_free_device_of_the_same_model_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cuda_devices", lambda: GPUS)
    assert devices.resolve("auto") == devices.resolve("cuda") == ("cuda", "cuda:H200")
    assert devices.resolve("cuda:1") == ("cuda:1", "cuda:T4")
    assert devices.choices("cpu") == {}
    assert devices.choices("cuda:1") == {"cuda:1": "cuda-bb"}
    names = devices.choices("cuda")
    assert names == {"cuda:0": "cuda-aa", "cuda:2": "cuda-cc"}
    machine, stop = Machine(tmp_path, CORES), threading.Event()
    either = list(names.values())
    with machine.lease_device(either, nobody, stop) as first, machine.lease_device(either, nobody, stop) as second:
        assert [list(names)[one.device] for one in (first, second)] == ["cuda:0", "cuda:2"]
        with machine.lease_device(["cuda-bb"], nobody, stop):
            pass
        threading.Timer(0.2, stop.set).start()
        with pytest.raises(KeyboardInterrupt):
            machine.lease_device(["cuda-aa"], quietly, stop)


@pytest.mark.cuda
def test_the_driver_tells_devices_apart() -> None:
    found = devices.cuda_devices()
    if not found:
        pytest.skip("no CUDA device here")
    assert len({device.uuid for device in found}) == len(found)
    assert all(len(device.uuid) == 32 for device in found)
