"""From an exception to an RFC 9457 answer, or to one of `/v2`: the one handler of every error.

Knows the frameworks' own exceptions and translates them into the tree of `service.errors`; what is
in no tree becomes InternalError, and only the log learns more.
"""

import logging
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from service.errors import (
    BodyMalformed,
    ImageRefused,
    InferenceFailed,
    InternalError,
    MethodNotAllowed,
    ParameterRefused,
    RequestError,
    RouteUnknown,
)
from service.metrics import Metrics
from service.protocol.metadata import ProtocolError
from service.schemas import ClassifyQuery, Problem

MEDIA_TYPE = "application/problem+json"
PROTOCOL = "/v2"  # beneath it errors are written as the Open Inference Protocol has them
OUTCOME = "parallax.outcome"  # key of the ASGI scope: the code of the problem that was answered

log = logging.getLogger(__name__)


def problem(error: RequestError, instance: str | None = None) -> Problem:
    """The wire form; `instance` is the path of the request."""
    return Problem(
        type=f"/problems/{error.code}",
        code=error.code,
        title=error.title,
        status=error.status,
        detail=str(error),
        instance=instance,
    )


def handler(metrics: Metrics) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Answers any exception, counts what was refused, logs what was unforeseen."""

    async def answer(request: Request, exception: Exception) -> Response:
        error = translate(request, exception)
        if isinstance(error, InternalError):
            log.error("%s %s failed", request.method, request.url.path, exc_info=exception)
        # The pipeline counts images, one by one.
        if not isinstance(error, (ImageRefused, InferenceFailed)):
            metrics.rejected.labels(error.code).inc()
        request.scope[OUTCOME] = error.code
        path = request.scope["path"]
        body: BaseModel = problem(error, request.url.path)
        media_type = MEDIA_TYPE
        if path == PROTOCOL or path.startswith(f"{PROTOCOL}/"):
            body, media_type = ProtocolError(error=str(error), code=error.code), "application/json"
        return Response(
            body.model_dump_json(),
            status_code=error.status,
            headers=error.headers,
            media_type=media_type,
        )

    return answer


def counter(metrics: Metrics) -> Callable[[RequestError], None]:
    """Counts a request that was refused before it had a route."""

    def count(error: RequestError) -> None:
        metrics.requests.labels("unmatched", error.code).inc()
        metrics.rejected.labels(error.code).inc()

    return count


def install(app: FastAPI, metrics: Metrics) -> None:
    """Make the handler answer every expected exception; `service.edge` calls it for the rest."""
    answer = handler(metrics)
    for kind in (RequestError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


def translate(request: Request, exception: Exception) -> RequestError:
    """Any exception as one of ours."""
    if isinstance(exception, RequestError):
        return exception
    if isinstance(exception, RequestValidationError):
        return _parameter(exception)
    if isinstance(exception, HTTPException):
        if exception.status_code == RouteUnknown.status:
            return RouteUnknown()
        if exception.status_code == MethodNotAllowed.status:
            allowed = (exception.headers or {}).get("Allow", "another method")
            return MethodNotAllowed(request.method, allowed)
        if exception.status_code < InternalError.status:
            return BodyMalformed(exception.detail)
    return InternalError()


def _parameter(exception: RequestValidationError) -> ParameterRefused:
    fault = exception.errors()[0]
    name = str(fault["loc"][-1])
    if fault["type"] == "extra_forbidden":
        known = tuple(field for field in ClassifyQuery.model_fields if field != name)
        return ParameterRefused(name, "unknown here", known)
    return ParameterRefused(name, f"{fault['msg']}, got {str(fault['input'])[:80]!r}")
