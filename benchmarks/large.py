"""What docs/large.md says, measured: patterns from their file against patterns in memory, two processes against one.

python benchmarks/large.py stream --patterns 2000 --size 128
python benchmarks/large.py scale --patterns 441 --size 128
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

METHODS: dict[str, dict[str, Any]] = {"epie": {}, "rpie": {"batch": 32}, "lsqml": {"batch": 32}, "dm": {}}
SHARED = ("dm", "rpie")


def make(path: Path, patterns: int, size: int) -> None:
    """Poisson counts of a random object, 1e6 photons a pattern, in uint16."""
    import numpy as np
    from history.problems import measurement

    from ptybench.io.hdf5 import save_measurement

    made = measurement(size, patterns)
    save_measurement(path, replace(made, intensities=np.minimum(made.intensities, np.float32(65535))))


def stream(path: Path, method: str, place: str, epochs: int) -> dict[str, Any]:
    """In a process of its own: seconds an epoch and resident memory beyond what torch takes."""
    os.environ["PTYBENCH_PATTERNS"] = place
    import torch

    from ptybench.io.hdf5 import load_measurement
    from ptybench.memory import usage_of
    from ptybench.registry import resolve_method

    torch.set_num_threads(1)
    torch.fft.fft2(torch.zeros(8, 8))
    before = usage_of()
    measurement = load_measurement(path, in_file=True)
    solver = resolve_method(method, dict(METHODS[method])).create(measurement, "cpu", 0, None)
    solver.step()
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        solver.step()
        seconds.append(time.perf_counter() - start)
    after = usage_of()
    assert before is not None
    assert after is not None
    kept = measurement.intensities.kept.itemsize  # type: ignore[attr-defined]
    data = measurement.intensities.size * kept
    return {"seconds": min(seconds), "bytes": after.peak - before.now, "data": data}


def scale(path: Path, method: str, rank: int, world: int, port: int, epochs: int) -> dict[str, Any]:
    """One of several processes, one thread each: seconds an epoch, and bytes added up in it."""
    import torch
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    from ptybench import team
    from ptybench.io.hdf5 import load_measurement
    from ptybench.registry import resolve_method

    torch.set_num_threads(1)
    options = dict(METHODS[method])
    measurement = load_measurement(path)
    if world == 1:
        return {"seconds": _timed(resolve_method(method, options).create(measurement, "cpu", 0, None), epochs)}
    store = TCPStore("127.0.0.1", port, is_master=rank == 0)
    with team.joined(PrefixStore("scale", store), rank, world, len(measurement.intensities)) as crew:
        solver = resolve_method(method, options).create(measurement.subset(crew.own()), "cpu", 0, None)
        seconds = _timed(solver, epochs)
        added, waited, reduce = 0, 0.0, crew._reduce

        def counting(values: torch.Tensor, how: Any) -> None:
            nonlocal added, waited
            start = time.perf_counter()
            reduce(values, how)
            waited += time.perf_counter() - start
            added += values.nbytes

        crew._reduce = counting  # type: ignore[method-assign]
        solver.step()
        crew._reduce = reduce  # type: ignore[method-assign]
        crew.total(0.0)
    return {"seconds": seconds, "bytes": added, "waited": waited}


def _timed(solver: Any, epochs: int) -> float:
    solver.step()
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        solver.step()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def ask(*arguments: object) -> subprocess.Popen[str]:
    """This file in another process."""
    command = [sys.executable, __file__, "--one", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What it found."""
    out, _ = process.communicate()
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def show_streams(path: Path, epochs: int, rounds: int) -> None:
    print("| method | in memory, ms an epoch | from the file | speed | memory / data, in memory | from the file |")
    print("|---|---|---|---|---|---|")
    for method in METHODS:
        found = {
            place: [answer(ask("stream", path, method, place, epochs)) for _ in range(rounds)]
            for place in ("device", "file")
        }
        times = {place: min(one["seconds"] for one in ones) for place, ones in found.items()}
        ratios = [a["seconds"] / b["seconds"] for a, b in zip(found["device"], found["file"], strict=True)]
        memory = {place: max(one["bytes"] / one["data"] for one in ones) for place, ones in found.items()}
        print(
            f"| {method} | {1e3 * times['device']:.0f} | {1e3 * times['file']:.0f} | "
            f"{statistics.median(ratios):.0%} ({min(ratios):.0%} to {max(ratios):.0%}) | "
            f"{memory['device']:.2f} | {memory['file']:.2f} |"
        )


def show_scaling(path: Path, epochs: int, rounds: int) -> None:
    print("| method | one process, ms an epoch | two | speed | MB added up | of it in the sums, ms |")
    print("|---|---|---|---|---|---|")
    for method in SHARED:
        alone, two = [], []
        for _ in range(rounds):
            alone.append(answer(ask("scale", path, method, 0, 1, 0, epochs))["seconds"])
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            crew = [ask("scale", path, method, rank, 2, port, epochs) for rank in range(2)]
            first, _ = [answer(one) for one in crew]
            two.append(first)
        ratios = [a / b["seconds"] for a, b in zip(alone, two, strict=True)]
        best = min(two, key=lambda one: one["seconds"])
        print(
            f"| {method} | {1e3 * min(alone):.0f} | {1e3 * best['seconds']:.0f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | "
            f"{best['bytes'] / 1e6:.1f} | {1e3 * best['waited']:.0f} |"
        )


def main() -> None:
    if sys.argv[1] == "--one":
        what, path, method, *rest = sys.argv[2:]
        if what == "stream":
            found = stream(Path(path), method, rest[0], int(rest[1]))
        else:
            found = scale(Path(path), method, *map(int, rest))
        print(json.dumps(found))
        return
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("what", choices=("stream", "scale"))
    asked.add_argument("--patterns", type=int, default=441)
    asked.add_argument("--size", type=int, default=128)
    asked.add_argument("--epochs", type=int, default=3)
    asked.add_argument("--rounds", type=int, default=3)
    told = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "measurement.h5"
        make(path, told.patterns, told.size)
        print(f"{told.patterns} patterns of {told.size} x {told.size}, {path.stat().st_size / 1e6:.0f} MB\n")
        (show_streams if told.what == "stream" else show_scaling)(path, told.epochs, told.rounds)


if __name__ == "__main__":
    main()
