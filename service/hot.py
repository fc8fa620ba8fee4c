"""Routes that are asked all the time, answered without what a framework does for every request.

A route here is also one of FastAPI's, with the same function, which puts it into the OpenAPI
document; but it is called from here. What is saved is the work of a request that is the same for
all: dependencies, exit stacks, a fresh reading of the query. Knows paths and queries, and nothing
of what is answered.
"""

import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from service.errors import ParameterRefused

_QUERIES = 256  # different ones that are remembered, for each route
_PARAMETERS = 64  # of a query; each costs more to refuse than to send

Query = TypeVar("Query", bound=BaseModel)


class HotRoute:
    """One path of method POST."""

    def __init__(
        self, path: str, query: type[Query], endpoint: Callable[..., Awaitable[Response]]
    ) -> None:
        """`endpoint` is called with the request, the query and what the path names in braces."""
        self.path = path
        self._endpoint = endpoint
        self._read = lru_cache(_QUERIES)(lambda raw: read_query(query, raw))
        self._pattern, _, self._convertors = compile_path(path)

    def parameters(self, path: str) -> dict[str, Any] | None:
        """What a path has in the places of the braces, or None where it is another path."""
        found = re.match(self._pattern, path)
        if found is None:
            return None
        return {
            name: self._convertors[name].convert(value) for name, value in found.groupdict().items()
        }

    async def answer(
        self, parameters: dict[str, Any], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Call the endpoint and send what it gives.

        Raises:
            RequestValidationError, ParameterRefused: the query is not one of this route.
        """
        query = self._read(scope["query_string"])
        response = await self._endpoint(Request(scope, receive), query, **parameters)
        await response(scope, receive, send)


class HotRoutes:
    """All of them; filled while the application is put together."""

    def __init__(self) -> None:
        self._exact: dict[str, HotRoute] = {}
        self._patterns: list[HotRoute] = []

    def add(self, route: HotRoute) -> None:
        """Answer it from here from now on."""
        if "{" in route.path:
            self._patterns.append(route)
        else:
            self._exact[route.path] = route

    def find(self, method: str, path: str) -> tuple[HotRoute, dict[str, Any]] | None:
        """The route and what its path names, or None: then it is the framework's."""
        if method != "POST":
            return None
        if exact := self._exact.get(path):
            return exact, {}
        for route in self._patterns:
            if (parameters := route.parameters(path)) is not None:
                return route, parameters
        return None


def read_query(model: type[Query], raw: bytes) -> Query:
    """A query string as a model. Of two values for a name neither is taken: one may loosen a check.

    Raises:
        ParameterRefused: a name is given more than once, or there are too many.
        RequestValidationError: what FastAPI raises for the rest.
    """
    try:
        pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=_PARAMETERS)
    except ValueError:
        raise ParameterRefused("&", f"more than {_PARAMETERS} parameters") from None
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ParameterRefused(next(n for n in names if names.count(n) > 1), "given more than once")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from None
