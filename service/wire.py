"""HTTP/1.1 as strangers speak it: what uvicorn's parser leaves without a bound gets one here.

Bytes of a head, requests that a connection sends ahead of their answers, and the time in which a
client must go on: to begin or end a head, to send what is left of a body that is already answered,
to read an answer. The time of a body that is waited for is the edge's. An offer to upgrade is
ignored, as clients of HTTP/2 make one with an ordinary request. What is no HTTP is answered like
any other fault, after the answers to what came before it. A client that closes its side has hung
up. Knows neither routes nor what is answered.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from math import inf
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import BodyLate, HeadTooLarge, RequestError, RequestMalformed
from service.problems import MEDIA_TYPE, problem

MAX_HEAD = 64 << 10  # bytes
MAX_AHEAD = 16  # requests that wait for answers to those before them, when no more are parsed

_PIECE = 16 << 10  # bytes that are parsed at once: a few hundred requests
_LINGER_S = 2.0  # for a client to read why it was refused, before what it still sends resets it
_LOOK_S = 1.0  # how exactly times are kept


class Wire(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        *args: Any,
        patience_s: float,
        idle_s: float,
        on_refusal: Callable[[RequestError], None],
        **options: Any,
    ) -> None:
        """A client has `patience_s` for each step, `idle_s` between two requests.

        `on_refusal` is told of what the app will never see.
        """
        super().__init__(*args, **options)
        self._patience_s = patience_s
        self._idle_s = idle_s
        self._on_refusal = on_refusal
        self._look_s = min(_LOOK_S, patience_s / 4)
        self._timer: asyncio.TimerHandle | None = None
        self._until = inf  # when the client must have gone on; inf while it waits for us
        self._read_until = inf  # when it must have read on
        self._idle = True  # nothing has come since the last request
        self._in_head = False
        self._in_body = False  # of the request that `self.cycle` answers
        self._dry = 0  # bytes since a request began, or since the last that were a body's
        self._running: RequestResponseCycle | None = None  # the oldest that is not answered
        self._unread = b""  # what came and is not parsed yet
        self._deaf = False  # what comes is passed over; the connection ends

    # --- asyncio's calls ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, lambda: bool(self.pipeline or self._unread))
        self._door = _Door(transport, self._end)
        self._until = self.loop.time() + self._idle_s
        self._timer = self.loop.call_later(self._look_s, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True  # uvicorn tells the latest request only
            self._running.message_event.set()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self._read_until = self.loop.time() + self._patience_s
        super().pause_writing()

    def resume_writing(self) -> None:
        self._read_until = inf
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        if self._idle:
            self._idle = False
            self._until = self.loop.time() + self._patience_s
        self._unread = self._unread + data if self._unread else data
        self._parse()

    def _parse(self) -> None:
        """All that is unread, or until many requests wait."""
        while self._unread and not self._deaf:
            if len(self.pipeline) >= MAX_AHEAD:
                self.flow.pause_reading()
                return
            piece, self._unread = self._unread[:_PIECE], self._unread[_PIECE:]
            self._dry += len(piece)
            try:
                self._feed(piece)
            except httptools.HttpParserError as error:
                cause = error.__context__
                self._refuse(cause if isinstance(cause, RequestError) else RequestMalformed())
            else:
                if self._dry > MAX_HEAD:
                    self._refuse(HeadTooLarge(MAX_HEAD))

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)

    def _head_without_upgrade(self) -> bytes:
        """The head that was just read, as if no other protocol had been offered."""
        first = b"%b %b HTTP/%b" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        fields = [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        return b"\r\n".join((first, *fields, b"", b""))

    # --- the parser's calls; what is raised here comes out of `feed_data` ---

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._dry = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._dry > MAX_HEAD - _PIECE and self._head_bytes() > MAX_HEAD:
            raise HeadTooLarge(MAX_HEAD)
        if self.parser.should_upgrade():  # the parser stops here, and `_feed` begins anew
            if self.parser.get_method() == b"CONNECT":
                raise RequestMalformed
            return
        before = len(self.pipeline)
        super().on_headers_complete()
        self.cycle.transport = self._door  # type: ignore[assignment]  # all that it calls is there
        self._in_body = True
        self._until = inf
        if len(self.pipeline) == before:
            self._running = self.cycle

    def on_body(self, body: bytes) -> None:
        self._dry = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_body = False
        super().on_message_complete()
        if self.cycle.response_complete:
            self._wait()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    # --- the answer's ---

    def on_response_complete(self) -> None:
        self._running = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        if self._unread:
            self.loop.call_soon(self._parse)
        elif self._running is None:
            self._wait()

    def _wait(self) -> None:
        """It is the client's turn."""
        self._idle = not (self._in_head or self._in_body)
        self._until = self.loop.time() + (self._idle_s if self._idle else self._patience_s)

    def _look(self) -> None:
        """Whether the client has kept us waiting for too long."""
        now = self.loop.time()
        self._timer = self.loop.call_later(self._look_s, self._look)
        if self.transport.is_closing() and self._read_until == inf:
            self._read_until = now + self._patience_s
        if now >= self._read_until:
            self.transport.abort()
        elif now >= self._until:
            self._until = inf
            if self._in_head:
                self._refuse(BodyLate())
            else:
                self.transport.close()

    def _refuse(self, error: RequestError) -> None:
        """Of the request that is being read; those before it are answered first."""
        self._deaf, self._unread = True, b""
        faulty = self.cycle if self._in_body else None
        if self.pipeline and self.pipeline[0][0] is faulty:
            self.pipeline.popleft()
        last = self.pipeline[0][0] if self.pipeline else self._running
        if last is not None and last is not faulty:
            last.keep_alive = False
            return
        if faulty is not None and faulty.response_started:
            self.transport.close()
            return
        if faulty is not None:
            faulty.disconnected = True
            faulty.message_event.set()
        self._on_refusal(error)
        self.transport.write(_answer(error))
        self._linger()

    def _end(self) -> None:
        """What is written is the last; the client may still be sending."""
        if self._in_body:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Read on for a moment: bytes that nobody read reset a connection, and its answer too."""
        self._deaf, self._unread = True, b""
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)


class _Door:
    """What an answer needs of a transport."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


class _Flow(FlowControl):
    """Reads no further while what came is not worked off; uvicorn's would with every answer."""

    def __init__(self, transport: asyncio.Transport, is_ahead: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._is_ahead = is_ahead

    def resume_reading(self) -> None:
        if not self._is_ahead():
            super().resume_reading()


def _answer(error: RequestError) -> bytes:
    body = problem(error).model_dump_json().encode()
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
        f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
