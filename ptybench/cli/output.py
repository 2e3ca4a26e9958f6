"""What a command says: its results on stdout, one JSON document with ``--json``, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any


def schema(kind: str) -> str:
    """Return the schema name of a document, for example ``ptybench.score/1``."""
    return f"ptybench.{kind}/1"


class Output:
    """Where one command writes to.

    With ``json`` file descriptor 1 is handed to stderr while the command runs, so that nothing that a plug-in or a
    library prints can get in between; only :meth:`document` writes to the real stdout.

    Args:
        json: whether the command was asked for a JSON document.

    """

    def __init__(self, json: bool) -> None:
        self.json = json
        self._stdout: IO[str] | None = None

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Keep stdout for :meth:`document` alone while the block runs, where JSON was asked for."""
        if not self.json:
            yield
            return
        sys.stdout.flush()
        saved = os.dup(1)
        os.dup2(2, 1)
        try:
            with os.fdopen(saved, "w", encoding="utf-8", closefd=False) as stdout:
                self._stdout = stdout
                yield
        finally:
            self._stdout = None
            sys.stdout.flush()
            os.dup2(saved, 1)
            os.close(saved)

    def document(self, kind: str, content: dict[str, Any]) -> None:
        """Print ``content`` as the command's one JSON document.

        Raises:
            ValueError: where the content holds NaN or infinity, which JSON does not have.

        """
        text = json.dumps({"schema": schema(kind), **content}, indent=2, allow_nan=False, ensure_ascii=False)
        print(text, file=self._stdout or sys.stdout, flush=True)

    def documents(self, kind: str, content: dict[str, Any], name: str, rows: Iterable[dict[str, Any]]) -> None:
        """Print ``content`` and a list of many ``rows``, a line each, as the command's one JSON document.

        Raises:
            ValueError: where something holds NaN or infinity, which JSON does not have.

        """
        stdout = self._stdout or sys.stdout
        head = json.dumps({"schema": schema(kind), **content}, indent=2, allow_nan=False, ensure_ascii=False)
        stdout.write(f'{head[:-2]},\n  "{name}": [')
        comma, encode = "\n", json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode
        for row in rows:
            stdout.write(f"{comma}    {encode(row)}")
            comma = ",\n"
        stdout.write("\n  ]\n}\n")
        stdout.flush()

    def text(self, text: str) -> None:
        """Print for a reader, on stdout; nothing with ``--json``."""
        if not self.json:
            print(text, flush=True)

    def note(self, message: str) -> None:
        """Print a remark on stderr."""
        print(message, file=sys.stderr, flush=True)


def columns(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Return rows of text in aligned columns, never cut, two spaces apart.

    Example:
        >>> print(columns([("epie", "one"), ("rpie2", "two")]))
        epie   one
        rpie2  two

    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join((indent + line).rstrip() for line in lines)
