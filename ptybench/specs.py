"""The base of every declarative model: misspelt fields are errors, values never change after validation."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError


@dataclass(frozen=True)
class Tunable:
    """Where ``ptybench tune`` looks for the best value of an option; stands beside its bounds in ``Annotated``.

    Args:
        low: smallest value.
        high: largest value.
        log: whether the search is even in the logarithm.
        choices: the values themselves, instead of a range.

    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[float | int | str | bool, ...] = ()


class Spec(BaseModel):
    """A frozen, strict piece of a task's recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Weighted(Spec):
    """Options of a method that may use a network with weights."""

    def weights_sha256(self) -> str | None:
        """SHA-256 of the weights that these options name; ``None`` where there are none."""
        return None


def validation_sentence(problem: ValidationError) -> str:
    """Return the first problem of a validation as one sentence: where, what was expected, what came."""
    first = problem.errors()[0]
    # discriminators and union members stand in the location too; only keys and indices help a reader
    where = ".".join(str(part) for part in first["loc"] if not str(part).endswith("]"))
    if first["type"] == "extra_forbidden":
        return f"unknown field {where!r}"
    if first["type"] == "missing":
        return f"the field {where!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{where}: {message}, got {first['input']!r}" if where else message
