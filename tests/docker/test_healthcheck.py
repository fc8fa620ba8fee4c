"""What Docker is told of a service: asked over real sockets, with TLS and without."""

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from docker.healthcheck import main

ROOT = Path(__file__).parents[2]
READY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@contextmanager
def server(
    answer: bytes, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Iterator[tuple[str, list[bytes]]]:
    """Answers one connection, whatever it says; the port and what was said."""
    heard: list[bytes] = []
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            try:
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                heard.append(connection.recv(1024))
                connection.sendall(answer)
            except OSError as error:
                heard.append(str(error).encode())
            finally:
                connection.close()

        thread = Thread(target=serve)
        thread.start()
        try:
            yield str(listener.getsockname()[1]), heard
        finally:
            thread.join(10)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of nobody, with its key in the same file."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    alone = file.with_suffix(".crt")
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=nobody "
        f"-keyout {file} -out {alone}".split(),
        check=True,
        capture_output=True,
    )
    with file.open("a") as both:
        both.write(alone.read_text())
    return file


@pytest.mark.parametrize("host", [None, "0.0.0.0", "127.0.0.1"])
def test_ready(host: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    with server(READY) as (port, heard):
        environment = {"PARALLAX_PORT": port} | ({"PARALLAX_HOST": host} if host else {})
        assert main(environment) == 0
    assert heard[0].startswith(b"GET /health/ready HTTP/1.1\r\n")
    assert capsys.readouterr().out == "200 OK\n"


def test_ready_where_all_addresses_are_of_the_sixth_version() -> None:
    with server(READY, host="::1") as (port, _):
        assert main({"PARALLAX_PORT": port, "PARALLAX_HOST": "::"}) == 0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "503 Service Unavailable"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "401 Unauthorized"),
        (b"", "hung up without an answer"),
        (b"200 OK", "OK"),
    ],
)
def test_not_ready(answer: bytes, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with server(answer) as (port, _):
        assert main({"PARALLAX_PORT": port}) == 1
    assert capsys.readouterr().out == f"{said}\n"


def test_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert main({"PARALLAX_PORT": str(port)}) == 1
    assert "refused" in capsys.readouterr().out


def test_tls_of_an_unknown_authority(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with server(READY, context) as (port, heard):
        assert main({"PARALLAX_PORT": port, "PARALLAX_TLS_CERT": "/anywhere"}) == 0
    assert heard[0].startswith(b"GET /health/ready ")


def test_tls_that_asks_for_a_certificate(
    certificate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that can be known from within is that somebody speaks TLS there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate.with_suffix(".crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    variables = {"PARALLAX_TLS_CERT": "/anywhere", "PARALLAX_TLS_CLIENT_CA": "/anywhere"}
    with server(READY, context) as (port, heard):
        assert main({"PARALLAX_PORT": port, **variables}) == 0
    assert not heard[0].startswith(b"GET")
    assert "certificate" in capsys.readouterr().out


def test_a_certificate_is_wanted_and_nobody_speaks_tls() -> None:
    variables = {"PARALLAX_TLS_CERT": "/anywhere", "PARALLAX_TLS_CLIENT_CA": "/anywhere"}
    with server(READY) as (port, _):
        assert main({"PARALLAX_PORT": port, **variables}) == 1


def test_a_service_without_tls_where_some_was_set() -> None:
    with server(READY) as (port, _):
        assert main({"PARALLAX_PORT": port, "PARALLAX_TLS_CERT": "/anywhere"}) == 1


def test_as_docker_calls_it() -> None:
    """By the interpreter alone, with nothing installed."""
    with server(READY) as (port, _):
        done = subprocess.run(
            (sys.executable, "-S", ROOT / "docker" / "healthcheck.py"),
            env={"PARALLAX_PORT": port},
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "200 OK\n", "")
