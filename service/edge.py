"""What every HTTP request passes, whatever its route: an id, a gate, bounds on its bytes, a last
resort, a line in the log.

Pure ASGI. The bounds are checked while the body arrives, so a missing or false content length does
not help: bytes of one request, bytes of all requests that are in the service, and the time until
the last of them is there. An exception that nobody foresaw ends here as a generic 500, a request
that the server's end cuts off as "not ready". Counts requests by outcome. Knows nothing of routes
or images.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access import Gate
from service.errors import BodyLate, BodyTooLarge, Overloaded, ShuttingDown
from service.logs import REQUEST_ID as CURRENT_ID
from service.metrics import Metrics
from service.problems import OUTCOME
from service.request_log import RequestLog, route_of

REQUEST_ID = "X-Request-Id"

_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_RETRY_AFTER_S = 1
_DIGITS = 18  # of a content length; longer ones are beyond any limit, and int() has one of its own


class Edge:
    """The outermost layer of the app."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        max_body_bytes: int,
        max_held_bytes: int,
        deadline_s: float,
        on_error: Callable[[Request, Exception], Awaitable[Response]],
        gate: Gate | None = None,
        request_log: RequestLog | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._max_held_bytes = max_held_bytes
        self._deadline_s = deadline_s
        self._on_error = on_error
        self._gate = gate
        self._log = request_log
        self._held = 0  # bytes of all bodies that are in the service now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = _request_id(headers.get(REQUEST_ID))
        CURRENT_ID.set(request_id)  # for log lines; the server gives each request its own context
        began = time.perf_counter()
        status: int | None = None
        read = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        def hold(size: int) -> None:
            nonlocal read
            if read + size > self._max_body_bytes:
                raise BodyTooLarge(self._max_body_bytes)
            if size and self._held + size > self._max_held_bytes:
                raise Overloaded(_RETRY_AFTER_S)  # what is refused is not held: others may fit
            read += size
            self._held += size

        announced = headers.get("content-length", "0")
        try:
            if self._gate is not None:
                self._gate.enter(scope)
            await self._app(scope, self._bounded(receive, announced, hold), send_with_id)
        except (Exception, asyncio.CancelledError) as error:
            # Only the server's end cancels a request.
            cause = ShuttingDown() if isinstance(error, asyncio.CancelledError) else error
            answer = await self._on_error(Request(scope), cause)
            if status is None:  # else the client sees a cut answer, which is all that is left to do
                await answer(scope, receive, send_with_id)
        finally:
            self._held -= read
            self._metrics.requests.labels(route_of(scope), scope.get(OUTCOME, "ok")).inc()
            if self._log is not None:
                seconds = time.perf_counter() - began
                self._log.write(
                    scope, request_id=request_id, status=status, size=read, seconds=seconds
                )

    def _bounded(self, receive: Receive, announced: str, hold: Callable[[int], None]) -> Receive:
        """The same messages until the body has, or says it will have, too many bytes, or is late.

        After the body there is no hurry: what comes then is the client's end.
        """
        too_large = announced.isdecimal() and (
            len(announced) > _DIGITS or int(announced) > self._max_body_bytes
        )
        deadline = asyncio.get_running_loop().time() + self._deadline_s
        complete = False

        async def bounded() -> Message:
            nonlocal complete
            if too_large:
                raise BodyTooLarge(self._max_body_bytes)
            try:
                async with asyncio.timeout_at(None if complete else deadline):
                    message = await receive()
            except TimeoutError:
                raise BodyLate from None
            complete = not message.get("more_body", False)
            hold(len(message.get("body", b"")))
            return message

        return bounded


def _request_id(given: str | None) -> str:
    """The client's own id where it is harmless to repeat, else a new one."""
    return given if given and _ACCEPTED_ID.fullmatch(given) else uuid.uuid4().hex
