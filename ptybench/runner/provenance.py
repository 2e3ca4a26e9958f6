"""Where a number came from: versions, commit, hash of the code, processor."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

from ptybench.cores import usable_cores
from ptybench.records import Provenance
from ptybench.scoring.metrics import SCORING_VERSION

# what decides a number; the words and pictures around it (cli, leaderboard, report) do not make a record stale
_DECIDING = ("optics", "engines", "native", "cuda", "networks", "scoring", "baselines", "datasets", "io")
_SOURCES = (".py", ".cpp", ".hpp")
_DECIDING_FILES = (
    "simulation.py",
    "solver.py",
    "composite.py",
    "chain.py",
    "controls.py",
    "seeds.py",
    "team.py",
    "types.py",
    "runner/work.py",
)


def package_version(name: str) -> str | None:
    """Version of an installed package; ``None`` where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def code_hash() -> str:
    """SHA-256 of the sources of ptybench that decide a number."""
    sources: dict[str, Path] = {}
    for room in _DECIDING:
        folder = Path(str(files(f"ptybench.{room}")))
        sources |= {f"{room}/{p.relative_to(folder).as_posix()}": p for p in folder.rglob("*") if p.suffix in _SOURCES}
    package = Path(str(files("ptybench")))
    sources |= {name: package / name for name in _DECIDING_FILES if (package / name).exists()}
    sha = hashlib.sha256()
    for name in sorted(sources):
        sha.update(name.encode() + b"\0" + sources[name].read_bytes() + b"\0")
    return sha.hexdigest()


@cache
def git_commit() -> str | None:
    """Commit of the checkout that ptybench runs from, with ``-dirty`` where it was changed; ``None`` elsewhere."""
    checkout = Path(str(files("ptybench"))).parent
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


@cache
def cpu_name() -> str:
    """Model name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def threads() -> int:
    """Processors that this process may use."""
    return len(usable_cores())


def provenance(
    plugins: Sequence[Path] = (), used_threads: int | None = None, exclusive: bool | None = None
) -> Provenance:
    """Return the provenance of a run that starts now.

    Args:
        plugins: plug-in files that were loaded; their SHA-256 belongs to the code.
        used_threads: threads that the solver's process used, where it could tell.
        exclusive: whether its cores and its device were leased.

    """
    return Provenance(
        package_version=package_version("ptybench") or "unknown",
        code_hash=code_hash(),
        scoring_version=SCORING_VERSION,
        git_commit=git_commit(),
        plugins={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in plugins},
        python=platform.python_version(),
        torch=package_version("torch"),
        numpy=package_version("numpy") or "",
        platform=f"{platform.system()} {platform.machine()}",
        cpu=cpu_name(),
        threads=used_threads,
        exclusive=exclusive,
    )
