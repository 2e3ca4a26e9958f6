"""Turning, cutting and binning frames ``(…, h, w)`` about their zero frequency, the pixel ``[h // 2, w // 2]``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ptybench.errors import InvalidData, InvalidOption, UnknownName
from ptybench.io.raw import Frames, Pair
from ptybench.types import FloatArray

PATTERN_TURNS = ("transpose", "flip-y", "flip-x")
POSITION_TURNS = ("swap-xy", "negate-y", "negate-x")
SMALLEST_PATTERN_PX = 8


def parse_orientation(text: str | None) -> tuple[str, ...]:
    """Split ``"transpose,flip-y"`` into its turns, which are done from left to right.

    ``transpose`` swaps rows and columns of every pattern, ``flip-y`` (``flip-x``) reverses its rows (columns), in the
    far field about the zero frequency. ``swap-xy`` swaps the two numbers of every position, ``negate-y`` (``negate-x``)
    changes the sign of the first (second). Pattern turns leave positions alone and the other way round.

    Raises:
        UnknownName: where a turn is none of these.

    """
    turns = tuple(turn.strip() for turn in text.split(",") if turn.strip()) if text else ()
    for turn in turns:
        if turn not in PATTERN_TURNS + POSITION_TURNS:
            raise UnknownName("orientation", turn, PATTERN_TURNS + POSITION_TURNS)
    return turns


def turn_positions(positions: FloatArray, turns: tuple[str, ...]) -> FloatArray:
    """Positions after the turns that concern them."""
    for turn in turns:
        if turn == "swap-xy":
            positions = positions[:, ::-1]
        elif turn == "negate-y":
            positions = positions * (-1, 1)
        elif turn == "negate-x":
            positions = positions * (1, -1)
    return positions


def turn_frames(frames: Frames, turns: tuple[str, ...], about_zero: bool) -> Frames:
    """Frames ``(…, h, w)`` after the turns that concern them.

    With ``about_zero`` a flip keeps the pixel ``[h // 2, w // 2]`` in its place; for even sizes the outermost line then
    wraps, which is the same frequency (−N/2 is N/2).
    """
    for turn in turns:
        if turn == "transpose":
            frames = np.swapaxes(frames, -1, -2)
        elif turn in ("flip-y", "flip-x"):
            axis = -2 if turn == "flip-y" else -1
            frames = np.flip(frames, axis)
            if about_zero and frames.shape[axis] % 2 == 0:
                frames = np.roll(frames, 1, axis)
    return frames


@dataclass(frozen=True)
class Window:
    """How frames are cut and binned: the part that stays, and the size of a bin, per axis."""

    start: tuple[int, int]
    shape: tuple[int, int]
    bin: int

    @classmethod
    def about_zero(cls, full: tuple[int, int], crop: int | None, bin: int | None) -> Window:
        """The central ``crop`` pixels in ``bin`` × ``bin`` sums, with the zero frequency in bin ``[h' // 2, w' // 2]``.

        Raises:
            InvalidOption: where that is more than there is, or too little to reconstruct from.

        """
        bin = 1 if bin is None else bin
        if bin < 1:
            raise InvalidOption(f"expected a bin of at least 1 pixel, got {bin}")
        starts, sizes = [], []
        for size in full:
            part = size if crop is None else crop
            if part > size:
                raise InvalidOption(f"cannot crop patterns of {full} px to {part}: take at most {min(full)}")
            count = part // bin
            if count < SMALLEST_PATTERN_PX:
                raise InvalidOption(
                    f"crop {crop} and bin {bin} leave {count} px of {size}, expected at least {SMALLEST_PATTERN_PX}: "
                    "crop or bin less"
                )
            first = size // 2 - part // 2
            centred = size // 2 - bin * (count // 2)
            starts.append(min(max(centred, first), first + part - bin * count))
            sizes.append(count)
        return cls((starts[0], starts[1]), (sizes[0], sizes[1]), bin)

    def part(self, frames: Frames) -> Frames:
        """The part of the frames that stays, before binning."""
        (y, x), (h, w) = self.start, self.shape
        return frames[..., y : y + self.bin * h, x : x + self.bin * w]

    def blocks(self, frames: Frames) -> Frames:
        """``(…, h, b, w, b)``: the frames' bins."""
        (h, w), b = self.shape, self.bin
        part = self.part(frames)
        return part.reshape(*part.shape[:-2], h, b, w, b)

    def zero_offset(self, full: tuple[int, int]) -> Pair:
        """How far the zero frequency lies from the centre of bin ``[h // 2, w // 2]``, in bins."""
        y, x = (
            (n // 2 - start - self.bin * (count // 2) - (self.bin - 1) / 2) / self.bin
            for n, start, count in zip(full, self.start, self.shape, strict=True)
        )
        return y, x


def widest(size: int, centre: int) -> tuple[int, int]:
    """Start and length of the longest part of ``size`` pixels whose middle ``[n // 2]`` is pixel ``centre``."""
    if not 0 <= centre < size:
        raise InvalidData(f"the zero frequency at pixel {centre} lies outside of the pattern's {size} px")
    length = max(2 * min(centre, size - centre), 2 * min(centre, size - centre - 1) + 1)
    return centre - length // 2, length


def middle(frames: Frames, shape: tuple[int, int]) -> Frames:
    """The central part of frames ``(…, h, w)``, about ``[h // 2, w // 2]``."""
    y, x = (full // 2 - part // 2 for full, part in zip(frames.shape[-2:], shape, strict=True))
    return frames[..., y : y + shape[0], x : x + shape[1]]
