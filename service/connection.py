"""Work that ends when the client hangs up: nobody pays for an answer that nobody reads.

Knows the request's connection and an awaitable; nothing of what is worked on.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.types import Receive

from service.errors import ClientGone

Answer = TypeVar("Answer")

_PATIENCE_S = 0.05  # work that ends sooner costs less than a watch over it


async def while_connected(
    receive: Receive, work: Awaitable[Answer], patience_s: float = _PATIENCE_S
) -> Answer:
    """The work's result. The request's body must have been read; `receive` tells of its end.

    Raises:
        ClientGone: the client closed the connection first; the work was cancelled.
    """
    loop = asyncio.get_running_loop()
    working = asyncio.current_task()
    assert working is not None  # a coroutine runs in a task
    watching: asyncio.Task[None] | None = None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        working.cancel()

    def begin() -> None:
        nonlocal watching
        watching = loop.create_task(watch())

    timer = loop.call_later(patience_s, begin)
    try:
        return await work
    except asyncio.CancelledError:
        if not gone:
            raise
        working.uncancel()
        raise ClientGone from None
    finally:
        timer.cancel()
        if watching is not None:
            watching.cancel()
