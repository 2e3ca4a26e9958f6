"""Who uses which processor and which device now, so that timed cells never share one.

A lease is a locked file (``flock``) in a folder of this user that all processes on this machine look into; a claim is
one in a results folder. The kernel lifts the lock of a process that dies, however it dies: nothing is left to clean up.

A cell leases its cores first and its CUDA device second, each in one go, and never asks again: who holds a device waits
for nothing, so no two can wait for each other. Who waits for cores stands first at a gate and keeps those that come
free, so that a cell that wants all of them is not overtaken for ever by cells that want one.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from ptybench.cores import usable_cores

VARIABLE = "PTYBENCH_LEASES"
"""Environment variable: the folder of the leases, or ``off``."""
OFF = "off"
CLAIMS = ".claims"
"""Folder of the claims inside a results folder; it is there only while cells run."""
_OURSELVES = "another cell"
_POLL_SECONDS = 0.1
_PATIENCE = 5
"""Polls before anybody is told: a moment at the gate is not worth a word."""
_ATTEMPTS = 100


class Lock:
    """A file that this process has locked; its text says who does.

    Args:
        path: the file.
        file: open and locked.

    """

    def __init__(self, path: Path, file: IO[str]) -> None:
        self.path, self._file = path, file

    @classmethod
    def take(cls, path: Path) -> Lock | None:
        """Lock a file without waiting; ``None`` where somebody else has locked it.

        Raises:
            OSError: where the file cannot be made, or the file system has no locks.

        """
        while True:
            file = path.open("a+", encoding="utf-8")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_still(path, file):
                    file.truncate(0)
                    file.write(str(os.getpid()))
                    file.flush()
                    return cls(path, file)
                file.close()  # its last holder has removed it meanwhile
            except BlockingIOError:
                file.close()
                return None
            except BaseException:
                file.close()
                raise

    def release(self, remove: bool = False) -> None:
        """Unlock the file; ``remove`` it where it is not for lasting use."""
        if self._file.closed:
            return
        if remove:
            with suppress(OSError):
                self.path.unlink()
        # not by closing alone: a process that another thread starts holds the same open file for a moment
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._file.close()


def _is_still(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def holder(path: Path) -> str:
    """Who has locked a file, in words."""
    try:
        number = int(path.read_text())
    except (OSError, ValueError):
        return "another process"
    return _OURSELVES if number == os.getpid() else f"process {number}"


@dataclass
class Lease:
    """What is held until :meth:`release`.

    Args:
        cores: numbers of the processors.
        device: index of the leased one among those that were asked for.
        exclusive: true where nobody else who asks for leases can hold the same; false where leases are off.

    """

    cores: tuple[int, ...] = ()
    device: int = 0
    exclusive: bool = False
    locks: list[Lock] = field(default_factory=list, repr=False)

    def release(self) -> None:
        """Give everything back."""
        while self.locks:
            self.locks.pop().release()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


Waits = Callable[[str], None]


class Machine:
    """The cores and devices of this machine that this process may use.

    Args:
        folder: where the locked files lie; ``None`` turns leases off.
        cores: numbers of the processors; the default is those that this thread may use.

    """

    def __init__(self, folder: Path | None, cores: Sequence[int] | None = None) -> None:
        self.folder = folder
        self.cores = tuple(usable_cores() if cores is None else cores)

    def lease_cores(self, count: int, waits: Waits, stop: threading.Event) -> Lease:
        """Lease ``count`` cores (at most all), as soon as they are free.

        Args:
            count: how many.
            waits: told for whom, where it has to wait for more than a moment.
            stop: when set, ``KeyboardInterrupt`` is raised.

        """
        if self.folder is None:
            return Lease()
        try:
            (gate,) = self._collect(["gate"], 1, waits, stop)
            try:
                locks = self._collect([f"cpu{core}" for core in self.cores], count, waits, stop)
            finally:
                gate.release()
        except OSError:  # no place for files, or a file system without locks: better a run than none
            return Lease()
        return Lease(tuple(int(lock.path.name[3:]) for lock in locks), exclusive=True, locks=locks)

    def lease_device(self, names: Sequence[str], waits: Waits, stop: threading.Event) -> Lease:
        """Lease one of several devices, as soon as one is free; see :meth:`lease_cores`."""
        if self.folder is None:
            return Lease()
        try:
            locks = self._collect(names, 1, waits, stop)
        except OSError:
            return Lease()
        return Lease(device=names.index(locks[0].path.name), exclusive=True, locks=locks)

    def _collect(self, names: Sequence[str], count: int, waits: Waits, stop: threading.Event) -> list[Lock]:
        """Lock ``count`` of the names (at most all), keeping each that comes free."""
        assert self.folder is not None
        got: list[Lock] = []
        left = list(names)
        wanted = min(count, len(names))
        tries = 0
        try:
            while True:
                for name in list(left):
                    if len(got) < wanted and (lock := Lock.take(self.folder / name)):
                        got.append(lock)
                        left.remove(name)
                if len(got) == wanted:
                    return got
                if tries == _PATIENCE:
                    waits(min((holder(self.folder / name) for name in left), key=lambda who: who == _OURSELVES))
                tries += 1
                pause(_POLL_SECONDS, stop)
        except BaseException:
            for lock in got:
                lock.release()
            raise


def pause(seconds: float, stop: threading.Event) -> None:
    """Wait; raise ``KeyboardInterrupt`` where ``stop`` is set meanwhile."""
    if stop.wait(seconds):
        raise KeyboardInterrupt


def lease_folder() -> Path | None:
    """The folder of this user's leases, the same in every terminal; ``None`` where leases are off.

    It does not follow ``TMPDIR`` or ``XDG_RUNTIME_DIR``, which differ between terminals and remote shells.
    """
    asked = os.environ.get(VARIABLE)
    if asked == OFF:
        return None
    folder = Path(asked) if asked else Path("/tmp") / f".ptybench-leases-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.lstat()
    except OSError:
        return None
    return folder if facts.st_uid == os.getuid() else None


def share_of(machine: Machine, jobs: int) -> int:
    """Cores for each of several cells at a time: an even share, and no more than ``OMP_NUM_THREADS`` asks for."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    most = int(asked) if asked.isdecimal() and int(asked) > 0 else len(machine.cores)
    return max(1, min(most, len(machine.cores) // jobs))


@contextmanager
def kept_to(cores: Sequence[int]) -> Iterator[None]:
    """Keep this thread, and the processes that it starts, to these cores for a while; to all where there are none."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    with suppress(OSError):
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, before)


class Claim:
    """The right to run one cell into a results folder, until the block ends.

    Args:
        lock: what is held; ``None`` where this file system has no locks.

    """

    def __init__(self, lock: Lock | None) -> None:
        self._lock = lock

    @classmethod
    def take(cls, root: Path, key: str) -> Claim | None:
        """Claim a cell without waiting; ``None`` where another process, or another thread, has claimed it."""
        folder = root / CLAIMS
        for _ in range(_ATTEMPTS):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                lock = Lock.take(folder / key)
            except (FileNotFoundError, FileExistsError):  # who had the last claim has taken the folder away meanwhile
                continue
            except OSError:
                break
            return None if lock is None else cls(lock)
        return cls(None)

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.release(remove=True)
            with suppress(OSError):  # others are in it
                self._lock.path.parent.rmdir()
