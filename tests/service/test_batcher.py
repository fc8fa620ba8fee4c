"""The batcher with runners that are told when to end: sizes, bounds, deadlines, who is dropped."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import pytest

from service.batcher import MicroBatcher, Served
from service.errors import DeadlineExceeded, InferenceFailed, Overloaded, ShuttingDown

LONG_S = 120.0  # for machines that are busy with something else


class Runner:
    """Doubles what is in its chunks; holds each run at `gate` until that is opened."""

    def __init__(self, *, open: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        if open:
            self.gate.set()

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        assert self.gate.wait(LONG_S)
        return [2 * item for item in items]


def batcher_of(runner: Callable[[list[int]], Any], **options: Any) -> MicroBatcher[list[int], int]:
    """Of chunks that are lists; the runner gets what is in them, one list a run."""

    def flat(chunks: list[list[int]]) -> Any:
        return runner([item for chunk in chunks for item in chunk])

    return MicroBatcher(flat, **({"max_batch": 4, "max_pending": 100} | options))


def run(scenario: Awaitable[Any]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario, LONG_S)

    asyncio.run(bounded())


def soon() -> float:
    return asyncio.get_running_loop().time() + LONG_S


def values(pieces: Iterable[Served[int]]) -> list[int | None]:
    """Results in order; None for an image that failed."""
    return [value if isinstance(value, int) else None for piece in pieces for value in piece.values]


def served(pieces: Sequence[Served[int]]) -> Served[int]:
    (piece,) = pieces
    return piece


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_results_come_back_in_order_with_their_times() -> None:
    async def scenario() -> None:
        sizes: list[int] = []
        batcher = batcher_of(Runner(), on_batch=sizes.append)
        batcher.start()
        answers = await batcher.submit([3, 1, 2], deadline=soon())
        await batcher.close()
        assert values(answers) == [6, 2, 4]
        assert served(answers).queue_s >= 0
        assert served(answers).run_s > 0
        assert sizes == [3]

    run(scenario())


def test_nothing_submitted_is_nothing_run() -> None:
    async def scenario() -> None:
        runner = Runner()
        batcher = batcher_of(runner)
        batcher.start()
        assert await batcher.submit([], deadline=soon()) == []
        await batcher.close()
        assert runner.batches == []

    run(scenario())


def test_what_waits_while_one_runs_becomes_the_next_batch() -> None:
    async def scenario() -> None:
        runner = Runner(open=False)
        batcher = batcher_of(runner)
        batcher.start()
        first = asyncio.create_task(batcher.submit([0], deadline=soon()))
        await until(lambda: len(runner.batches) == 1)
        rest = [asyncio.create_task(batcher.submit([i], deadline=soon())) for i in range(1, 8)]
        await asyncio.sleep(0)
        runner.gate.set()
        await asyncio.gather(first, *rest)
        await batcher.close()
        assert runner.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]

    run(scenario())


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_delay_waits_for_a_fuller_batch() -> None:
    """Where others came before: the one that comes alone does not know that it is."""

    async def scenario() -> None:
        runner, clock = Runner(), Clock()
        batcher = batcher_of(runner, max_delay_s=0.02, max_batch=2, clock=clock)
        batcher.start()
        await asyncio.gather(*(batcher.submit([i], deadline=soon()) for i in (8, 9)))
        first = asyncio.create_task(batcher.submit([0], deadline=soon()))
        await asyncio.sleep(0.05)  # the thread looks at its clock: no time has passed
        assert runner.batches == [[8, 9]]
        clock.now = 0.02
        second = asyncio.create_task(batcher.submit([1], deadline=soon()))
        answer = served(await first)
        await second
        await batcher.close()
        assert runner.batches == [[8, 9], [0, 1]]
        assert answer.queue_s == 0.02

    run(scenario())


def test_who_comes_alone_does_not_wait() -> None:
    async def scenario() -> None:
        runner = Runner()
        batcher = batcher_of(runner, max_delay_s=LONG_S, clock=Clock())
        batcher.start()
        for i in range(3):
            await batcher.submit([i], deadline=soon())
        await batcher.close()
        assert runner.batches == [[0], [1], [2]]

    run(scenario())


def test_full_batch_does_not_wait() -> None:
    async def scenario() -> None:
        runner = Runner()
        batcher = batcher_of(runner, max_delay_s=LONG_S, clock=Clock())
        batcher.start()
        await batcher.submit([0, 1, 2, 3], deadline=soon())
        await batcher.close()
        assert runner.batches == [[0, 1, 2, 3]]

    run(scenario())


def test_closing_does_not_wait() -> None:
    async def scenario() -> None:
        batcher = batcher_of(Runner(), max_delay_s=LONG_S, clock=Clock())
        batcher.start()
        last = asyncio.create_task(batcher.submit([0], deadline=soon()))
        await asyncio.sleep(0)
        await batcher.close()
        assert values(await last) == [0]

    run(scenario())


def test_admission_is_bounded_and_says_when_to_return() -> None:
    async def scenario() -> None:
        batcher = batcher_of(Runner(), max_pending=3)
        batcher.start()
        with batcher.admit(2):
            assert batcher.pending == 2
            with pytest.raises(Overloaded) as caught, batcher.admit(2):
                pass
            assert caught.value.headers == {"Retry-After": "1"}
            with batcher.admit(1):
                pass
        assert batcher.pending == 0
        await batcher.close()

    run(scenario())


@pytest.mark.parametrize(("pending", "seconds"), [(1, 1), (100, 20), (19_999, 60)])
def test_retry_after_follows_the_measured_pace(pending: int, seconds: int) -> None:
    clock = Clock()

    def slow(items: list[int]) -> list[int]:
        clock.now += 0.2
        return items

    async def scenario() -> None:
        batcher = batcher_of(slow, max_pending=20_000, clock=clock)
        batcher.start()
        answer = served(await batcher.submit([1], deadline=soon()))
        assert answer.run_s == pytest.approx(0.2)
        with (
            batcher.admit(pending),
            pytest.raises(Overloaded) as caught,
            batcher.admit(20_000),
        ):
            pass
        assert caught.value.retry_after_s == seconds  # at 0.2 s an image
        await batcher.close()

    run(scenario())


def test_deadline_ends_the_wait_and_drops_what_has_not_begun() -> None:
    async def scenario() -> None:
        runner = Runner(open=False)
        batcher = batcher_of(runner)
        batcher.start()
        first = asyncio.create_task(batcher.submit([0], deadline=soon()))
        await until(lambda: len(runner.batches) == 1)
        with pytest.raises(DeadlineExceeded):
            await batcher.submit([1], deadline=asyncio.get_running_loop().time() + 0.01)
        runner.gate.set()
        await first
        assert values(await batcher.submit([2], deadline=soon())) == [4]
        await batcher.close()
        assert runner.batches == [[0], [2]]

    run(scenario())


def test_deadline_ends_the_wait_for_what_is_running() -> None:
    async def scenario() -> None:
        runner = Runner(open=False)
        batcher = batcher_of(runner)
        batcher.start()
        with pytest.raises(DeadlineExceeded):
            await batcher.submit([0], deadline=asyncio.get_running_loop().time() + 0.05)
        runner.gate.set()
        await batcher.close()  # the late result finds nobody

    run(scenario())


def test_abandoned_chunks_cost_no_run() -> None:
    async def scenario() -> None:
        runner = Runner(open=False)
        batcher = batcher_of(runner)
        batcher.start()
        first = asyncio.create_task(batcher.submit([0], deadline=soon()))
        await until(lambda: len(runner.batches) == 1)
        gone = asyncio.create_task(batcher.submit([1], deadline=soon()))
        stays = asyncio.create_task(batcher.submit([2], deadline=soon()))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        runner.gate.set()
        await asyncio.gather(first, stays)
        await batcher.close()
        assert gone.cancelled()
        assert runner.batches == [[0], [2]]

    run(scenario())


def broken(items: list[int]) -> list[int]:
    raise RuntimeError("no")


def ended(items: list[int]) -> list[int]:
    raise SystemExit("no")


@pytest.mark.parametrize(
    ("runner", "logged"),
    [(broken, "no"), (ended, "no"), (lambda items: items[:-1], "1 results for 2 images")],
)
def test_a_failed_batch_fails_alone(
    runner: Callable[[list[int]], list[int]], logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        batcher = batcher_of(lambda items: runner(items) if 13 in items else items)
        batcher.start()
        assert values(await batcher.submit([13, 14], deadline=soon())) == [None, None]
        assert values(await batcher.submit([5], deadline=soon())) == [5]
        await batcher.close()

    run(scenario())
    assert "a batch of 2 failed" in caplog.text
    assert logged in caplog.text


def test_an_image_fails_alone() -> None:
    """The others of its batch, and of its client, are answered."""

    async def scenario() -> None:
        batcher = batcher_of(lambda items: [InferenceFailed() if i == 13 else i for i in items])
        batcher.start()
        assert values(await batcher.submit([1, 13, 2], deadline=soon())) == [1, None, 2]
        await batcher.close()

    run(scenario())


def test_a_request_larger_than_a_batch_waits_for_all_of_it() -> None:
    async def scenario() -> None:
        batcher = batcher_of(lambda items: broken(items) if 0 in items else items, max_batch=1)
        batcher.start()
        with batcher.admit(4):
            assert values(await batcher.submit([0, 1, 2, 3], deadline=soon())) == [None, 1, 2, 3]
        assert batcher.pending == 0
        await batcher.close()

    run(scenario())


def test_chunks_are_not_torn_to_fill_a_batch() -> None:
    async def scenario() -> None:
        runner = Runner(open=False)
        batcher = batcher_of(runner)
        batcher.start()
        first = asyncio.create_task(batcher.submit([0], deadline=soon()))
        await until(lambda: len(runner.batches) == 1)
        chunks = ([1, 2, 3], [4, 5], [6], [7, 8])
        rest = [asyncio.create_task(batcher.submit(chunk, deadline=soon())) for chunk in chunks]
        await asyncio.sleep(0)
        runner.gate.set()
        answers = await asyncio.gather(first, *rest)
        await batcher.close()
        assert runner.batches == [[0], [1, 2, 3], [4, 5, 6], [7, 8]]
        assert [values(answer) for answer in answers[1:]] == [[2, 4, 6], [8, 10], [12], [14, 16]]

    run(scenario())


def test_what_arrives_together_runs_together() -> None:
    """The thread is told when the loop has worked off what was there, not of the first of it."""

    async def scenario() -> None:
        runner = Runner()
        batcher = batcher_of(runner, max_batch=16)
        batcher.start()
        await asyncio.gather(*(batcher.submit([i], deadline=soon()) for i in range(16)))
        await batcher.close()
        assert runner.batches == [list(range(16))]

    run(scenario())


def test_who_could_not_be_answered_in_time_is_not_admitted() -> None:
    clock = Clock()

    def slow(items: list[int]) -> list[int]:
        clock.now += 0.5
        return items

    async def scenario() -> None:
        batcher = batcher_of(slow, clock=clock)
        batcher.start()
        await batcher.submit([1], deadline=soon())
        with batcher.admit(4, time_left_s=0.1):  # nobody is before it
            with pytest.raises(Overloaded) as caught:
                batcher.check_room(1, time_left_s=1.9)
            batcher.check_room(1, time_left_s=2.1)
        await batcher.close()
        assert caught.value.retry_after_s == 2

    run(scenario())


def test_idle_threads_share_what_is_waiting() -> None:
    async def scenario() -> None:
        runner = Runner(open=False)
        batcher = batcher_of(runner, max_batch=8, runs=2)
        batcher.start()
        tasks = [asyncio.create_task(batcher.submit([i], deadline=soon())) for i in range(6)]
        await until(lambda: len(runner.batches) == 2)  # at the same time: the gate is shut
        late = asyncio.create_task(batcher.submit([6, 7], deadline=soon()))
        await asyncio.sleep(0.01)
        assert sorted(runner.batches) == [[0, 1, 2], [3, 4, 5]]
        runner.gate.set()
        answers = await asyncio.gather(*tasks, late)
        await batcher.close()
        assert [values(answer) for answer in answers] == [*([2 * i] for i in range(6)), [12, 14]]
        assert not batcher.running

    run(scenario())


def test_several_runs_at_once_shorten_the_wait_that_is_expected() -> None:
    clock = Clock()

    def slow(items: list[int]) -> list[int]:
        clock.now += 1.0
        return items

    async def scenario() -> None:
        batcher = batcher_of(slow, runs=2, clock=clock)
        batcher.start()
        await batcher.submit([1], deadline=soon())
        with batcher.admit(10):
            with pytest.raises(Overloaded) as caught:
                batcher.check_room(1, time_left_s=4.9)
            batcher.check_room(1, time_left_s=5.1)
        await batcher.close()
        assert caught.value.retry_after_s == 5

    run(scenario())


def test_running_between_start_and_close() -> None:
    async def scenario() -> None:
        batcher = batcher_of(Runner())
        assert not batcher.running
        batcher.start()
        assert batcher.running
        await batcher.close()
        assert not batcher.running

    run(scenario())


def test_close_runs_what_was_submitted_and_admits_nothing_more() -> None:
    async def scenario() -> None:
        runner = Runner(open=False)
        batcher = batcher_of(runner)
        batcher.start()
        first = asyncio.create_task(batcher.submit([0], deadline=soon()))
        await until(lambda: len(runner.batches) == 1)
        second = asyncio.create_task(batcher.submit([1], deadline=soon()))
        await asyncio.sleep(0)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(ShuttingDown), batcher.admit(1):
            pass
        with pytest.raises(ShuttingDown):
            await batcher.submit([2], deadline=soon())
        runner.gate.set()
        await closing
        assert [values(s) for s in await asyncio.gather(first, second)] == [[0], [2]]

    run(scenario())


def test_unstarted_batcher_refuses_and_closes() -> None:
    async def scenario() -> None:
        batcher = batcher_of(Runner())
        with pytest.raises(ShuttingDown), batcher.admit(1):
            pass
        await batcher.close()

    run(scenario())


def test_many_clients_get_their_own_answers() -> None:
    async def scenario() -> None:
        runner = Runner()
        batcher = batcher_of(runner, max_batch=16)
        batcher.start()

        async def client(i: int) -> bool:
            return values(await batcher.submit([i, -i], deadline=soon())) == [2 * i, -2 * i]

        assert all(await asyncio.gather(*(client(i) for i in range(300))))
        await batcher.close()
        assert max(map(len, runner.batches)) <= 16
        assert sum(map(len, runner.batches)) == 600

    run(scenario())
