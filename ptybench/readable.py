"""Numbers as people read them: significant digits, units of lengths and memory, durations, counts."""

from __future__ import annotations

EMPTY = "–"


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with ``digits`` significant digits, zeros kept (``0.9000``); a dash for nothing.

    Example:
        >>> number(0.9), number(12345.6), number(0.0000123), number(None)
        ('0.9000', '12346', '1.230e-05', '–')

    """
    if value is None:
        return EMPTY
    if value == 0:
        return "0"
    if abs(value) < 1e-4 or abs(value) >= 1e7:
        return f"{value:.{digits - 1}e}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:.0f}"
    return f"{value:#.{digits}g}"


def quantity(value: float | None, unit: str, digits: int = 4) -> str:
    """Return a number with its unit; metres become mm, µm or nm, so that it can be read.

    Example:
        >>> quantity(1.23e-8, "m"), quantity(0.5, "px"), quantity(0.25, "")
        ('12.30 nm', '0.5000 px', '0.2500')

    """
    if value is None:
        return EMPTY
    if unit == "m":
        for name, size in (("m", 1.0), ("mm", 1e-3), ("µm", 1e-6), ("nm", 1e-9)):
            if abs(value) >= size:
                return f"{number(value / size, digits)} {name}"
        return f"{number(value / 1e-9, digits)} nm"
    return f"{number(value, digits)} {unit}".rstrip()


def count(value: float | None) -> str:
    """Return a large count in short.

    Example:
        >>> count(1312000), count(7), count(None)
        ('1.31 M', '7', '–')

    """
    if value is None:
        return EMPTY
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:g}"


def duration(seconds: float | None) -> str:
    """Return a duration in short.

    Example:
        >>> duration(0.0042), duration(2.5), duration(312.0), duration(7500.0)
        ('4.2 ms', '2.5 s', '5 min 12 s', '2 h 05 min')

    """
    if seconds is None:
        return EMPTY
    if seconds < 1 and seconds > 0:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def memory(size: int | None) -> str:
    """Return bytes in MiB or GiB.

    Example:
        >>> memory(536870912), memory(3 * 2**30)
        ('512 MiB', '3.00 GiB')

    """
    if size is None:
        return EMPTY
    return f"{size / 2**30:#.3g} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
