"""Log records as lines: JSON for machines, a sentence for a person at a terminal.

A record logged within a request carries the request's id. Whatever a message holds, it stays one
line (a traceback in pretty form is indented), so nobody can write a line that we did not. Knows
records and text; where lines go is `service.log_sink`, what a request's own line says is
`service.request_log`.
"""

import json
import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Literal

from service.log_sink import LogSink

Style = Literal["json", "pretty"]

CURRENT_ID: ContextVar[bytes | None] = ContextVar("parallax_request_id", default=None)
STDERR = 2

_MAX_TEXT = 16 << 10  # characters of a message or a traceback

# ASCII only: some readers take U+2028 or U+0085 for the end of a line.
_encode = json.JSONEncoder(separators=(",", ":")).encode


@contextmanager
def logging_to(descriptor: int, *, level: str, style: Style) -> Iterator[LogSink]:
    """All that is logged in this process goes to the descriptor, until the end of the block."""
    sink = LogSink(descriptor)
    handler, root = _Handler(sink, style), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    try:
        yield sink
    finally:
        logging.captureWarnings(False)
        root.setLevel(before)
        root.removeHandler(handler)
        sink.close()


def style_of(asked: Literal["auto", "json", "pretty"], descriptor: int) -> Style:
    """`auto` is pretty on a terminal, JSON elsewhere."""
    if asked != "auto":
        return asked
    try:
        return "pretty" if os.isatty(descriptor) else "json"
    except OSError:
        return "json"


def hold_standard_streams() -> None:
    """Where one of the descriptors 0 to 2 is closed, put /dev/null there.

    Else the next file or socket that is opened takes its number, and what is logged is sent to a
    client. To be called before anything is opened.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number


def hush_decoders() -> None:
    """No word of the libraries on what a client sent: the answer says it, and each costs memory.

    Python keeps the text of every warning that differs from those before it.
    """
    for name in ("PIL", "python_multipart"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"PIL\.")


def timestamp(seconds: float) -> str:
    """UTC in milliseconds, 2025-01-02T03:04:05.678Z, of seconds since the epoch."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class _Handler(logging.Handler):
    """Into a sink. A record that cannot be formatted is a lost line."""

    def __init__(self, sink: LogSink, style: Style) -> None:
        super().__init__()
        self._sink = sink
        self._format = _as_json if style == "json" else _as_text

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._format(record).encode("utf-8", "backslashreplace")
        except Exception:
            self._sink.drop(1)
        else:
            self._sink.put(line)


def _as_json(record: logging.LogRecord) -> str:
    fields: dict[str, str | int | None] = {
        "time": timestamp(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage()[:_MAX_TEXT],
        "request_id": _request_id(),
        "pid": record.process,
        "traceback": _traceback(record),
    }
    return _encode({name: value for name, value in fields.items() if value is not None}) + "\n"


def _as_text(record: logging.LogRecord) -> str:
    request_id = _request_id()
    parts = [
        timestamp(record.created),
        f"{record.levelname.lower():7}",
        f"{record.name}:",
        _visible(record.getMessage()[:_MAX_TEXT]),
        f"id={request_id}" if request_id else "",
    ]
    lines = [" ".join(part for part in parts if part)]
    if trace := _traceback(record):
        lines.extend(f"    | {_visible(line)}" for line in trace.split("\n"))
    return "\n".join(lines) + "\n"


def _request_id() -> str | None:
    current = CURRENT_ID.get()
    return current.decode("ascii") if current is not None else None


def _traceback(record: logging.LogRecord) -> str | None:
    """Its end, where it is long: what was raised stands there."""
    if not record.exc_info or record.exc_info[0] is None:
        return None
    return logging.Formatter().formatException(record.exc_info)[-_MAX_TEXT:]


def _visible(text: str) -> str:
    """Control characters and the like as escapes: a terminal obeys them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
