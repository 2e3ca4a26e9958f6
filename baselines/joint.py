"""Joint refinement of object, probe modes, positions and distance in one loss."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from ptybench.baselines.ad import AD
from pydantic import Field

from ptybench.specs import Tunable


class Joint(AD):
    """Joint refinement of the set-up (Guzzi et al., Condens. Matter 6, 36, 2021, 10.3390/condmat6040036; SciComPty).

    Object, probe modes, a correction of every position and the distance go down one loss, that of amplitudes. The wave
    is padded as the sampling theorem asks for, and the kernel's phase is evaluated without cancellation. In the far
    field and in a diverging beam the distance also changes the pixel and the positions in pixels. Beside the loss stand
    an energy, a penalty of amplitudes above ``limit`` and the length of corrections.

    ``joint:paper`` is the recipe as the paper has it: all parameters from the first epoch on, the object interpolated
    bilinearly. It states no rates and weights; they are ours. Three things are ours in ``joint`` itself, and one
    ``--set`` away from it. First, large structures come first (``blur``): the loss as a function of one position has
    a minimum as narrow as the finest structure of the object, and a position that is wrong by more is never found, as
    the object soon fits it where it is. Second, what fits badly then is looked for again (``searches``), on an object
    that was made without it, and left out in the end where it fits badly still. Third, the probe waits (``probe_wait``)
    and its wave keeps the curvature that it was given (``curvature``): an object and a scan that are smaller by a
    factor ``m``, a beam that diverges and a distance shorter by ``m`` make the same patterns (Fresnel scaling);
    nothing but the nominal positions would tell them apart.

    The probe is shifted in Fourier space (``sampling=fourier``), which does not damp high frequencies.
    docs/gradient.md has the figures.
    """

    name = "joint"
    version = 4
    versions: ClassVar = {"paper": 3}
    refines: ClassVar = frozenset({"object", "probe", "positions", "distance"})
    variants: ClassVar = {
        "paper": {"sampling": "bilinear", "blur": 0.0, "searches": 0, "probe_wait": 0.0, "curvature": "free"}
    }

    class Options(AD.Options):
        """Options of :class:`AD` with the defaults of the joint refinement; see there."""

        object_rate: Annotated[float, Field(gt=0, le=2), Tunable(0.01, 0.2, log=True)] = 0.05
        probe_rate: Annotated[float, Field(ge=0, le=2), Tunable(0.01, 0.2, log=True)] = 0.05
        position_rate: Annotated[float, Field(ge=0, le=2), Tunable(0.05, 1.0, log=True)] = 1.0
        distance_rate: Annotated[float, Field(ge=0, le=0.1), Tunable(0.001, 0.02, log=True)] = 0.01
        batch: Annotated[int, Field(ge=1), Tunable(choices=(5, 10, 20))] = 5
        final: Annotated[float, Field(gt=0, le=1)] = 0.03
        blur: Annotated[float, Field(ge=0), Tunable(choices=(0.0, 0.8, 1.6, 2.4))] = 2.4
        blur_share: Annotated[float, Field(gt=0, le=1)] = 0.4
        searches: Annotated[int, Field(ge=0, le=10)] = 1
        probe_wait: Annotated[float, Field(ge=0, lt=1)] = 0.1
        curvature: Literal["free", "held"] = "held"
        padding: bool = True
        energy: Annotated[float, Field(ge=0)] = 1e-4
        excess: Annotated[float, Field(ge=0)] = 1e-2
        shortness: Annotated[float, Field(ge=0)] = 0.0
