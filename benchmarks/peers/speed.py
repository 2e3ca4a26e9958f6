"""Seconds of an epoch, ours and the peers', beside the floor: one command, one run, one machine.

    python benchmarks/peers/speed.py --out speed

Same data, start, epochs, threads and allocator settings for all; every reconstruction in a process of its own, one
after the other, in rounds, so that what else the machine does hits all alike. An epoch is the time of many less that of
few, so that what is done once does not count. See docs/performance.md.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from cells import OURS, Cell, reconstruct, title
from environments import FOLDER, PEERS, install
from exchange import Job
from floor import floors
from line import run

from ptybench.cli.options import split_names
from ptybench.errors import UnknownName
from ptybench.io.hdf5 import load_reconstruction, save_measurement
from ptybench.native import library
from ptybench.registry import load_task, resolve_method
from ptybench.runner.provenance import cpu_name, git_commit
from ptybench.scoring import score
from ptybench.simulation import simulate
from ptybench.types import Measurement, Truth

HERE = Path(__file__).parent
SIZES = {"128": HERE / "speed_128.toml", "256": HERE / "speed_256.toml"}
FEW = 2  # epochs of the short run
STEADY = 40  # of our long run, which would be over too soon


@dataclass(frozen=True)
class Contest:
    """A method that programs are timed in: our name, options, and who else has it."""

    method: str
    batch: int
    options: dict[str, Any]
    peers: tuple[str, ...]

    @property
    def name(self) -> str:
        """How a table calls it."""
        return f"{self.method}, {self.batch or 'all'}"


CONTESTS = [
    Contest("epie", 1, {}, ("ptychi", "ptylab")),
    Contest("rpie", 1, {}, ("ptychi", "ptylab")),
    Contest("epie", 32, {}, ("ptychi",)),
    Contest("rpie", 32, {}, ("ptychi",)),
    Contest("dm", 0, {"fourier_relax": 0.0}, ("ptychi",)),
    Contest("raar", 0, {}, ()),
    Contest("admm", 0, {}, ()),
    Contest("lsqml", 32, {}, ("ptychi",)),
    Contest("ad", 32, {}, ("ptychi", "cdtools", "ptyrad")),
]


@dataclass(frozen=True)
class Timing:
    """What one program needed for an epoch of one contest.

    Args:
        size: side of a pattern.
        contest: name of the contest.
        program: ``"ptybench"`` or a peer.
        threads: of its numerical libraries.
        seconds: of an epoch, one value a round.
        cpcc: of the object with the truth after the same epochs as the others'.
        failure: why there is no time.

    """

    size: str
    contest: str
    program: str
    threads: int
    seconds: list[float]
    cpcc: float | None = None
    failure: str | None = None


def timed(
    size: str, contest: Contest, program: str, threads: int, epochs: int, rounds: range, root: Path,
    measurement: Measurement, truth: Truth, environments: Path,
) -> Timing:  # fmt: skip
    """Time a program in a contest, in these rounds; what has been timed stays timed."""
    options = resolve_method(contest.method, contest.options).options
    # a peer is told its batch apart: there is no option of ours that means the same
    ours = {"batch": contest.batch} if contest.batch and program == OURS else {}
    batch = None if program == OURS or not contest.batch else contest.batch
    long = max(epochs, STEADY) if program == OURS else epochs
    seconds, cpcc = [], None
    for number in rounds:
        taken = {}
        for count in dict.fromkeys((FEW, long, epochs) if number == 0 else (FEW, long)):
            job = Job("../measurement.h5", contest.method, options | ours, count, 1, threads=threads, batch=batch)
            folder = root / f"{contest.method}-{contest.batch}-{program}-{threads}-{count}-{number}"
            cell = Cell(program, "rounded", 0, number, job, folder)
            if (failure := reconstruct(cell, environments)) is not None:
                return Timing(size, contest.name, program, threads, [], None, failure)
            with h5py.File(folder / "reconstruction.h5", "r") as file:
                taken[count] = float(file.attrs["seconds"])
            if count == epochs and number == 0:
                cpcc = score(load_reconstruction(folder / "reconstruction.h5"), truth, measurement)["cpcc_abs"]
        seconds.append((taken[long] - taken[FEW]) / (long - FEW))
    return Timing(size, contest.name, program, threads, seconds, cpcc)


def floors_of(path: Path, size: int, patterns: int, counts: Sequence[int]) -> dict[str, dict[str, float]]:
    """The floor of a round for these numbers of threads; what has been timed stays timed."""
    known: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for count in counts:
        if str(count) not in known:
            known[str(count)] = floors(size, patterns, count)
    path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return known


def markdown(timings: Sequence[Timing], floor: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return the tables, one a size."""
    lines = []
    for size in dict.fromkeys(timing.size for timing in timings):
        lines += [
            f"### {size} × {size}",
            "",
            "| method, batch | program | threads | ms an epoch | × floor | ours is … × faster | cPCC |",
        ]
        lines.append("|:--|:--|--:|--:|--:|--:|--:|")
        for threads, found in floor[size].items():
            least = min(found.values())
            for who, seconds in sorted(found.items(), key=lambda item: item[1]):
                what = f"| *two transforms a pattern* | {who} | {threads}"
                lines.append(f"{what} | {seconds * 1e3:.1f} | {seconds / least:.1f} | | |")
        for timing in (timing for timing in timings if timing.size == size):
            lines.append(_row(timing, timings, min(floor[size][str(timing.threads)].values())))
        lines.append("")
    return "\n".join(lines)


def _row(timing: Timing, timings: Sequence[Timing], floor: float) -> str:
    if timing.failure is not None:
        return f"| {timing.contest} | {title(timing.program)} | {timing.threads} | {timing.failure} | | | |"
    # what else a machine does only ever adds to a time
    seconds = min(timing.seconds)
    spread = f"+ {max(timing.seconds) / seconds - 1:.0%}" if len(timing.seconds) > 1 else "(once)"
    key = timing.size, timing.contest, timing.threads
    ours = next((t for t in timings if (t.size, t.contest, t.threads) == key and t.program == OURS and t.seconds), None)
    ahead = "" if ours is None or timing.program == OURS else f"{seconds / min(ours.seconds):.1f}"
    cpcc = "" if timing.cpcc is None else f"{timing.cpcc:.4f}"
    return (
        f"| {timing.contest} | {title(timing.program)} | {timing.threads} | {seconds * 1e3:.1f} {spread} "
        f"| {seconds / floor:.1f} | {ahead} | {cpcc} |"
    )


def command(
    *,
    sizes: list[str] | None = None,
    methods: list[str] | None = None,
    peers: list[str] | None = None,
    threads: list[int] | None = None,
    epochs: int = 30,
    rounds: int = 3,
    peer_rounds: int = 3,
    out: Path = Path("speed"),
    environments: Path = FOLDER,
) -> int:
    """Time an epoch of our methods and of other packages'.

    Args:
        sizes: 128, 256.
        methods: names of our methods, comma separated; all of the table where none is given.
        peers: ptychi, ptylab, cdtools, ptyrad, or none.
        threads: numbers of threads, for all programs alike.
        epochs: of the peers' long run, and of ours whose object is compared.
        rounds: times everything is timed.
        peer_rounds: times that peers are timed at most, some of whom take minutes.
        out: folder of everything; what is there is not timed again.
        environments: folder of the peers' environments.

    """
    chosen = split_names(methods)
    contests = [contest for contest in CONTESTS if not chosen or contest.method in chosen]
    names = [] if peers == ["none"] else split_names(peers) or list(PEERS)
    for name in names:
        if name not in PEERS:
            raise UnknownName("peer", name, PEERS)
    for name in names:
        install(name, environments)
    counts = threads or [1, 2]
    timings: list[Timing] = []
    floor: dict[str, dict[str, dict[str, float]]] = {}
    for size in split_names(sizes) or list(SIZES):
        if size not in SIZES:
            raise UnknownName("size", size, SIZES)
        exact, truth = simulate(load_task(str(SIZES[size])), 0, domain="dev")
        whole = np.round(exact.positions_px)
        measurement = replace(exact, positions_px=whole, initial=replace(exact.initial, positions_px=whole))
        root = out.resolve() / size
        save_measurement(root / "measurement.h5", measurement)
        patterns = len(measurement.intensities)
        found: list[dict[str, dict[str, float]]] = []
        for number in range(rounds):
            found.append(floors_of(root / f"floor-{number}.json", int(size), patterns, counts))
            floor[size] = {
                str(count): {who: min(one[str(count)][who] for one in found) for who in found[0][str(count)]}
                for count in counts
            }
            timings = [timing for timing in timings if timing.size != size]
            for contest in contests:
                for program in (OURS, *(peer for peer in contest.peers if peer in names)):
                    for count in counts:
                        times = range(number + 1 if program == OURS else min(number + 1, peer_rounds))
                        timing = timed(
                            size, contest, program, count, epochs, times, root, measurement, truth, environments
                        )
                        timings.append(timing)
                        said = timing.failure or f"{timing.seconds[-1] * 1e3:.1f} ms an epoch"
                        print(f"{size} {timing.contest} {title(program)} {count} threads: {said}", file=sys.stderr)
    document = {
        "schema": "ptybench.speed/1",
        "machine": {
            "cpu": cpu_name(),
            "system": platform.platform(),
            "kernels": library.flavour(),
            "commit": git_commit(),
        },
        "versions": {name: PEERS[name].version for name in names},
        "floor": floor,
        "timings": [asdict(timing) for timing in timings],
    }
    (out / "speed.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    table = markdown(timings, floor)
    (out / "speed.md").write_text(table + "\n", encoding="utf-8")
    print(table)
    return 1 if any(timing.failure for timing in timings) else 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; every error is one sentence."""
    return run(command, "speed.py", words)


if __name__ == "__main__":
    sys.exit(main())
