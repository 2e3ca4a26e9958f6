"""Where a model's patterns are kept: as amplitudes on the device, on the host, or in their file.

Amplitudes on the device take four bytes a pixel (eight in complex128). Where there is no room for them the patterns
stay in their own integer type, and a thread reads ahead of the solver: while it works on one block of patterns the next
one is turned into amplitudes in the other half of a window. On CUDA that thread fills page-locked memory, and a stream
of its own takes it to the device and turns it into amplitudes there. On a CPU the numbers are the same to the bit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptybench import memory
from ptybench.errors import InvalidOption
from ptybench.io.patternfile import SHARE, VARIABLE, PatternFile, in_memory
from ptybench.types import BoolArray, Measurement, blocks

Index: TypeAlias = int | slice | list[int] | Tensor
"""One pattern, or several of them; several add a leading axis ``B`` to every field.

Several may be a tensor ``(B,)`` on the device: then nothing that is done with it has to wait for the device.
"""
Place: TypeAlias = Literal["device", "host", "file"]
PieceT = TypeVar("PieceT", bound=Index)

BLOCK_BYTES = 2**23  # amplitudes that are fetched together, half of the window; a GPU takes 16 times as many


class Patterns:
    """Amplitudes ``√I`` ``(K, h, w)`` of a measurement, all of them on the device.

    Bad pixels are 0. In the far field zero frequency is at ``[0, 0]``.

    Args:
        measurement: what was measured.
        device: where amplitudes are needed.
        real: their type.

    Attributes:
        count: patterns.
        power: photons in all of them.
        strongest: photons of the brightest.
        window: ``(S, h, w)`` amplitudes at hand, here all.
        slots: ``(K,)`` place of each pattern in the window, -1 where it is not there; ``None`` where the place is the
            pattern's number.

    """

    place: Place = "device"
    slots: NDArray[np.int64] | None = None

    def __init__(self, measurement: Measurement, device: torch.device, real: torch.dtype) -> None:
        self.device, self.real = device, real
        self.frames: Any = measurement.intensities
        self.count, *shape = measurement.intensities.shape
        self.shape = shape[0], shape[1]
        self.bad: BoolArray | None = measurement.bad_pixels if measurement.bad_pixels.any() else None
        self.centred = measurement.propagation == "far_field"
        self.power = self.strongest = 0.0
        self.survey()

    def survey(self) -> None:
        """Make the amplitudes and add up their photons."""
        whole = np.empty((self.count, *self.shape), _NUMPY[self.real])
        for part in blocks(self.frames):
            self.amplitudes_of(self.frames[part], whole[part])
            self.weigh(whole[part])
        self._settle(torch.from_numpy(whole).to(self.device))

    def _settle(self, window: Tensor) -> None:
        self.window = window
        self._views = window.unbind()  # indexing a tuple costs nothing, selecting from a tensor does

    def weigh(self, amplitudes: NDArray[Any]) -> None:
        """Add the photons of some patterns to what is known of all."""
        photons = [float(np.square(one, dtype=np.float64).sum()) for one in amplitudes]
        self.power += sum(photons)
        self.strongest = max(self.strongest, *photons)

    def amplitudes_of(self, frames: NDArray[Any], out: NDArray[Any]) -> None:
        """Turn patterns ``(B, h, w)`` of any type into amplitudes in ``out``, whose roots are those of float32."""
        h, w = self.shape
        y, x = (h // 2, w // 2) if self.centred else (0, 0)
        roots = out if out.dtype == np.float32 else np.empty(out.shape, np.float32)
        for rows, from_rows in ((np.s_[: h - y], np.s_[y:]), (np.s_[h - y :], np.s_[:y])):
            roots[:, rows, : w - x] = frames[:, from_rows, x:]
            roots[:, rows, w - x :] = frames[:, from_rows, :x]
        if self.bad is not None:
            roots[:, np.roll(self.bad, (-y, -x), axis=(0, 1))] = 0
        np.sqrt(roots, out=roots)
        if roots is not out:
            out[:] = roots

    def at(self, index: Index) -> Tensor:
        """The amplitudes of a pattern ``(h, w)``, or of several ``(B, 1, h, w)``; not to be changed."""
        if isinstance(index, int):
            return self._views[index]
        if isinstance(index, slice | Tensor):
            return self.window[index][:, None]
        return torch.stack([self._views[k] for k in index])[:, None]  # indexing by a list takes four times as long

    def runs(self, order: list[int], batch: int = 1) -> list[list[int]]:
        """The order in pieces of whole batches, each small enough to be in the window at once; here one."""
        return [order]

    def ahead(self, pieces: Sequence[PieceT]) -> Iterator[PieceT]:
        """Yield pieces of the patterns in turn, each when its patterns are at hand."""
        return iter(pieces)

    def at_hand(self, index: list[int]) -> Iterator[list[int]]:
        """Yield some patterns in pieces that follow each other, each when it is at hand; here all of them at once."""
        return iter([index])

    def whole(self) -> Tensor:
        """All amplitudes ``(K, h, w)`` on the device."""
        return self.window


class Streamed(Patterns):
    """Amplitudes in a window, fetched ahead of the solver from where the patterns are kept.

    What is asked for out of turn is fetched at once.
    """

    place: Place = "host"

    def survey(self) -> None:
        """Add up the photons; nothing is kept."""
        self._fetcher = ThreadPoolExecutor(1, thread_name_prefix="patterns")
        self._coming: Future[None] | None = None
        self._walks = 0  # begun so far
        self.slots = np.full(self.count, -1, np.int64)
        self._half = 0  # patterns that a half of the window has room for
        pixels = self.shape[0] * self.shape[1] * self.real.itemsize
        self.block = max(1, BLOCK_BYTES * (16 if self.device.type == "cuda" else 1) // pixels)
        self._kept = self.frames.kept if isinstance(self.frames, PatternFile) else self.frames.dtype
        self._room_for(min(self.block, self.count))
        for part in blocks(self.frames):  # the same pieces as in memory, so that the sums are the same
            amplitudes = np.empty((part.stop - part.start, *self.shape), _NUMPY[self.real])
            self.amplitudes_of(self.frames[part], amplitudes)
            self.weigh(amplitudes)

    def _room_for(self, count: int) -> None:
        """Make the halves of the window larger where they are too small."""
        if count <= self._half:
            return
        self._half = count
        self._forget()
        shape = (2, count, *self.shape)
        cuda = self.device.type == "cuda"
        self._settle(torch.empty((2 * count, *self.shape), dtype=self.real, device=self.device))
        raw = torch.empty(shape, dtype=_TORCH[self._kept], pin_memory=cuda)
        self._raw: NDArray[Any] = raw.numpy()
        if cuda:
            self._pinned, self._stream = raw, torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            self._left = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]
            self._there = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]

    def _forget(self) -> None:
        """Nothing in the window counts any more."""
        assert self.slots is not None
        self.slots[:] = -1
        self._in_half: list[list[int]] = [[], []]

    def read(self, indices: NDArray[np.intp], out: NDArray[Any]) -> None:
        """Patterns ``(B, h, w)`` in their own type."""
        if isinstance(self.frames, PatternFile):
            self.frames.read(indices, out)
        else:
            np.take(self.frames, indices, axis=0, out=out, mode="clip")

    def _fetch(self, index: list[int], half: int) -> None:
        """Fill a half of the window; done by the thread."""
        count, first = len(index), half * self._half
        if self.device.type == "cuda":
            self._there[half].synchronize()  # the half's page-locked memory has been taken
        self.read(np.array(index, np.intp), self._raw[half, :count])
        if self.device.type == "cuda":
            with torch.cuda.stream(self._stream):
                self._stream.wait_event(self._left[half])
                raw = self._pinned[half, :count].to(self.device, non_blocking=True)
                self.window[first : first + count] = self.on_device(raw)
                self._there[half].record(self._stream)
        else:
            self.amplitudes_of(self._raw[half, :count], self.window[first : first + count].numpy())

    def on_device(self, raw: Tensor) -> Tensor:
        """What :meth:`amplitudes_of` does, in torch."""
        roots = raw.to(torch.float32)
        if self.bad is not None:
            roots.masked_fill_(torch.from_numpy(self.bad).to(roots.device), 0)
        roots.sqrt_()
        if self.centred:
            roots = roots.roll([-(n // 2) for n in self.shape], dims=(-2, -1))
        return roots.to(self.real)

    def _begin(self, index: list[int], half: int) -> None:
        """Let the thread fill a half of the window, which holds nothing until :meth:`_arrive`."""
        assert self.slots is not None
        self.slots[self._in_half[half]] = -1
        self._in_half[half] = []
        if self.device.type == "cuda":
            self._left[half].record(torch.cuda.current_stream(self.device))
        self._coming = self._fetcher.submit(self._fetch, index, half)

    def _arrive(self, index: list[int], half: int) -> None:
        """Wait for what was begun."""
        assert self.slots is not None
        self._wait()
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).wait_event(self._there[half])
        self.slots[index] = half * self._half + np.arange(len(index))
        self._in_half[half] = index

    def _wait(self) -> None:
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.result()

    def runs(self, order: list[int], batch: int = 1) -> list[list[int]]:
        """The order in pieces of whole batches, each small enough to be in the window at once."""
        size = max(batch, self.block // batch * batch)
        return [order[i : i + size] for i in range(0, len(order), size)]

    def ahead(self, pieces: Sequence[PieceT]) -> Iterator[PieceT]:
        """Yield pieces of the patterns in turn, each when its patterns are at hand, while the next are fetched.

        There is one window: who goes on after somebody else has begun to walk finds their patterns out of turn.
        """
        self._wait()  # for what somebody left who did not come to the end
        groups = list(self._grouped(pieces))
        self._room_for(max((len(index) for _, index in groups), default=0))
        self._forget()
        self._walks += 1
        walk = self._walks
        for turn, (members, index) in enumerate(groups):
            if walk == self._walks:
                if turn == 0:
                    self._begin(index, 0)
                self._arrive(index, turn % 2)
                if turn + 1 < len(groups):
                    self._begin(groups[turn + 1][1], (turn + 1) % 2)
            yield from members

    def at_hand(self, index: list[int]) -> Iterator[list[int]]:
        """Yield some patterns in pieces that follow each other: at once those that somebody has walked to already."""
        assert self.slots is not None
        return super().at_hand(index) if (self.slots[index] >= 0).all() else self.ahead(self.runs(index))

    def _grouped(self, pieces: Sequence[PieceT]) -> Iterator[tuple[list[PieceT], list[int]]]:
        """Pieces together that fit into half of the window, and the patterns in them."""
        members: list[PieceT] = []
        index: list[int] = []
        for piece in pieces:
            more = self.numbers(piece)
            if members and len(index) + len(more) > self.block:
                yield members, index
                members, index = [], []
            members.append(piece)
            index += more
        if members:
            yield members, index

    def numbers(self, index: Index) -> list[int]:
        """The patterns of an index."""
        if isinstance(index, int):
            return [index]
        if isinstance(index, Tensor):
            return [int(k) for k in index]
        return list(range(self.count)[index]) if isinstance(index, slice) else index

    def at(self, index: Index) -> Tensor:
        """The amplitudes of a pattern ``(h, w)``, or of several ``(B, 1, h, w)``; not to be changed."""
        assert self.slots is not None
        numbers = self.numbers(index)
        slots = self.slots[numbers].tolist()
        if min(slots, default=0) < 0:
            found = self._out_of_turn(numbers)
            return found[0] if isinstance(index, int) else found[:, None]
        if isinstance(index, int):
            return super().at(slots[0])
        if slots and slots == list(range(slots[0], slots[0] + len(slots))):
            return super().at(slice(slots[0], slots[0] + len(slots)))
        return super().at(slots)

    def _out_of_turn(self, numbers: list[int]) -> Tensor:
        raw = np.empty((len(numbers), *self.shape), self._kept)
        self.read(np.array(numbers, np.intp), raw)
        found = np.empty(raw.shape, _NUMPY[self.real])
        self.amplitudes_of(raw, found)
        return torch.from_numpy(found).to(self.device)

    def whole(self) -> Tensor:
        """All amplitudes ``(K, h, w)`` on the device, made anew."""
        return self._out_of_turn(list(range(self.count)))


class OnHost(Streamed):
    """Patterns in the memory of the host, in their own type."""

    def survey(self) -> None:
        """Read the patterns once and for all."""
        self.frames = in_memory(self.frames)
        super().survey()


class InFile(Streamed):
    """Patterns in their file."""

    place = "file"


_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}
_TORCH: dict[np.dtype[Any], torch.dtype] = {
    np.dtype(kind): getattr(torch, np.dtype(kind).name)
    for kind in (
        *(np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64),
        *(np.float16, np.float32, np.float64),
    )
}
_KINDS: dict[Place, type[Patterns]] = {"device": Patterns, "host": OnHost, "file": InFile}


def patterns_of(measurement: Measurement, device: torch.device, real: torch.dtype) -> Patterns:
    """The patterns of a measurement, kept where there is room for them, or where ``PTYBENCH_PATTERNS`` says."""
    return _KINDS[place_for(measurement, device, real)](measurement, device, real)


def place_for(measurement: Measurement, device: torch.device, real: torch.dtype) -> Place:
    """Where to keep patterns: on the device if they fit into a quarter of what is free, or on the host, or in the file.

    Raises:
        InvalidOption: where ``PTYBENCH_PATTERNS`` says something unknown.

    """
    told = os.environ.get(VARIABLE, "auto").lower()
    filed = isinstance(measurement.intensities, PatternFile)
    if told in ("device", "host"):
        return told  # type: ignore[return-value]
    if told == "file":
        return "file" if filed else "host"
    if told != "auto":
        raise InvalidOption(f"{VARIABLE} must be auto, device, host or file, got {told!r}")
    pixels = measurement.intensities.size
    host = memory.available_bytes()
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else host
    if free is None or pixels * real.itemsize <= SHARE * free:
        return "device"
    if not filed:
        return "host"
    kept = measurement.intensities.kept.itemsize  # type: ignore[attr-defined]
    return "host" if host is None or pixels * kept <= SHARE * host else "file"
