"""Images drawn by several processes at a time; which process drew an image leaves no trace in it.

A worker is ``python -m ptybench.generation.workers``: it is told once what to draw and writes pixels to its stdout, one
image after the other and nothing else. It sees the end of its parent, however that came, as a pipe that nobody reads.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from ptybench.errors import MethodFailed, PtybenchError
from ptybench.generation.recipe import Pixels, Recipe, encode
from ptybench.registry import add_plugin, plugin_paths


def draw_images(recipe: Recipe, indices: Sequence[int], jobs: int = 1) -> Iterator[tuple[int, Pixels]]:
    """Yield ``(index, image)`` as stored, in whatever order they are done.

    Args:
        recipe: what to draw.
        indices: which images.
        jobs: processes; 1 draws them in this one.

    Raises:
        MethodFailed: where a worker ends before it is done.

    """
    jobs = min(jobs, len(indices))
    yield from _drawn(recipe, indices) if jobs < 2 else _from_workers(recipe, indices, jobs)


def _drawn(recipe: Recipe, indices: Sequence[int]) -> Iterator[tuple[int, Pixels]]:
    generator = recipe.make()
    for index in indices:
        grey = generator.image(index, recipe.shape, domain=recipe.domain, seed=recipe.seed)
        if grey.shape != recipe.shape or not (grey.min() >= 0 and grey.max() <= 1):
            raise MethodFailed(
                f"{recipe.generator} drew image {index} as {grey.shape} with values from {grey.min():g} to "
                f"{grey.max():g}: expected {recipe.shape} and grey values from 0 to 1"
            )
        yield index, encode(grey, recipe.pixel)


def _from_workers(recipe: Recipe, indices: Sequence[int], jobs: int) -> Iterator[tuple[int, Pixels]]:
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for share in (indices[job::jobs] for job in range(jobs)):
            worker = stack.enter_context(_Worker(recipe, share))
            selector.register(worker.images, selectors.EVENT_READ, worker)
        while selector.get_map():
            for key, _ in selector.select():
                worker = key.data
                yield worker.read()
                if worker.done:
                    selector.unregister(worker.images)


class _Worker:
    """One process that draws a share of the images."""

    def __init__(self, recipe: Recipe, share: Sequence[int]) -> None:
        self._recipe, self._share, self._next = recipe, share, 0
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        job = {"recipe": recipe.line, "indices": list(share), "plugins": [str(path) for path in plugin_paths()]}
        with tempfile.TemporaryFile() as asked:
            asked.write(json.dumps(job).encode())
            asked.seek(0)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ptybench.generation.workers"],
                stdin=asked,
                stdout=subprocess.PIPE,
                stderr=self._said,
                bufsize=0,  # what lies in a buffer is not seen by select
                start_new_session=True,  # an interrupt of the terminal is the parent's to answer
            )
        assert self._process.stdout is not None
        self.images = self._process.stdout

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.images.close()
        if not self.done:
            self._process.kill()
        self._process.wait()
        self._said.close()

    @property
    def done(self) -> bool:
        """Whether the whole share has been read."""
        return self._next == len(self._share)

    def read(self) -> tuple[int, Pixels]:
        """Wait for the next image."""
        pixels = b""
        while len(pixels) < self._recipe.image_bytes:
            piece = self.images.read(self._recipe.image_bytes - len(pixels))
            if not piece:
                raise MethodFailed(f"a worker that draws {self._recipe.generator} {self._how_it_ended()}")
            pixels += piece
        index = self._share[self._next]
        self._next += 1
        return index, np.frombuffer(pixels, self._recipe.pixel).reshape(self._recipe.shape)

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        ended = f"was killed by signal {-code}" if code < 0 else "failed"
        return f"{ended}: {lines[-1]}" if lines else ended


def main() -> None:
    """Draw what stdin asks for."""
    job = json.loads(sys.stdin.buffer.read())
    images = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a plug-in prints must not get between the pixels
    for plugin in job["plugins"]:
        add_plugin(Path(plugin))
    try:
        for _, image in _drawn(Recipe.parse(job["recipe"]), job["indices"]):
            rest = memoryview(image.tobytes())
            while rest:
                rest = rest[images.write(rest) :]
    except BrokenPipeError:
        pass
    except PtybenchError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
