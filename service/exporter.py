"""`/metrics` on a port of its own, in threads of its own: for networks that may not see the rest.

Knows one function that gives the text; neither metrics nor the service.
"""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from service.errors import AddressUnusable

PATH = "/metrics"

log = logging.getLogger(__name__)


@contextmanager
def exported(host: str, port: int, exposition: Callable[[], bytes]) -> Iterator[tuple[str, int]]:
    """Answers while the context lasts; the address, where port 0 has become a free one.

    Raises:
        AddressUnusable: another process listens there, or the address is not this machine's.
    """
    try:
        server = _Server(host, port, exposition)
    except OSError as error:
        raise AddressUnusable(host, port, error.strerror or str(error)) from error
    with server:
        Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        try:
            yield server.socket.getsockname()[:2]
        finally:
            server.shutdown()


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, host: str, port: int, exposition: Callable[[], bytes]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.exposition = exposition
        super().__init__((host, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a scrape from %s broke off", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10  # seconds that a peer may say nothing

    def do_GET(self) -> None:
        """The text, at one path."""
        if self.path.partition("?")[0] != PATH:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            body = self.server.exposition()
        except Exception:
            log.exception("the metrics cannot be told")
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", CONTENT_TYPE_LATEST)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """Nobody needs to know."""
        return "parallax"

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape is no news."""
