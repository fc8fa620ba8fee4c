"""Headers and bodies before anybody knows what they mean."""

import asyncio
import threading
from typing import Any

import pytest

from service.body import headers_of, off_the_loop, read_body, refuse_encoding
from service.errors import ClientGone, TypeUnsupported


def read(*messages: dict[str, Any]) -> bytes:
    queue = list(messages)

    async def receive() -> dict[str, Any]:
        return queue.pop(0)

    return asyncio.run(read_body(receive))


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_is_put_together() -> None:
    assert read({"type": "http.request"}) == b""
    assert read(part(b"ab", more=False)) == b"ab"
    assert read(part(b"ab"), part(b""), part(b"c"), part(b"", more=False)) == b"abc"


def test_who_hangs_up_while_sending_is_gone() -> None:
    with pytest.raises(ClientGone):
        read(part(b"ab"), {"type": "http.disconnect"})


def test_of_two_headers_the_first_counts() -> None:
    assert headers_of({"headers": [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]}) == {
        b"a": b"1",
        b"b": b"2",
    }


@pytest.mark.parametrize("encoding", [b"", b"identity", b" Identity "])
def test_plain_bodies_are_read(encoding: bytes) -> None:
    refuse_encoding({b"content-encoding": encoding})
    refuse_encoding({})


@pytest.mark.parametrize("encoding", [b"gzip", b"identity, gzip", b"\xff"])
def test_packed_bodies_are_refused(encoding: bytes) -> None:
    with pytest.raises(TypeUnsupported):
        refuse_encoding({b"content-encoding": encoding})


def test_large_work_is_done_aside() -> None:
    async def where(*, large: bool) -> bool:
        return await off_the_loop(threading.current_thread, large=large) is not loop_thread

    loop_thread = threading.current_thread()
    assert asyncio.run(where(large=True))
    assert not asyncio.run(where(large=False))
