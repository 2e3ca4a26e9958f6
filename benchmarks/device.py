"""Everything about speed on a CUDA device that docs/cuda.md and docs/performance.md ask for, in one command.

    python benchmarks/device.py --out cuda                   # on the GPU, at most 8 minutes
    python benchmarks/device.py --out cuda --device cpu      # the same cells, tiny: only shows that the command works

First every method on the device against the CPU's complex128, then the floor of the device (a copy, transforms), then
epochs: each method without graphs and kernels, with one of them, and with both, and Pty-Chi where it can be imported
or has an environment. What the time did not allow is named. Writes ``cuda.json`` and ``cuda.md``.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from history.problems import measurement

from ptybench.cuda import VARIABLE, fused
from ptybench.io.hdf5 import save_measurement
from ptybench.native import library
from ptybench.registry import resolve_method
from ptybench.solver import Solver
from ptybench.types import Measurement

PEERS = Path(__file__).parent / "peers"
CLOSE = 1e-3  # of an object after a few epochs in single precision, of the same in double precision
VARIANTS = ("off", "graphs", "kernels", "all")


@dataclass(frozen=True)
class Method:
    """A method to be timed.

    Args:
        name: of the method.
        batch: patterns at a time; 0 of a method that takes all at once.
        least_bytes: that an epoch must move for each pixel of a pattern and mode, apart from amplitudes: a complex
            number is 8, each transform reads and writes once, what all patterns share comes from the cache.
        peer: whether Pty-Chi is timed too, which has more of them.

    """

    name: str
    batch: int
    least_bytes: int
    peer: bool

    @property
    def label(self) -> str:
        """How a table calls it."""
        return f"{self.name}, {self.batch or 'all'}"

    @property
    def options(self) -> dict[str, Any]:
        """Options of ours."""
        return {"fourier_relax": 0.0} if self.name == "dm" else {}


# wave out 8, transforms 2 x 16, modulus 16; a visit reads the change twice, 16; lsqml writes and reads a move, 16;
# dm reads its state, writes it and reads it twice more, 40; admm reads and writes two states
METHODS = [
    Method("rpie", 32, 72, True),
    Method("epie", 1, 72, True),
    Method("dm", 0, 96, True),
    Method("lsqml", 32, 88, True),
    Method("admm", 0, 120, False),
    Method("rpie", 1, 72, False),
    Method("epie", 32, 72, False),
]
CHECKED = [
    *((name, {"batch": batch}) for name in ("epie", "rpie", "pie", "mpie", "sdr", "wasp", "lsqml") for batch in (1, 7)),
    *((name, {}) for name in ("lsqml:poisson", "dm", "raar", "ap", "admm", "admm:poisson", "ml", "ml:poisson")),
]


class Clock:
    """Seconds of a device's work, and how many are left for the command."""

    def __init__(self, device: str, seconds: float) -> None:
        self.cuda, self.end = device == "cuda", time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.end - time.monotonic()

    def timed(self, work: Callable[[], object], rounds: int, warm: int = 1) -> list[float]:
        """Seconds of each of some rounds, after some that do not count."""
        found = []
        for number in range(warm + rounds):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            if number >= warm:
                found.append(time.perf_counter() - start)
        return found

    def wait(self) -> None:
        """Let the device finish."""
        if self.cuda:
            torch.cuda.synchronize()


def check(device: str) -> list[dict[str, Any]]:
    """How far every method on the device is from the CPU's plain torch in double precision after three epochs."""
    rough = measurement(32, 2, subpixel=True, patterns=25)
    rng = np.random.default_rng(1)
    noise = np.exp(0.5j * rng.standard_normal(rough.initial.object.shape)).astype(np.complex64)
    rough = replace(rough, initial=replace(rough.initial, object=noise))  # no pixel is dark, so no phase is rounding's
    found = []
    for name, options in CHECKED:
        objects = []
        warned: list[str] = []
        for where in ("cpu", device):
            with warnings.catch_warnings(record=True) as caught, reference(not objects):
                warnings.simplefilter("always")
                solver = resolve_method(name, options).create(rough, where, 3, None)
                for _ in range(3):
                    solver.step()
            warned += [str(one.message) for one in caught if "left to torch" in str(one.message)]
            objects.append(solver.object.cpu().to(torch.complex128))
        apart = float((objects[1] - objects[0]).norm() / objects[0].norm())
        found.append({"method": name, **options, "apart": apart, "right": apart < CLOSE, "warnings": warned})
    return found


@contextmanager
def reference(on: bool) -> Iterator[None]:
    """Double precision without compiled CPU kernels for a while."""
    double = patch.object(Solver, "dtype", torch.complex128)
    with double if on else nullcontext(), patch.object(library, "able", lambda model: False) if on else nullcontext():
        yield


def copy_bandwidth(clock: Clock, device: str, size: int) -> float:
    """Bytes a second of a copy on the device, read and written."""
    one = torch.randn(size // 4, device=device)
    other = torch.empty_like(one)
    seconds = statistics.median(clock.timed(lambda: other.copy_(one), 20, 3))
    return 2 * one.nbytes / seconds


def transforms(clock: Clock, device: str, size: int, pixels: int) -> float:
    """Patterns of one mode a second for which two transforms are all that is done."""
    count = max(1, pixels // size**2)
    wave = torch.randn(count, size, size, dtype=torch.complex64, device=device)
    out = torch.empty_like(wave)

    def both() -> None:
        torch.fft.fft2(wave, out=out)
        torch.fft.ifft2(out, out=wave)

    return count / statistics.median(clock.timed(both, 5, 2))


def problem(size: int, patterns: int, modes: int) -> Measurement:
    """A measurement at whole pixels whose counts are random: only its sizes matter here."""
    small = measurement(size, min(modes, 4), patterns=1)
    rng = np.random.default_rng(size)
    grid, step = int(np.ceil(np.sqrt(patterns))), max(1, size // 8)
    corner = np.stack(np.meshgrid(np.arange(grid), np.arange(grid), indexing="ij"), -1).reshape(-1, 2)[:patterns]
    positions = corner * step + rng.integers(0, 2, corner.shape).astype(np.float64)
    side = (grid - 1) * step + size + 4
    probe = np.concatenate([small.initial.probe, small.initial.probe[:, ::-1] * 0.5])[:modes]
    start = replace(
        small.initial, object=np.ones((side, side), np.complex64), probe=probe.copy(), positions_px=positions
    )
    counts = rng.random((patterns, size, size), np.float32)
    return replace(small, intensities=counts, positions_px=positions, initial=start)


def solver_of(method: Method, made: Measurement, device: str) -> Solver:
    """Our solver."""
    options = method.options | ({"batch": method.batch} if method.batch else {})
    return resolve_method(method.name, options).create(made, device, 1, None)


def epoch(method: Method, made: Measurement, device: str, variant: str, clock: Clock) -> dict[str, Any]:
    """Patterns a second of a method."""
    os.environ[VARIABLE] = variant
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            solver = solver_of(method, made, device)
            # the first epoch compares kernels and captures graphs
            seconds = clock.timed(solver.step, 3, 1)
    finally:
        os.environ.pop(VARIABLE)
    said = [str(one.message) for one in caught if "left to torch" in str(one.message)]
    return {"patterns_per_s": [len(made.intensities) / each for each in seconds], "warnings": said}


def ptychi(method: Method, made: Measurement, device: str, folder: Path, python: str) -> dict[str, Any]:
    """Patterns a second of Pty-Chi, over three epochs after one that does not count."""
    sys.path.insert(0, str(PEERS))
    import h5py
    from exchange import Job

    folder.mkdir(parents=True, exist_ok=True)
    save_measurement(folder / "measurement.h5", made)
    options = resolve_method(method.name, method.options).options
    batch, threads = method.batch or None, os.cpu_count() or 1
    job = Job("measurement.h5", method.name, options, 3, 1, batch=batch, device=device, warm=1, threads=threads)
    (folder / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
    words = [python, str(PEERS / "drive_ptychi.py"), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        return {"failure": (done.stderr.strip().splitlines() or ["?"])[-1][:200]}
    with h5py.File(folder / "reconstruction.h5", "r") as file:
        return {"patterns_per_s": [3 * len(made.intensities) / float(file.attrs["seconds"])]}


def ptychi_python(wanted: bool) -> str | None:
    """The interpreter that has Pty-Chi: this one, or that of its environment; ``None`` where neither is there."""
    if not wanted:
        return None
    if find_spec("ptychi") is not None:
        return sys.executable
    sys.path.insert(0, str(PEERS))
    from environments import installed, python_of

    return str(python_of("ptychi")) if installed("ptychi") else None


def cells(sizes: list[int], modes: list[int]) -> Iterator[tuple[int, int, Method, str]]:
    """Size, modes, method and variant or ``ptychi``; the most telling first."""
    middle = sizes[min(1, len(sizes) - 1)]
    first = [(middle, modes[0])]
    rest = [(size, count) for count in modes for size in sizes if (size, count) not in first]
    for size, count in first + rest:
        for method in METHODS:
            few = VARIANTS if count == modes[0] else ("off", "all")
            for variant in few:
                yield size, count, method, variant
        for method in METHODS if count == modes[0] else ():  # a process of its own for each takes its time
            if method.peer:
                yield size, count, method, "ptychi"


def table(document: dict[str, Any]) -> str:
    """The tables in Markdown."""
    floor, rows = document["floor"], document["cells"]
    bandwidth = floor["copy_bytes_per_s"]
    lines = [
        f"{document['device']}, torch {document['torch']}, a copy moves {bandwidth / 1e9:.0f} GB/s read and written.",
        "",
        "Patterns a second (thousands), median of 3 epochs; the share is that of the copy's bandwidth which the least "
        "bytes of the best variant come to.",
        "",
        "| pattern | modes | method, batch | plain | graphs | kernels | both | share | Pty-Chi | transforms alone |",
        "|--:|--:|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for size, modes, label in dict.fromkeys((row["size"], row["modes"], row["method"]) for row in rows):
        here = {
            row["variant"]: row for row in rows if (row["size"], row["modes"], row["method"]) == (size, modes, label)
        }
        rates = {key: statistics.median(row["patterns_per_s"]) for key, row in here.items() if "patterns_per_s" in row}
        ours = [rates[key] for key in VARIANTS if key in rates]
        method = next(method for method in METHODS if method.label == label)
        least = size**2 * (modes * method.least_bytes + 4)
        share = f"{max(ours) * least / bandwidth:.0%}" if ours else ""
        shown = [f"{rates[key] / 1e3:.2f}" if key in rates else "" for key in (*VARIANTS, "ptychi")]
        alone = floor["transforms_per_s"][str(size)] / modes / 1e3
        lines.append(f"| {size}² | {modes} | {label} | {' | '.join(shown[:4])} | {share} | {shown[4]} | {alone:.2f} |")
    wrong = [row for row in document["check"] if not row["right"]]
    worst = max(row["apart"] for row in document["check"])
    if document["device"] == "CPU":
        lines += ["", "On the CPU graphs and kernels are not used: the four columns differ by chance alone."]
    lines += ["", f"{len(document['check']) - len(wrong)} of {len(document['check'])} methods on the device are within "
              f"{CLOSE:g} of the CPU's complex128 after three epochs (worst {worst:.1e})."]  # fmt: skip
    lines += [f"Not right: {row['method']} {row.get('batch', '')}: {row['apart']:.1e}" for row in wrong]
    said = dict.fromkeys(text for row in [*document["check"], *rows] for text in row.get("warnings", ()))
    failed = dict.fromkeys(f"{row['method']} {row['variant']}: {row['failure']}" for row in rows if "failure" in row)
    lines += [f"Said: {text}" for text in [*said, *failed]]
    if document["left_out"]:
        lines.append(f"Left out for want of time: {document['left_out']} cells.")
    return "\n".join(lines) + "\n"


def run(
    device: str, out: Path, seconds: float, sizes: list[int], modes: list[int], peer: bool, pixels: int
) -> dict[str, Any]:
    """Measure everything."""
    clock, cuda = Clock(device, seconds), device == "cuda"
    document: dict[str, Any] = {
        "schema": "ptybench.cuda/1",
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "torch": torch.__version__,
        "triton": fused.installed(),
        "check": check(device),
        "cells": [],
        "left_out": 0,
    }
    document["floor"] = {
        "copy_bytes_per_s": copy_bandwidth(clock, device, 2**30 if cuda else 2**24),
        "transforms_per_s": {str(size): transforms(clock, device, size, pixels) for size in sizes},
    }
    python = ptychi_python(peer)
    made: dict[tuple[int, int, int], Measurement] = {}
    for size, count, method, variant in cells(sizes, modes):
        if variant == "ptychi" and python is None:
            continue
        if clock.left < 0:
            document["left_out"] += 1
            continue
        patterns = max(36, pixels // size**2 // (8 if method.batch == 1 else 1))
        key = size, count, patterns
        if key not in made:
            made = {kept: value for kept, value in made.items() if kept[:2] == key[:2]}
            made[key] = problem(size, patterns, count)
        row = {"size": size, "modes": count, "method": method.label, "variant": variant, "patterns": patterns}
        try:
            if variant == "ptychi":
                row |= ptychi(method, made[key], device, out / "ptychi", python or "")
            else:
                row |= epoch(method, made[key], device, variant, clock)
        except (RuntimeError, subprocess.TimeoutExpired) as error:  # out of memory at worst
            row["failure"] = str(error).splitlines()[0][:200]
        document["cells"].append(row)
        gc.collect()
        save(document, out)
    return document


def save(document: dict[str, Any], out: Path) -> None:
    """Write what there is, so that a command that is cut off leaves something."""
    (out / "cuda.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (out / "cuda.md").write_text(table(document), encoding="utf-8")


def main(words: list[str] | None = None) -> int:
    """Run the command; 1 where a method on the device is not right."""
    parser = argparse.ArgumentParser(description="Speed and correctness on a CUDA device.")
    parser.add_argument("--out", type=Path, default=Path("cuda"), help="folder of the results")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=480, help="after which no further cell is begun")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--modes", type=int, nargs="+")
    parser.add_argument("--no-peer", action="store_true", help="leave Pty-Chi away")
    given = parser.parse_args(words)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("device.py: no CUDA device is here: use --device cpu to try the command", file=sys.stderr)
        return 2
    cuda = given.device == "cuda"
    sizes = given.sizes or ([64, 128, 256, 512, 1024] if cuda else [16, 32])
    modes = given.modes or ([1, 2, 4, 8] if cuda else [1, 2])
    if min(sizes) < 8 or not 1 <= min(modes) <= max(modes) <= 8:
        print("device.py: sizes are at least 8, and there are 1 to 8 modes", file=sys.stderr)
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    document = run(given.device, given.out, given.seconds, sizes, modes, not given.no_peer, 2**26 if cuda else 2**13)
    save(document, given.out)
    print(table(document))
    return 0 if all(row["right"] for row in document["check"]) else 1


if __name__ == "__main__":
    sys.exit(main())
