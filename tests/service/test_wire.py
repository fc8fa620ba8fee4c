"""What strangers may send over a connection, and how long they may take, told to a real server."""

import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from service.wire import MAX_HEAD
from tests.service.served import Served, post, read_to_end, serving, statuses, unharmed
from tests.service.toy import ATTACKED, NATURAL, ToyFolder

PATIENCE_S = 1.0
IDLE_S = 2
LIVE = b"GET /health/live HTTP/1.1\r\nHost: test\r\n"
END = b"Connection: close\r\n\r\n"
CHUNKED = b"POST /detect HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n" + END
CHUNK = b"%x\r\n%b\r\n" % (len(ATTACKED), ATTACKED)
LENGTH = b"POST /detect HTTP/1.1\r\nHost: test\r\n"
PIPELINED = post(close=False)
SCRIPT = "/docs/assets/swagger-ui-bundle.js"  # the longest answer there is
PAGE = f"GET {SCRIPT} HTTP/1.1\r\nHost: test\r\n\r\n".encode()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    toy = ToyFolder(tmp_path_factory.mktemp("wire") / "models").write()
    limits: dict[str, Any] = {
        "deadline_ms": PATIENCE_S * 1000,
        "keep_alive_s": IDLE_S,
        "max_body_bytes": 1 << 20,
    }
    with serving(toy, **limits) as server:
        yield server


@pytest.mark.parametrize(
    ("request_", "answers"),
    [
        # of a request line
        (LIVE.replace(b"/1.1", b"/1.0") + END, [200]),
        (b"GET http://elsewhere/health/live HTTP/1.1\r\n" + END, [200]),
        (b"\r\n\r\n" + post(), [200]),
        (LIVE.replace(b"/1.1", b"/3.0") + END, [400]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
        (b"GET http://elsewhere HTTP/1.1\r\n" + END, [400]),
        (b"OPTIONS * HTTP/1.1\r\n" + END, [404]),
        (b"CONNECT elsewhere:443 HTTP/1.1\r\n" + END, [400]),
        (b"CONNECT /detect HTTP/1.1\r\n" + END, [400]),
        (b"BREW /detect HTTP/1.1\r\n" + END, [400]),
        (b"PROPFIND /detect HTTP/1.1\r\n" + END, [405]),
        (b"HEAD /detect HTTP/1.1\r\n" + END, [405]),
        (b"OPTIONS /detect HTTP/1.1\r\n" + END, [405]),
        (b"TRACE /detect HTTP/1.1\r\n" + END, [405]),
        (b"HEAD /health/live HTTP/1.1\r\n" + END, [200]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), [400]),
        (bytes(range(256)) * 10, [400]),
        # of a target
        (LIVE.replace(b"live", b"l\xc3\xa9ve") + END, [400]),
        (LIVE.replace(b"live", b"%00") + END, [404]),
        (LIVE.replace(b"/health/live", b"/docs/assets/%00") + END, [404]),
        (LIVE.replace(b"/health/live", b"/docs/assets/" + b"a" * 9999) + END, [404]),
        (LIVE.replace(b"/health/live", b"/docs/assets/../../../../etc/passwd") + END, [404]),
        (
            LIVE.replace(b"/health/live", b"/docs/assets/" + b"%2e%2e%2f" * 9 + b"etc/passwd")
            + END,
            [404],
        ),
        (LIVE.replace(b"/health/live", b"/problems/%0d%0aX:%20y") + END, [404]),
        (LIVE.replace(b"/health/live", b"/problems/%ed%a0%80") + END, [404]),
        (LIVE.replace(b"/health/live", b"//detect") + END, [404]),
        (LIVE.replace(b"/health/live", b"/" + b"a" * (1 << 20)) + END, [431]),
        # of headers
        (LIVE.replace(b"Host: test", b"Host: [") + END, [200]),
        (LIVE.replace(b"Host: test", b"Host: a/b?c#d") + END, [200]),
        (LIVE.replace(b"Host:", b"Host :") + END, [400]),
        (LIVE + b" folded\r\n" + END, [400]),
        (LIVE + b"A: b\0c\r\n" + END, [400]),
        (LIVE + b"X-Request-Id: \xff\xfe\r\n" + END, [200]),
        (LIVE + b"A: " + b"a" * MAX_HEAD + b"\r\n" + END, [431]),
        (LIVE + b"A: " + b"a" * (1 << 20) + b"\r\n" + END, [431]),
        (LIVE + b"A: b\r\n" * 50_000 + END, [431]),
        (LIVE + b"A: " + b"a" * (MAX_HEAD // 2) + b"\r\n" + END, [200]),
        (LIVE + b"Expect: 100-continue\r\n" + END, [200]),
        (post("/detect", ATTACKED, "Expect: 100-continue"), [100, 200]),
        # of an upgrade that is not taken, and costs no body
        (LIVE + b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + END, [200]),
        (post("/detect", ATTACKED, "Connection: Upgrade", "Upgrade: h2c"), [200]),
        (
            post("/detect", ATTACKED, "Connection: Upgrade", "Upgrade: h2c", close=False) * 2,
            [200] * 2,
        ),
        (
            CHUNKED.replace(END, b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + END)
            + CHUNK
            + b"0\r\n\r\n",
            [200],
        ),
        # of lengths
        (LENGTH + b"Content-Length: 3\r\nContent-Length: 4\r\n" + END + b"abcd", [400]),
        (LENGTH + b"Content-Length: 4\r\nContent-Length: 4\r\n" + END + b"abcd", [400]),
        (LENGTH + b"Content-Length: -1\r\n" + END, [400]),
        (LENGTH + b"Content-Length: +4\r\n" + END + b"abcd", [400]),
        (LENGTH + b"Content-Length: 0x4\r\n" + END + b"abcd", [400]),
        (LENGTH + b"Content-Length: 4, 4\r\n" + END + b"abcd", [400]),
        (LENGTH + b"Content-Length: 99999999999999999999999\r\n" + END, [400]),
        (LENGTH + b"Content-Length: 999999999999999999\r\n" + END, [413]),
        (LENGTH + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n" + END + CHUNK, [400]),
        (LENGTH + b"Content-Length: 200\r\n" + END + ATTACKED, [408]),
        (LENGTH + b"Content-Length: 20\r\n" + END + ATTACKED, [422]),
        # of chunks
        (CHUNKED + CHUNK + b"0\r\n\r\n", [200]),
        (CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in ATTACKED) + b"0\r\n\r\n", [200]),
        (CHUNKED + CHUNK + b"0\r\nA: b\r\n\r\n", [200]),
        (CHUNKED.replace(b"chunked", b"chunked, gzip") + CHUNK + b"0\r\n\r\n", [400]),
        (CHUNKED + b"zz\r\n", [400]),
        (CHUNKED + b"-5\r\n", [400]),
        (CHUNKED + b"ffffffffffffffffffff\r\n", [400]),
        (CHUNKED + CHUNK[:-2] + b"no line's end", [400]),
        (CHUNKED + b"5;" + b"e" * (1 << 20), [431]),
        (CHUNKED + CHUNK + b"0\r\nA: " + b"a" * (1 << 20), [431]),
        (CHUNKED + CHUNK + b"0\r\n" + b"A: b\r\n" * 50_000, [431]),
        (CHUNKED + b"100000\r\n" + bytes(1 << 20) + b"\r\n5\r\nabcde\r\n0\r\n\r\n", [413]),
    ],
    ids=lambda value: str(value[:60]) if isinstance(value, bytes) else str(value),
)
def test_whatever_is_sent_the_next_client_is_served(
    served: Served, request_: bytes, answers: list[int]
) -> None:
    with unharmed(served):
        assert statuses(served.exchange(request_)) == answers


def test_what_is_no_http_is_a_problem_like_any_other(served: Served) -> None:
    head, _, body = served.exchange(b"nonsense\r\n\r\n").partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["code"] == "request-malformed"
    counted = 'parallax_requests_total{endpoint="unmatched",outcome="request-malformed"}'
    assert counted in httpx2.get(f"{served.url}/metrics", timeout=PATIENCE_S * 60).text


# --- requests ahead of their answers ---


def test_many_requests_at_once_are_answered_in_order(served: Served) -> None:
    """More than are parsed at once, some of them with a body of several pieces."""
    images = [NATURAL, ATTACKED, NATURAL + bytes(40_000)] * 40
    with unharmed(served):
        answer = served.exchange(b"".join(post(body=body, close=False) for body in images) + post())
    assert statuses(answer) == [200] * 121
    verdicts = re.findall(rb'"verdict":"(\w+)"', answer)
    assert verdicts == [b"accept", b"corrected", b"accept"] * 40 + [b"corrected"]


def test_what_came_before_nonsense_is_answered_first(served: Served) -> None:
    with unharmed(served):
        for after in (b"nonsense\r\n\r\n", CHUNKED + b"zz\r\n", b"GET / HTTP/1.1\r\nA:\0\r\n\r\n"):
            assert statuses(served.exchange(PIPELINED * 3 + after)) == [200] * 3


def test_a_flood_of_requests_is_taken_as_fast_as_it_is_answered(served: Served) -> None:
    """Each takes a hundred times its bytes until it is answered."""
    flood = (LIVE + b"\r\n") * 20_000
    answered = 0
    with unharmed(served), served.connect() as connection:
        sending = threading.Thread(target=send_all, args=(connection, flood))
        sending.start()
        until = time.monotonic() + 3
        while time.monotonic() < until:
            answered += connection.recv(1 << 16).count(b"HTTP/1.1 200")
        connection.shutdown(socket.SHUT_RDWR)
        sending.join()
    assert answered > 100


def send_all(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(data)


# --- patience ---


@pytest.mark.parametrize(
    ("start", "drop", "answers"),
    [
        (b"GET /health/live HTTP/1.1\r\nA: ", b"a", [408]),
        (b"G", b"", [408]),
        (LENGTH + b"Content-Length: 1000\r\n\r\n", b"a", [408]),
        (CHUNKED, b"1\r\na\r\n", [408]),
        (CHUNKED + b"1;", b"e", [408]),
        (b"", b"\r\n", []),
        (PIPELINED, b"\r\n", [200]),
        (PIPELINED + b"GET /heal", b"t", [200, 408]),
        (LENGTH + b"Content-Length: 999999999999999999\r\n\r\n", b"a", [413]),
    ],
)
def test_who_sends_too_slowly_is_not_waited_for(
    served: Served, start: bytes, drop: bytes, answers: list[int]
) -> None:
    began = time.monotonic()
    with unharmed(served), served.connect() as connection:
        connection.sendall(start)
        connection.settimeout(0.1)
        answer = b""
        while True:
            try:
                connection.sendall(drop)
                data = connection.recv(1 << 16)
            except TimeoutError:
                assert time.monotonic() < began + 60
            except OSError:
                break
            else:
                answer += data
                if not data:
                    break
    assert statuses(answer) == answers


def test_who_sends_nothing_is_not_waited_for(served: Served) -> None:
    for start in (b"", PIPELINED):
        with unharmed(served), served.connect() as connection:
            connection.sendall(start)
            assert len(statuses(read_to_end(connection))) == bool(start)


def test_who_does_not_read_is_not_waited_for(served: Served) -> None:
    """Answers that wait to be read take memory and, where they are files, open files."""
    whole = len(httpx2.get(served.url + SCRIPT, timeout=PATIENCE_S * 60).content)
    with unharmed(served), served.connect() as connection:
        connection.sendall(PAGE * 100)
        time.sleep(3 * PATIENCE_S + 1)
        assert len(read_to_end(connection)) < 100 * whole


def test_open_connections_do_not_keep_others_out(served: Served) -> None:
    with contextlib.ExitStack() as stack, unharmed(served):
        for _ in range(500):
            connection = stack.enter_context(served.connect())
            connection.sendall(b"GET /health/live HTTP/1.1\r\nA: ")


# --- hanging up ---


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /hea",
        LENGTH + b"Content-Le",
        LENGTH + b"Content-Length: 1000\r\n\r\nabc",
        CHUNKED + CHUNK,
        PIPELINED,
        PIPELINED * 50,
        LENGTH + b"Content-Length: 999999999999999999\r\n\r\n",
        b"nonsense",
        PAGE,
        PAGE * 20,
    ],
    ids=lambda sent: str(sent[:60]),
)
def test_hanging_up_harms_nobody(served: Served, sent: bytes, reset: bool) -> None:
    with unharmed(served):
        for pause in (0, 0.001, 0.01):
            connection = served.connect()
            connection.sendall(sent)
            time.sleep(pause)
            if reset:
                linger = struct.pack("ii", 1, 0)  # closing resets the connection
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()


def test_a_half_closed_connection_is_hung_up(served: Served) -> None:
    """As a proxy takes it, so that nobody is judged for whom nobody waits."""
    for sent in (b"", b"GET /hea", LENGTH + b"Content-Length: 1000\r\n\r\nabc"):
        with unharmed(served), served.connect() as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            assert read_to_end(connection) == b""
