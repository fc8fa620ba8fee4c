"""One line a request: who asked for what, how it ended, how long it took.

Takes from a request only what cannot carry a client's words: the route's template instead of the
path, the method, the id where it is harmless; no query, no header, nothing of an image. Called by
the edge at a request's end, and by a route once its images were examined.
"""

import os
import time
from collections import Counter
from collections.abc import MutableMapping, Sequence
from typing import Any

from pydantic_core import to_json

from service.access import VISITOR
from service.catalogue import Model
from service.log_sink import LogSink
from service.logs import Style, timestamp
from service.pipeline import Entry, Examined
from service.problems import OUTCOME

_EXAMINED = "parallax.examined"  # key of the ASGI scope: the model, and an entry for each image

Scope = MutableMapping[str, Any]


def note_examined(scope: Scope, model: Model, entries: Sequence[Entry]) -> None:
    """Keep for the request's line what became of its images."""
    scope[_EXAMINED] = model, entries


class RequestLog:
    """Writes lines into a sink, for machines or for a person."""

    def __init__(self, sink: LogSink, style: Style) -> None:
        self._sink = sink
        self._format = _as_json if style == "json" else _as_text
        self._pid = os.getpid()

    def write(
        self,
        scope: Scope,
        route: str,
        request_id: bytes,
        status: int | None,
        size: int,
        seconds: float,
    ) -> None:
        """A request has ended. `status` is None where the answer never began; `size` in bytes is
        of the body as far as it was read.
        """
        fields: dict[str, Any] = {
            "time": timestamp(time.time()),
            "level": "info",
            "logger": __name__,
            "message": "request",
            "request_id": request_id.decode("ascii"),
            "pid": self._pid,
            "method": scope["method"],
            "route": route,
            "status": status,
            "outcome": scope.get(OUTCOME, "ok"),
            "ms": round(seconds * 1000, 2),
            "bytes": size,
        }
        if (visitor := scope.get(VISITOR)) is not None:
            fields["key"] = visitor.name
        if (examined := scope.get(_EXAMINED)) is not None:
            model, entries = examined
            fields["model"] = f"{model.name}/{model.version}"
            fields["images"] = len(entries)
            fields["verdicts"] = _counts(entries)
        try:
            line = self._format(fields)
        except ValueError:  # a surrogate, from a server that lets one through; no answer may fail
            self._sink.drop(1)
        else:
            self._sink.put(line)


def _counts(entries: Sequence[Entry]) -> dict[str, int]:
    """Images by verdict; `refused` are those without one."""
    if len(entries) == 1:
        return {_verdict(entries[0]): 1}
    return Counter(map(_verdict, entries))


def _verdict(entry: Entry) -> str:
    return entry.judgement.verdict if isinstance(entry, Examined) else "refused"


def _as_json(fields: dict[str, Any]) -> bytes:
    return to_json(fields) + b"\n"


def _as_text(fields: dict[str, Any]) -> bytes:
    verdicts = " ".join(f"{name}={count}" for name, count in fields.get("verdicts", {}).items())
    parts = [
        f"{fields['time']} {fields['level']:7}",
        f"{fields['method']} {fields['route']} {fields['status'] or '-'} {fields['outcome']}",
        f"{fields['ms']} ms {fields['bytes']} bytes",
        f"{fields['model']} {verdicts}" if verdicts else "",
        f"key={fields['key']}" if "key" in fields else "",
        f"id={fields['request_id']}",
    ]
    return " ".join(part for part in parts if part).encode() + b"\n"
