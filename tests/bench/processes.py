"""A server in a process of its own: started, timed until it is ready, watched, stopped.

CPU seconds and memory are read from /proc and are those of the whole family: the process, its
children, theirs, and whatever else lives in its session. Knows nothing of what is served.
"""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

_TICKS = os.sysconf("SC_CLK_TCK")
_POLL_S = 0.002


class ServerError(RuntimeError):
    """The server did not start, or died; the message ends with what it said last."""


@dataclass(kw_only=True)
class Server:
    """A context: inside it the server answers, after it its whole family is gone."""

    command: Sequence[str]
    env: Mapping[str, str]
    port: int
    cwd: Path
    ready: str = "/health/ready"
    limit_s: float = 90.0
    ready_s: float = field(default=0.0, init=False)  # from spawning it to the first 200
    _process: "subprocess.Popen[bytes]" = field(init=False, repr=False)
    _said: IO[bytes] = field(init=False, repr=False)

    def __enter__(self) -> Self:
        """
        Raises:
            ServerError: it was not ready in time.
        """
        self._said = tempfile.TemporaryFile()
        began = time.perf_counter()
        self._process = subprocess.Popen(
            self.command,
            env=dict(self.env),
            cwd=self.cwd,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while status(self.port, self.ready) != 200:
                if self._process.poll() is not None or time.perf_counter() - began > self.limit_s:
                    raise ServerError(f"{' '.join(self.command)} is not ready: {self.last_words()}")
                time.sleep(_POLL_S)
        except BaseException:
            self.stop()
            raise
        self.ready_s = time.perf_counter() - began
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def last_words(self) -> str:
        """The end of what it printed."""
        self._said.seek(0)
        return self._said.read()[-2000:].decode(errors="replace")

    def stop(self) -> None:
        """Ask, wait, and kill what is left of the family."""
        members = family(self.pid)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in filter(alive, members):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until = time.perf_counter() + 5.0
        while any(map(alive, members)) and time.perf_counter() < until:
            time.sleep(_POLL_S)
        self._said.close()


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def status(port: int, path: str) -> int | None:
    """What a GET is answered with; None where nobody answers."""
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(request.encode())
            return int(connection.recv(4096).split(b" ", 2)[1])
    except (OSError, IndexError, ValueError):
        return None


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        return _state((Path("/proc") / str(pid) / "stat").read_text())[0] != "Z"
    except OSError:
        return False


def family(root: int) -> list[int]:
    """The process, its descendants, and all of its session."""
    processes = _processes()
    members = {pid for pid, stat in processes.items() if root in (pid, stat.session)}
    grown = True
    while grown:
        more = {pid for pid, stat in processes.items() if stat.parent in members} - members
        members |= more
        grown = bool(more)
    return sorted(members)


def cpu_seconds(root: int) -> float:
    """User and system time of a family, reaped children too."""
    processes = _processes()
    return sum(processes[pid].ticks for pid in family(root) if pid in processes) / _TICKS


def resident_mib(root: int) -> float:
    """Memory of a family, each page that several share counted once (PSS)."""
    return sum(_kib(pid, "smaps_rollup", "Pss:") for pid in family(root)) / 1024


def rss_mib(pid: int) -> float:
    """Resident memory of one process, as `ps` has it."""
    return _kib(pid, "status", "VmRSS:") / 1024


@dataclass(frozen=True)
class _Stat:
    parent: int
    session: int
    ticks: int


def _processes() -> dict[int, _Stat]:
    found = {}
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            try:
                found[int(place.name)] = _stat((place / "stat").read_text())
            except OSError:  # it ended meanwhile
                continue
    return found


def _state(line: str) -> list[str]:
    """The fields that follow the name, which may hold spaces and parentheses itself."""
    return line.rpartition(")")[2].split()


def _stat(line: str) -> _Stat:
    fields = _state(line)
    return _Stat(int(fields[1]), int(fields[3]), sum(map(int, fields[11:15])))


def _kib(pid: int, file: str, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
