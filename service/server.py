"""uvicorn with our settings, and an end in which no request is lost.

    signal: not ready, answers close their connections   drain_s
    door shut, what has arrived is let in                 a moment
    what has begun is finished                            grace_s
    what has not is told "not ready"

Knows an app and its sockets; neither models nor what is answered.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.listeners import shut_door
from service.settings import Settings
from service.tls import tls_options

_LATE_S = 0.5  # for a request that was sent before its client could know
_LEAST_S = 0.1  # of it also where no connection is open: one may wait to be accepted
_TICK_S = 0.02


class Server(uvicorn.Server):
    """Serves an app until a signal comes; it is not ready from then on."""

    def __init__(
        self,
        app: FastAPI,
        settings: Settings,
        *,
        alone: bool = True,
        started: Callable[[], None] = lambda: None,
    ) -> None:
        """`alone` means that no parent decides on the end: a second signal ends at once.

        `started` is called in the event loop once connections are accepted.
        """
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # our own lines say it better
        super().__init__(
            uvicorn.Config(
                app,  # on uvloop, which uvicorn takes where it is installed
                http=app.state.wire,
                ws="none",
                log_config=None,
                access_log=False,  # ours says more, and nothing that a client wrote
                server_header=False,
                timeout_keep_alive=settings.keep_alive_s,
                **tls_options(settings),
            )
        )
        self._app = app
        self._alone = alone
        self._started = started
        self._drain_s = settings.drain_s
        self._grace_s = settings.grace_s
        self._drained_at = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal; in a worker a second one is the same one again, sent to the whole group."""
        if self.should_exit:
            if self.force_exit:
                os._exit(128 + sig)
            self.force_exit = self._alone
        else:
            if self._alone:
                super().handle_exit(sig, frame)  # who raises it again once all is done
            self.stop()

    def stop(self) -> None:
        """Begin to end; also called from a signal handler."""
        self.should_exit = True
        self._app.state.leave()
        self._drained_at = time.monotonic() + self._drain_s
        close = (b"connection", b"close")
        self.config.encoded_headers.append(close)  # of answers to come
        self.server_state.default_headers.append(close)  # and of those that have not begun

    async def on_tick(self, counter: int) -> bool:
        ended = await super().on_tick(counter)
        return ended and (self.force_exit or time.monotonic() >= self._drained_at)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        began = time.monotonic()
        for listener in sockets or ():
            shut_door(listener)
        late_s = min(_LATE_S, float(self._grace_s))
        while not self.force_exit:
            waited = time.monotonic() - began
            if waited >= late_s or (waited >= _LEAST_S and not self.server_state.connections):
                break
            await asyncio.sleep(_TICK_S)
        left = max(0.0, began + self._grace_s - time.monotonic())
        self.config.timeout_graceful_shutdown = left  # type: ignore[assignment]  # any seconds do
        await super().shutdown(sockets)
