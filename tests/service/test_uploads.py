"""What HTTP tests cannot send: a client that hangs up while it is sending."""

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from service.errors import ClientGone
from service.uploads import read_uploads


def read(messages: list[dict[str, Any]], content_type: str) -> None:
    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    headers = [(b"content-type", content_type.encode())]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    asyncio.run(read_uploads(request, 4))


@pytest.mark.parametrize(
    "content_type", ["image/png", "application/json", "multipart/form-data; boundary=b"]
)
def test_hanging_up_while_sending_is_no_fault_of_ours(content_type: str) -> None:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"--b\r\n", "more_body": True},
        {"type": "http.disconnect"},
    ]
    with pytest.raises(ClientGone):
        read(messages, content_type)
