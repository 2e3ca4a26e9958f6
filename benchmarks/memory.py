"""Peak memory of epochs of a gradient method beyond what was there before, for more and more patterns.

    python benchmarks/memory.py

Every measurement is a process of its own (Linux). On one field object and gradients are the same for all, so that what
grows with the number of patterns shows; on a field that grows with the scan the object and its gradient grow.
"""

from __future__ import annotations

import os
import subprocess
import sys

SIDES = (10, 20, 40)
FIELD_PX = 180
STEP_PX = 18
BATCHES = (16, 100_000)
ENGINES = ("fastest", "torch")
# what is freed goes back to the system, so that nothing is used again unseen
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_ARENA_MAX": "1"}


def measure(side: int, step_px: int, batch: int, engine: str) -> None:
    """Print one row of the table."""
    from history.problems import Memory, choose, need

    import ptybench
    from ptybench.registry import resolve_method

    choose(engine)
    need("cpu")
    measurement = ptybench.simulate("dap_raster", seed=1000, grid=[side, side], step_px=step_px)[0]
    solver = resolve_method("ad", {"batch": batch}).create(measurement, "cpu", 0, None)
    with Memory("cpu") as memory:
        for _ in range(2):
            solver.step()
    canvas = " × ".join(map(str, solver.model.canvas))
    mebi = " | ".join(
        f"{size / 2**20:.1f}" for size in (solver.object.nbytes, measurement.intensities.nbytes, memory.bytes)
    )
    print(f"| {engine} | {min(batch, side**2)} | {side**2} | {canvas} | {mebi} |")


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(*map(int, sys.argv[1:4]), engine=sys.argv[4])
        sys.exit()
    print("| engine | batch | patterns | canvas | MiB of the object | of the data | of two epochs |", flush=True)
    print("|:--|--:|--:|--:|--:|--:|--:|", flush=True)
    cases = [(size, None) for size in BATCHES] + [(BATCHES[0], STEP_PX)]
    for one in ENGINES:
        for size, step in cases:
            for side in SIDES:
                words = [str(side), str(step or FIELD_PX // side), str(size), one]
                subprocess.run([sys.executable, __file__, *words], check=True, env=os.environ | ALLOCATOR)
