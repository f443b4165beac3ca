"""Large numbers for people."""

from __future__ import annotations

BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
DECIMAL = ("", "k", "M", "G", "T", "P", "E")


def size(count: float) -> str:
    """Bytes: 1536 -> "1.5 KiB"."""
    return _scaled(count, 1024, BINARY)


def amount(count: float) -> str:
    """A count with its prefix: 14288901184 -> "14.3 G"."""
    return _scaled(count, 1000, DECIMAL)


def _scaled(count: float, step: int, units: tuple[str, ...]) -> str:
    unit = units[0]
    for unit in units:
        # 999.6 would be printed as 1000
        if abs(count) < step - 0.5 or unit == units[-1]:
            break
        count /= step
    digits = f"{count:.0f}" if count == int(count) or abs(count) >= 100 else f"{count:.3g}"
    return f"{digits} {unit}".rstrip()
