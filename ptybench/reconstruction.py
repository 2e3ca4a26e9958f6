"""One call from a measurement to an estimate, without the runner."""

from __future__ import annotations

from typing import Any

from ptybench.errors import MethodFailed
from ptybench.registry import resolve_method
from ptybench.solver import Limit, resolve_device, solve
from ptybench.types import Estimate, Measurement


def reconstruct(
    measurement: Measurement,
    method: str,
    *,
    epochs: int | None = None,
    seconds: float | None = None,
    device: str = "auto",
    seed: int = 0,
    **options: Any,
) -> Estimate:
    """Reconstruct a measurement.

    Args:
        measurement: what was measured.
        method: name of a method or a chain (``"epie>rpie"``).
        epochs: budget in epochs; 100 where neither is given.
        seconds: budget in seconds of solver time.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        seed: seed of everything random in the method.
        options: options of the method.

    Raises:
        UnknownName: an unknown method or option.
        InvalidOption: an option out of range.
        MethodFailed: the method diverged.

    Example:
        >>> import ptybench
        >>> measurement, truth = ptybench.simulate("low_dose", seed=0)
        >>> estimate = ptybench.reconstruct(measurement, "epie", epochs=2, alpha=0.5)
        >>> estimate.object.shape == truth.object.shape
        True

    """
    resolved = resolve_method(method, options)
    if resolved.needs_truth:
        raise MethodFailed(f"{method} is a control that needs the truth: use ptybench.run")
    if epochs is None and seconds is None:
        epochs = 100
    solver = resolved.create(measurement, resolve_device(device), seed, None)
    outcome = solve(solver, Limit(epochs, seconds))
    if outcome.status != "ok":
        raise MethodFailed(f"{method} diverged after {outcome.epochs} epochs: try smaller steps")
    return outcome.estimate
