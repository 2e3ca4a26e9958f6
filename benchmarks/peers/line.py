"""A command line of one command, whose errors are one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from cyclopts import App, CycloptsError

from ptybench.errors import PtybenchError


def run(command: Callable[..., int], name: str, words: Sequence[str] | None = None) -> int:
    """Run a command with these words, or those of the process; return the exit code."""
    app = App(name=name, help_format="plaintext", result_action="return_value")
    app.default(command)
    try:
        return int(app(words, exit_on_error=False, print_error=False) or 0)
    except (CycloptsError, PtybenchError) as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code if isinstance(error, PtybenchError) else 2
