"""Dose-efficient automatic differentiation for ptychography."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from ptybench.baselines.ad import AD
from pydantic import Field

from ptybench.specs import Tunable


class DAP(AD):
    """Dose-efficient automatic differentiation (Wu et al., Optica 11, 821, 2024, 10.1364/OPTICA.522380).

    Half of the budget with the Gaussian loss, half with that of the variant; beside it the adaptive total variation of
    the complex object, held at a share of the loss; batches that grow; a start of the object from autocorrelations;
    after each epoch the probe is centred, its mean phase 0 and the object's mean amplitude 1. Every part is an option:
    ``held=constant``, ``growing=false``, ``start=given``, ``variation=0``.

    The paper does not state the share, the patience, the sequence of batches and the moments' decay. Ours: patience 10,
    batches of 8 that double in equal shares of the budget; share and rates are for tuning. Its rate of the object is
    0.15, its rate of the probe follows the probe's mean amplitude, as ours does.
    """

    name = "dap"
    variants: ClassVar = {"poisson": {"loss": "poisson"}, "gaussian": {"loss": "gaussian"}, "r": {"loss": "r"}}

    class Options(AD.Options):
        """Options of :class:`AD` with the defaults of DAP; see there."""

        loss: Literal["poisson", "gaussian", "r"] = "poisson"
        warmup: Annotated[float, Field(ge=0, lt=1)] = 0.5
        object_rate: Annotated[float, Field(gt=0, le=2), Tunable(0.01, 0.15, log=True)] = 0.05
        probe_rate: Annotated[float, Field(ge=0, le=2), Tunable(0.01, 0.15, log=True)] = 0.05
        memory: Annotated[float, Field(ge=0, lt=1)] = 0.999
        schedule: Literal["plateau", "decay", "none"] = "plateau"
        batch: Annotated[int, Field(ge=1)] = 8
        growing: bool = True
        start: Literal["given", "autocorrelation"] = "autocorrelation"
        variation: Annotated[float, Field(ge=0, le=10), Tunable(choices=(0.03, 0.05, 0.1, 0.15, 0.2))] = 0.1
        recentre: bool = True
        rescale: bool = True
