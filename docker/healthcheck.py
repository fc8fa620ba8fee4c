"""Whether the service in this container is ready, for Docker's HEALTHCHECK: exit status 0 or 1.

Asks /health/ready, which needs no key, where `PARALLAX_HOST` and `PARALLAX_PORT` say; with TLS where
`PARALLAX_TLS_CERT` is set. Whose certificate it is does not matter on the way to oneself. Knows
nothing of flags, so in a container settings are variables. It runs every few seconds beside the
service: a socket is enough, and costs half of what an HTTP client does.
"""

import os
import socket
import sys
from collections.abc import Mapping

_PATIENCE_S = 2.0  # less than Docker's, so that the reason is told
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
_NO_CERTIFICATE = "CERTIFICATE_REQUIRED"


def main(environment: Mapping[str, str]) -> int:
    """Prints the first line of the answer, or why there is none; Docker keeps what is printed."""
    host = environment.get("PARALLAX_HOST", "")
    port = int(environment.get("PARALLAX_PORT", "8080"))
    try:
        status = ask(_ANY.get(host, host), port, tls="PARALLAX_TLS_CERT" in environment)
    except OSError as error:  # TLS errors are some, too
        # Where clients must show a certificate there is none to show: that it listens is all
        # that can be known.
        refused = _NO_CERTIFICATE in (getattr(error, "reason", None) or "")
        status = "200 for those who show a certificate" if refused else str(error)
    print(status)
    return 0 if status.startswith("200 ") else 1


def ask(host: str, port: int, *, tls: bool) -> str:
    """The status of the answer, as in `200 OK`.

    Raises:
        OSError: nobody listens, or the answer is late or none.
    """
    connection = socket.create_connection((host, port), _PATIENCE_S)
    if tls:
        import ssl  # longer to import than all the rest

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = context.wrap_socket(connection)
    with connection:
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
