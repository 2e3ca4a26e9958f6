"""The processes that share out the patterns of one reconstruction, by ``torch.distributed``.

Pattern ``k`` belongs to process ``k % world``, which alone holds and works on it. Sums over patterns are added up over
all processes, so that each of them has the same object and probe. A solver asks for its :class:`Team` and hardly needs
to know whether it works alone, when a team does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from ptybench.errors import MethodFailed
from ptybench.types import Estimate, FloatArray

PATIENCE_S = 600.0  # a process that is waited for longer counts as lost


class Team:
    """One process alone.

    Attributes:
        rank: which of the processes this is.
        world: how many there are.

    """

    rank = 0
    world = 1

    def count(self, own: int) -> int:
        """All patterns, where this process has ``own``."""
        return own

    def mine(self, index: list[int]) -> list[int]:
        """Those of these patterns that are this process's, by their place among its own."""
        return index

    def add_up(self, *tensors: Tensor | None) -> None:
        """Replace each tensor by its sum over all processes, in place."""

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        return value

    def largest(self, value: float) -> float:
        """The largest value that a number has in any process."""
        return value

    def agreed(self, value: float) -> float:
        """A number of the first process, for all."""
        return value

    def gathered(self, rows: FloatArray) -> FloatArray:
        """One row for each of all patterns, of one for each of a process's own."""
        return rows.copy()

    def rows(self, values: Tensor) -> Tensor:
        """The rows of all processes, in the order of these, of ``(B, ...)``, whose number differs among them."""
        return values

    def part(self, estimate: Estimate) -> Estimate:
        """An estimate with the positions of this process's patterns."""
        return estimate


class Together(Team):
    """One of several processes of a ``torch.distributed`` group.

    Args:
        rank: which of them.
        world: how many.
        patterns: all patterns.
        reason: told why a process was lost, where it could say so.

    Raises:
        MethodFailed: from every call, where another process has ended or does not answer.

    """

    def __init__(self, rank: int, world: int, patterns: int, reason: Callable[[], str] = lambda: "") -> None:
        self.rank, self.world, self.patterns, self._reason = rank, world, patterns, reason

    def own(self, rank: int | None = None) -> NDArray[np.intp]:
        """The patterns of this process, or of another."""
        return np.arange(self.rank if rank is None else rank, self.patterns, self.world)

    def count(self, own: int) -> int:
        """All patterns."""
        return self.patterns

    def mine(self, index: list[int]) -> list[int]:
        """Those of these patterns that are this process's, by their place among its own."""
        return [k // self.world for k in index if k % self.world == self.rank]

    def add_up(self, *tensors: Tensor | None) -> None:
        """Replace each tensor by its sum over all processes, in place and by one message for each type."""
        parts = [torch.view_as_real(one) if one.is_complex() else one for one in tensors if one is not None]
        for kind in dict.fromkeys(part.dtype for part in parts):
            alike = [part for part in parts if part.dtype == kind]
            flat = torch.cat([part.reshape(-1) for part in alike])
            self._reduce(flat, dist.ReduceOp.SUM)
            for part, summed in zip(alike, torch.split(flat, [part.numel() for part in alike]), strict=True):
                part.copy_(summed.view(part.shape))

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        return self._one(value, dist.ReduceOp.SUM)

    def largest(self, value: float) -> float:
        """The largest value that a number has in any process."""
        return self._one(value, dist.ReduceOp.MAX)

    def agreed(self, value: float) -> float:
        """A number of the first process, for all."""
        return self.total(value if self.rank == 0 else 0.0)

    def gathered(self, rows: FloatArray) -> FloatArray:
        """One row for each of all patterns, of one for each of a process's own."""
        whole = torch.zeros(self.patterns, rows.shape[1], dtype=torch.float64)
        whole[self.rank :: self.world] = torch.from_numpy(rows)
        self.add_up(whole)
        found: FloatArray = whole.numpy()
        return found

    def rows(self, values: Tensor) -> Tensor:
        """The rows of all processes, in the order of these, of ``(B, ...)``, whose number differs among them."""
        counts = torch.zeros(self.world, dtype=torch.float64)
        counts[self.rank] = len(values)
        self.add_up(counts)
        first, end = (int(counts[: self.rank + more].sum()) for more in (0, 1))
        whole = values.new_zeros((int(counts.sum()), *values.shape[1:]))
        whole[first:end] = values
        self.add_up(whole)
        return whole

    def part(self, estimate: Estimate) -> Estimate:
        """An estimate with the positions of this process's patterns."""
        return replace(estimate, positions_px=estimate.positions_px[self.own()])

    def _one(self, value: float, how: Any) -> float:
        number = torch.tensor([value], dtype=torch.float64)
        self._reduce(number, how)
        return float(number)

    def _reduce(self, values: Tensor, how: Any) -> None:
        try:
            dist.all_reduce(values, how)
        except RuntimeError as error:
            raise MethodFailed(self.lost(error)) from None

    def lost(self, error: BaseException) -> str:
        """One sentence about a process that has gone."""
        said = self._reason()
        if said:
            return said
        detail = " ".join(str(error).split()).split("] ", 1)[-1][:120]  # without the line of gloo's source
        return f"another of the {self.world} processes of the run has ended or does not answer ({detail})"


_ALONE = Team()
_now: Team = _ALONE


def current() -> Team:
    """The team that solvers made now belong to."""
    return _now


@contextmanager
def joined(
    store: Any,
    rank: int,
    world: int,
    patterns: int,
    *,
    cuda: bool = False,
    patience_s: float = PATIENCE_S,
    reason: Callable[[], str] = lambda: "",
) -> Iterator[Together]:
    """Be one of several processes for a while.

    Args:
        store: a ``torch.distributed`` store where they find each other, of this reconstruction alone.
        rank: which of them.
        world: how many.
        patterns: patterns that they share.
        cuda: whether tensors on CUDA devices are added up too.
        patience_s: seconds after which one that does not answer is lost.
        reason: told why a process was lost, where it could say so.

    Raises:
        MethodFailed: where the others do not come.

    """
    global _now
    team = Together(rank, world, patterns, reason)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=store,
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=patience_s),
        )
        dist.barrier()  # one that left at once would leave others waiting for its address
    except RuntimeError as error:
        _part()
        raise MethodFailed(team.lost(error)) from None
    _now = team
    try:
        yield team
    finally:
        _now = _ALONE
        _part()


def _part() -> None:
    """Leave the group, as far as there is one: the next reconstruction has another."""
    with suppress(RuntimeError):
        if dist.is_initialized():
            dist.destroy_process_group()
