"""``--points``: where on its ladder each task is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ptybench.errors import InvalidOption, UnknownName

if TYPE_CHECKING:
    from ptybench.task import Task

Points = Annotated[
    list[str] | None,
    Parameter(
        "--points",
        negative="",
        allow_leading_hyphen=True,  # --points -0.5,0.75
        help="Values of the ladder of every task, or TASK=VALUES for one: numbers, 'default' and 'all', in a comma "
        "list; repeatable. Each task's own value unless said otherwise.",
    ),
]
DEFAULT, ALL = "default", "all"


def parse_points(texts: Sequence[str] | None, tasks: Mapping[str, Task]) -> dict[str, list[float | None]]:
    """Return the points of every task; ``None`` is the task as it is.

    Args:
        texts: ``VALUES`` for all tasks, or ``TASK=VALUES`` for one of them.
        tasks: name → task without overrides.

    Raises:
        UnknownName: where a task is named that is not among them.
        InvalidOption: where a value is no number, or a task has no ladder.

    """
    common, own = DEFAULT, dict[str, str]()
    for text in texts or []:
        owner, equals, values = (part.strip() for part in text.rpartition("="))
        if not equals:
            common = values
        elif owner not in tasks:
            raise UnknownName(
                "task", owner, tasks, hint=f"--points {text}: it is not among the tasks that were asked for"
            )
        else:
            own[owner] = values
    return {name: _points(own.get(name, common), task) for name, task in tasks.items()}


def _points(values: str, task: Task) -> list[float | None]:
    """The points that a comma list means for one task, each once."""
    found: dict[float | None, float | None] = {}  # value of the ladder → point
    for word in (part.strip() for part in values.split(",")):
        if word == DEFAULT or (word == ALL and task.ladder is None):
            found.setdefault(task.point, None)
            continue
        try:
            numbers = (task.ladder.values if task.ladder is not None else []) if word == ALL else [float(word)]
        except ValueError:
            raise InvalidOption(
                f"--points: expected numbers, 'default' or 'all' in a comma list such as 0.75,0.375, got {values!r}"
            ) from None
        if task.ladder is None:
            raise InvalidOption(f"--points: the task {task.name} has no ladder, so it has no point {word}")
        for number in numbers:
            found.setdefault(number, number)
    return list(found.values())
