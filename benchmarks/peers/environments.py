"""An environment of its own for each peer, made once with pip from the registry and kept outside the project."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ptybench.errors import MethodFailed

FOLDER = Path(os.environ.get("PTYBENCH_PEERS", Path.home() / ".cache" / "ptybench" / "peers"))


@dataclass(frozen=True)
class Peer:
    """A package that is compared with.

    Args:
        title: how it writes its name.
        steps: what pip is told to install, one call after another.
        positions: ``"exact"``, or ``"rounded"`` where it knows whole pixels only.

    """

    title: str
    steps: tuple[tuple[str, ...], ...]
    positions: str

    @property
    def version(self) -> str:
        """The pinned version."""
        return self.steps[-1][0].partition("==")[2]


# torch first: the one that this project is pinned to, so that pip does not choose one of its own with gigabytes of CUDA
PEERS = {
    "ptychi": Peer(
        "Pty-Chi", (("torch==2.13.0",), ("torchvision==0.28.0", "numpy==2.4.6", "torch==2.13.0"), ("ptychi==2.2.0",)),
        "exact",
    ),
    "ptylab": Peer("PtyLab", (("numpy==2.4.6",), ("ptylab==0.3.7",)), "rounded"),
    "cdtools": Peer("cdtools", (("torch==2.13.0", "numpy==2.4.6"), ("cdtools-py==0.3.2",)), "rounded"),
    "ptyrad": Peer("PtyRAD", (("torch==2.13.0", "numpy==2.4.6"), ("torchvision==0.28.0", "ptyrad==1.0.0")), "rounded"),
}  # fmt: skip


def python_of(name: str, folder: Path = FOLDER) -> Path:
    """Return the interpreter of a peer's environment, there or not."""
    return folder / name / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def installed(name: str, folder: Path = FOLDER) -> bool:
    """Whether a peer's environment is there, complete and of the pinned version."""
    marker = folder / name / "installed.txt"
    return marker.is_file() and marker.read_text(encoding="utf-8") == _recipe(name)


def install(name: str, folder: Path = FOLDER) -> Path:
    """Make the environment of a peer where it is not there yet; return its interpreter.

    Raises:
        MethodFailed: where pip fails; its words are on the terminal.

    """
    python = python_of(name, folder)
    if installed(name, folder):
        return python
    print(f"making an environment for {PEERS[name].title} in {folder / name}", file=sys.stderr, flush=True)
    _call([sys.executable, "-m", "venv", "--clear", str(folder / name)], name)
    constraints = folder / name / "constraints.txt"
    pins = [pin for step in PEERS[name].steps for pin in step]
    constraints.write_text("\n".join(dict.fromkeys(pins)) + "\n", encoding="utf-8")
    for step in PEERS[name].steps:
        _call([str(python), "-m", "pip", "install", "--quiet", *step, "-c", str(constraints)], name)
    (folder / name / "installed.txt").write_text(_recipe(name), encoding="utf-8")
    return python


def _recipe(name: str) -> str:
    return "\n".join(" ".join(step) for step in PEERS[name].steps)


def _call(command: list[str], name: str) -> None:
    # the parent's own packages must not shine through
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    if subprocess.run(command, env=clean, check=False).returncode:
        raise MethodFailed(f"the environment of {PEERS[name].title} could not be made: {' '.join(command)} failed")
