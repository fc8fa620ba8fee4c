"""Sockets: small answers at once, an even spread, addresses that are taken, a door that shuts."""

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from service import listeners
from service.errors import AddressUnusable
from service.listeners import listen, shut_door

LOCAL = "127.0.0.1"


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
@pytest.mark.parametrize("host", [LOCAL, "::1"])
def test_small_answers_are_sent_at_once(
    host: str, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Else each waits for the client's delayed acknowledgement: 40 ms on a kept connection.

    That asyncio switches the waiting off hangs on the listening socket's protocol.
    """

    async def answers() -> int:
        done = asyncio.get_running_loop().create_future()

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            done.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listen(host, 0) as (listener,):
            server = await asyncio.start_server(accepted, sock=listener)
            _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            nodelay: int = await done
            writer.close()
            server.close()
        return nodelay

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(answers()) != 0


def accepted(listener: socket.socket) -> list[socket.socket]:
    """All connections that wait."""
    listener.setblocking(False)
    found = []
    while True:
        try:
            found.append(listener.accept()[0])
        except BlockingIOError:
            return found


def close(*connections: socket.socket) -> None:
    for connection in connections:
        connection.close()


def test_connections_spread_over_the_sockets() -> None:
    with listen(LOCAL, 0, 3) as sockets:
        address = sockets[0].getsockname()
        assert [one.getsockname() for one in sockets] == [address] * 3
        clients = [socket.create_connection(address) for _ in range(300)]
        taken = [accepted(one) for one in sockets]
        assert sum(map(len, taken)) == 300
        assert min(map(len, taken)) > 50
        close(*clients, *(one for some in taken for one in some))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("first", [1, 2])
def test_nobody_joins_a_taken_address(first: int, count: int) -> None:
    with listen(LOCAL, 0, first) as sockets:
        port = sockets[0].getsockname()[1]
        with pytest.raises(AddressUnusable, match="in use"), listen(LOCAL, port, count):
            pass
        client = socket.create_connection((LOCAL, port))
        close(client)
    with listen(LOCAL, port, count):  # and it is free again
        pass


def test_where_the_kernel_does_not_spread_one_socket_is_shared(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError(95, "Operation not supported")

    with monkeypatch.context() as patched:
        patched.setattr(listeners, "_SPREADS", False)
        with listen(LOCAL, 0, 3) as (one, two, three):
            assert one is two is three
    monkeypatch.setattr(listeners, "_beside", refuse)
    with listen(LOCAL, 0, 2) as (one, two):
        assert one is two
    assert "the workers share one socket: Operation not supported" in caplog.text


def test_a_shut_door_lets_in_who_has_arrived() -> None:
    with listen(LOCAL, 0) as (listener,):
        address = listener.getsockname()
        early = socket.create_connection(address)
        early.sendall(b"a request")
        shut_door(listener)
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.3)
        (connection,) = accepted(listener)
        early.sendall(b" and more")
        connection.settimeout(60)
        assert connection.recv(9) + connection.recv(9) == b"a request and more"
        close(early, connection)
