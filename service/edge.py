"""What every HTTP request passes, whatever its route: an id, a gate, bounds on its bytes, a last
resort, a line in the log.

Pure ASGI. The bounds are checked while the body arrives, so a missing or false content length does
not help: bytes of one request, bytes of all requests that are in the service, and the time until
the last of them is there. The client may shorten its time by X-Request-Timeout-Ms. An exception
that nobody foresaw ends here as a generic 500, a request that the server's end cuts off as "not
ready". Counts requests by outcome. Calls hot routes itself and leaves the rest to the framework;
knows nothing of images.
"""

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access import Gate
from service.body import headers_of
from service.errors import BodyLate, BodyTooLarge, Overloaded, ParameterRefused, ShuttingDown
from service.hot import HotRoutes
from service.logs import CURRENT_ID
from service.metrics import Metrics
from service.problems import OUTCOME
from service.request_log import RequestLog

REQUEST_ID = "X-Request-Id"
TIMEOUT_MS = "X-Request-Timeout-Ms"
DEADLINE = "parallax.deadline"  # key of the ASGI scope: the client's own, by the loop's clock

_ID_HEADER = REQUEST_ID.lower().encode()
_TIMEOUT_HEADER = TIMEOUT_MS.lower().encode()
_ACCEPTED_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_ACCEPTED_TIMEOUT = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,9})?")
_RETRY_AFTER_S = 1
_DIGITS = 18  # of a content length; longer ones are beyond any limit, and int() has one of its own


class Edge:
    """The outermost layer of the app."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hot: HotRoutes,
        metrics: Metrics,
        max_body_bytes: int,
        max_held_bytes: int,
        deadline_s: float,
        on_error: Callable[[Request, Exception], Awaitable[Response]],
        gate: Gate | None = None,
        request_log: RequestLog | None = None,
    ) -> None:
        self._app = app
        self._hot = hot
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
        headers = headers_of(scope)
        request_id = _request_id(headers.get(_ID_HEADER))
        CURRENT_ID.set(request_id)  # the server gives each request a context of its own
        began = time.perf_counter()
        status: int | None = None
        read = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (_ID_HEADER, request_id)]
            await send(message)

        def hold(size: int) -> None:
            nonlocal read
            if read + size > self._max_body_bytes:
                raise BodyTooLarge(self._max_body_bytes)
            if size and self._held + size > self._max_held_bytes:
                raise Overloaded(_RETRY_AFTER_S)  # what is refused is not held: others may fit
            read += size
            self._held += size

        hot = self._hot.find(scope["method"], scope["path"])
        endpoint = hot[0].path if hot else ""
        try:
            if self._gate is not None:
                self._gate.enter(scope)
            deadline = self._deadline(scope, headers.get(_TIMEOUT_HEADER))
            bounded = self._bounded(receive, headers.get(b"content-length", b"0"), hold, deadline)
            if hot:
                route, parameters = hot
                await route.answer(parameters, scope, bounded, send_with_id)
            else:
                await self._app(scope, bounded, send_with_id)
        except (Exception, asyncio.CancelledError) as error:
            # Only the server's end cancels a request.
            cause = ShuttingDown() if isinstance(error, asyncio.CancelledError) else error
            answer = await self._on_error(Request(scope), cause)
            if status is None:  # else the client sees a cut answer, which is all that is left to do
                await answer(scope, receive, send_with_id)
        finally:
            self._held -= read
            name: str = endpoint or getattr(scope.get("route"), "path", "unmatched")
            self._metrics.requests.labels(name, scope.get(OUTCOME, "ok")).inc()
            if self._log is not None:
                seconds = time.perf_counter() - began
                self._log.write(scope, name, request_id, status, read, seconds)

    def _deadline(self, scope: Scope, given: bytes | None) -> float:
        """When the body must be there, by the loop's clock; a client's own is for all its request.

        Raises:
            ParameterRefused: the client's is no time.
        """
        now = asyncio.get_running_loop().time()
        if given is None:
            return now + self._deadline_s
        if not _ACCEPTED_TIMEOUT.fullmatch(given) or not float(given):
            raise ParameterRefused(TIMEOUT_MS, "not a number of milliseconds above 0")
        deadline: float = now + min(self._deadline_s, float(given) / 1000)
        scope[DEADLINE] = deadline
        return deadline

    def _bounded(
        self, receive: Receive, announced: bytes, hold: Callable[[int], None], deadline: float
    ) -> Receive:
        """The same messages until the body has, or says it will have, too many bytes, or is late.

        After the body there is no hurry: what comes then is the client's end.
        """
        too_large = announced.isdigit() and (
            len(announced) > _DIGITS or int(announced) > self._max_body_bytes
        )
        complete = False

        async def bounded() -> Message:
            nonlocal complete
            if too_large:
                raise BodyTooLarge(self._max_body_bytes)
            if complete:
                message = await receive()
            else:
                try:
                    async with asyncio.timeout_at(deadline):
                        message = await receive()
                except TimeoutError:
                    raise BodyLate from None
                complete = not message.get("more_body", False)
            hold(len(message.get("body", b"")))
            return message

        return bounded


def _request_id(given: bytes | None) -> bytes:
    """The client's own id where it is harmless to repeat, else a new one."""
    return given if given and _ACCEPTED_ID.fullmatch(given) else os.urandom(16).hex().encode()
