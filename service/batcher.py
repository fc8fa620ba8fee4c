"""Many small requests, few large runs: a queue, threads that run batches, a bound on both.

What is submitted is a chunk: the images of one request, or as many of them as fit a run. A thread
takes the chunks that are waiting (up to `max_batch` images), runs them, and meanwhile the next
batch gathers; threads that are idle at the same time share what is waiting. They are woken when the
event loop has worked off what had arrived, so that requests that came together run together. Where
they come in company, the oldest waits up to `max_delay_s` for a fuller batch; where the last run
had a single chunk, nobody waits for others. Chunks whose client has gone, or whose deadline has
passed, are dropped before they cost a run. An image fails alone where the runner says so, with its
whole batch where the runner raises. Knows neither images nor the runtime: a chunk is anything with
a length that can be sliced, the runner any function of a list of them.

    admit > submit > waiting > taken > runner > delivered
      |        |                          |
      |        DeadlineExceeded           InferenceFailed, an image's answer like any other
      Overloaded, ShuttingDown
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from service.errors import DeadlineExceeded, InferenceFailed, Overloaded, ShuttingDown

_MEMORY = 0.9  # of the moving average of seconds an image
_LONGEST_RETRY_S = 60

log = logging.getLogger(__name__)


class Sliceable(Protocol):
    """What a chunk must be able to do."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> Any: ...


Chunk = TypeVar("Chunk", bound=Sliceable)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Served(Generic[Result]):
    """The answers of a chunk in its order, and where the time went, in seconds."""

    values: Sequence[Result | InferenceFailed]
    queue_s: float
    run_s: float


class _Ticket(Generic[Chunk, Result]):
    """A chunk on its way; the future is done when nobody waits for it any more."""

    __slots__ = ("arrived", "chunk", "future")

    def __init__(
        self, chunk: Chunk, future: asyncio.Future[Served[Result]], arrived: float
    ) -> None:
        self.chunk = chunk
        self.future = future
        self.arrived = arrived


class MicroBatcher(Generic[Chunk, Result]):
    """Created anywhere, started in the event loop that will submit to it."""

    def __init__(
        self,
        runner: Callable[[list[Chunk]], Sequence[Result | InferenceFailed]],
        *,
        max_batch: int,
        max_pending: int,
        max_delay_s: float = 0.0,
        runs: int = 1,
        on_batch: Callable[[int], None] = lambda size: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`runner` is called in threads of its own, up to `runs` at once; `on_batch` beside it.

        It answers each image of its chunks, in order, with a result, or with an InferenceFailed for
        that image alone.
        """
        self._runner = runner
        self._max_batch = max_batch
        self._max_pending = max_pending
        self._max_delay_s = max_delay_s
        self._on_batch = on_batch
        self._clock = clock

        self._pending = 0  # admitted and not yet answered; touched by the event loop only
        self._waking = False  # the same: whether the thread will be told of what is waiting
        self._seconds_an_image = 0.0  # a moving average, from the first run on
        self._wake = threading.Condition()  # guards the four below
        self._waiting: deque[_Ticket[Chunk, Result]] = deque()
        self._open = False
        self._idle = 0  # threads that wait for chunks
        self._in_company = False  # the last run had several chunks
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"batcher_{number}", daemon=True)
            for number in range(runs)
        ]

    @property
    def running(self) -> bool:
        """Whether what is submitted will be answered."""
        return self._open and all(thread.is_alive() for thread in self._threads)

    @property
    def pending(self) -> int:
        """Images admitted and not yet answered."""
        return self._pending

    def start(self) -> None:
        """Begin to take chunks; once in a batcher's life, inside the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._open = True
        for thread in self._threads:
            thread.start()

    async def close(self) -> None:
        """Admit nothing more, run what was submitted, then stop the thread."""
        with self._wake:
            self._open = False
            self._wake.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                await asyncio.to_thread(thread.join)

    def check_room(self, count: int, *, time_left_s: float = math.inf) -> None:
        """That `count` images would be admitted now.

        Raises:
            Overloaded: there is no room for all of them, or what is before them will take longer
                than the time that they have.
            ShuttingDown: not started, or closing.
        """
        if not self._open:
            raise ShuttingDown
        expected_s = self._pending * self._seconds_an_image / len(self._threads)
        if self._pending + count > self._max_pending or expected_s > time_left_s:
            raise Overloaded(max(1, min(_LONGEST_RETRY_S, math.ceil(expected_s))))

    @contextmanager
    def admit(self, count: int, *, time_left_s: float = math.inf) -> Iterator[None]:
        """Hold room for `count` images: taken before any work is spent on them.

        Raises:
            Overloaded, ShuttingDown: as `check_room`.
        """
        self.check_room(count, time_left_s=time_left_s)
        self._pending += count
        try:
            yield
        finally:
            self._pending -= count

    async def submit(self, chunk: Chunk, *, deadline: float) -> list[Served[Result]]:
        """Answers of the chunk, in the pieces that it was run in: one where it fits a batch.

        `deadline` is a time of the event loop's clock.

        Raises:
            DeadlineExceeded: it passed; what had not begun will not be run.
            ShuttingDown: closed since the images were admitted.
        """
        size = self._max_batch
        if len(chunk) <= size:
            return [await self._enqueue(chunk, deadline)] if len(chunk) else []
        pieces = [chunk[begin : begin + size] for begin in range(0, len(chunk), size)]
        return await asyncio.gather(*[self._enqueue(piece, deadline) for piece in pieces])

    async def _enqueue(self, chunk: Chunk, deadline: float) -> Served[Result]:
        assert self._loop is not None  # set where it was opened
        if not self._open:
            raise ShuttingDown
        future: asyncio.Future[Served[Result]] = self._loop.create_future()
        ticket = _Ticket(chunk, future, self._clock())
        with self._wake:
            self._waiting.append(ticket)
        if not self._waking:
            self._waking = True
            self._loop.call_soon(self._tell)
        timer = self._loop.call_at(deadline, _expire, future)
        try:
            return await future
        finally:
            timer.cancel()

    def _tell(self) -> None:
        self._waking = False
        with self._wake:
            self._wake.notify()

    # --- in the batcher's threads ---

    def _work(self) -> None:
        while batch := self._take():
            self._run(batch)

    def _take(self) -> list[_Ticket[Chunk, Result]]:
        """The next batch, not empty; empty once closed and drained."""
        with self._wake:
            self._idle += 1
            try:
                return self._gather()
            finally:
                self._idle -= 1

    def _gather(self) -> list[_Ticket[Chunk, Result]]:
        while True:
            self._drop_abandoned()
            if not self._waiting:
                if not self._open:
                    return []
                self._wake.wait()
                continue
            batch, is_full = self._fitting()
            in_company = self._in_company or len(self._waiting) > 1
            delay_s = self._max_delay_s if in_company else 0.0
            left = self._waiting[0].arrived + delay_s - self._clock()
            if left <= 0 or is_full or not self._open:
                break
            self._wake.wait(left)
        for _ in batch:
            self._waiting.popleft()
        if self._waiting and self._idle > 1:
            self._wake.notify()
        self._in_company = len(batch) > 1
        return batch

    def _fitting(self) -> tuple[list[_Ticket[Chunk, Result]], bool]:
        """The oldest chunks, one at least, and whether a run has no room for the next.

        A thread's share of the images, so that idle ones run at the same time; up to a batch.
        """
        waiting = sum(len(ticket.chunk) for ticket in self._waiting)
        share = min(self._max_batch, math.ceil(waiting / self._idle))
        batch: list[_Ticket[Chunk, Result]] = []
        size = 0
        for ticket in self._waiting:
            if size >= share or size + len(ticket.chunk) > self._max_batch:
                break
            batch.append(ticket)
            size += len(ticket.chunk)
        return batch, waiting >= self._max_batch

    def _drop_abandoned(self) -> None:
        if any(ticket.future.done() for ticket in self._waiting):
            self._waiting = deque(t for t in self._waiting if not t.future.done())

    def _run(self, batch: list[_Ticket[Chunk, Result]]) -> None:
        size = sum(len(ticket.chunk) for ticket in batch)
        began = self._clock()
        results: Sequence[Result | InferenceFailed]
        try:
            results = self._runner([ticket.chunk for ticket in batch])
            if len(results) != size:
                raise RuntimeError(f"the runner gave {len(results)} results for {size} images")
            self._on_batch(size)
        except BaseException:  # also what would end the thread: nobody would answer after it
            log.exception("a batch of %d failed", size)
            results = [InferenceFailed() for _ in range(size)]
        else:
            pace = (self._clock() - began) / size
            before = self._seconds_an_image or pace
            self._seconds_an_image = _MEMORY * before + (1 - _MEMORY) * pace
        run_s = self._clock() - began
        answers = []
        place = 0
        for ticket in batch:
            values = results[place : place + len(ticket.chunk)]
            place += len(ticket.chunk)
            answers.append(Served(values, began - ticket.arrived, run_s))
        assert self._loop is not None  # the thread starts after it is set
        self._loop.call_soon_threadsafe(_settle, batch, answers)


# --- in the event loop ---


def _settle(batch: list[_Ticket[Chunk, Result]], answers: list[Served[Result]]) -> None:
    """Give every future that still waits its answer."""
    for ticket, answer in zip(batch, answers, strict=True):
        if not ticket.future.done():
            ticket.future.set_result(answer)


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(DeadlineExceeded())
