"""A request's body as bytes, and work on it that does not hold up other requests.

The size was bounded at the edge. Knows nothing of what the bytes mean.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from service.errors import ClientGone, TypeUnsupported

Parsed = TypeVar("Parsed")

LARGE = 64 << 10  # bytes; what is smaller is parsed sooner than a thread is woken


def refuse_encoding(request: Request) -> None:
    """A compressed body's size is not known before it is unpacked.

    Raises:
        TypeUnsupported: it is declared to be one.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise TypeUnsupported(encoding)


async def read_body(request: Request) -> bytes:
    """
    Raises:
        ClientGone: the client hung up while sending.
        BodyTooLarge, BodyLate: from the edge, while reading.
    """
    try:
        return await request.body()
    except ClientDisconnect:
        raise ClientGone from None


async def off_the_loop(work: Callable[[], Parsed], *, large: bool) -> Parsed:
    """Large work is done in a thread: other requests are answered meanwhile."""
    return await asyncio.to_thread(work) if large else work()
