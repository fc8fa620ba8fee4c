"""The way of a line: in order, whole, and never at the cost of who logs."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.log_sink import LogSink


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Reading end, writing end."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):  # the test may have closed it
            os.close(end)


def line(number: int, size: int = 0) -> bytes:
    return f"line {number:06} {'x' * size}\n".encode()


def test_lines_arrive_in_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = LogSink(writer)
    for number in range(100):
        sink.put(line(number))
    sink.close()
    assert os.read(reader, 1 << 16) == b"".join(map(line, range(100)))
    assert sink.dropped == 0


def test_a_single_line_is_written_at_once(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = LogSink(writer, pause_s=1000)
    sink.put(line(1))
    assert os.read(reader, 100) == line(1)  # before the pause, not after it
    sink.put(line(2))
    assert sink.flush()  # nor does a flush wait for it
    assert os.read(reader, 100) == line(2)
    sink.close()


def test_threads_share_a_sink(tmp_path: Path) -> None:
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    sink = LogSink(file)

    def work(part: int) -> None:
        for number in range(500):
            sink.put(line(part * 1000 + number, part * 30))

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.close(60)
    os.close(file)
    lines = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    for part in range(4):
        own = [entry for entry in lines if entry.startswith(b"line 00%d" % part)]
        assert own == [line(part * 1000 + number, part * 30) for number in range(500)]


def test_a_reader_that_stalls_costs_lines_alone(pipe: tuple[int, int]) -> None:
    """The pipe is never read: the queue fills, what comes after it is dropped, nobody waits."""
    reader, writer = pipe
    lost: list[int] = []
    sink = LogSink(writer, capacity=1 << 18)
    sink.report_drops(lost.append)
    size = len(line(0, 100))
    for number in range(10_000):
        sink.put(line(number, 100))
    held = 10_000 - sink.dropped
    assert sum(lost) == sink.dropped > 0
    assert held * size <= (1 << 18) + (1 << 16) + size  # the queue, and what the pipe holds
    assert not sink.flush(0.01)
    sink.close(0.01)  # gives up, too
    sink.put(line(0))
    assert 10_000 - sink.dropped == held - 1
    got = b""
    while got.count(b"\n") < held:
        got += os.read(reader, 1 << 16)
    assert got == b"".join(line(number, 100) for number in range(held))


@pytest.mark.parametrize("how", ["full", "closed", "gone"])
def test_a_stream_that_fails_is_counted(pipe: tuple[int, int], how: str) -> None:
    reader, writer = pipe
    if how == "full":
        writer = os.open("/dev/full", os.O_WRONLY)
    elif how == "closed":
        os.close(writer)
    else:
        os.close(reader)
    lost: list[int] = []
    sink = LogSink(writer)
    for number in range(200):
        sink.put(line(number))
    assert sink.flush()
    sink.report_drops(lost.append)
    assert lost == [200]  # also what was lost before anybody asked
    sink.put(line(0) + line(1))
    sink.close()
    assert sum(lost) == sink.dropped == 202
    if how == "full":
        os.close(writer)


class Disk:
    """Takes so many bytes at each write, as a disk or a pipe may; None is an error."""

    def __init__(self, takes: list[int | None]) -> None:
        self.takes = takes
        self.data = b""
        self.failures = 0

    def write(self, descriptor: int, data: memoryview) -> int:
        takes = self.takes.pop(0) if self.takes else len(data)
        if takes is None:
            self.failures += 1
            raise OSError(errno.ENOSPC, "disk full")
        self.data += bytes(data[:takes])
        return min(takes, len(data))


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=20),
    st.lists(st.none() | st.integers(1, 60), max_size=40),
)
def test_what_breaks_off_never_joins_two_lines(sizes: list[int], takes: list[int | None]) -> None:
    """Whole lines are as they were; a cut one stands alone; the rest is counted, line by line."""
    disk = Disk(takes)
    sink = LogSink(-1, pause_s=0)
    sent = [line(number, size) for number, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.log_sink.os.write", disk.write)
        for entry in sent:
            sink.put(entry)
        assert sink.flush(60)
        sink.put(b"the end\n")
        takes.clear()
        sink.close(60)
    *lines, last = disk.data.splitlines(keepends=True)
    assert last == b"the end\n"
    assert all(any(entry.startswith(piece.rstrip(b"\n")) for entry in sent) for piece in lines)
    lost = [entry for entry in sent if entry not in lines]
    # A line that is all there but for its newline is counted, too: nobody knows that it ended.
    assert len(lost) <= sink.dropped <= len(lost) + disk.failures


def test_a_stream_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    sink = LogSink(writer)
    sent = [line(number, 1000) for number in range(300)]  # more than a pipe holds
    for entry in sent:
        sink.put(entry)
    got = b""
    while len(got) < len(b"".join(sent)):
        got += os.read(reader, 1 << 16)
    sink.close()
    assert got == b"".join(sent)
    assert sink.dropped == 0


def test_writes_are_whole_lines_that_a_pipe_takes_whole(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the lines of several processes with one pipe do not mix."""
    writes: list[bytes] = []

    def write(descriptor: int, data: memoryview) -> int:
        writes.append(bytes(data))
        return len(data)

    monkeypatch.setattr("service.log_sink.os.write", write)
    sink = LogSink(pipe[1])
    sent = [line(number, 5 * number) for number in range(1000)]
    for entry in sent:
        sink.put(entry)
    sink.close(60)
    assert b"".join(writes) == b"".join(sent)
    assert all(data.endswith(b"\n") for data in writes)
    assert all(len(data) <= 4096 or data in sent for data in writes)
    assert len(writes) < len(sent)


def test_a_finaliser_may_log_while_a_line_is_put(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink = LogSink(writer, capacity=100)

    def logs_itself(lines: int) -> None:
        if sink.dropped == 1:
            sink.put(b"dropped\n")

    sink.report_drops(logs_itself)
    sink.put(b"x" * 200 + b"\n")
    sink.close()
    assert os.read(reader, 100) == b"dropped\n"
