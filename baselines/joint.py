"""Joint refinement of object, probe modes, positions and distance in one loss."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ptybench.baselines.ad import AD
from pydantic import Field

from ptybench.specs import Tunable


class Joint(AD):
    """Joint refinement of the set-up (Guzzi et al., Condens. Matter 6, 36, 2021, 10.3390/condmat6040036; SciComPty).

    Object, probe modes, a correction of every position and the distance go down one loss, that of amplitudes, from the
    first epoch on. The wave is padded as the sampling theorem asks for, and the kernel's phase is evaluated without
    cancellation. In the far field and in a diverging beam the distance also changes the pixel and the positions in
    pixels. Beside the loss stand an energy, a penalty of amplitudes above ``limit`` and the length of corrections.

    The paper interpolates the object bilinearly (``sampling=bilinear``) and compares with crops (``sampling=crop``);
    here the probe is shifted in Fourier space, which does not damp high frequencies (docs/gradient.md has both). It
    states no rates and weights; ours are those of the class below.
    """

    name = "joint"
    refines: ClassVar = frozenset({"object", "probe", "positions", "distance"})

    class Options(AD.Options):
        """Options of :class:`AD` with the defaults of the joint refinement; see there."""

        object_rate: Annotated[float, Field(gt=0, le=2), Tunable(0.01, 0.2, log=True)] = 0.05
        probe_rate: Annotated[float, Field(ge=0, le=2), Tunable(0.01, 0.2, log=True)] = 0.05
        position_rate: Annotated[float, Field(ge=0, le=2), Tunable(0.05, 1.0, log=True)] = 0.3
        distance_rate: Annotated[float, Field(ge=0, le=0.1), Tunable(0.001, 0.02, log=True)] = 0.01
        batch: Annotated[int, Field(ge=1), Tunable(choices=(5, 10, 20))] = 5
        final: Annotated[float, Field(gt=0, le=1)] = 0.1
        padding: bool = True
        energy: Annotated[float, Field(ge=0)] = 1e-4
        excess: Annotated[float, Field(ge=0)] = 1e-2
        shortness: Annotated[float, Field(ge=0)] = 0.0
