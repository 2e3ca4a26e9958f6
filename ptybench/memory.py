"""Memory of this machine and of one process, from ``/proc`` and the control group; ``None`` where there is neither."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ptybench.errors import NotEnoughMemory

MEBI = 2**20
SOLVER_BASE_BYTES = 600 * MEBI
"""Interpreter, torch and its libraries, measured on CPU with torch 2.13 and rounded up."""


def available_bytes() -> int | None:
    """Memory that can still be had: the machine's, or what the control group leaves."""
    room = [value for value in (_machine_available(), *_group_available()) if value is not None]
    return min(room) if room else None


def _machine_available() -> int | None:
    return _kib(Path("/proc/meminfo"), "MemAvailable")


def _groups() -> list[Path]:
    """Folders of the memory control groups of this process, version 2 and 1."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    root = Path("/sys/fs/cgroup")
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        base = root if controllers == "" else root / "memory" if "memory" in controllers.split(",") else None
        if base is not None:
            # in a container the path is the host's, while the mount shows the group itself at its root
            found += [folder for folder in (base / path.lstrip("/"), base) if folder.is_dir()]
    return list(dict.fromkeys(found))


def _group_available() -> list[int]:
    rooms = []
    for folder in _groups():
        for limit_file, used_file, cache_key in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _number(folder / limit_file), _number(folder / used_file)
            if limit is not None and used is not None:
                rooms.append(max(0, limit - used + (_field(folder / "memory.stat", cache_key) or 0)))
    return rooms


def out_of_memory_kills() -> int:
    """How often the kernel has killed for memory so far, in this control group or, failing that, on this machine."""
    counts = []
    for folder in _groups():
        for name in ("memory.events", "memory.oom_control"):
            count = _field(folder / name, "oom_kill")
            if count is not None:
                counts.append(count)
    return max(counts) if counts else _field(Path("/proc/vmstat"), "oom_kill") or 0


@dataclass(frozen=True)
class Usage:
    """Resident memory of a process in bytes, now and at its peak."""

    now: int
    peak: int


def usage_of(pid: int | str = "self") -> Usage | None:
    """Resident memory of a process; ``None`` where it has gone, or without ``/proc``.

    The kernel's ``ru_maxrss`` is no substitute: a new process inherits there the peak of the process that started it.
    """
    status = Path(f"/proc/{pid}/status")
    now, peak = _kib(status, "VmRSS"), _kib(status, "VmHWM")
    return None if now is None or peak is None else Usage(now, peak)


def require(needed_bytes: int, what: str) -> None:
    """Raise where ``needed_bytes`` are more than can be had; silent where that is not known.

    Raises:
        NotEnoughMemory: with both numbers, and what to do.

    """
    room = available_bytes()
    if room is not None and needed_bytes > room:
        raise NotEnoughMemory(
            f"{what} needs about {needed_bytes / 2**30:.1f} GiB of memory and {room / 2**30:.1f} GiB are free: "
            "take a smaller tier, --crop or --bin, or a larger machine"
        )


def solver_bytes(patterns: int, shape: tuple[int, int], canvas: tuple[int, int], modes: int) -> int:
    """Memory that the parent and a solver's process need for a measurement, from below.

    In the parent the intensities (float32) lie beside the expected photons (float64) where they were simulated. The
    child reads them from a file where they do not fit beside that.
    """
    stack = patterns * shape[0] * shape[1]
    return SOLVER_BASE_BYTES + stack * (4 + 8) + 16 * (8 * canvas[0] * canvas[1] + 8 * modes * shape[0] * shape[1])


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" where there is no limit
        return None


def _field(path: Path, key: str) -> int | None:
    try:
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    except (OSError, ValueError):
        pass
    return None


def _kib(path: Path, key: str) -> int | None:
    try:
        for line in path.read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
