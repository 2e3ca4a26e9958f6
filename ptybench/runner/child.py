"""The process in which a solver runs: ``python -m ptybench.runner.child PARENT_PID``.

It looks after its own end first and only then imports torch, to wait for lines on its standard input: ``warm DEVICE``,
or ``job FOLDER``. What a solver prints goes to the log, never into the protocol.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from typing import IO


def die_with(parent: int) -> None:
    """See to it that this process and all that it starts die when the parent does, even by ``kill -9``.

    A guard waits for the other end of the standard input to close, which nobody but the parent holds, and then kills
    the whole process group. The kernel kills this process even if the guard is gone.
    """
    if os.fork() == 0:
        os.close(1)
        watched = select.poll()
        watched.register(0, 0)  # nothing is read here: only a hang-up ends the wait
        watched.poll()
        os.killpg(0, signal.SIGKILL)
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel was told
            os.killpg(0, signal.SIGKILL)


def take_streams() -> tuple[IO[str], IO[str]]:
    """Return private streams (control in, protocol out); solvers are left an empty input and the log."""
    control, protocol = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return os.fdopen(control, encoding="utf-8"), os.fdopen(protocol, "w", encoding="utf-8")


def main() -> None:
    """Serve until the input ends."""
    die_with(int(sys.argv[1]))
    control, protocol = take_streams()

    from ptybench.runner.work import serve  # torch, which takes seconds

    serve(control, protocol)


if __name__ == "__main__":
    main()
