"""A request's headers and body as bytes, and work on it that does not hold up other requests.

The size was bounded at the edge. Knows nothing of what the bytes mean.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

from starlette.types import Receive, Scope

from service.errors import ClientGone, TypeUnsupported

Parsed = TypeVar("Parsed")

LARGE = 64 << 10  # bytes; what is smaller is parsed sooner than a thread is woken


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """By their names in lower case. Of two the first counts."""
    return dict(reversed(scope["headers"]))


def refuse_encoding(headers: Mapping[bytes, bytes]) -> None:
    """A compressed body's size is not known before it is unpacked.

    Raises:
        TypeUnsupported: it is declared to be one.
    """
    encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    if encoding not in ("", "identity"):
        raise TypeUnsupported(encoding)


async def read_body(receive: Receive) -> bytes:
    """The whole body.

    Raises:
        ClientGone: the connection ended before it.
        BodyTooLarge, BodyLate, Overloaded: from the edge, while reading.
    """
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def off_the_loop(work: Callable[[], Parsed], *, large: bool) -> Parsed:
    """Large work is done in a thread: other requests are answered meanwhile."""
    return await asyncio.to_thread(work) if large else work()
