"""The real server in a process of its own, on a free port, and talk with it over bare sockets."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx2

from tests.service.serving import PATIENCE_S, starting
from tests.service.toy import ATTACKED, ToyFolder

_WHERE = re.compile(r"http://127\.0\.0\.1:(\d+)")
_COMPLAINT = re.compile(r"(?m)^.*(?:\"level\":\"(?:warning|error|critical)\"|Traceback|Error:).*$")
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass(frozen=True)
class Served:
    """A server that listens. Its log is what it wrote to standard error, where that is a file."""

    process: subprocess.Popen[str]
    port: int
    log: Path | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def memory(self) -> int:
        """Resident bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def said(self) -> str:
        assert self.log is not None, "standard error went elsewhere"
        return self.log.read_text()

    def connect(self, timeout_s: float = PATIENCE_S) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)

    def exchange(self, request: bytes, timeout_s: float = PATIENCE_S) -> bytes:
        """All bytes that come back over a connection of its own until the server closes it."""
        with self.connect(timeout_s) as connection:
            connection.sendall(request)
            return read_to_end(connection)

    def answers_rightly(self) -> None:
        """A new client gets its verdict."""
        answer = httpx2.post(f"{self.url}/detect", content=ATTACKED, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        assert answer.json()["verdict"] == "corrected"
        assert answer.json()["corrected"]["class_name"] == "dog"

    def stop(self) -> int:
        """Its exit status after a polite request to end."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@contextmanager
def serving(
    toy: ToyFolder, *flags: str, stderr: IO[Any] | int | None = None, **settings: object
) -> Iterator[Served]:
    """`parallax serve` with the toy model; settings are variables, killed at the end."""
    variables = {f"PARALLAX_{name.upper()}": str(value) for name, value in settings.items()}
    with starting(toy.root, "--threads", "1", *flags, stderr=stderr, **variables) as running:
        process, log = running
        assert process.stdout is not None
        where = process.stdout.readline()
        found = _WHERE.search(where)
        assert found, where + log.read_text()
        yield Served(process, int(found[1]), log if stderr is None else None)


@contextmanager
def unharmed(served: Served, growth: int = 32 << 20) -> Iterator[None]:
    """After whatever was done to it: a right answer, no more than `growth` bytes, no complaint."""
    before, said = served.memory, len(served.said())
    yield
    served.answers_rightly()
    assert served.memory - before < growth
    assert _COMPLAINT.findall(served.said()[said:]) == []


def read_to_end(connection: socket.socket) -> bytes:
    """What comes until the server closes, or resets where more was sent than it wanted."""
    answer = b""
    try:
        while data := connection.recv(1 << 16):
            answer += data
    except ConnectionResetError:
        pass
    return answer


def statuses(answer: bytes) -> list[int]:
    """Of all answers in these bytes."""
    return [int(status) for status in _STATUS.findall(answer)]


def post(
    target: str = "/detect",
    body: bytes = ATTACKED,
    *headers: str,
    close: bool = True,
) -> bytes:
    """The bytes of a good request, or of one that is bad where the caller says so."""
    lines = [f"POST {target} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *headers]
    lines += ["Connection: close"] if close else []
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body
