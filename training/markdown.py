"""Tables in Markdown, as the reports of the stages have them. Knows nothing of what they say."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Its lines: the first column to the left, the others, which hold numbers, to the right."""
    return [
        "| " + " | ".join(header) + " |",
        "|---" + "|---:" * (len(header) - 1) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def percent(share: Mapping[str, Any], digits: int = 1, *, absent: str = "") -> str:
    """The `value` of a share in [0, 1]; `absent` where it is None."""
    return absent if share["value"] is None else f"{100 * share['value']:.{digits}f}"


def interval(share: Mapping[str, Any], digits: int = 1, *, absent: str = "") -> str:
    """The same with the share's `interval` behind it."""
    if share["value"] is None:
        return absent
    low, high = share["interval"]
    return f"{percent(share, digits)} ({100 * low:.{digits}f} to {100 * high:.{digits}f})"
