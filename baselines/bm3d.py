"""BM3D in the iteration of any method."""

from __future__ import annotations

from typing import Literal

from ptybench.engines.denoising import DenoisingAddition, DenoisingOptions


class BlockMatching(DenoisingAddition):
    """Denoising of the object by BM3D after each epoch, in the place of PINE's network (package `bm3d`)."""

    adds = "bm3d"

    class Options(DenoisingOptions):
        """Those of every denoising, with one denoiser."""

        denoiser: Literal["bm3d"] = "bm3d"
