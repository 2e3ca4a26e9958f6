"""Total variation in the iteration of any method."""

from __future__ import annotations

from typing import Literal

from ptybench.engines.denoising import DenoisingAddition, DenoisingOptions


class TotalVariation(DenoisingAddition):
    """Denoising of the object by total variation after each epoch, in the place of PINE's network (scikit-image)."""

    adds = "tv"
    version = 2

    class Options(DenoisingOptions):
        """Those of every denoising, with one denoiser."""

        denoiser: Literal["tv"] = "tv"
