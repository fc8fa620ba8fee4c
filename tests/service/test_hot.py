"""Hot routes: which request is theirs, and that a query means what it means to FastAPI."""

import asyncio
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from service.errors import ParameterRefused
from service.hot import HotRoute, HotRoutes, read_query
from service.schemas import ClassifyQuery


async def spell(request: Request, query: BaseModel, **named: Any) -> Response:
    return PlainTextResponse(f"{query.model_dump(exclude_none=True)} {named}")


@pytest.mark.parametrize(
    ("method", "path", "named"),
    [
        ("POST", "/plain", {}),
        ("POST", "/of/cat/infer", {"name": "cat"}),
        ("POST", "/of/cat/versions/3/infer", {"name": "cat", "version": 3}),
        ("GET", "/plain", None),
        ("POST", "/plain/", None),
        ("POST", "/of/a/b/infer", None),
        ("POST", "/of/cat/versions/x/infer", None),
        ("POST", "/other", None),
    ],
)
def test_which_requests_are_hot(method: str, path: str, named: dict[str, Any] | None) -> None:
    hot = HotRoutes()
    for pattern in ("/plain", "/of/{name}/infer", "/of/{name}/versions/{version:int}/infer"):
        hot.add(HotRoute(pattern, ClassifyQuery, spell))
    found = hot.find(method, path)
    assert (found[1] if found else None) == named


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        (b"", {}),
        (b"top_k=3&strict_size=true", {"top_k": 3, "strict_size": True}),
        (b"model=a%20b&policy=strict", {"model": "a b", "policy": "strict"}),
    ],
)
def test_queries_are_read(raw: bytes, values: dict[str, Any]) -> None:
    assert read_query(ClassifyQuery, raw) == ClassifyQuery(**values)


@pytest.mark.parametrize(
    "raw", [b"top_k=0", b"top_k=", b"topk=3", b"policy=none", b"top_k=%ff", b"fpr=nan"]
)
def test_what_is_refused_is_what_fastapi_refuses(raw: bytes) -> None:
    with pytest.raises(RequestValidationError) as caught:
        read_query(ClassifyQuery, raw)
    fault = caught.value.errors()[0]

    app = FastAPI()

    @app.get("/")
    def endpoint(query: Annotated[ClassifyQuery, Query()]) -> None:
        pass

    answer = TestClient(app).get("/?" + raw.decode("latin-1"))
    assert answer.status_code == 422
    theirs = answer.json()["detail"][0]
    assert (fault["type"], fault["loc"][-1]) == (theirs["type"], theirs["loc"][-1])


def test_of_two_values_neither_is_taken() -> None:
    with pytest.raises(ParameterRefused, match="'top_k': given more than once"):
        read_query(ClassifyQuery, b"top_k=1&model=a&top_k=1")


def test_a_route_answers_with_its_query_and_path() -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody reads the body")

    route = HotRoute("/of/{name}", ClassifyQuery, spell)
    scope = {"type": "http", "method": "POST", "query_string": b"top_k=2"}
    asyncio.run(route.answer(route.parameters("/of/cat") or {}, scope, receive, send))
    assert sent[1]["body"] == b"{'strict_size': False, 'top_k': 2} {'name': 'cat'}"
