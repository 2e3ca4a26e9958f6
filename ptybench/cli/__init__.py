"""The commands. Nothing here imports torch, scipy, pandas or matplotlib before a command's body needs it."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TextIO

from cyclopts import App, CycloptsError

from ptybench import __version__
from ptybench.cli.board import leaderboard
from ptybench.cli.check import check
from ptybench.cli.data import score, simulate
from ptybench.cli.doctor import doctor
from ptybench.cli.gate import gate
from ptybench.cli.generate import generate
from ptybench.cli.listing import info, listing
from ptybench.cli.map import map_
from ptybench.cli.output import schema
from ptybench.cli.plan import plan
from ptybench.cli.reproduce import reproduce
from ptybench.cli.run import run
from ptybench.cli.sweep import sweep
from ptybench.cli.table import table
from ptybench.cli.train import train
from ptybench.cli.tune import tune
from ptybench.errors import PtybenchError

Command = Callable[..., int | None]

EXAMPLES: dict[Command, str] = {
    run: "ptybench run --task low_overlap --method epie\n"
    "ptybench run --task low_dose --method epie,rpie --seeds 0-4 --set photons=1e3\n"
    "ptybench run --data siemens_star_aps --method epie --set alpha=0.3 --epochs 25",
    sweep: "ptybench sweep --tasks all --methods all --seeds 0-4 --jobs 2\n"
    "ptybench sweep --tasks low_dose --methods rpie,epie --grid alpha=0.1:1.0:10",
    plan: "ptybench plan --tasks all --methods all --points all --seeds 0-4\n"
    "ptybench plan --tasks low_dose --methods rpie --grid alpha=0.1,1 --json",
    listing: "ptybench list tasks\nptybench list methods --json",
    info: "ptybench info low_dose --picture low_dose.png\nptybench info epie",
    simulate: "ptybench simulate --task low_dose --out low_dose.cxi --with-truth truth.h5",
    score: "ptybench score reconstruction.h5 --task low_dose --seed 0",
    tune: "ptybench tune --task low_dose --method epie --trials 20\n"
    "ptybench tune --task all --method all --jobs 2\n"
    "ptybench tune --task low_dose --method rpie --grid alpha=0.1:1.0:10",
    map_: "ptybench map --task pine_low_dose --method epie,rpie --figure map.svg",
    reproduce: "ptybench reproduce pine --plan\n"
    "ptybench reproduce pine --claims P1,P5 --seeds 0-4 --jobs 2 --out claims",
    leaderboard: "ptybench leaderboard --task low_overlap --format md\n"
    "ptybench leaderboard --task low_overlap --domain release --ruleset tuned",
    table: "ptybench table --domain release\nptybench table --task low_overlap,low_dose --figures figures --format csv",
    gate: "ptybench gate runs/base runs/head",
    generate: "ptybench generate dead_leaves --variant textured --n 500 --out leaves.h5",
    train: "ptybench train dncnn --config bn\nptybench train dncnn --config realsn --set steps=20000 --device cuda",
    doctor: "ptybench doctor",
    check: "ptybench check my_method.py:MyMethod",
}
NAMES: dict[Command, str] = {listing: "list", map_: "map"}


def make_app() -> App:
    """Return the command line: one command a function, each with an example in its help."""
    app = App(
        name="ptybench",
        help="Benchmark and dataset generator for ptychographic phase retrieval.",
        help_format="plaintext",
        help_epilogue="Start with: ptybench run --task low_overlap --method epie",
        version=__version__,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for command, examples in EXAMPLES.items():
        lines = "\n".join(f"  {line}" for line in examples.splitlines())
        plural = "s" if "\n" in examples else ""
        app.command(command, name=NAMES.get(command, command.__name__), help_epilogue=f"Example{plural}:\n{lines}")
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 ok, 1 a method failed, 2 wrong use, 130 interrupted.

    Args:
        argv: the words after ``ptybench``; the default is those of this process.

    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            code = make_app()(words, exit_on_error=False, print_error=False)
        sys.stdout.flush()
        return int(code or 0)
    except BrokenPipeError:
        # the reader of a pipe has gone (`ptybench list tasks | head -1`); Python would complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return _fail(words, KeyboardInterrupt("interrupted: finished records are kept, run again to go on"), 130)
    except CycloptsError as error:
        return _fail(words, error, 2)
    except PtybenchError as error:
        return _fail(words, error, error.exit_code)
    except MemoryError:
        return _fail(words, MemoryError("this machine has too little memory: take a smaller tier, --crop or --bin"), 2)
    except Exception as error:
        return _fail(words, error, 2 if isinstance(error, OSError) else 1, expected=isinstance(error, OSError))


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    return " ".join(str(error).split()) or type(error).__name__


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a warning as a sentence, without the line of code that it came from."""
    print(f"ptybench: {_sentence(message) if isinstance(message, Warning) else message}", file=sys.stderr)


def _fail(words: list[str], error: BaseException, code: int, *, expected: bool = True) -> int:
    """Say in one sentence what went wrong, on stderr and with ``--json`` also as a document, and return the code."""
    if os.environ.get("PTYBENCH_DEBUG"):
        import traceback

        traceback.print_exception(error)
    sentence = _sentence(error)
    if not expected:
        sentence = f"{type(error).__name__}: {sentence} (run with PTYBENCH_DEBUG=1 for the traceback)"
    print(f"ptybench: {sentence}", file=sys.stderr)
    if "--json" in words:
        problem = {"type": type(error).__name__, "message": sentence, "exit_code": code}
        print(json.dumps({"schema": schema("error"), "error": problem}, indent=2, ensure_ascii=False), flush=True)
    return code
