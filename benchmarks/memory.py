"""Peak memory of epochs of a gradient method beyond what was there before, for more and more patterns of one field.

    python benchmarks/memory.py

Every measurement is a process of its own that looks at its resident set (Linux). The field is the same for all, so
that object and gradients are; what would grow with the number of patterns shows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SIDES = (10, 20, 40)
FIELD_PX = 180
BATCHES = (16, 100_000)
PATHS = ("kernels", "torch")
# what is freed goes back to the system, so that nothing is used again unseen
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_ARENA_MAX": "1"}


def resident(what: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process in MiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(what))


def measure(side: int, batch: int, path: str) -> None:
    """Print one row of the table."""
    import torch

    import ptybench
    from ptybench.native import library
    from ptybench.registry import resolve_method

    torch.set_num_threads(1)
    if path == "torch":
        library.able = lambda _: False  # type: ignore[assignment]
    measurement, _ = ptybench.simulate("dap_raster", seed=1000, grid=[side, side], step_px=FIELD_PX // side)
    solver = resolve_method("ad", {"batch": batch}).create(measurement, "cpu", 0, None)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins here
    before = resident("VmRSS")
    for _ in range(2):
        solver.step()
    data = measurement.intensities.nbytes / 2**20
    added = resident("VmHWM") - before
    print(f"| {len(measurement.intensities)} | {min(batch, side**2)} | {path} | {data:.1f} | {added:.1f} |")


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
        sys.exit()
    print("| patterns | batch | path | data in MiB | peak of two epochs in MiB |\n|--:|--:|:--|--:|--:|", flush=True)
    for one in PATHS:
        for size in BATCHES:
            for side in SIDES:
                command = [sys.executable, __file__, str(side), str(size), one]
                subprocess.run(command, check=True, env=os.environ | ALLOCATOR)
