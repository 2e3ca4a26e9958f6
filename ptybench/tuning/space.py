"""What may be turned: the options that a method declares as tunable, each with its range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from ptybench.errors import InvalidOption
from ptybench.specs import Tunable

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

DIGITS = 3
"""Significant digits of a suggested number: a preset is read by people, and no optimum is sharper than that."""


@dataclass(frozen=True)
class Dimension:
    """One option of a search space.

    Args:
        kind: ``float`` or ``int`` between ``low`` and ``high``, or ``choice`` among ``choices``.
        low: smallest value.
        high: largest value.
        log: whether the search is even in the logarithm.
        choices: the values.

    """

    kind: Literal["float", "int", "choice"]
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    @classmethod
    def of(cls, key: str, tunable: Tunable, default: Any) -> Dimension:
        """Return the dimension of an option.

        Args:
            key: its name, for messages.
            tunable: what its method declares.
            default: its default, which says whether it is a whole number.

        Raises:
            InvalidOption: where the declaration is no range.

        """
        if tunable.choices:
            return cls("choice", choices=tuple(tunable.choices))
        if isinstance(default, bool):
            return cls("choice", choices=(False, True))
        if not tunable.low < tunable.high or (tunable.log and tunable.low <= 0):
            raise InvalidOption(
                f"{key} cannot be tuned: expected Tunable(low, high) with low below high (and above 0 with log), "
                f"got low={tunable.low} and high={tunable.high}"
            )
        kind: Literal["float", "int"] = "int" if isinstance(default, int) else "float"
        return cls(kind, tunable.low, tunable.high, tunable.log)

    def holds(self, value: Any) -> bool:
        """Whether a value, such as the default, lies in the range."""
        if self.kind == "choice":
            return value in self.choices
        return isinstance(value, int | float) and self.low <= value <= self.high

    def at(self, share: float) -> Any:
        """Return the value at a share of the range, from 0 to below 1.

        Example:
            >>> Dimension("float", 0.01, 1.0, log=True).at(0.5), Dimension("int", 1, 4).at(0.9)
            (0.1, 4)

        """
        if self.kind == "choice":
            return self.choices[int(share * len(self.choices))]
        low, high = (self.low, self.high) if self.kind == "float" else (self.low - 0.5, self.high + 0.5)
        value = low * (high / low) ** share if self.log else low + share * (high - low)
        return value if self.kind == "float" else min(max(round(value), int(self.low)), int(self.high))

    def rounded(self, value: Any) -> Any:
        """Return a suggested value as it is tried: three significant digits, inside the range."""
        if self.kind != "float":
            return value
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def distribution(self) -> BaseDistribution:
        """Return the dimension as Optuna knows it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.kind == "choice":
            return CategoricalDistribution(self.choices)
        if self.kind == "int":
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def document(self) -> dict[str, Any]:
        """The dimension as plain JSON values."""
        if self.kind == "choice":
            return {"kind": self.kind, "choices": list(self.choices)}
        return {key: value for key, value in asdict(self).items() if key != "choices"}


def tunables(method: str) -> dict[str, Tunable]:
    """What a method declares as tunable; in a chain ``a>b`` the options of ``a`` as ``1.option``.

    Raises:
        UnknownName: where there is no such method.

    """
    from ptybench.registry import option_space

    if ">" not in method:
        return option_space(method)
    return {
        f"{place}.{key}": tunable
        for place, part in enumerate(method.split(">"), 1)
        for key, tunable in option_space(part.strip()).items()
    }


def space_of(method: str, defaults: Mapping[str, Any]) -> dict[str, Dimension]:
    """Return the search space of a method, a composite or a chain; empty where it has nothing to tune.

    Args:
        method: its name.
        defaults: its resolved default options.

    Raises:
        InvalidOption: where a declaration is no range.

    """
    return {
        key: Dimension.of(f"option {key} of {method}", tunable, defaults[key])
        for key, tunable in sorted(tunables(method).items())
    }
