"""``--grid``: an option of the method and its values, every combination of several."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from ptybench.cli.options import parse_setting
from ptybench.errors import InvalidOption

Grid = Annotated[
    list[str] | None,
    Parameter(
        "--grid",
        negative="",
        help="OPTION=FROM:TO:COUNT (evenly spaced), OPTION=FROM:TO:COUNT:log, or OPTION=A,B,C; repeatable, every "
        "combination is one.",
    ),
]
_USAGE = "expected OPTION=FROM:TO:COUNT such as alpha=0.1:1.0:10, or OPTION=A,B,C"


def parse_grid(texts: Sequence[str] | None) -> dict[str, list[Any]]:
    """Return option → values of all ``--grid`` options.

    Example:
        >>> parse_grid(["alpha=0.1:1.0:4", "modes=1,2"])
        {'alpha': [0.1, 0.4, 0.7, 1.0], 'modes': [1, 2]}

    Raises:
        InvalidOption: where one is malformed, or an option stands twice.

    """
    grid: dict[str, list[Any]] = {}
    for text in texts or []:
        key, equals, values = (part.strip() for part in text.partition("="))
        if not key or not equals or not values:
            raise InvalidOption(f"--grid: {_USAGE}, got {text!r}")
        if key in grid:
            raise InvalidOption(f"--grid: {key!r} is given twice")
        grid[key] = _range(values, text) if ":" in values else _values(key, values)
    return grid


def grid_points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return every combination of a grid's values; one empty combination where there is no grid.

    Example:
        >>> grid_points({"alpha": [0.1, 0.2], "modes": [1]})
        [{'alpha': 0.1, 'modes': 1}, {'alpha': 0.2, 'modes': 1}]

    """
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _values(key: str, values: str) -> list[Any]:
    found = [parse_setting(f"{key}={value}")[1] for value in values.split(",")]
    if any(found.count(value) > 1 for value in found):
        raise InvalidOption(f"--grid: {key}={values} has a value twice")
    return found


def _range(values: str, text: str) -> list[float | int]:
    first, last, count, *more = [*values.split(":"), "", ""]
    try:
        low, high, number = float(first), float(last), int(count)
    except ValueError:
        raise InvalidOption(f"--grid: {_USAGE}, got {text!r}") from None
    log = more[0].strip() == "log"
    if any(more[log:]) or number < 2 or not -math.inf < low < high < math.inf or (log and low <= 0):
        raise InvalidOption(f"--grid: {_USAGE}, with FROM below TO and a COUNT of at least 2, got {text!r}")
    shares = [place / (number - 1) for place in range(number)]
    spread = [low * (high / low) ** share if log else low + (high - low) * share for share in shares]
    found = [float(f"{value:.12g}") for value in spread]  # 0.3 and not 0.30000000000000004
    whole = not set(first + last) & set(".eE") and all(value.is_integer() for value in found)
    return [int(value) for value in found] if whole else found
