"""The trials of a study on disk, a JSON line each: it can be killed at any moment and goes on from there."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from pydantic import ValidationError

from ptybench.errors import UsageError
from ptybench.records import Provenance, finite
from ptybench.tuning.study import Study, Trial

SCHEMA = "ptybench.tuning_journal/1"


class Journal:
    """The file of one study, locked while it is open.

    The first line says which study it is and which code began it; every other is a trial. What a kill left of a last
    line is cut off. A file of another study (which a hash of twelve digits never meets by chance) is begun anew.

    Args:
        study: whose trials.
        results: results folder.
        provenance: of the code of today, for a study that begins now.
        force: forget what is there.

    Attributes:
        trials: the trials so far, in order.
        provenance: of the code that began the study.

    Raises:
        UsageError: where another process is at it.

    """

    def __init__(self, study: Study, results: Path, provenance: Provenance, force: bool = False) -> None:
        self.path = results / study.place
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = self.path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UsageError(
                f"another process is tuning {study.title} with the trials in {self.path}: wait for it, or give another "
                "--results"
            ) from None
        self.trials: list[Trial] = []
        self.provenance = provenance
        if force or not self._read(study.key):
            self.trials = []
            self._file.truncate(0)
            self._write(
                {
                    "schema": SCHEMA,
                    "key": study.key,
                    "task": study.task.name,
                    "method": study.method,
                    "budget": study.budget.model_dump(mode="json"),
                    "provenance": provenance.model_dump(mode="json"),
                }
            )

    def _read(self, key: str) -> bool:
        """Take in what is there; false where it is not this study's."""
        self._file.seek(0)
        good = 0
        for number, line in enumerate(self._file):
            try:
                if not line.endswith(b"\n"):
                    raise ValueError("torn")
                document = json.loads(line)
                if number == 0:
                    if document["schema"] != SCHEMA or document["key"] != key:
                        return False
                    self.provenance = Provenance.model_validate(document["provenance"])
                else:
                    trial = Trial.model_validate(document)
                    if trial.trial != len(self.trials):
                        raise ValueError("out of order")
                    self.trials.append(trial)
            except (ValueError, KeyError, TypeError, ValidationError):
                break
            good += len(line)
        self._file.truncate(good)
        return good > 0

    def add(self, trial: Trial) -> None:
        """Append a trial and flush it to the disk."""
        self._write(trial.model_dump(mode="json", exclude_defaults=True) | {"trial": trial.trial})
        self.trials.append(trial)

    def _write(self, document: dict[str, Any]) -> None:
        self._file.write(json.dumps(finite(document), ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file and give up its lock."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
