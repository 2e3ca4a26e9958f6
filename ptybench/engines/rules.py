"""What a method states about itself, in the words that torch engines and compiled kernels both understand."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

TINY_POWER = 1e-12  # keeps the weight of a window without any object, or of no probe, finite


class Rule(NamedTuple):
    """The weight ``γ / ((1-d) p + d r)`` of a power ``p``, times ``√(p / r)`` where ``trusted``.

    The reference ``r`` is what ``p`` is measured against: its ``largest`` value, its ``mean``, or ``one``.
    """

    step: float
    damping: float
    trusted: bool = False
    against: Literal["largest", "mean", "one"] = "largest"


class Memory(NamedTuple):
    """Exit waves ``(K, M, h, w)`` that visits remember, and how; see ``SequentialSolver.exit_change``."""

    waves: Tensor
    sigma: float
    keep: float


class Sums(NamedTuple):
    """What all patterns ask for, summed up over an epoch; see WASP.

    Args:
        object: ``(H, W)``, ``Σ_km P_m* ψ'_km``.
        object_power: ``(H, W)`` complex, ``Σ_km |P_m|²``.
        probe: ``(M, h, w)``, ``Σ_k |O_k|² P_m``.
        probe_pull: ``(M, h, w)`` as the probe is held, ``Σ_k O_k* Δψ_km`` shifted back.
        probe_power: ``(1, h, w)`` complex, ``Σ_k |O_k|²``.

    """

    object: Tensor
    object_power: Tensor
    probe: Tensor
    probe_pull: Tensor
    probe_power: Tensor


class Step(NamedTuple):
    """What a projection method does to its exit waves.

    Args:
        reflection: ``γ`` of ``δ ← b (Π_F − 1)(P O − γ δ)``.
        relaxation: ``b``.
        bound: squared deviation up to which a pattern counts as met.
        multiplier: ``(K, M, h, w)`` of ADMM, whose step it is then.
        beta: penalty of ADMM.
        poisson: whether ADMM's likelihood is Poisson's.

    """

    reflection: float = 1.0
    relaxation: float = 1.0
    bound: float = 0.0
    multiplier: Tensor | None = None
    beta: float = 1.0
    poisson: bool = False


class LeastSquaresRule(NamedTuple):
    """The constants of LSQ-ML.

    Args:
        object_scale: share of the least-squares step that the object takes.
        probe_scale: share that the probe takes.
        damping: of the diagonal of the least-squares systems, relative to its mean over the batch.
        trimmed: share of a batch's object steps that is left out of their mean at either end.
        floor: photons, bounds the slope of the Poisson likelihood.
        poisson: whether the likelihood is Poisson's.
        trials: Newton's steps for the change of an exit wave.

    """

    object_scale: float
    probe_scale: float
    damping: float
    trimmed: float
    floor: float
    poisson: bool
    trials: int
