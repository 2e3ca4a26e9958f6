"""The parent's hold on a child process: start it early, hand it jobs, follow it, and end it whatever it does."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from ptybench import memory
from ptybench.io.hdf5 import save_measurement, save_truth
from ptybench.records import TracePoint
from ptybench.runner.job import (
    JOB_FILE,
    MEASUREMENT_FILE,
    TRACEBACK_FILE,
    TRUTH_FILE,
    Done,
    Failed,
    Job,
    checkpoint_file,
)
from ptybench.runner.nest import Hatched, Nest, supported
from ptybench.runner.workfolder import WorkFolder
from ptybench.types import Measurement, Truth

_POLL_SECONDS = 0.1
_LONGEST_LINE = 2**20
_SENT_BY_OTHERS = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
# threads that spin while they wait slow a solver down by twenty where anything else runs (measured: ePIE, 36 patterns
# of 64 by 64, two threads, both cores busy: 1.1 s an epoch, 0.09 s when they sleep, 0.05 s with one thread)
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Ended:
    """How a job ended, as far as the parent could see it.

    Args:
        status: ``done`` where the child says so (its estimate is still to be judged), else a record's status.
        error: one sentence where it is not ``done``.
        done: the child's own account.
        steps: every epoch that was told of.
        checkpoints: epoch → file of an estimate.
        peak_rss_bytes: the highest that was seen.
        told: true where the child itself said how it ended.
        folder: the job's folder, with its files.

    """

    folder: Path
    status: Literal["done", "error", "timeout", "oom", "killed", "skipped", "not_installed"] = "error"
    error: str | None = None
    done: Done | None = None
    steps: list[TracePoint] = field(default_factory=list)
    checkpoints: dict[int, Path] = field(default_factory=dict)
    peak_rss_bytes: int | None = None
    told: bool = False

    @property
    def traceback(self) -> Path | None:
        """The traceback of a job that raised."""
        path = self.folder / TRACEBACK_FILE
        return path if path.exists() else None


class Child:
    """One child process in a session of its own; it starts importing torch at once.

    Args:
        threads: threads of its numerical libraries; ``None`` leaves that to the environment.
        nest: where it is forked from, with the nest's threads; ``None`` starts a new interpreter.

    Attributes:
        jobs: what has become of each job, also of one that is under way.
        threads: threads of torch, once the child has told.

    """

    def __init__(self, threads: int | None = None, nest: Nest | None = None) -> None:
        self._process: subprocess.Popen[bytes] | Hatched
        self._work = WorkFolder()
        self.log = self._work.path / "solver.log"
        with self.log.open("wb") as log:
            self._process = (
                _started(log, self._work.path, threads) if nest is None else nest.hatch(log, self._work.path)
            )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._unread = b""
        self._open = True
        self.jobs: list[Ended] = []
        self.threads: int | None = None
        self.kernels: str | None = None
        self.world: int | None = None

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its process group."""
        return self._process.pid

    def keep_to(self, cores: Sequence[int]) -> None:
        """Keep the child and all threads that it will start to these cores; to those of its parent where none."""
        if cores and hasattr(os, "sched_setaffinity"):
            with suppress(OSError):  # it has died: following it will find out how
                os.sched_setaffinity(self.pid, cores)

    def warm(self, device: str) -> None:
        """Let the child start the device's driver while the parent is busy."""
        self._tell(f"warm {device}")

    def run(
        self,
        job: Job,
        measurement: Measurement,
        truth: Truth | None = None,
        *,
        timeout: float | None = None,
        on_step: Callable[[TracePoint], None] = lambda step: None,
        stop: threading.Event | None = None,
        memory_bytes: int | None = None,
    ) -> Ended:
        """Run one job to its end.

        Args:
            job: what to do.
            measurement: all that the solver sees.
            truth: handed over where ``job.truth`` says so.
            timeout: seconds after which the whole process group is killed.
            on_step: told of every epoch.
            stop: when set, the child is killed and ``KeyboardInterrupt`` raised.
            memory_bytes: resident memory at which the child is killed; the default is what this machine has free.

        """
        folder = self._work.path / f"job{len(self.jobs)}"
        folder.mkdir()
        self.jobs.append(Ended(folder))
        save_measurement(folder / MEASUREMENT_FILE, measurement)
        if job.truth and truth is not None:
            save_truth(folder / TRUTH_FILE, truth)
        (folder / JOB_FILE).write_text(job.model_dump_json(), encoding="utf-8")
        self._tell(f"job {folder}")
        return self._follow(self.jobs[-1], timeout, on_step, stop, memory_bytes)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has died: following it will find out how
            self._process.stdin.write(f"{line}\n".encode())

    def _follow(
        self,
        ended: Ended,
        timeout: float | None,
        on_step: Callable[[TracePoint], None],
        stop: threading.Event | None,
        memory_bytes: int | None,
    ) -> Ended:
        start = time.monotonic()
        kills = memory.out_of_memory_kills()
        room = _memory_limit(self.pid, memory_bytes)
        while True:
            exited = self._exited()  # before reading, so that nothing said before the end is lost
            for message in self._messages(0.0 if exited else _POLL_SECONDS):
                step = self._understand(message, ended)
                if step is not None:
                    on_step(step)
                elif ended.told:
                    return ended
            usage = memory.usage_of(self.pid)
            if usage is not None:
                ended.peak_rss_bytes = max(usage.peak, ended.peak_rss_bytes or 0)
            if exited:
                full = room is not None and (ended.peak_rss_bytes or 0) > 0.7 * room
                starved = full or memory.out_of_memory_kills() > kills
                ended.status, ended.error = cause_of_death(self.kill(), starved)
                return ended
            if stop is not None and stop.is_set():
                self.kill()
                raise KeyboardInterrupt
            if timeout is not None and time.monotonic() - start > timeout:
                self.kill()
                ended.status, ended.error = "timeout", f"the method was stopped after {timeout:g} s"
                return ended
            if room is not None and usage is not None and usage.now > room:
                self.kill()
                ended.status = "oom"
                ended.error = (
                    f"the method was stopped at {usage.now / 2**30:.2f} GB of memory, before the machine ran out"
                )
                return ended

    def _messages(self, wait: float) -> list[Any]:
        """Every message that has come, after waiting for at most ``wait`` seconds; what is no JSON is passed over."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        if not self._open:
            time.sleep(wait)
            return []
        select.select([pipe], [], [], wait)
        with suppress(BlockingIOError):
            while data := os.read(pipe, 65536):
                self._unread = (self._unread + data)[-_LONGEST_LINE:]
            self._open = False  # end of file; the process may yet live on
        *lines, self._unread = self._unread.split(b"\n")
        found = []
        for line in lines:
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    def _understand(self, message: Any, ended: Ended) -> TracePoint | None:
        """Take in one message; return a step. A message that makes no sense is passed over."""
        try:
            if "step" in message:
                step = TracePoint.model_validate(message["step"])
                ended.steps.append(step)
                file = checkpoint_file(ended.folder, step.epoch)
                if message["step"].get("checkpoint") and file.exists():
                    ended.checkpoints[step.epoch] = file
                return step
            if "ready" in message:
                self.threads = int(message["ready"]["threads"])
                self.kernels = message["ready"].get("kernels")
                self.world = message["ready"].get("world")
            elif "done" in message:
                ended.done = Done.model_validate(message["done"])
                ended.peak_rss_bytes = ended.done.peak_rss_bytes or ended.peak_rss_bytes
                ended.status, ended.told = "done", True
            elif "failed" in message:
                failed = Failed.model_validate(message["failed"])
                ended.status, ended.error, ended.told = failed.status, failed.error, True
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        return None

    @property
    def alive(self) -> bool:
        """False where the process has ended."""
        return not self._exited()

    def _exited(self) -> bool:
        # the process is left as a zombie, so that neither its id nor its group's can be given to another before kill()
        if isinstance(self._process, subprocess.Popen) and not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._process.poll() is not None
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self) -> int:
        """Kill the whole process group and return the exit status (negative: the signal)."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        return self._process.wait()

    def close(self) -> None:
        """End the child and remove its folder."""
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._work.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def cause_of_death(code: int, starved: bool) -> tuple[Literal["error", "oom", "killed"], str]:
    """Say how a child died that did not say so itself.

    Args:
        code: its exit code, or the signal as a negative number.
        starved: true where there are signs that memory had run out.

    Example:
        >>> cause_of_death(-9, starved=False)[0]
        'killed'

    """
    if code >= 0:
        return "error", f"the method ended its process with exit code {code} before it was done"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    if -code == signal.SIGKILL and starved:
        return "oom", "the method's process was killed for using too much memory"
    if -code in _SENT_BY_OTHERS:
        return "killed", f"the method's process was killed with {name}"
    return "error", f"the method's process crashed with {name}"


def _memory_limit(pid: int, memory_bytes: int | None) -> int | None:
    """Resident memory at which a child is stopped: what it has, and nearly all that is free."""
    if memory_bytes is not None:
        return memory_bytes
    room, usage = memory.available_bytes(), memory.usage_of(pid)
    return None if room is None or usage is None else usage.now + int(0.95 * room)


def _environment(threads: int | None) -> dict[str, str]:
    """The environment of a child with so many threads."""
    environment = _WAITING | os.environ | {"PYTHONUNBUFFERED": "1"}
    return environment if threads is None else environment | dict.fromkeys(_THREAD_VARIABLES, str(threads))


def _started(log: IO[bytes], folder: Path, threads: int | None) -> subprocess.Popen[bytes]:
    """A new interpreter."""
    return subprocess.Popen(
        # -P: a file called numpy.py in the working folder must not be imported instead of numpy
        [sys.executable, "-P", "-m", "ptybench.runner.child", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        cwd=folder,
        env=_environment(threads),
        start_new_session=True,
        bufsize=0,
    )


class Nursery:
    """Keeps one child ready, so that its start and the parent's own work overlap.

    Args:
        threads: threads of each child.
        many: true where many children will be taken: they are forked from a process that has imported torch.

    """

    def __init__(self, threads: int | None = None, many: bool = False) -> None:
        self.threads = threads
        self._nest = Nest(_environment(threads)) if many and supported() else None
        self._ready: list[Child] = []
        self._lock = threading.Lock()

    def warm(self) -> None:
        """Start a child unless one is waiting, or is had at once."""
        with self._lock:
            if not self._ready and self._nest is None:
                self._ready.append(Child(self.threads))

    def take(self) -> Child:
        """Return the waiting child, or a new one."""
        with self._lock:
            while self._ready:
                child = self._ready.pop()
                if child.alive:
                    return child
                child.close()  # the thread that started it has ended, and the kernel has ended it with that
            nest = self._nest
        if nest is not None:
            with suppress(OSError):  # the nest was killed: a new interpreter does as well
                return Child(self.threads, nest)
        return Child(self.threads)

    def close(self) -> None:
        """End the child that nobody took, and the nest."""
        with self._lock:
            while self._ready:
                self._ready.pop().close()
            if self._nest is not None:
                self._nest.close()
                self._nest = None

    def __enter__(self) -> Nursery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
