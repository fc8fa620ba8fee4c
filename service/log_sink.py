"""Lines on their way to a file descriptor: who logs never waits, and never fails.

A bounded queue and a thread that writes. What does not fit is dropped and counted: a full disk, a
closed stream or a reader that stalls costs lines, never an answer. Knows bytes only.
"""

import os
import select
import threading
from collections.abc import Callable, Iterable, Iterator

_CAPACITY = 4 << 20  # bytes that wait or are being written
_PAUSE_S = 0.05  # between two writes; a thread woken for each line would cost more than the lines
_CHUNK = select.PIPE_BUF  # bytes that a pipe takes whole, whoever else writes into it
_FLUSH_S = 2.0


class LogSink:
    """Whole lines in, in order. Used from any thread; the thread that writes is its own."""

    def __init__(
        self, descriptor: int, *, capacity: int = _CAPACITY, pause_s: float = _PAUSE_S
    ) -> None:
        self._descriptor = descriptor
        self._capacity = capacity
        self._pause_s = pause_s
        # Reentrant: a finaliser that logs may run anywhere, also while this thread holds the lock.
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)
        self._written = threading.Condition(self._lock)
        self._hurry = threading.Event()
        self._lines: list[bytes] = []
        self._held = 0  # bytes
        self._taken = 0  # calls of put, ever
        self._done = 0  # of them, written or lost
        self._idle = False
        self._closing = False
        self._mid_line = False  # the last write broke off within a line
        self._dropped = 0
        self._on_drop: Callable[[int], None] = lambda lines: None
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that were lost."""
        return self._dropped

    def report_drops(self, on_drop: Callable[[int], None]) -> None:
        """Call this for each loss with the number of lines; for those of the past at once."""
        with self._lock:
            self._on_drop = on_drop
            if self._dropped:
                on_drop(self._dropped)

    def put(self, line: bytes) -> None:
        """Take a line, or several that belong together; the last byte is a newline."""
        with self._lock:
            if self._held + len(line) > self._capacity or self._closing:
                self.drop(line.count(b"\n"))
                return
            self._lines.append(line)
            self._held += len(line)
            self._taken += 1
            if self._idle:
                self._idle = False
                self._work.notify()

    def drop(self, lines: int) -> None:
        """Count lines that are lost."""
        with self._lock:
            self._dropped += lines
            self._on_drop(lines)

    def flush(self, timeout_s: float = _FLUSH_S) -> bool:
        """Wait until what was taken so far is written or lost; False where the time is up."""
        with self._lock:
            goal = self._taken
            self._hurry.set()
            return self._written.wait_for(lambda: self._done >= goal, timeout_s)

    def close(self, timeout_s: float = _FLUSH_S) -> None:
        """Flush, and take no more. A write that hangs is left to its thread."""
        with self._lock:
            self._closing = True
            self._hurry.set()
            self._work.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while lines := self._next():
            for chunk in _chunks(lines):
                if lost := self._write(chunk):
                    self.drop(lost)
            with self._lock:
                self._held -= sum(map(len, lines))
                self._done += len(lines)
                self._written.notify_all()
            self._hurry.wait(self._pause_s)

    def _next(self) -> list[bytes]:
        """All lines that wait, once there are any; none where the sink is closed."""
        with self._lock:
            while not self._lines and not self._closing:
                self._idle = True
                self._work.wait()
            if not self._closing:
                self._hurry.clear()
            lines, self._lines = self._lines, []
            return lines

    def _write(self, chunk: bytes) -> int:
        """Lines of it that were lost."""
        start = b"\n" if self._mid_line else b""
        data, written = start + chunk, 0
        try:
            while written < len(data):
                try:
                    written += os.write(self._descriptor, memoryview(data)[written:])
                except BlockingIOError:  # others may have set the stream so; wait all the same
                    _wait_writable(self._descriptor)
        except OSError:
            pass  # what is left is lost
        if written:
            self._mid_line = data[written - 1 : written] != b"\n"
        return data[max(written, len(start)) :].count(b"\n")


def _chunks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines together, as many as a pipe takes whole; a longer line stands alone."""
    chunk: list[bytes] = []
    size = 0
    for line in lines:
        if chunk and size + len(line) > _CHUNK:
            yield b"".join(chunk)
            chunk, size = [], 0
        chunk.append(line)
        size += len(line)
    yield b"".join(chunk)


def _wait_writable(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll()
