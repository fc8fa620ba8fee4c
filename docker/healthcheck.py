"""Whether the service in this container is ready, for Docker's HEALTHCHECK: exit status 0 or 1.

Asks /health/ready, which needs no key, where `PARALLAX_HOST` and `PARALLAX_PORT` say, and with TLS
where `PARALLAX_TLS_CERT` is set; whose certificate it is does not matter on the way to oneself.
Knows nothing of flags, so in a container settings are variables. It runs every few seconds beside
the service: a socket is enough, and costs half of what an HTTP client does.
"""

import os
import socket
import sys
from collections.abc import Mapping

_PATIENCE_S = 2.0  # less than Docker's, so that the reason is told
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def main(environment: Mapping[str, str]) -> int:
    """Prints the status of the answer, or why there is none; Docker keeps what is printed."""
    host = environment.get("PARALLAX_HOST", "")
    port = int(environment.get("PARALLAX_PORT", "8080"))
    try:
        connection = _connected(_ANY.get(host, host), port, tls="PARALLAX_TLS_CERT" in environment)
        with connection:
            # Where clients must show a certificate there is none to show: that it listens and
            # knows its own is all that can be seen.
            shut = "PARALLAX_TLS_CLIENT_CA" in environment
            status = "200 not asked for, as it wants a certificate" if shut else _asked(connection)
    except OSError as error:  # TLS errors are some, too
        status = str(error)
    print(status)
    return 0 if status.startswith("200 ") else 1


def _connected(host: str, port: int, *, tls: bool) -> socket.socket:
    connection = socket.create_connection((host, port), _PATIENCE_S)
    if not tls:
        return connection
    import ssl  # longer to import than all the rest

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection)


def _asked(connection: socket.socket) -> str:
    """The status of the answer, as in `200 OK`."""
    connection.sendall(
        b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    answer = connection.makefile("rb").readline(256).decode("latin-1")
    _, _, status = answer.strip().partition(" ")
    if not status:
        raise ConnectionError("hung up without an answer")
    return status


if __name__ == "__main__":
    sys.exit(main(os.environ))
