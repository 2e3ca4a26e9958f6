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
PLACES = ("device", "file")


def make(path: Path, patterns: int, size: int) -> None:
    """Poisson counts of a random object, 1e6 photons a pattern, in uint16."""
    import numpy as np
    from history.problems import measurement

    from ptybench.io.hdf5 import save_measurement

    made = measurement(size, patterns=patterns)
    save_measurement(path, replace(made, intensities=np.minimum(made.intensities, np.float32(65535))))


def solver_at(path: Path, method: str, place: str) -> Any:
    """A solver whose patterns are kept there."""
    from ptybench.io.hdf5 import load_measurement
    from ptybench.registry import resolve_method

    os.environ["PTYBENCH_PATTERNS"] = place
    return resolve_method(method, dict(METHODS[method])).create(load_measurement(path, in_file=True), "cpu", 0, None)


def speed(path: Path, method: str, epochs: int) -> dict[str, Any]:
    """Seconds of epochs with patterns in memory and in their file, in turn, so that both meet the same disturbances."""
    import torch

    torch.set_num_threads(1)
    solvers = {place: solver_at(path, method, place) for place in PLACES}
    seconds: dict[str, list[float]] = {place: [] for place in PLACES}
    for _ in range(epochs + 1):
        for place, solver in solvers.items():
            start = time.perf_counter()
            solver.step()
            seconds[place].append(time.perf_counter() - start)
    return {place: found[1:] for place, found in seconds.items()}


def memory(path: Path, method: str, place: str) -> dict[str, Any]:
    """Resident memory beyond what the interpreter and torch take, and the bytes of the data, of two epochs."""
    import torch

    import ptybench.io.hdf5  # noqa: F401 - so that it is not counted
    from ptybench.memory import usage_of
    from ptybench.registry import load_method

    torch.set_num_threads(1)
    torch.fft.fft2(torch.zeros(8, 8))
    load_method(method)
    before = usage_of()
    solver = solver_at(path, method, place)
    solver.step()
    solver.step()
    after = usage_of()
    assert before is not None
    assert after is not None
    frames = solver.measurement.intensities
    return {"bytes": after.peak - before.now, "data": frames.size * frames.kept.itemsize}


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


def show_streams(path: Path, epochs: int, methods: list[str]) -> None:
    """The table of patterns in memory and in their file."""
    heads = "in memory, ms an epoch", "from the file", "speed, median (range)", "memory, in memory", "from the file"
    print(f"| method | {' | '.join(heads)} |")
    print("|---|---|---|---|---|---|")
    for method in methods:
        times = answer(ask("speed", path, method, epochs))
        ratios = [here / there for here, there in zip(*(times[place] for place in PLACES), strict=True)]
        room = [answer(ask("memory", path, method, place)) for place in PLACES]
        print(
            f"| {method} | {1e3 * min(times['device']):.0f} | {1e3 * min(times['file']):.0f} | "
            f"{statistics.median(ratios):.0%} ({min(ratios):.0%} to {max(ratios):.0%}) | "
            + " | ".join(f"{one['bytes'] / 1e6:.0f} MB, {one['bytes'] / one['data']:.2f}" for one in room)
            + " |",
            flush=True,
        )


def show_scaling(path: Path, epochs: int, rounds: int, methods: list[str]) -> None:
    """The table of one process and two."""
    print("| method | one process, ms an epoch | two | speed | MB added up | of it in the sums, ms |")
    print("|---|---|---|---|---|---|")
    for method in methods:
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
            f"{best['bytes'] / 1e6:.1f} | {1e3 * best['waited']:.0f} |",
            flush=True,
        )


def main() -> None:
    if sys.argv[1] == "--one":
        what, path, method, *rest = sys.argv[2:]
        if what == "memory":
            found = memory(Path(path), method, rest[0])
        else:
            found = {"speed": speed, "scale": scale}[what](Path(path), method, *map(int, rest))
        print(json.dumps(found))
        return
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("what", choices=("stream", "scale"))
    asked.add_argument("--patterns", type=int, default=441)
    asked.add_argument("--size", type=int, default=128)
    asked.add_argument("--epochs", type=int, default=3)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--methods", nargs="+", help="all unless said otherwise")
    told = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "measurement.h5"
        make(path, told.patterns, told.size)
        print(f"{told.patterns} patterns of {told.size} x {told.size}, {path.stat().st_size / 1e6:.0f} MB\n")
        if told.what == "stream":
            show_streams(path, told.epochs, told.methods or list(METHODS))
        else:
            show_scaling(path, told.epochs, told.rounds, told.methods or list(SHARED))


if __name__ == "__main__":
    main()
