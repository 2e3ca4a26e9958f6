"""``ptybench run --distributed``: the processes of ``torchrun``, of which the first one plans, scores and writes.

Its child process makes one of several that solve, the others are the processes that torchrun has started beside it.
They wait at torchrun's store for a job, which the child puts there, and take their share of the measurement from it
over the network. Several jobs may follow each other; ``OVER`` in place of a job ends them all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptybench.errors import InvalidOption, MethodFailed, PtybenchError
from ptybench.io.hdf5 import load_measurement, save_measurement
from ptybench.runner.job import MEASUREMENT_FILE, Job, sentence
from ptybench.runner.workfolder import WorkFolder
from ptybench.types import Measurement

if TYPE_CHECKING:
    from ptybench.team import Together

PATIENCE_VARIABLE = "PTYBENCH_PATIENCE_S"
OVER = "over"
_PIECE_BYTES = 2**25
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LOOK_SECONDS = 60


@dataclass(frozen=True)
class Ranks:
    """Which of the processes of ``torchrun`` this is.

    Raises:
        InvalidOption: where this process was not started by torchrun, or one like it.

    """

    rank: int
    world: int
    local: int
    host: str
    port: int

    @classmethod
    def here(cls) -> Ranks:
        """What torchrun has told this process and those that it starts."""
        told = [os.environ.get(name) for name in _VARIABLES]
        if None in told:
            raise InvalidOption(
                "--distributed is for several processes: torchrun --nproc_per_node 2 -m ptybench run … --distributed"
            )
        rank, world, host, port = map(str, told)
        return cls(int(rank), int(world), int(os.environ.get("LOCAL_RANK", rank)), host, int(port))

    def store(self, serves: bool = False) -> Any:
        """Where the processes find each other: torchrun's own store, or one that the first process serves."""
        from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

        serves = serves and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        try:
            store = TCPStore(
                self.host, self.port, is_master=serves, wait_for_workers=False, timeout=timedelta(seconds=_LOOK_SECONDS)
            )
        except RuntimeError as error:
            raise MethodFailed(f"cannot reach the other processes at {self.host}:{self.port} ({error})") from None
        return PrefixStore("ptybench", store)


class Call:
    """What the first process keeps while it runs cells: it says at the end that there are no more.

    A store that it serves itself lives as long as this.
    """

    def __init__(self, here: Ranks) -> None:
        self.store = here.store(serves=True)

    def close(self) -> None:
        """Let the other processes go."""
        with suppress(RuntimeError):  # nobody is left to be told
            self.store.set(f"{self.store.add('round', 1)}/job", OVER)

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def leading(job: Job, folder: Path) -> Iterator[tuple[Together, Measurement]]:
    """Hand out a job and the patterns, in the first process; yields the team and its own share of the measurement.

    Raises:
        InvalidOption: where the truth is asked for, or there are more processes than patterns; nobody has been told of
            the job then.

    """
    ranks = Ranks.here()
    if job.truth:
        raise InvalidOption(
            f"{job.method} is given the truth, which stays in one process: run it without --distributed"
        )
    measurement = load_measurement(folder / MEASUREMENT_FILE, in_file=True)
    count = len(measurement.intensities)
    if ranks.world > count:
        raise InvalidOption(
            f"every process needs a pattern of its own, and {ranks.world} processes came to {count} patterns: start at "
            f"most {count}, torchrun --nproc_per_node {count}"
        )
    store = ranks.store()
    number = store.add("round", 1)
    store.set(f"{number}/count", str(count))
    store.set(f"{number}/job", job.model_dump_json())
    with _team(ranks, store, number, count, job) as team:
        for rank in range(1, ranks.world):
            _send(measurement.subset(team.own(rank)), folder / f"share{rank}.h5", rank, team)
        # the first share is its own; its patterns stay in the file of all
        yield team, measurement.subset(team.own())


@contextmanager
def _team(ranks: Ranks, store: Any, number: int, count: int, job: Job) -> Iterator[Together]:
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]

    from ptybench.team import PATIENCE_S, joined

    def reason() -> str:
        for rank in range(ranks.world):
            key = f"{number}/failed/{rank}"
            if rank != ranks.rank and store.check([key]):
                return f"process {rank} of {ranks.world} failed: {store.get(key).decode()}"
        return ""

    patience = float(os.environ.get(PATIENCE_VARIABLE, PATIENCE_S))
    group = PrefixStore(f"{number}/group", store)
    cuda = job.device.startswith("cuda")
    with joined(group, ranks.rank, ranks.world, count, cuda=cuda, patience_s=patience, reason=reason) as team:
        yield team


def _send(share: Measurement, path: Path, rank: int, team: Together) -> None:
    """Send a measurement as the file that it would be in."""
    import torch
    import torch.distributed as dist

    save_measurement(path, share)
    try:
        dist.send(torch.tensor([path.stat().st_size]), rank)
        with path.open("rb") as file:
            while piece := bytearray(file.read(_PIECE_BYTES)):
                dist.send(torch.frombuffer(piece, dtype=torch.uint8), rank)
    except RuntimeError as error:
        raise MethodFailed(team.lost(error)) from None
    finally:
        path.unlink()


def _receive(path: Path, team: Together) -> Measurement:
    import torch
    import torch.distributed as dist

    size = torch.zeros(1, dtype=torch.int64)
    try:
        dist.recv(size, 0)
        left = int(size)
        with path.open("wb") as file:
            while left:
                piece = torch.empty(min(left, _PIECE_BYTES), dtype=torch.uint8)
                dist.recv(piece, 0)
                file.write(piece.numpy().tobytes())
                left -= len(piece)
    except RuntimeError as error:
        raise MethodFailed(team.lost(error)) from None
    return load_measurement(path, in_file=True)


def serve() -> int:
    """Solve, in one of the other processes, what the first one says, until it is over.

    Returns:
        the exit code, 0 unless the first process is lost: how a cell ended is for that one to say.

    """
    here = Ranks.here()
    store = here.store()
    number = 0
    while True:
        number += 1
        text = _wait(store, f"{number}/job")
        if text is None:
            print(f"ptybench: process {here.rank} has lost the first process", file=sys.stderr)
            return 1
        if text == OVER:
            return 0
        job = Job.model_validate_json(text)
        try:
            count = int(store.get(f"{number}/count"))
            with WorkFolder() as folder, _team(here, store, number, count, job) as team:
                _follow(job, folder.path / MEASUREMENT_FILE, here, store, number, team)
        except Exception as error:
            print(f"ptybench: process {here.rank}: {_said(error)}", file=sys.stderr)


def _wait(store: Any, key: str) -> str | None:
    """The value of a key, however long it takes to come; ``None`` where the store has gone."""
    from torch.distributed import DistStoreError

    while True:
        try:
            store.wait([key], timedelta(seconds=_LOOK_SECONDS))
            value: str = store.get(key).decode()
            return value
        except DistStoreError:  # not yet
            continue
        except RuntimeError:
            return None


def _follow(job: Job, path: Path, here: Ranks, store: Any, number: int, team: Together) -> None:
    """Solve with the others; what is found is the first process's to keep. Says there why this one could not go on."""
    from ptybench.runner.work import solver_of
    from ptybench.solver import Limit, solve

    device = f"cuda:{here.local}" if job.device.startswith("cuda") else job.device
    try:
        solver = solver_of(job, _receive(path, team), device)
        solve(solver, Limit(job.epochs, job.seconds), job.checkpoints)
    except Exception as error:
        if not isinstance(error, MethodFailed):  # else it is the other that has gone
            with suppress(RuntimeError):
                store.set(f"{number}/failed/{here.rank}", _said(error))
        raise


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) if isinstance(error, PtybenchError) else sentence(error)
