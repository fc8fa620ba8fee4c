"""One process over real sockets: how it ends, and what its connections do."""

import signal
import socket
import time

import httpx2
import pytest

from tests.service.serving import (
    PATIENCE_S,
    REQUEST,
    Clients,
    Served,
    eventually,
    samples,
    serving,
    starting,
)
from tests.service.toy import ToyFolder

HEAD, BODY = REQUEST.split(b"\r\n\r\n", 1)


def half_sent(served: Served) -> socket.socket:
    """A request whose body has begun, seen by the app."""
    connection = socket.create_connection(("127.0.0.1", served.port), PATIENCE_S)
    connection.sendall(HEAD + b"\r\nExpect: 100-continue\r\n\r\n")
    assert b" 100 " in connection.recv(1000)  # which is said when somebody reads
    connection.sendall(BODY[:10])
    return connection


def answer(connection: socket.socket) -> bytes:
    """Until the server closes."""
    with connection:
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def ready(served: Served) -> int:
    return httpx2.get(f"{served.url}/health/ready", timeout=PATIENCE_S).status_code


def test_while_it_drains_it_is_not_ready_and_goes_on(toy: ToyFolder) -> None:
    with serving(toy.root, "--drain-s", "3") as served, Clients(served) as clients:
        clients.more()
        assert ready(served) == 200
        begun = half_sent(served)
        served.process.send_signal(signal.SIGTERM)
        eventually(lambda: ready(served) == 503)
        clients.more()  # on new connections, as each answer now closes its own
        begun.sendall(BODY[10:])
        said = answer(begun)
        assert said.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in said
        assert served.process.wait(PATIENCE_S) == -signal.SIGTERM
        clients.end()
        assert clients.lost == []
        assert clients.statuses == {200}


def test_what_has_begun_is_finished(toy: ToyFolder) -> None:
    with serving(toy.root) as served, Clients(served) as clients:
        clients.more()
        begun = half_sent(served)
        served.process.send_signal(signal.SIGTERM)
        eventually(lambda: clients.refused > 0)
        time.sleep(1)  # longer than what is let in late
        begun.sendall(BODY[10:])
        assert answer(begun).startswith(b"HTTP/1.1 200 ")
        assert served.process.wait(PATIENCE_S) == -signal.SIGTERM
        clients.end()
        assert clients.lost == []


def test_after_the_grace_period_the_rest_is_told_so(toy: ToyFolder) -> None:
    with serving(toy.root, "--grace-s", "1", "--deadline-ms", "600000") as served:
        begun = half_sent(served)
        served.process.send_signal(signal.SIGTERM)
        said = answer(begun)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b'"code":"not-ready"' in said
        assert served.process.wait(PATIENCE_S) == -signal.SIGTERM


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -15), (signal.SIGINT, 130)])
def test_a_second_signal_ends_at_once(toy: ToyFolder, number: int, status: int) -> None:
    flags = ("--grace-s", "10000", "--deadline-ms", "10000000")
    with serving(toy.root, *flags) as served, half_sent(served):
        served.process.send_signal(number)
        eventually(lambda: not accepts(served))
        assert served.process.poll() is None
        assert served.stop(number) == status


def accepts(served: Served) -> bool:
    try:
        socket.create_connection(("127.0.0.1", served.port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("sent", [REQUEST, REQUEST[:-10], REQUEST[:40], b""])
def test_who_closes_a_half_is_gone_and_harms_nobody(toy: ToyFolder, sent: bytes) -> None:
    with serving(toy.root) as served:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", served.port), PATIENCE_S) as connection:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
        with Clients(served, 2) as clients:
            clients.more(10)
        assert clients.lost == []
        outcomes = {
            name.partition("[endpoint=/detect]")[2]: count
            for name, count in samples(f"{served.url}/metrics").items()
            if name.startswith("parallax_requests_total[endpoint=/detect]")
        }
        assert outcomes.pop("[outcome=ok]") >= clients.answered
        assert set(outcomes) <= {"[outcome=client-gone]"}


def test_metrics_have_a_port_of_their_own(toy: ToyFolder) -> None:
    with serving(toy.root, "--metrics-port", "0", "--metrics-host", "127.0.0.1") as served:
        with Clients(served, 2) as clients:
            clients.more(10)
        assert httpx2.get(f"{served.url}/metrics").status_code == 404
        assert "/metrics" not in httpx2.get(f"{served.url}/openapi.json").json()["paths"]
        found = samples(served.metrics_url)
        assert found["parallax_images_total[model=toy][verdict=corrected][version=1]"] >= 10
        assert found["parallax_workers"] == 1
        assert found["process_resident_memory_bytes"] > 1e7
        assert served.stop() == -signal.SIGTERM


def test_a_taken_metrics_port_is_refused(toy: ToyFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with starting(toy.root, "--metrics-port", port) as (process, log):
            assert process.wait(PATIENCE_S) == 5
        assert f"cannot listen on 127.0.0.1:{port}" in log.read_text()
