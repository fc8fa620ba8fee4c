"""Ids, the bound on bytes, and what happens when an answer breaks off."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.edge import Edge
from service.metrics import Metrics

Message = MutableMapping[str, Any]


async def on_error(request: Request, error: Exception) -> Response:
    return PlainTextResponse(type(error).__name__, status_code=500)


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


async def break_off(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("too late")


def call(app: ASGIApp, chunks: list[bytes], headers: dict[str, str]) -> list[Message]:
    """Messages that the client would get for a body sent in chunks."""
    sent: list[Message] = []
    queue = [
        {"type": "http.request", "body": chunk, "more_body": i + 1 < len(chunks)}
        for i, chunk in enumerate(chunks)
    ]

    async def receive() -> Message:
        return queue.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    edge = Edge(app, metrics=Metrics(CollectorRegistry()), max_body_bytes=10, on_error=on_error)
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(edge({"type": "http", "method": "POST", "headers": raw}, receive, send))
    return sent


@pytest.mark.parametrize(
    ("chunks", "headers", "body"),
    [
        ([b"12345", b"67890"], {}, b"10"),
        ([b"12345", b"678901"], {}, b"BodyTooLarge"),
        ([b"12345"], {"content-length": "11"}, b"BodyTooLarge"),
        ([b"12345", b"678901"], {"content-length": "5"}, b"BodyTooLarge"),
        ([b"12345"], {"content-length": "many"}, b"5"),
    ],
)
def test_bytes_are_bounded_while_they_arrive(
    chunks: list[bytes], headers: dict[str, str], body: bytes
) -> None:
    assert call(read_all, chunks, headers)[1]["body"] == body


def test_a_started_answer_breaks_off() -> None:
    assert [message["type"] for message in call(break_off, [], {})] == ["http.response.start"]


@pytest.mark.parametrize("given", ["abc-1.2_3", "x" * 128])
def test_harmless_ids_are_repeated(client: TestClient, given: str) -> None:
    response = client.get("/health/live", headers={"X-Request-Id": given})
    assert response.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "<script>"])
def test_other_ids_are_replaced(client: TestClient, given: str) -> None:
    response = client.get("/health/live", headers={"X-Request-Id": given})
    assert response.headers["x-request-id"] != given
    assert len(response.headers["x-request-id"]) == 32


def test_every_request_has_an_id_of_its_own(client: TestClient) -> None:
    ids = {client.get("/nowhere").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
