"""Ids, the bound on bytes, and what happens when an answer breaks off."""

import asyncio
import contextlib
from collections.abc import MutableMapping
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.edge import DEADLINE, TIMEOUT_MS, Edge
from service.hot import HotRoutes
from service.metrics import Metrics
from service.problems import OUTCOME
from tests.service.toy import NATURAL

Message = MutableMapping[str, Any]


async def on_error(request: Request, error: Exception) -> Response:
    request.scope[OUTCOME] = "failed"
    return PlainTextResponse(type(error).__name__, status_code=500)


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


async def break_off(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("too late")


def scope_of(headers: list[tuple[bytes, bytes]]) -> Scope:
    return {"type": "http", "method": "POST", "path": "/", "headers": headers}


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

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(
        edge_of(app)({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive, send)
    )
    return sent


def edge_of(app: ASGIApp, *, deadline_s: float = 60.0, metrics: Metrics | None = None) -> Edge:
    return Edge(
        app,
        hot=HotRoutes(),
        metrics=metrics or Metrics(CollectorRegistry()),
        max_body_bytes=10,
        max_held_bytes=12,
        deadline_s=deadline_s,
        on_error=on_error,
    )


class Client:
    """One request whose body arrives when the test says so."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self._queue: asyncio.Queue[Message] = asyncio.Queue()

    def send(self, body: bytes, *, more: bool) -> None:
        self._queue.put_nowait({"type": "http.request", "body": body, "more_body": more})

    async def talk(self, edge: Edge) -> bytes:
        async def send(message: Message) -> None:
            self.sent.append(message)

        await edge(
            {"type": "http", "method": "POST", "path": "/", "headers": []}, self._queue.get, send
        )
        return bytes(self.sent[1]["body"])


def test_bytes_of_all_requests_are_bounded() -> None:
    async def scenario() -> None:
        edge, first, second, third = edge_of(read_all), Client(), Client(), Client()
        first.send(b"12345678", more=True)
        waiting = asyncio.create_task(first.talk(edge))
        await asyncio.sleep(0.01)
        second.send(b"12345", more=False)
        assert await second.talk(edge) == b"Overloaded"
        first.send(b"9", more=False)
        assert await waiting == b"9"
        third.send(b"1234567890", more=False)  # what was held is free again
        assert await third.talk(edge) == b"10"

    asyncio.run(scenario())


def test_refused_bytes_take_no_room() -> None:
    """While the refusal is on its way, what fits is let in."""
    gate = asyncio.Event()

    async def slow_refusal(request: Request, error: Exception) -> Response:
        await gate.wait()
        return await on_error(request, error)

    async def scenario() -> None:
        edge, first, second = edge_of(read_all), Client(), Client()
        edge._on_error = slow_refusal
        first.send(b"12345678", more=True)
        waiting = asyncio.create_task(first.talk(edge))
        second.send(b"12345", more=False)
        refused = asyncio.create_task(second.talk(edge))
        await asyncio.sleep(0.01)
        first.send(b"", more=False)
        assert await waiting == b"8"
        gate.set()
        assert await refused == b"Overloaded"

    asyncio.run(scenario())


def test_a_body_has_until_the_deadline() -> None:
    async def scenario() -> None:
        client = Client()
        client.send(b"1", more=True)
        assert await client.talk(edge_of(read_all, deadline_s=0.05)) == b"BodyLate"

    asyncio.run(scenario())


def test_after_the_body_there_is_no_hurry() -> None:
    async def patient(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(receive(), 0.1)  # as one who watches for the client's end
        await PlainTextResponse("done")(scope, receive, send)

    async def scenario() -> None:
        client = Client()
        client.send(b"1", more=False)
        assert await client.talk(edge_of(patient, deadline_s=0.01)) == b"done"

    asyncio.run(scenario())


def test_a_request_that_the_servers_end_cuts_off_is_not_ready() -> None:
    metrics = Metrics(CollectorRegistry())

    async def scenario() -> None:
        client = Client()
        talking = asyncio.create_task(client.talk(edge_of(read_all, metrics=metrics)))
        await asyncio.sleep(0.01)
        talking.cancel()
        assert await talking == b"ShuttingDown"

    asyncio.run(scenario())
    assert b'outcome="ok"' not in metrics.exposition()


@pytest.mark.parametrize(
    ("chunks", "headers", "body"),
    [
        ([b"12345", b"67890"], {}, b"10"),
        ([b"12345", b"678901"], {}, b"BodyTooLarge"),
        ([b"12345"], {"content-length": "11"}, b"BodyTooLarge"),
        ([b"12345", b"678901"], {"content-length": "5"}, b"BodyTooLarge"),
        ([b"12345"], {"content-length": "many"}, b"5"),
        ([b"12345"], {"content-length": "1" * 5000}, b"BodyTooLarge"),
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


@pytest.mark.parametrize("given", ["0", "-1", "soon", "nan", "1e9", "", "1" * 10])
def test_a_timeout_that_is_none_is_refused(client: TestClient, given: str) -> None:
    answer = client.post("/detect", content=NATURAL, headers={TIMEOUT_MS: given})
    assert answer.status_code == 422
    assert TIMEOUT_MS in answer.json()["detail"]


@pytest.mark.parametrize(
    ("given", "seconds"), [("250", 0.25), ("0.5", 0.0005), ("999999999", 60.0)]
)
def test_a_client_may_shorten_its_time(given: str, seconds: float) -> None:
    async def scenario() -> None:
        scope = scope_of([(b"x-request-timeout-ms", given.encode())])
        seen: list[float] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope[DEADLINE] - asyncio.get_running_loop().time())

        await edge_of(app)(scope, asyncio.Queue[Message]().get, asyncio.Queue[Message]().put)
        assert seen == [pytest.approx(seconds, abs=0.2)]

    asyncio.run(scenario())
