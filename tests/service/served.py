"""The real server in a process of its own, on a free port."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.service.toy import ToyFolder

ROOT = Path(__file__).parents[2]
_WHERE = re.compile(r"http://127\.0\.0\.1:(\d+)")


@dataclass(frozen=True)
class Served:
    """A server that listens."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def exchange(self, request: bytes, timeout_s: float = 30.0) -> bytes:
        """All bytes that come back over a connection of its own until the server closes it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout_s) as connection:
            connection.sendall(request)
            answer = b""
            while data := connection.recv(1 << 16):
                answer += data
            return answer


@contextmanager
def serving(
    toy: ToyFolder, *flags: str, stderr: IO[Any] | int = subprocess.DEVNULL, **settings: object
) -> Iterator[Served]:
    """`parallax serve` with the toy model; settings are variables, killed at the end."""
    variables = {f"PARALLAX_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "service.cli", "serve", "--port", "0", *flags]
    with subprocess.Popen(
        [*command, "--models", str(toy.root), "--provider", "cpu", "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
    ) as process:
        try:
            assert process.stdout is not None
            where = process.stdout.readline()
            found = _WHERE.search(where)
            assert found, where
            yield Served(process, int(found[1]))
        finally:
            process.kill()
