"""Metrics on a port of their own."""

import socket

import httpx2
import pytest

from service.errors import AddressUnusable
from service.exporter import exported


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_one_path_is_answered(host: str) -> None:
    with exported(host, 0, lambda: b"a 1\n") as address:
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{address[1]}"
        answer = httpx2.get(f"{url}/metrics?x=1")
        assert (answer.status_code, answer.content) == (200, b"a 1\n")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert "python" not in answer.headers["server"].lower()
        assert httpx2.get(url).status_code == 404
        assert httpx2.post(f"{url}/metrics").status_code == 501
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/metrics")


def test_a_failure_is_an_answer_too(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> bytes:
        raise RuntimeError("no")

    with exported("127.0.0.1", 0, fail) as (host, port):
        assert httpx2.get(f"http://{host}:{port}/metrics").status_code == 500
    assert "the metrics cannot be told" in caplog.text


def test_a_silent_peer_holds_up_nobody() -> None:
    with exported("127.0.0.1", 0, lambda: b"a 1\n") as address:
        with socket.create_connection(address) as silent:
            assert httpx2.get(f"http://127.0.0.1:{address[1]}/metrics").text == "a 1\n"
            silent.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert httpx2.get(f"http://127.0.0.1:{address[1]}/metrics").text == "a 1\n"


def test_a_taken_port_is_refused() -> None:
    with (
        exported("127.0.0.1", 0, lambda: b"") as (host, port),
        pytest.raises(AddressUnusable, match=f"cannot listen on {host}:{port}"),
        exported(host, port, lambda: b""),
    ):
        pass
