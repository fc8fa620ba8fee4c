"""What every HTTP request passes, whatever its route: an id, a bound on its bytes, a last resort.

Pure ASGI. The bound is checked while the body arrives, so a missing or false content length does
not help. An exception that nobody foresaw ends here as a generic 500. Counts requests by outcome.
Knows nothing of routes or images.
"""

import re
import uuid
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLarge
from service.metrics import Metrics
from service.problems import OUTCOME

REQUEST_ID = "X-Request-Id"

_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Edge:
    """The outermost layer of the app."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        max_body_bytes: int,
        on_error: Callable[[Request, Exception], Awaitable[Response]],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = _request_id(headers.get(REQUEST_ID))
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        announced = headers.get("content-length", "0")
        try:
            await self._app(scope, self._bounded(receive, announced), send_with_id)
        except Exception as error:
            answer = await self._on_error(Request(scope), error)
            if not started:  # else the client sees a cut answer, which is all that is left to do
                await answer(scope, receive, send_with_id)
        finally:
            endpoint = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.requests.labels(endpoint, scope.get(OUTCOME, "ok")).inc()

    def _bounded(self, receive: Receive, announced: str) -> Receive:
        """The same messages until the body has, or says it will have, too many bytes."""
        left = self._max_body_bytes

        async def bounded() -> Message:
            nonlocal left
            if announced.isdecimal() and int(announced) > self._max_body_bytes:
                raise BodyTooLarge(self._max_body_bytes)
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise BodyTooLarge(self._max_body_bytes)
            return message

        return bounded


def _request_id(given: str | None) -> str:
    """The client's own id where it is harmless to repeat, else a new one."""
    return given if given and _ACCEPTED_ID.fullmatch(given) else uuid.uuid4().hex
