"""The options that several commands share, and how their values are read."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ptybench.errors import InvalidOption

DomainName = Literal["train", "dev", "release"]
TierName = Literal["small", "paper", "large"]

Json = Annotated[
    bool, Parameter("--json", negative="", show_default=False, help="Print exactly one JSON document on stdout.")
]
Plugins = Annotated[
    list[Path] | None,
    Parameter(
        "--plugin",
        negative="",
        help="A Python file with methods or tasks, or the TOML file of a task, to register first; repeatable.",
    ),
]
Domain = Annotated[DomainName, Parameter("--domain", help="Seed domain: tune on dev, publish on release.")]
Tier = Annotated[TierName, Parameter("--tier", help="Size of the problem.")]
Settings = Annotated[
    list[str] | None,
    Parameter(
        "--set",
        negative="",
        help="KEY=VALUE: a field of the task (task.scan.overlap=0.25, or a ladder by its name) or an option of the "
        "method (method.alpha=0.5); the bare key where only one has it. Repeatable.",
    ),
]
Names = Annotated[list[str] | None, Parameter(negative="")]
Flag = Annotated[bool, Parameter(negative="", show_default=False)]
Ruleset = Literal["default", "tuned", "both"]
Results = Annotated[Path, Parameter("--results", help="Folder of the records.")]

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def split_names(values: list[str] | None) -> list[str]:
    """Return the names of repeated options and comma lists, in order and once each.

    Example:
        >>> split_names(["epie,rpie", "epie"])
        ['epie', 'rpie']

    """
    names = [name.strip() for value in values or [] for name in value.split(",")]
    return list(dict.fromkeys(name for name in names if name))


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of a list of numbers and ranges.

    Example:
        >>> parse_seeds("0-2,7")
        [0, 1, 2, 7]

    Raises:
        InvalidOption: where the text is no such list.

    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None:
            raise InvalidOption(f"--seeds: expected numbers and ranges such as 0-4,7, got {text!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InvalidOption(f"--seeds: the range {part.strip()!r} runs backwards, write {last}-{first}")
        seeds.extend(range(first, last + 1))
    return list(dict.fromkeys(seeds))


def parse_duration(text: str) -> float:
    """Return the seconds of a duration with a unit (``s`` where it has none).

    Example:
        >>> parse_duration("10m")
        600.0

    Raises:
        InvalidOption: where the text is no positive duration.

    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([smh]?)\s*", text)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if seconds <= 0:
        raise InvalidOption(f"--timeout: expected a positive time such as 90s, 10m or 2h, got {text!r}")
    return seconds


def parse_setting(text: str) -> tuple[str, Any]:
    """Return key and value of ``KEY=VALUE``; the value is read as TOML, or is a string where it is no TOML.

    ``none``, which TOML does not have, unsets an optional field.

    Example:
        >>> parse_setting("scan.overlap=0.25"), parse_setting("scan.kind=fermat")
        (('scan.overlap', 0.25), ('scan.kind', 'fermat'))

    Raises:
        InvalidOption: where there is no key or no ``=``.

    """
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not key:
        raise InvalidOption(f"--set: expected KEY=VALUE, got {text!r}")
    if value == "none":
        return key, None
    try:
        document = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return key, value
    # a value with a line break could smuggle in a second key
    return key, document["value"] if len(document) == 1 else value


def parse_settings(texts: list[str] | None) -> dict[str, Any]:
    """Return all ``--set`` options as one mapping.

    Raises:
        InvalidOption: where one is malformed or a key is set twice.

    """
    settings: dict[str, Any] = {}
    for text in texts or []:
        key, value = parse_setting(text)
        if key in settings:
            raise InvalidOption(f"--set: {key!r} is set twice")
        settings[key] = value
    return settings


def setting_words(key: str, value: Any) -> list[str]:
    """Return the words that set a key to a value, the inverse of :func:`parse_setting`.

    Example:
        >>> setting_words("method.alpha", 0.5), setting_words("scan.kind", "fermat")
        (['--set', 'method.alpha=0.5'], ['--set', 'scan.kind="fermat"'])

    """
    return ["--set", f"{key}={'none' if value is None else _toml(value)}"]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)  # numbers, strings and booleans are written alike


def add_plugins(paths: list[Path] | None) -> None:
    """Register the methods of ``--plugin`` files."""
    from ptybench.registry import add_plugin

    for path in paths or []:
        add_plugin(path)
