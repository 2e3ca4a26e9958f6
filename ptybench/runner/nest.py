"""A process that imports torch once and forks a fresh child for every cell of a sweep (Linux).

Importing torch takes more than a second of a core, for every cell again; a fork of a process that has done it takes
milliseconds, and is as fresh: the nest never runs a solver, so all that a child finds is imported modules. Children
are forked twice, so that they become children of the process that asked (a *subreaper*, see prctl(2)), which can then
wait for them and judge their end as that of any child.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from ptybench.runner.child import die_with, take_streams

_SET_CHILD_SUBREAPER = 36  # of <linux/prctl.h>
_STREAMS = 3


class Hatched:
    """A child from a nest, with what :class:`subprocess.Popen` offers for one.

    Attributes:
        pid: process id, which is also the id of its process group.
        returncode: exit code, or the signal as a negative number; ``None`` while it is not waited for.

    """

    def __init__(self, pid: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.pid, self.stdin, self.stdout = pid, stdin, stdout
        self.returncode: int | None = None

    def wait(self) -> int:
        """Wait for the child's end, and end what it left behind."""
        if self.returncode is None:
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
            end_group(self.pid)
        return self.returncode


def end_group(group: int) -> None:
    """Kill a process group and wait for those of its members that have become this process's children."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    with suppress(ChildProcessError):
        while os.waitid(os.P_PGID, group, os.WEXITED):
            pass


class Nest:
    """The parent's hold on a nest.

    Args:
        environment: environment of the nest and so of all its children.

    """

    def __init__(self, environment: dict[str, str]) -> None:
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ptybench.runner.nest", str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )

    def hatch(self, log: IO[bytes], folder: Path) -> Hatched:
        """Fork a child that works in ``folder`` and prints to ``log``.

        Raises:
            OSError: where the nest has died.

        """
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        try:
            with self._lock:
                socket.send_fds(self._socket, [os.fsencode(folder)], [theirs_in, theirs_out, log.fileno()])
                answer = self._answer()
            if len(answer) < 4:
                raise OSError("the process that prepares solvers has died")
        except OSError:
            os.close(ours_in)
            os.close(ours_out)
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        pid: int
        (pid,) = struct.unpack("i", answer)
        return Hatched(pid, os.fdopen(ours_in, "wb", buffering=0), os.fdopen(ours_out, "rb", buffering=0))

    def _answer(self) -> bytes:
        """What the nest says; nothing where it has died, which its guard, who holds the socket too, would hide."""
        ready = select.poll()
        ready.register(self._socket, select.POLLIN)
        while not ready.poll(200):
            if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return b""
        return self._socket.recv(4)

    def close(self) -> None:
        """End the nest; its children live on."""
        self._socket.close()
        self._process.kill()
        self._process.wait()
        end_group(self._process.pid)


def supported() -> bool:
    """True where children can be handed over to the process that asked."""
    return sys.platform == "linux"


def _hatch(parent: int, between: int, channel: socket.socket, folder: bytes, streams: list[int]) -> None:
    """Be the child: own session, own streams, and the parent's child."""
    os.setsid()
    while (now := os.getppid()) != parent:  # until the one between has ended
        if now != between:  # the parent has died meanwhile, and somebody else has adopted this process
            os._exit(1)
        time.sleep(0.0005)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    channel.close()
    os.chdir(folder)
    die_with(parent)
    control, protocol = take_streams()

    from ptybench.runner.work import serve

    serve(control, protocol)


def main() -> None:
    """Import torch, then fork whenever asked, until the parent goes."""
    parent = int(sys.argv[1])
    die_with(parent)
    channel = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    import ptybench.runner.work  # noqa: F401 - torch, which takes seconds

    while True:
        folder, streams, _, _ = socket.recv_fds(channel, 4096, _STREAMS)
        if not folder:
            return
        between, told = os.pipe()
        first = os.fork()
        if first == 0:
            middle = os.getpid()
            child = os.fork()
            if child == 0:
                os.close(between)
                os.close(told)
                _hatch(parent, middle, channel, folder, streams)
                os._exit(0)
            os.write(told, struct.pack("i", child))
            os._exit(0)
        os.waitpid(first, 0)
        for stream in [*streams, told]:
            os.close(stream)
        channel.send(os.read(between, 4))
        os.close(between)


if __name__ == "__main__":
    main()
