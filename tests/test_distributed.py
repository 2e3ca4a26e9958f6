"""Two real processes that share the patterns give the result of one; one that is lost ends the run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import team_of_two
import torch
from problems import make_problem
from torch.distributed import HashStore, PrefixStore  # type: ignore[attr-defined]

import ptybench
from ptybench.errors import InvalidOption, MethodFailed
from ptybench.io.hdf5 import save_measurement
from ptybench.records import Record
from ptybench.registry import resolve_method
from ptybench.runner.job import JOB_FILE, MEASUREMENT_FILE, Job
from ptybench.runner.ranks import Ranks
from ptybench.runner.work import run_job
from ptybench.team import joined

METHODS: list[tuple[str, dict[str, Any]]] = [
    ("dm", {}), ("dm", {"average": 2, "fourier_relax": 0.1}), ("raar", {"inner": 2}), ("ap", {}), ("admm", {}),
    ("rpie", {"batch": 7}), ("epie", {"batch": 7, "overlaps": "sum", "alpha": 0.2, "beta": 0.2}),
    ("mpie", {"batch": 5}), ("wasp", {"batch": 5}), ("sdr", {"batch": 2}),
]  # fmt: skip
# several processes take its steps in torch, whose likeliest steps are those of the kernels to 1e-8 only
IN_TORCH: list[tuple[str, dict[str, Any]]] = [
    ("lsqml", {"batch": 7}), ("lsqml", {"batch": 4, "likelihood": "poisson"})
]  # fmt: skip
PROBLEMS: list[dict[str, Any]] = [{"noise": True, "bad_pixels": True}, {"near_field": True, "modes": 2}]


def case(method: str, options: dict[str, Any], problem: dict[str, Any], **more: Any) -> dict[str, Any]:
    plain = {"method": method, "options": options, "problem": problem, "epochs": 3, "double": True, "compiled": True}
    return plain | more


SAME = [
    *(case(*one, problem, double=double) for one in METHODS for problem in PROBLEMS for double in (False, True)),
    *(case(*one, PROBLEMS[0], compiled=False) for one in METHODS),
    *(case(*one, problem, compiled=False) for one in IN_TORCH for problem in PROBLEMS),
    *(case(*IN_TORCH[0], problem, double=False, compiled=False) for problem in PROBLEMS),
]
REFUSED = {
    "epie visits one pattern after another, which several processes cannot share: give it a batch": case(
        "epie", {}, {}
    ),
    "lsqml visits one pattern after another": case("lsqml", {"batch": 1}, {}),
    "ml needs all patterns in one process: run it without --distributed": case("ml", {}, {}),
}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def start(cases: list[dict[str, Any]], folder: Path) -> list[subprocess.Popen[str]]:
    port, started = free_port(), []
    for rank in range(2):
        command = [sys.executable, team_of_two.__file__, str(rank), str(port), str(folder)]
        # beside this file lies what it imports, which PYTHONSAFEPATH would not find
        paths = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
        started.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths})
        )
        assert started[-1].stdin is not None
        started[-1].stdin.write(json.dumps(cases) + "\n")
        started[-1].stdin.close()
    return started


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with what two processes found in every case."""
    folder = tmp_path_factory.mktemp("team")
    processes = start([*SAME, *REFUSED.values()], folder)
    try:
        assert [one.wait(timeout=120) for one in processes] == [0, 0]
        yield folder
    finally:
        for one in processes:
            one.kill()
            one.wait()


@pytest.mark.parametrize("number", range(len(SAME)), ids=lambda n: "-".join(map(str, SAME[n].values())))
def test_two_processes_find_what_one_finds(number: int, answers: Path) -> None:
    asked = SAME[number]
    torch.set_num_threads(1)
    measurement = make_problem(**asked["problem"]).measurement
    alone = team_of_two.found(asked, measurement)
    with np.load(answers / f"{number}.npz") as two:
        # where there is no light the object of single precision is the sum's last digit
        lit = np.zeros(alone["object"].shape)
        for y, x in np.floor(alone["positions"]).astype(int):
            h, w = measurement.shape
            lit[y : y + h, x : x + w] += (np.abs(alone["probe"]) ** 2).sum(axis=0)
        lit = lit > 1e-3 * lit.max()
        close = 1e-9 if asked["double"] else 1e-5
        for name, where in (("object", lit), ("probe", ...), ("errors", ...), ("positions", ...)):
            there, here = two[name][where], alone[name][where]
            assert np.linalg.norm(there - here) < close * np.linalg.norm(here), name
        # each transforms the probe, or the sum of its changes, once more
        assert 0 <= int(two["ffts"]) - alone["ffts"] <= 0.1 * alone["ffts"]


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_cannot_be_shared_is_refused_in_one_sentence(sentence: str, answers: Path) -> None:
    number = len(SAME) + list(REFUSED).index(sentence)
    with np.load(answers / f"{number}.npz") as found:
        assert str(found["refused"]).startswith(sentence)


@pytest.mark.parametrize("signal", ["SIGKILL", pytest.param("SIGSTOP", marks=pytest.mark.slow)])
def test_a_process_that_is_lost_does_not_hang_the_other(signal: str, tmp_path: Path) -> None:
    processes = start([case("dm", {}, {}, epochs=10**6, signal=signal, patience=4)], tmp_path)
    try:
        assert processes[0].wait(timeout=60) == 0  # starting takes seconds
    finally:
        for one in processes:
            one.kill()
            one.wait()
    with np.load(tmp_path / "0.npz") as found:
        assert "another of the 2 processes of the run has ended or does not answer" in str(found["refused"])


def test_after_others_that_did_not_come_there_can_be_another_team() -> None:
    store = HashStore()
    with (
        pytest.raises(MethodFailed, match="another of the 2 processes"),
        joined(PrefixStore("0", store), 0, 2, 5, patience_s=1),
    ):
        pass
    with joined(PrefixStore("1", store), 0, 1, 5) as team:
        assert team.total(2.0) == 2.0


def torchrun(*words: str, folder: Path) -> Record:
    """The record of a task that two processes of torchrun solved."""
    first = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port())]
    asked = ["-m", "ptybench", "run", "--distributed", "--task", "low_dose", "--epochs", "3", "--no-report"]
    command = [sys.executable, *first, *asked, "--results", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    records = [Record.model_validate_json(path.read_text()) for path in folder.rglob("record.json")]
    assert len(records) == 1, done.stderr  # the first process alone writes
    assert (done.returncode == 0) == (records[0].status == "ok"), done.stderr
    return records[0]


def test_torchrun_makes_the_record_of_one_process(tmp_path: Path) -> None:
    two = torchrun("--method", "rpie", "--set", "method.batch=16", folder=tmp_path / "two")
    one = ptybench.run(
        task="low_dose", method="rpie", options={"batch": 16}, epochs=3, report=False, results=tmp_path / "one"
    )
    assert (two.status, one.status) == ("ok", "ok")
    assert (two.provenance.world, one.provenance.world) == (2, None)
    assert two.key == one.key
    assert two.trace[-1].data_error == pytest.approx(one.trace[-1].data_error, rel=1e-5)
    values = {name: value for name, value in one.metrics.items() if value is not None}
    assert values
    for name, value in values.items():
        assert two.metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-12), name


@pytest.mark.slow
def test_torchrun_leaves_a_record_where_a_method_cannot_be_shared(tmp_path: Path) -> None:
    record = torchrun("--method", "epie", folder=tmp_path)
    assert record.status == "skipped"
    assert "give it a batch" in str(record.error)


@pytest.mark.parametrize(
    ("world", "method", "sentence"),
    [
        (
            26, "dm", "every process needs a pattern of its own, and 26 processes came to 25 patterns: start at most "
            "25, torchrun --nproc_per_node 25",
        ),
        (2, "oracle", "oracle is given the truth, which stays in one process: run it without --distributed"),
    ],
)  # fmt: skip
def test_what_cannot_be_handed_out_is_refused_before_anybody_is_told(
    world: int, method: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"RANK": "0", "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Ranks, "store", lambda *_: pytest.fail("the other processes were called"))
    save_measurement(tmp_path / MEASUREMENT_FILE, make_problem().measurement)
    resolved, said = resolve_method(method, {}), list[dict[str, Any]]()
    job = Job(
        method=method, options=resolved.options, seed=0, epochs=1, seconds=None, checkpoints=[], device="cpu",
        truth=resolved.needs_truth, distributed=True,
    )  # fmt: skip
    (tmp_path / JOB_FILE).write_text(job.model_dump_json())
    run_job(tmp_path, said.append)
    assert said[-1]["failed"] == {"status": "skipped", "error": sentence}


def test_without_torchrun_the_option_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidOption, match="torchrun --nproc_per_node 2 -m ptybench run"):
        Ranks.here()
