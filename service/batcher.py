"""Many small requests, few large runs: a queue, a thread that runs batches, a bound on both.

The thread takes what is waiting (up to `max_batch`, once the oldest waited `max_delay_s`), runs it,
and meanwhile the next batch gathers. Items whose client has gone are dropped before they cost a
run. An item fails alone where the runner says so, with its whole batch where the runner raises.
Knows neither images nor the runtime: an item is anything, the runner any function of a list.

    admit > submit > waiting > taken > runner > delivered
      |        |                          |
      |        DeadlineExceeded           InferenceFailed, an item's answer like any other
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
from typing import Generic, TypeVar

from service.errors import DeadlineExceeded, InferenceFailed, Overloaded, ShuttingDown

Item = TypeVar("Item")
Result = TypeVar("Result")

_MEMORY = 0.9  # of the moving average of seconds an item
_LONGEST_RETRY_S = 60

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served(Generic[Result]):
    """A result and where its time went, in seconds."""

    value: Result
    queue_s: float
    run_s: float


class _Ticket(Generic[Item, Result]):
    """An item on its way; the future is cancelled when nobody waits for it any more."""

    __slots__ = ("arrived", "future", "item")

    def __init__(
        self, item: Item, future: asyncio.Future[Served[Result] | InferenceFailed], arrived: float
    ) -> None:
        self.item = item
        self.future = future
        self.arrived = arrived


class MicroBatcher(Generic[Item, Result]):
    """Created anywhere, started in the event loop that will submit to it."""

    def __init__(
        self,
        runner: Callable[[list[Item]], Sequence[Result | InferenceFailed]],
        *,
        max_batch: int,
        max_pending: int,
        max_delay_s: float = 0.0,
        on_batch: Callable[[int], None] = lambda size: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`runner` is called in a thread of its own, never twice at once; `on_batch` beside it.

        It answers each item with a result, or with an InferenceFailed for that item alone.
        """
        self._runner = runner
        self._max_batch = max_batch
        self._max_pending = max_pending
        self._max_delay_s = max_delay_s
        self._on_batch = on_batch
        self._clock = clock

        self._pending = 0  # admitted and not yet answered; touched by the event loop only
        self._seconds_an_item = 0.0  # a moving average, from the first run on
        self._wake = threading.Condition()  # guards the two below
        self._waiting: deque[_Ticket[Item, Result]] = deque()
        self._open = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)

    @property
    def running(self) -> bool:
        """Whether what is submitted will be answered."""
        return self._open and self._thread.is_alive()

    @property
    def pending(self) -> int:
        """Items admitted and not yet answered."""
        return self._pending

    def start(self) -> None:
        """Begin to take items; once in a batcher's life, inside the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._thread.start()

    async def close(self) -> None:
        """Admit nothing more, run what was submitted, then stop the thread."""
        with self._wake:
            self._open = False
            self._wake.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    @contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """Hold room for `count` items: taken before any work is spent on them.

        Raises:
            Overloaded: there is no room for all of them.
            ShuttingDown: not started, or closing.
        """
        if not self._open:
            raise ShuttingDown
        if self._pending + count > self._max_pending:
            raise Overloaded(self._retry_after_s())
        self._pending += count
        try:
            yield
        finally:
            self._pending -= count

    async def submit(
        self, items: Sequence[Item], *, deadline: float
    ) -> list[Served[Result] | InferenceFailed]:
        """Answers in the items' order. `deadline` is a time of the event loop's clock.

        Raises:
            DeadlineExceeded: it passed; what had not begun will not be run.
            ShuttingDown: closed since the items were admitted.
        """
        loop = asyncio.get_running_loop()
        now = self._clock()
        tickets: list[_Ticket[Item, Result]] = [
            _Ticket(item, loop.create_future(), now) for item in items
        ]
        with self._wake:
            if not self._open:
                raise ShuttingDown
            self._waiting.extend(tickets)
            self._wake.notify()
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.gather(*(ticket.future for ticket in tickets))
        except TimeoutError:
            raise DeadlineExceeded from None

    def _retry_after_s(self) -> int:
        expected = math.ceil(self._pending * self._seconds_an_item)
        return max(1, min(_LONGEST_RETRY_S, expected))

    # --- in the batcher's thread ---

    def _work(self) -> None:
        while batch := self._take():
            self._run(batch)

    def _take(self) -> list[_Ticket[Item, Result]]:
        """The next batch, not empty; empty once closed and drained."""
        with self._wake:
            while True:
                self._drop_abandoned()
                if not self._waiting:
                    if not self._open:
                        return []
                    self._wake.wait()
                    continue
                left = self._waiting[0].arrived + self._max_delay_s - self._clock()
                if left <= 0 or len(self._waiting) >= self._max_batch or not self._open:
                    break
                self._wake.wait(left)
            size = min(self._max_batch, len(self._waiting))
            return [self._waiting.popleft() for _ in range(size)]

    def _drop_abandoned(self) -> None:
        if any(ticket.future.cancelled() for ticket in self._waiting):
            self._waiting = deque(t for t in self._waiting if not t.future.cancelled())

    def _run(self, batch: list[_Ticket[Item, Result]]) -> None:
        began = self._clock()
        try:
            results = self._runner([ticket.item for ticket in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"the runner gave {len(results)} results for {len(batch)} items")
            self._on_batch(len(batch))
        except BaseException:  # also what would end the thread: nobody would answer after it
            log.exception("a batch of %d failed", len(batch))
            self._deliver(batch, [InferenceFailed() for _ in batch])
            return
        run_s = self._clock() - began
        pace = run_s / len(batch)
        before = self._seconds_an_item or pace
        self._seconds_an_item = _MEMORY * before + (1 - _MEMORY) * pace
        self._deliver(
            batch,
            [
                result
                if isinstance(result, InferenceFailed)
                else Served(result, began - ticket.arrived, run_s)
                for ticket, result in zip(batch, results, strict=True)
            ],
        )

    def _deliver(
        self,
        batch: list[_Ticket[Item, Result]],
        answers: list[Served[Result] | InferenceFailed],
    ) -> None:
        assert self._loop is not None  # the thread starts after it is set
        self._loop.call_soon_threadsafe(_settle, batch, answers)


def _settle(
    batch: list[_Ticket[Item, Result]], answers: list[Served[Result] | InferenceFailed]
) -> None:
    """In the event loop: give every future that still waits its answer."""
    for ticket, answer in zip(batch, answers, strict=True):
        if not ticket.future.done():
            ticket.future.set_result(answer)
