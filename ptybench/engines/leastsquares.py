"""Mini-batches whose patterns say by least squares how far to go."""

from __future__ import annotations

from abc import abstractmethod

from ptybench.engines.rules import LeastSquaresRule
from ptybench.engines.sequential import SequentialSolver
from ptybench.native.leastsquares import LeastSquares
from ptybench.optics.forward import Windowed


class LeastSquaresSolver(SequentialSolver):
    """The loop of LSQ-ML: all that happens to a batch is in ``visit_together``, or stated for compiled kernels.

    Attributes:
        weight: the canvas that the object's direction is multiplied by, set by :meth:`precondition`.

    """

    statement = "stated"
    weight: Windowed

    @abstractmethod
    def stated(self) -> LeastSquaresRule:
        """The constants of what happens to a batch."""

    @abstractmethod
    def precondition(self) -> None:
        """Set ``weight`` for the probe and the positions as they are now."""

    def by_kernel(self, order: list[int], refine_probe: bool, threads: int) -> float:
        """What :meth:`visits` does, by compiled kernels."""
        self.lay_out()
        held, weight = self.shifted.held, self.weight.array
        self._kernel = kernel = LeastSquares.on(self.model, len(held), threads, self._kernel)
        return kernel(
            order, self.object, held, weight, self.stated(), refine_probe=refine_probe, batch=self.options.batch
        )

    def lay_out(self) -> None:
        """Views of every window, and the preconditioner."""
        before = self._laid_out
        super().lay_out()
        if self._laid_out is not before:
            self.weight = self.canvas(self.model.real)
        self.precondition()
