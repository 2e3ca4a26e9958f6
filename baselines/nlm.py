"""Non-local means in the iteration of any method."""

from __future__ import annotations

from typing import Literal

from ptybench.engines.denoising import DenoisingAddition, DenoisingOptions


class NonLocalMeans(DenoisingAddition):
    """Denoising of the object by non-local means after each epoch, in the place of PINE's network (scikit-image)."""

    adds = "nlm"

    class Options(DenoisingOptions):
        """Those of every denoising, with one denoiser."""

        denoiser: Literal["nlm"] = "nlm"
