"""A denoising network in the iteration of any method."""

from __future__ import annotations

from ptybench.engines.denoising import DenoisingAddition


class DnCNN(DenoisingAddition):
    """Denoising of the object by a network after each epoch, ``O ← (1−ρ) O + ρ D(O)``, as PINE does after ePIE's.

    The outlook of Yamada et al. 2024 (10.1107/S1600576724006897, section 6) for DM and RAAR; ``epie+dncnn`` is PINE.
    """

    adds = "dncnn"
    bases = ("rpie", "dm", "raar")
