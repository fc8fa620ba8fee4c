"""CPU microseconds of what access control and the log add to a request, each alone.

The line is written to a file by the sink's thread, whose time counts; the least of several rounds
is printed, since a busy machine only adds. Beside them a request as a whole, without a socket.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from service.access import VISITOR, Gate, Visitor
from service.app import create_app
from service.catalogue import Model
from service.keys import Keys
from service.log_sink import LogSink
from service.pipeline import Examined
from service.rate_limit import TokenBuckets
from service.request_log import RequestLog, note_examined
from service.settings import Settings

_ROUNDS, _CALLS, _REQUESTS = 7, 5000, 300
_ROOT = Path(__file__).parents[2]
_KEY = "k" * 43
_ID = b"0f8fad5bd9cb469fa16570867728950e"


def scope() -> dict[str, Any]:
    """Of a request whose one image was accepted."""
    judgement = cast(Any, SimpleNamespace(verdict="accept"))
    examined = Examined(cast(Any, None), judgement, False, 0.0, 0.0, 0.0)
    request = {"method": "POST", VISITOR: Visitor("arm", cast(Gate, None))}
    model = cast(Model, SimpleNamespace(name="mnist", version=2))
    note_examined(request, model, [examined])
    return request


def least(call: Callable[[], object], after: Callable[[], object] = bool) -> float:
    """CPU microseconds of a call, all threads together."""
    spent = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        for _ in range(_CALLS):
            call()
        after()
        spent.append(time.process_time() - began)
    return 1e6 * min(spent) / _CALLS


async def request_cost() -> float:
    """CPU microseconds of `POST /detect` of one PNG through the whole app, without a socket."""
    app = create_app(Settings(models=_ROOT / "models", provider="cpu", threads=1))
    body = (_ROOT / "models/mnist/3/samples/natural/00002.png").read_bytes()
    head = {
        "type": "http",
        "method": "POST",
        "path": "/detect",
        "query_string": b"",
        "headers": [(b"content-type", b"image/png"), (b"content-length", b"%d" % len(body))],
    }

    async def one() -> None:
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return messages.pop() if messages else await asyncio.Event().wait()  # type: ignore[return-value]  # never

        async def send(message: Any) -> None:
            assert message.get("status", 200) == 200

        await asyncio.create_task(app(dict(head), receive, send))

    spent = []
    async with app.router.lifespan_context(app):
        for _ in range(_ROUNDS):
            began = time.process_time()
            for _ in range(_REQUESTS):
                await one()
            spent.append(time.process_time() - began)
    return 1e6 * min(spent) / _REQUESTS


def main() -> None:
    keys = {
        count: Keys.parse("\n".join(f"{_KEY}{i:04}" for i in range(count))) for count in (1, 10)
    }
    headers = [(b"content-type", b"image/png"), (b"authorization", f"Bearer {_KEY}0000".encode())]
    buckets = TokenBuckets(rate=1e9, burst=1e9)
    with tempfile.TemporaryDirectory() as folder:
        log = os.open(Path(folder, "log"), os.O_WRONLY | os.O_CREAT)
        sink = LogSink(log)
        write, request = RequestLog(sink, "json").write, scope()
        rows = {
            "a line, made and written": least(
                lambda: write(request, "/detect", _ID, 200, 272, 0.00321), sink.flush
            ),
            "a key, among 1": least(lambda: keys[1].owner(headers[1][1][7:])),
            "a key, among 10": least(lambda: keys[10].owner(headers[1][1][7:])),
            "a token": least(lambda: buckets.take("arm", 1)),
            "a request as a whole, without them": asyncio.run(request_cost()),
        }
        sink.close()
        os.close(log)
        assert sink.dropped == 0, "lines were lost: the figure is of nothing"
    for name, cost in rows.items():
        print(f"{cost:8.2f} us  {name}")  # noqa: T201  # a benchmark speaks


if __name__ == "__main__":
    main()
