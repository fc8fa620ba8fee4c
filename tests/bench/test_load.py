"""What generators print, and that both of them load a real server."""

import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.bench import load, wire
from tests.bench.load import Load, LoadError, generate, parse

# As wrk prints it, its own summary before the script's line.
WRK = """Running 2s test @ http://127.0.0.1:44361/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    28.10ms   41.00ms 365.00ms   94.12%
    Req/Sec     1.07k   123.00     1.20k    75.00%
  2137 requests in 2.00s, 431.08KB read
  Non-2xx or 3xx responses: 7
Requests/sec:   1068.50
Transfer/sec:    215.54KB
{"generator": "wrk", "requests": 2137, "refused": 7, "broken": 0, "duration": 2000123, \
"p50": 28220, "p95": 204800, "p99": 364720}
"""


def test_the_last_line_counts() -> None:
    found = parse(WRK, 0.08)
    assert found == Load(
        generator="wrk",
        requests=2137,
        refused=7,
        seconds=2.000123,
        p50_ms=28.22,
        p95_ms=204.8,
        p99_ms=364.72,
        generator_cpu_s=0.08,
    )
    assert found.answered == 2130


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "the generator said ''"),
        ("unable to connect to 127.0.0.1:1\n", "the generator said"),
        ('{"generator": "wrk"}', "the generator said"),
        (WRK.replace('"broken": 0', '"broken": 3'), "2137 answers, 3 broken connections"),
        (WRK.replace('"requests": 2137', '"requests": 0'), "0 answers"),
    ],
)
def test_what_is_no_measurement_is_refused(output: str, reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        parse(output, 0.0)


class Echo(BaseHTTPRequestHandler):
    """Answers a POST with its body; 429 where that is `full`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(429 if body == b"full" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("generator", ["wrk", "asyncio"])
def test_requests_are_sent_in_turn_and_refusals_counted(
    generator: str, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if generator == "asyncio":
        monkeypatch.setattr(shutil, "which", lambda name: None)
    elif shutil.which("wrk") is None:
        pytest.skip("there is no wrk")
    files = [tmp_path / "0", tmp_path / "1"]
    for file, body in zip(files, (b"fine", b"full"), strict=True):
        file.write_bytes(wire.post("/", body, "text/plain"))
    found = generate(port, files, 2, 1.0)
    assert found.generator == generator == load.generator()
    assert found.requests > 2
    assert abs(found.answered - found.refused) <= 2
    assert 0 < found.p50_ms <= found.p95_ms <= found.p99_ms < 1000 * found.seconds
    assert found.generator_cpu_s > 0


def test_nobody_there_is_no_measurement(tmp_path: Path) -> None:
    file = tmp_path / "0"
    file.write_bytes(wire.post("/", b"", "text/plain"))
    with pytest.raises(LoadError):
        generate(1, [file], 1, 1.0)
