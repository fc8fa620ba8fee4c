"""A real server in a process of its own, and clients that notice each request that is lost."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from tests.service.toy import ATTACKED

PATIENCE_S = 120.0  # a busy machine is no failure
PNG = {"Content-Type": "image/png"}
REQUEST = (
    b"POST /detect HTTP/1.1\r\nHost: test\r\nContent-Type: image/png\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(ATTACKED), ATTACKED)
)

_ESTABLISHED = "01"
ROOT = Path(__file__).parents[2]
_WHERE = re.compile(r"https?://(?:\[?([\w.:]+?)\]?):(\d+)")


@dataclass
class Served:
    """A server that has said that it is there."""

    process: subprocess.Popen[str]
    greeting: list[str]
    log: Path

    @property
    def url(self) -> str:
        found = _WHERE.search(self.greeting[0])
        assert found, self.greeting
        return found[0]

    @property
    def metrics_url(self) -> str:
        (line,) = (line for line in self.greeting if "metrics on" in line)
        return line.split()[-1]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def workers(self) -> list[int]:
        """Process ids of those children that serve."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [pid for pid in map(int, listed.split()) if b"spawn_main" in _command(pid)]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextmanager
def serving(models: Path, *flags: str, **variables: str) -> Iterator[Served]:
    """`parallax serve` on a free port, on the CPU."""
    with starting(models, *flags, stderr=None, **variables) as (process, log):
        assert process.stdout is not None
        greeting: list[str] = []
        late = threading.Timer(PATIENCE_S, process.kill)
        late.start()
        while not _is_whole(greeting, flags):
            line = process.stdout.readline()
            assert line, f"it did not start: {greeting} {log.read_text()}"
            greeting.append(line.rstrip())
        late.cancel()
        yield Served(process, greeting, log)


@contextmanager
def starting(
    models: Path, *flags: str, stderr: IO[Any] | int | None = None, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """The same without waiting for what it says; its standard error is in a file, or elsewhere."""
    log = models.parent / f"log-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "service.cli", "serve", "--models", str(models)]
    if "--port" not in flags:
        command += ["--port", "0"]
    command += ["--provider", "cpu", *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script
        signal.signal(signal.SIGINT, signal.default_int_handler)  # else the child ignores it, too
    with (
        log.open("w") as written,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=written if stderr is None else stderr,
            text=True,
            env=environment,
        ) as process,
    ):
        try:
            yield process, log
        finally:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            left = children.read_text().split() if children.exists() else []
            process.kill()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)


def samples(url: str) -> dict[str, float]:
    """`name[label=value]...`, labels sorted, to value."""
    text = httpx2.get(url, timeout=PATIENCE_S).text
    return {
        "".join((sample.name, *(f"[{k}={v}]" for k, v in sorted(sample.labels.items())))): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)


def connections(pid: int, port: int) -> int:
    """How many a process holds at its port."""
    mine = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            mine.add(os.readlink(descriptor))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(
        row[1].endswith(f":{port:04X}") and row[3] == _ESTABLISHED and f"socket:[{row[9]}]" in mine
        for row in rows
    )


class Clients:
    """Connections that send one image after the other, each waiting for its answer.

    A connection is made anew where the server closes it after an answer. `lost` are requests that
    were sent and got none; `refused` counts connections that could not be made.
    """

    def __init__(self, served: Served, count: int = 8) -> None:
        self._port = served.port
        self._count = count
        self._ending = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self.answered = 0
        self.statuses: set[int] = set()
        self.lost: list[str] = []
        self.refused = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Each client ends after its present answer."""
        self._ending = True
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def more(self, count: int = 50) -> None:
        """Wait for that many further answers."""
        goal = self.answered + count
        eventually(lambda: self.answered >= goal)

    async def _all(self) -> None:
        await asyncio.gather(*(self._one() for _ in range(self._count)))

    async def _one(self) -> None:
        while not self._ending:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                self.refused += 1
                await asyncio.sleep(0.01)
                continue
            try:
                await self._talk(reader, writer)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.lost.append(repr(error))
            finally:
                writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self._ending:
            writer.write(REQUEST)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            (length,) = re.findall(rb"content-length: (\d+)", head)
            await reader.readexactly(int(length))
            self.answered += 1
            self.statuses.add(int(head.split()[1]))
            if b"connection: close" in head:
                return


def _is_whole(greeting: list[str], flags: Sequence[str]) -> bool:
    """Whether all lines are there that these flags bring."""
    wanted = ["model"]
    wanted += ["workers"] if "--workers" in flags and "1" not in flags else []
    wanted += ["metrics on"] if "--metrics-port" in flags else []
    return all(any(f" {word}" in line for line in greeting) for word in wanted)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
