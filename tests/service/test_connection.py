"""Work ends with the connection."""

import asyncio
from typing import Any

import pytest

from service.connection import while_connected
from service.errors import ClientGone


async def silent() -> dict[str, Any]:
    await asyncio.sleep(60)
    raise AssertionError("waited for")


def test_work_is_done_while_the_client_waits() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert asyncio.run(while_connected(silent, work())) == 7


def test_errors_of_the_work_pass() -> None:
    async def work() -> int:
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        asyncio.run(while_connected(silent, work()))


def test_work_is_cancelled_when_the_client_hangs_up() -> None:
    ended: list[str] = []
    messages = [{"type": "http.request"}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return messages.pop(0)

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def scenario() -> None:
        with pytest.raises(ClientGone):
            await while_connected(receive, work())
        await asyncio.sleep(0)

    asyncio.run(scenario())
    assert ended == ["cancelled"]
