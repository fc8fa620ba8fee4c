"""Listening sockets, one a worker, taken before anything else is paid for.

With SO_REUSEPORT the kernel spreads connections evenly over the sockets of one address; where it
does not, all workers take from the same. Knows neither processes nor what is answered.
"""

import contextlib
import ctypes
import logging
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import AddressUnusable

_BACKLOG = 2048  # connections that wait to be accepted, as uvicorn has it
_SPREADS = sys.platform == "linux"  # elsewhere SO_REUSEPORT is absent or gives all to one socket
_SO_ATTACH_FILTER = 26  # of Linux; Python has no name for it
_DROP = struct.pack("HBBI", 0x06, 0, 0, 0)  # a packet filter of one instruction: keep 0 bytes

log = logging.getLogger(__name__)


@contextmanager
def listen(host: str, port: int, count: int = 1) -> Iterator[list[socket.socket]]:
    """`count` sockets at one address, bound and listening; the same one several times if need be.

    From here on clients wait instead of being refused.

    Raises:
        AddressUnusable: it is taken, also by sockets that would share it, or it is not ours.
    """
    with contextlib.ExitStack() as opened:
        try:
            # Alone at first: a second service may not share the address of this one.
            first = opened.enter_context(_bound(host, port))
            first.listen(_BACKLOG)
        except OSError as error:
            raise AddressUnusable(host, port, error.strerror or str(error)) from error
        listeners = [first]
        if count > 1 and _SPREADS:
            try:
                listeners += opened.enter_context(_beside(first, host, count - 1))
            except OSError as error:
                log.warning("the workers share one socket: %s", error.strerror or error)
        yield [listeners[number % len(listeners)] for number in range(count)]


def shut_door(listener: socket.socket) -> None:
    """Let no further connection begin; those that wait can still be accepted.

    Closing a socket resets the connections that wait in it: requests would be lost that were sent
    in time. Linux only; elsewhere nothing happens and that moment remains.
    """
    if sys.platform != "linux":  # pragma: no cover
        return
    program = ctypes.create_string_buffer(_DROP)
    size = len(_DROP) // 8  # instructions
    with contextlib.suppress(OSError):  # a kernel without filters
        listener.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            struct.pack("HP", size, ctypes.addressof(program)),
        )


@contextmanager
def _beside(first: socket.socket, host: str, count: int) -> Iterator[list[socket.socket]]:
    """Further sockets at the address of a listening one; none where one fails."""
    with contextlib.ExitStack() as opened:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        port: int = first.getsockname()[1]
        listeners = [opened.enter_context(_bound(host, port, shared=True)) for _ in range(count)]
        for listener in listeners:
            listener.listen(_BACKLOG)
        yield listeners


def _bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named: asyncio sends small answers at once only on a socket that says TCP.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound
