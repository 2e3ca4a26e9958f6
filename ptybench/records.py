"""What is left of a run: one small JSON record per cell, and the folder of such records.

A record is written to a temporary name and renamed, so that a kill at any moment leaves the old file or the new one.
A number that is not finite never enters JSON: it becomes ``null``. On disk the paths of a record are relative to its
folder, so that folders can be moved and merged; a record that was read back holds absolute paths.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ptybench.specs import validation_sentence

SCHEMA: Literal["ptybench.record/1"] = "ptybench.record/1"
RECORD_FILE = "record.json"
_ABANDONED_SECONDS = 24 * 3600.0
Status = Literal["ok", "diverged", "error", "timeout", "oom", "killed", "skipped", "not_installed"]
FINAL: frozenset[str] = frozenset({"ok", "diverged", "error", "timeout"})
"""Statuses that a resume does not run again; all others are tried again."""

Metrics = dict[str, float | None]


class RecordWarning(UserWarning):
    """A file in a results folder that cannot be read as a record; it is treated as absent."""


class _Part(BaseModel):
    """A piece of a record; unknown fields of a later minor version are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _finite(cls, data: Any) -> Any:
        return finite(data)


def finite(data: Any) -> Any:
    """Return nested JSON-like data with every float that is not finite replaced by ``None``."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return data


class TracePoint(_Part):
    """One epoch of the convergence: ``metrics`` is filled at the task's checkpoints and at the end.

    ``frc_truth`` is the correlation with the truth at each of the record's ``frc_frequency``, where the task's budget
    asks for the curve of this epoch; else it is empty.
    """

    epoch: int
    seconds: float | None = None
    ffts: int | None = None
    data_error: float | None = None
    metrics: Metrics = Field(default_factory=dict)
    frc_truth: list[float] = Field(default_factory=list)


class Cost(_Part):
    """What the reconstruction cost; ``None`` where it ended before it could tell.

    Args:
        ffts: two-dimensional transforms of one pattern and mode.
        network_evaluations: forward passes of a network on one image.
        solver_seconds: synchronized seconds in epochs, without scoring and checkpoints.
        peak_rss_bytes: peak memory of the solver's process on the host.
        peak_device_bytes: peak memory on the accelerator.

    """

    ffts: int | None = None
    network_evaluations: int | None = None
    solver_seconds: float | None = None
    peak_rss_bytes: int | None = None
    peak_device_bytes: int | None = None


class Provenance(_Part):
    """Where a number came from; never part of a cell's identity.

    ``exclusive`` is true where no other cell could share the cores and the device, so that its time can be trusted.
    ``kernels`` names the compiled CPU kernels that were at hand.
    """

    package_version: str
    code_hash: str
    scoring_version: int = 1
    git_commit: str | None = None
    plugins: dict[str, str] = Field(default_factory=dict)
    python: str = ""
    torch: str | None = None
    numpy: str = ""
    platform: str = ""
    cpu: str = ""
    threads: int | None = None
    kernels: str | None = None
    exclusive: bool | None = None


class RunBudget(_Part):
    """What a method was given: epochs, seconds of solver time, or both."""

    epochs: int | None = None
    seconds: float | None = None


class Record(_Part):
    """One run of one cell, whatever its end.

    Args:
        key: SHA-256 of the cell's identity.
        identity: everything that identifies the cell, as plain JSON.
        status: how it ended; ``stop_reason`` says whether an ``ok`` run used its budget or converged.
        task: name of the task; ``None`` for a real measurement, which has ``data`` instead.
        point: value of the task's ladder (``ladder`` names it).
        epochs: epochs that were run.
        wall_seconds: the whole cell, with simulation and scoring.
        metrics: metric id → value, ``None`` where undefined.
        censored: metric ids whose curve never crosses its threshold.
        gauges: what alignment removed before scoring.
        trace: the convergence; thinned where it is long.
        frc_frequency: spatial frequencies of the curves in the trace, 1/m (1/px where the pixel size is unknown).
        facts: what was measured on the simulation or the data.
        warnings: what went wrong without changing the metrics.
        error: one sentence where the status is not ``ok``; the traceback is a file of the run.
        artifacts: name → path; ``sha256`` has the digest of each array file.
        path: the run's folder.

    """

    schema_: Literal["ptybench.record/1"] = Field(default=SCHEMA, alias="schema")
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    status: Status
    stop_reason: Literal["budget", "converged"] | None = None
    task: str | None = None
    task_version: int | None = None
    ladder: str | None = None
    point: float | None = None
    data: str | None = None
    domain: str | None = None
    tier: str | None = None
    seed: int
    method: str
    method_version: str
    options: dict[str, Any] = Field(default_factory=dict)
    device: str
    budget: RunBudget = RunBudget()
    epochs: int = 0
    wall_seconds: float | None = None
    metrics: Metrics = Field(default_factory=dict)
    censored: dict[str, bool] = Field(default_factory=dict)
    directions: dict[str, Literal["higher", "lower"]] = Field(default_factory=dict)
    units: dict[str, str] = Field(default_factory=dict)
    primary_metric: str | None = None
    gauges: Metrics = Field(default_factory=dict)
    trace: list[TracePoint] = Field(default_factory=list)
    frc_frequency: list[float] = Field(default_factory=list)
    cost: Cost = Cost()
    facts: Metrics = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
    error: str | None = None
    artifacts: dict[str, str] = Field(default_factory=dict)
    sha256: dict[str, str] = Field(default_factory=dict)
    path: str = "."
    identity: dict[str, Any] = Field(default_factory=dict)
    provenance: Provenance
    created: str

    @property
    def final(self) -> bool:
        """True where a resume does not run the cell again."""
        return self.status in FINAL

    @property
    def problem(self) -> str:
        """The task's or the measurement's name."""
        return self.task or self.data or ""

    @property
    def value(self) -> float | None:
        """The primary metric."""
        return None if self.primary_metric is None else self.metrics.get(self.primary_metric)

    def document(self) -> dict[str, Any]:
        """The record as plain JSON values; curves that were not asked for are left out."""
        document = self.model_dump(mode="json", by_alias=True)
        if not document["frc_frequency"]:
            del document["frc_frequency"]
        for point in document["trace"]:
            if not point["frc_truth"]:
                del point["frc_truth"]
        return document

    def located(self, folder: Path) -> Record:
        """Return the record with absolute paths, for a record that lies in ``folder``."""
        folder = folder.resolve()
        artifacts = {name: str(folder / path) for name, path in self.artifacts.items()}
        return self.model_copy(update={"path": str(folder), "artifacts": artifacts})

    def relative(self) -> Record:
        """Return the record with paths relative to its folder, as it is stored."""
        artifacts = {
            name: Path(path).relative_to(self.path).as_posix() if Path(path).is_absolute() else path
            for name, path in self.artifacts.items()
        }
        return self.model_copy(update={"path": ".", "artifacts": artifacts})


def documents(records: list[Record]) -> dict[str, Any]:
    """The one JSON document of ``ptybench run --json``."""
    return {"schema": "ptybench.records/1", "records": [record.document() for record in records]}


def canonical_json(data: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN, ``-0.0`` as ``0.0``."""

    def plain(node: Any) -> Any:
        if isinstance(node, dict):
            return {str(key): plain(value) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [plain(value) for value in node]
        return node + 0.0 if isinstance(node, float) else node

    return json.dumps(plain(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@lru_cache(4096)
def safe_name(name: str) -> str:
    """Return ``name`` with what file systems and shells dislike written as words: ``epie>rpie`` → ``epie-to-rpie``."""
    name = name.replace(">", "-to-").replace("+", "-with-").replace("~", "-")
    return re.sub(r"[^A-Za-z0-9_.=-]+", "_", name).strip("._") or "_"


def folder_of(problem: str, method: str, label: str, key: str) -> PurePosixPath:
    """Return the folder of a cell inside a results folder: ``low_dose/epie/dev-small-seed0-0123456789ab``."""
    return PurePosixPath(folder_text(problem, method, label, key))


def folder_text(problem: str, method: str, label: str, key: str) -> str:
    """Return :func:`folder_of` as text; of a hundred thousand cells the paths alone would take seconds."""
    return f"{safe_name(problem)}/{safe_name(method)}/{safe_name(label)[:60]}-{key[:12]}"


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, flush it to the disk and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; records are as readable as the folder's umask allows
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some network file systems cannot
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # os.umask could only be read by setting it, which other threads would see
        for line in status.read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022


class Store:
    """A results folder: one folder per cell, with its ``record.json`` and its arrays.

    Args:
        root: the folder; made at the first save.

    Example:
        >>> records = list(Store("./runs").records(task="low_dose", status="ok"))

    """

    def __init__(self, root: str | Path = "./runs") -> None:
        self.root = Path(root)

    @classmethod
    def published(cls) -> Store:
        """The records that are shipped with ptybench."""
        return cls(Path(str(files("ptybench.results"))))

    def folder(self, place: PurePosixPath) -> Path:
        """The folder of a cell, from :func:`folder_of`."""
        return self.root / place

    def load(self, place: PurePosixPath, key: str) -> Record | None:
        """Return the record of a cell; ``None`` where there is none that can be read."""
        record = read_record(self.folder(place) / RECORD_FILE)
        return record if record is not None and record.key == key else None

    def save(self, place: PurePosixPath, record: Record, staged: Path | None = None) -> Record:
        """Write a record, and move its artefacts to it.

        Args:
            place: the cell's folder, from :func:`folder_of`.
            record: what to write; its artefacts are names of files in ``staged``.
            staged: folder with the new artefacts, from :meth:`stage`; it is emptied and removed.

        Returns:
            The record with absolute paths.

        """
        folder = self.folder(place)
        folder.mkdir(parents=True, exist_ok=True)
        old = read_record(folder / RECORD_FILE)
        if staged is not None:
            for file in sorted(staged.iterdir()):
                file.replace(folder / file.name)
            staged.rmdir()
        text = json.dumps(record.relative().document(), indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(folder / RECORD_FILE, text.encode() + b"\n")
        if old is not None:  # what an earlier run left and this one did not make would be taken for its own
            kept = set(record.artifacts.values())
            for path in old.artifacts.values():
                if Path(path).name not in kept and Path(path).parent == folder.resolve():
                    Path(path).unlink(missing_ok=True)
        return record.located(folder)

    def stage(self, place: PurePosixPath) -> Path:
        """Return a new folder beside the cell's files, on the same file system, for artefacts to be made in."""
        folder = self.folder(place)
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*"):  # of a run that was killed with kill -9
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
        staged = Path(tempfile.mkdtemp(prefix=".staged-", dir=folder))
        staged.chmod(0o777 & ~_umask())
        return staged

    def records(self, **filters: Any) -> Iterator[Record]:
        """Yield the records whose fields equal the filters; a filter that is a list allows each of its values.

        Example:
            >>> names = {r.method for r in Store("./runs").records(task="low_dose", seed=[0, 1, 2])}

        """
        for name in filters:
            if name not in Record.model_fields and name != "problem":
                raise ValueError(f"a record has no field {name!r} to filter by")
        for path in sorted(self.root.rglob("*.json")):
            if any(part.startswith(".") for part in path.relative_to(self.root).parts):
                continue
            record = read_record(path)
            if record is not None and all(_matches(getattr(record, k), v) for k, v in filters.items()):
                yield record


def _matches(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, list | tuple | set | frozenset) else bool(value == wanted)


def read_record(path: Path) -> Record | None:
    """Return the record of a file with absolute paths; ``None``, with a warning, where it cannot be read.

    A JSON file of another kind (a table, say) gives ``None`` without a warning, unless it is called ``record.json``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        _warn(path, str(error))
        return None
    try:
        raw = json.loads(text)
        schema = raw.get("schema") if isinstance(raw, dict) else None
        if path.name != RECORD_FILE and not str(schema).startswith("ptybench.record/"):
            return None
        if schema != SCHEMA:
            raise ValueError(f"expected the schema {SCHEMA!r}, got {schema!r}")
        return Record.model_validate(raw).located(path.parent)
    except ValidationError as problem:
        _warn(path, validation_sentence(problem))
    except ValueError as error:
        _warn(path, str(error))
    return None


def _warn(path: Path, why: str) -> None:
    warnings.warn(f"{path} is no record and is treated as absent: {why}", RecordWarning, stacklevel=3)
