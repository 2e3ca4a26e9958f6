"""What every generator of training images is: a recipe that draws one grey image from one random stream."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ptybench.seeds import named_rng
from ptybench.specs import Spec

if TYPE_CHECKING:
    from ptybench.task import Domain

Image = NDArray[np.float64]
Shape = tuple[int, int]


class Generator(Spec):
    """The base of all generators; its fields are what ``ptybench generate --set`` reaches.

    A subclass names itself in a plain ``generates = "name"``, or ``"name:variant"``, which is how it is found without
    being imported: in ``datasets/``, in the entry-point group ``ptybench.generators`` or in a file given with
    ``--plugin``. A change that alters images raises its ``version``.
    """

    generates: ClassVar[str]
    version: ClassVar[int] = 1

    @abstractmethod
    def draw(self, rng: np.random.Generator, shape: Shape) -> Image:
        """Return one image ``(H, W)`` with grey values from 0 (black) to 1 (white).

        Args:
            rng: the stream of this image, the only source of randomness; one draw uses it up.
            shape: ``(H, W)`` in pixels.

        """

    def image(self, index: int, shape: Shape, *, domain: Domain = "train", seed: int = 0) -> Image:
        """Return image ``index`` of the endless sequence that domain and seed name.

        Args:
            index: its place in the sequence, from 0.
            shape: ``(H, W)`` in pixels.
            domain: seed domain; networks are trained on ``train`` alone.
            seed: which sequence.

        """
        return self.draw(named_rng("generate", self.generates, domain, seed, index), shape)
