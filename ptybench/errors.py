"""Every error that ptybench raises on purpose.

    PtybenchError
    ├── UsageError            wrong use: exit code 2, one sentence, no traceback
    │   ├── UnknownName       a task, method, metric or option that does not exist (with the nearest name)
    │   ├── InvalidOption     an option or task field with a value that it cannot have
    │   ├── InvalidData       a file or array that is not what it should be
    │   ├── DuplicateName     two plug-ins, or a plug-in and ptybench, claim one name
    │   └── NotEnoughMemory   the cell would not fit into the memory of this machine
    └── MethodFailed          a method raised, hung, returned NaN or was killed: exit code 1

A message is one sentence that says what was expected, what came and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PtybenchError(Exception):
    """Base of all errors of ptybench."""

    exit_code = 1


class UsageError(PtybenchError):
    """Wrong use of a command or function: the user can mend it."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that nothing is registered under.

    Args:
        what: the kind of thing, for example ``"task"``.
        name: the name that was asked for.
        known: the names that exist.
        hint: what else to do; the default is to list the known names.

    """

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str | None = None) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        if near:
            advice = f"did you mean {near[0]!r}?"
        elif hint is not None:
            advice = hint
        else:
            advice = f"known are {', '.join(known)}" if known else "there are none"
        super().__init__(f"unknown {what} {name!r}: {advice}")
        self.name = name


class InvalidOption(UsageError):
    """An option of a method, or a field of a task, with a value that it cannot have."""


class InvalidData(UsageError):
    """A file or an array that is not what it should be."""


class DuplicateName(UsageError):
    """Two things claim one name."""


class NotEnoughMemory(UsageError):
    """The cell would not fit into the memory of this machine."""


class MethodFailed(PtybenchError):
    """A method raised, hung, returned NaN or was killed; a record says which."""
