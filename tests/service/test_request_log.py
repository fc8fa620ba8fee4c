"""One line a request: what it says, what it never says, and that it costs no answer."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.log_sink import LogSink
from service.logs import Style, logging_to
from service.request_log import RequestLog
from tests.service.conftest import MakeSettings
from tests.service.served import serving
from tests.service.serving import ROOT
from tests.service.toy import ATTACKED, NATURAL, ToyFolder

PNG = {"Content-Type": "image/png"}
KEY = "key-of-the-robot-arm"

Lines = Callable[[], list[dict[str, Any]]]
Logged = tuple[TestClient, Lines]


@pytest.fixture
def start(
    toy: ToyFolder, settings_of: MakeSettings, tmp_path: Path
) -> Iterator[Callable[..., Logged]]:
    """An app with a log, and the lines of it so far."""
    file = tmp_path / "log"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    sink = LogSink(descriptor)

    def make(**settings: Any) -> Logged:
        client = TestClient(
            create_app(settings_of(access_log=True, log_format="json", **settings), sink),
            raise_server_exceptions=False,
        )

        def lines() -> list[dict[str, Any]]:
            assert sink.flush()
            return [json.loads(line) for line in file.read_bytes().splitlines()]

        return client, lines

    yield make
    sink.close()
    os.close(descriptor)


def test_the_whole_line(start: Callable[..., Logged], tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"robot:{KEY}")
    client, lines = start(api_keys=tmp_path / "keys")
    headers = PNG | {"X-API-Key": KEY, "X-Request-Id": "abc"}
    with client:
        client.post("/detect?strict_size=true", content=ATTACKED, headers=headers)
    (line,) = lines()
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert 0 < line.pop("ms") < 60_000
    assert line == {
        "level": "info",
        "logger": "service.request_log",
        "message": "request",
        "request_id": "abc",
        "pid": os.getpid(),
        "method": "POST",
        "route": "/detect",
        "status": 200,
        "outcome": "ok",
        "bytes": len(ATTACKED),
        "key": "robot",
        "model": "toy/1",
        "images": 1,
        "verdicts": {"corrected": 1},
    }


def test_several_images_are_counted(start: Callable[..., Logged]) -> None:
    client, lines = start()
    images = (NATURAL, NATURAL, ATTACKED, NATURAL[:-3])
    with client:
        client.post(
            "/classify", files=[("file", ("secret", image, "image/png")) for image in images]
        )
    (line,) = lines()
    assert (line["images"], line["route"]) == (4, "/classify")
    assert line["verdicts"] == {"accept": 2, "corrected": 1, "refused": 1}
    assert "key" not in line


@pytest.mark.parametrize(
    ("path", "content", "headers", "status", "outcome", "route"),
    [
        ("/detect", NATURAL[:-3], PNG, 422, "image-truncated", "/detect"),
        ("/detect", b"", PNG, 400, "body-empty", "/detect"),
        ("/detect?model=secret", NATURAL, PNG, 404, "model-unknown", "/detect"),
        ("/detect?secret=secret", NATURAL, PNG, 422, "parameter-refused", "/detect"),
        ("/secret/path", b"secret", {"Secret": "secret"}, 404, "not-found", "unmatched"),
        (
            "/detect",
            b"x" * 200,
            {"Content-Type": "secret/secret"},
            415,
            "type-unsupported",
            "/detect",
        ),
        ("/detect", b"x" * 40_000, PNG, 413, "body-too-large", "/detect"),
        ("/problems/secret", b"", {}, 405, "method-not-allowed", "/problems/{code}"),
    ],
)
def test_failures_are_told_by_their_code(
    start: Callable[..., Logged],
    path: str,
    content: bytes,
    headers: dict[str, str],
    status: int,
    outcome: str,
    route: str,
) -> None:
    client, lines = start(max_body_bytes=30_000, max_held_bytes=30_000)
    with client:
        assert client.post(path, content=content, headers=headers).status_code == status
    (line,) = lines()
    assert (line["status"], line["outcome"], line["route"]) == (status, outcome, route)
    assert "secret" not in json.dumps(line)


def test_a_refused_key_is_a_line_without_a_name(
    start: Callable[..., Logged], tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(f"robot:{KEY}")
    client, lines = start(api_keys=tmp_path / "keys")
    with client:
        client.post("/detect", content=ATTACKED, headers=PNG | {"X-API-Key": KEY[:-1]})
    (line,) = lines()
    assert (line["status"], line["outcome"], line["bytes"]) == (401, "unauthorized", 0)
    assert "key" not in line
    assert KEY[:-1] not in json.dumps(line)


@pytest.mark.parametrize(
    "changes", [{"access_log": False}, {"log_level": "warning"}, {"log_level": "error"}]
)
def test_nothing_is_logged_where_nothing_is_asked_for(
    toy: ToyFolder, settings_of: MakeSettings, changes: dict[str, Any]
) -> None:
    read, write = os.pipe()
    sink = LogSink(write)
    with TestClient(create_app(settings_of(**{"access_log": True} | changes), sink)) as client:
        client.get("/health/live")
    sink.close()
    os.close(write)
    assert os.read(read, 100) == b""
    os.close(read)


def test_pretty_lines_are_sentences(
    toy: ToyFolder, settings_of: MakeSettings, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(f"robot:{KEY}")
    read, write = os.pipe()
    sink = LogSink(write)
    settings = settings_of(access_log=True, log_format="pretty", api_keys=tmp_path / "keys")
    with TestClient(create_app(settings, sink)) as client:
        client.post("/detect", content=ATTACKED, headers=PNG | {"X-API-Key": KEY})
        client.get("/health/live", headers={"X-Request-Id": "abc"})
    sink.close()
    os.close(write)
    first, second = os.read(read, 4096).decode().splitlines()
    os.close(read)
    assert re.fullmatch(
        r"\S+Z info    POST /detect 200 ok [\d.]+ ms \d+ bytes toy/1 corrected=1 "
        r"key=robot id=\w{32}",
        first,
    )
    assert re.fullmatch(r"\S+Z info    GET /health/live 200 ok [\d.]+ ms 0 bytes id=abc", second)


def test_what_is_lost_is_a_metric(toy: ToyFolder, settings_of: MakeSettings) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    sink = LogSink(full)
    with TestClient(create_app(settings_of(access_log=True), sink)) as client:
        for _ in range(3):
            assert client.get("/health/live").status_code == 200
        assert sink.flush()
        assert "\nparallax_log_dropped_total 3.0\n" in client.get("/metrics").text
    sink.close()
    os.close(full)


@pytest.mark.parametrize("style", ["json", "pretty"])
def test_a_line_that_cannot_be_written_fails_no_answer(style: Style) -> None:
    read, write = os.pipe()
    sink = LogSink(write)
    log = RequestLog(sink, style)
    log.write({"method": "\ud800"}, "/detect", b"abc", 200, 0, 0.0)
    log.write({"method": "POST"}, "/detect", b"def", None, 0, 0.0)
    sink.close()
    os.close(write)
    (line,) = os.read(read, 4096).decode().splitlines()
    os.close(read)
    assert "def" in line
    assert sink.dropped == 1


def test_an_error_within_a_request_carries_its_id(
    toy: ToyFolder, settings_of: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two records of one request: what failed, and how it ended."""
    file = tmp_path / "log"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)

    def fail(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("service.routes.detect.note_examined", fail)
    settings = settings_of(access_log=True)
    with (
        logging_to(descriptor, level="info", style="json") as sink,
        TestClient(create_app(settings, sink), raise_server_exceptions=False) as client,
    ):
        headers = PNG | {"X-Request-Id": "the-one"}
        answer = client.post("/detect?model=toy", content=NATURAL, headers=headers)
        assert answer.json()["code"] == "internal-error"
    os.close(descriptor)
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    failed, ended = (line for line in lines if line.get("request_id") == "the-one")
    assert failed["message"] == "POST /detect failed"
    assert "RuntimeError: unforeseen" in failed["traceback"]
    assert ended["outcome"] == "internal-error"


# --- a real server ---


HOSTILE = [
    b"GET /%0a%7b%22message%22%3a%22forged%22%7d HTTP/1.1\r\n",
    b"GET /x\xe2\x80\xa8forged HTTP/1.1\r\n",
    b"GET /\x1b[2Jforged HTTP/1.1\r\n",
    b"GET /health/live?forged=%0d%0aforged HTTP/1.1\r\n",
    b"FORGED /health/live HTTP/1.1\r\n",
    b"GET /health/live HTTP/1.1\r\nX-Request-Id: a\tforged\r\n",
    b'GET /health/live HTTP/1.1\r\nX-Request-Id: "},{"forged":"\r\n',
    b"GET /health/live HTTP/1.1\r\nX-Request-Id: \xff\xfe\x85forged\r\n",
    b"GET /health/live HTTP/1.1\r\nX-Request-Id: a\nforged: b\r\n",
    b"GET /health/live HTTP/1.1\r\nUser-Agent: forged\r\nReferer: forged\r\n",
    b"POST /detect HTTP/1.1\r\nContent-Type: forged/\x1b[2J\r\nContent-Length: 0\r\n",
    b"\x00\x01forged\r\n",
]


@pytest.mark.parametrize("style", ["json", "pretty"])
def test_nobody_writes_a_line_that_we_did_not(toy: ToyFolder, tmp_path: Path, style: str) -> None:
    with (
        (tmp_path / "log").open("wb") as log,
        serving(toy, stderr=log, log_format=style, access_log=True) as server,
    ):
        answers = [
            server.exchange(request + b"Host: x\r\nConnection: close\r\n\r\n")
            for request in HOSTILE
        ]
        server.stop()
    text = (tmp_path / "log").read_bytes().decode()
    lines = text.splitlines()
    malformed = sum(b'"code":"request-malformed"' in answer for answer in answers)
    assert len(lines) > len(HOSTILE) - malformed > 0  # of the start, and of all that is a request
    for line in lines:
        assert line.isprintable()
        if style == "json":
            assert {"time", "level", "logger", "message", "pid"} <= json.loads(line).keys()
        else:
            assert re.match(r"20\S+Z (info|warning|error) ", line)
    assert "forged" not in text.replace("FORGED", "")
    assert "\x1b" not in text


def test_the_last_lines_are_flushed_at_the_end(toy: ToyFolder, tmp_path: Path) -> None:
    ids = [f"id-{number}" for number in range(100)]
    with (
        (tmp_path / "log").open("wb") as log,
        serving(toy, stderr=log, access_log=True) as server,
    ):
        with httpx2.Client(base_url=server.url, timeout=30) as client:
            for name in ids:
                client.get("/health/live", headers={"X-Request-Id": name})
        server.stop()
    lines = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert [line["request_id"] for line in lines if line["message"] == "request"] == ids


def test_a_full_disk_touches_no_answer(toy: ToyFolder) -> None:
    with (
        Path("/dev/full").open("wb") as full,
        serving(toy, stderr=full, access_log=True) as server,
        httpx2.Client(base_url=server.url, timeout=30) as client,
    ):
        for _ in range(20):
            assert client.post("/detect", content=NATURAL, headers=PNG).status_code == 200
        dropped = re.search(r"parallax_log_dropped_total (\d+)", metrics_after(client, 20))
        assert dropped
        assert int(dropped[1]) >= 20


def metrics_after(client: httpx2.Client, lost: int) -> str:
    """The exposition, as soon as so many lines are known to be lost; the last one, if never."""
    text = ""
    for _ in range(200):
        text = client.get("/metrics").text
        if float(re.findall(r"parallax_log_dropped_total ([\d.]+)", text)[0]) >= lost:
            break
    return text


def test_a_reader_that_stalls_touches_no_answer(toy: ToyFolder) -> None:
    """Nobody reads the pipe; what it and the queue cannot hold is lost."""
    with (
        serving(toy, stderr=subprocess.PIPE, access_log=True, log_level="info") as server,
        httpx2.Client(base_url=server.url, timeout=30) as client,
    ):
        for _ in range(600):  # twice what a pipe holds
            assert client.get("/health/live").status_code == 200
        assert client.post("/detect", content=NATURAL, headers=PNG).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)  # although its lines cannot be written
        assert server.process.stderr is not None
        server.process.stderr.close()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_touch_no_answer(toy: ToyFolder, tmp_path: Path, closed: str) -> None:
    """The server runs without one or all of its standard streams, on a port that was chosen."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "service.cli", "serve", "--port", str(port)]
    flags = ["--models", str(toy.root), "--provider", "cpu", "--access-log", "true"]
    with subprocess.Popen(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command, *flags],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            with httpx2.Client(
                base_url=f"http://127.0.0.1:{port}",
                timeout=30,
                transport=httpx2.HTTPTransport(retries=12),
            ) as client:
                for _ in range(3):
                    answer = client.post("/detect", content=ATTACKED, headers=PNG)
                    assert answer.json()["verdict"] == "corrected"
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        finally:
            process.kill()
