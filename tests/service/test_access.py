"""The gate: which key opens what, how much it may send; and a real server with one."""

import logging
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from service.access import OPEN, Gate, Visitor, charge
from service.app import create_app
from service.errors import KeysRefused, RateLimited, Unauthorized
from service.metrics import Metrics
from service.rate_limit import TokenBuckets
from tests.service.conftest import MakeSettings
from tests.service.served import serving
from tests.service.test_rate_limit import Clock
from tests.service.toy import ATTACKED, NATURAL, ToyFolder

OLD, NEW, OTHER = "old-key-of-the-robot", "new-key-of-the-robot", "key-without-a-name"
BEARER = f"Bearer {OLD}"
PNG = {"Content-Type": "image/png"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.touch(0o600)
    file.write_text(f"# for tests\nrobot:{OLD}\n{OTHER}\n")
    return file


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def gate(file: Path, metrics: Metrics) -> Gate:
    return Gate(file, metrics)


def scope(*headers: tuple[str, str], path: str = "/detect", method: str = "POST") -> dict[str, Any]:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return {"type": "http", "path": path, "method": method, "headers": raw}


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ([("Authorization", BEARER)], "robot"),
        ([("Authorization", f"bEaReR   {OLD} ")], "robot"),
        ([("X-API-Key", OLD)], "robot"),
        ([("X-API-Key", OTHER)], "#3"),
        ([("X-API-Key", OLD), ("Authorization", "Basic dXNlcjpwYXNz")], "robot"),  # a proxy's
        ([("Accept", "*/*"), ("X-API-Key", f" {OLD}\t")], "robot"),
    ],
)
def test_a_known_key_is_let_in(gate: Gate, headers: list[tuple[str, str]], name: str) -> None:
    request = scope(*headers)
    gate.enter(request)
    assert request["parallax.visitor"] == Visitor(name, gate)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([], "send an API key"),
        ([("Authorization", "Basic dXNlcjpwYXNz")], "send an API key"),
        ([("Authorization", OLD)], "send an API key"),
        ([("Authorization", "")], "send an API key"),
        ([("Authorization", "Bearer")], "not known"),
        ([("Authorization", f"Bearer {OLD}x")], "not known"),
        ([("Authorization", f"Bearer {OLD[:-1]}")], "not known"),
        ([("X-API-Key", f"robot:{OLD}")], "not known"),
        ([("X-API-Key", "")], "not known"),
        ([("X-API-Key", "\xff" * 9)], "not known"),
        ([("X-API-Key", NEW), ("Authorization", BEARER)], "not known"),  # the first is ours alone
        ([("X-API-Key", OLD), ("X-API-Key", OLD)], "more than once"),
        ([("Authorization", BEARER), ("Authorization", BEARER)], "more than once"),
    ],
)
def test_anything_else_is_not(gate: Gate, headers: list[tuple[str, str]], said: str) -> None:
    request = scope(*headers)
    with pytest.raises(Unauthorized, match=said) as caught:
        gate.enter(request)
    assert "parallax.visitor" not in request
    assert OLD not in str(caught.value)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/v2/health/live"])
def test_health_is_open(gate: Gate, path: str) -> None:
    gate.enter(scope(path=path, method="GET"))


@pytest.mark.parametrize("path", ["/health", "/health/live/", "//health/live", "/health/LIVE", ""])
def test_what_looks_like_health_is_not(gate: Gate, path: str) -> None:
    with pytest.raises(Unauthorized):
        gate.enter(scope(path=path, method="GET"))


def test_images_are_counted_by_name(gate: Gate, metrics: Metrics) -> None:
    request = scope(("X-API-Key", OLD))
    gate.enter(request)
    charge(request, 3)
    charge({}, 5)  # where no keys are set
    assert b'parallax_key_images_total{key="robot"} 3.0' in metrics.exposition()
    assert OLD.encode() not in metrics.exposition()


def test_a_limit_is_each_keys_own(file: Path, metrics: Metrics) -> None:
    clock = Clock()
    gate = Gate(file, metrics, TokenBuckets(rate=2, burst=8, clock=clock))

    def send(key: str, images: int, method: str = "POST") -> None:
        request = scope(("X-API-Key", key), method=method)
        gate.enter(request)
        if images:
            charge(request, images)

    send(OLD, 5)
    send(OLD, 1)
    with pytest.raises(RateLimited) as caught:
        send(OLD, 4)  # its first token is spent, and that is all
    assert caught.value.headers == {"Retry-After": "1"}  # 3 more, of which 1 is there
    send(OLD, 1)
    with pytest.raises(RateLimited) as caught:
        send(OLD, 1)
    assert caught.value.retry_after_s == 1
    send(OLD, 0, "GET")  # without a body there are no images
    send(OTHER, 8)
    clock.now += 0.5
    send(OLD, 1)
    assert b'parallax_key_images_total{key="robot"} 8.0' in metrics.exposition()


def test_retry_after_says_when(file: Path, metrics: Metrics) -> None:
    gate = Gate(file, metrics, TokenBuckets(rate=0.1, burst=64, clock=Clock()))
    request = scope(("X-API-Key", OLD))
    gate.enter(request)
    charge(request, 64)
    with pytest.raises(RateLimited, match="try again in 10 s"):
        gate.enter(scope(("X-API-Key", OLD)))


def test_keys_rotate(gate: Gate, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file.write_text(f"robot:{OLD}\nrobot:{NEW}\n")
    assert gate.reload()
    gate.enter(scope(("X-API-Key", OLD)))
    gate.enter(scope(("X-API-Key", NEW)))
    file.write_text(f"robot:{NEW}\n")
    assert gate.reload()
    with pytest.raises(Unauthorized):
        gate.enter(scope(("X-API-Key", OLD)))
    assert "1 API keys are in use" in caplog.text
    assert NEW not in caplog.text


def test_a_key_and_its_successor_share_a_bucket(file: Path, metrics: Metrics) -> None:
    file.write_text(f"robot:{OLD}\nrobot:{NEW}\n")
    gate = Gate(file, metrics, TokenBuckets(rate=1, burst=1, clock=Clock()))
    gate.enter(scope(("X-API-Key", OLD)))
    file.write_text(f"robot:{NEW}\n")
    assert gate.reload()  # nor is it filled by that
    with pytest.raises(RateLimited):
        gate.enter(scope(("X-API-Key", NEW)))


@pytest.mark.parametrize("data", [None, b"", b"short\n", b"# all gone\n"])
def test_a_bad_file_leaves_the_old_keys(
    gate: Gate, file: Path, data: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    file.unlink() if data is None else file.write_bytes(data)
    assert not gate.reload()
    assert "the old API keys stay in use: API keys in" in caplog.text
    gate.enter(scope(("X-API-Key", OLD)))
    with pytest.raises(Unauthorized):
        gate.enter(scope())


def test_a_file_that_all_may_read_is_warned_of(
    file: Path, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    Gate(file, metrics)
    assert "every user" not in caplog.text
    file.chmod(0o644)
    Gate(file, metrics)
    assert f"every user may read the API keys in {file}; chmod 600 it" in caplog.text


def test_a_bad_file_stops_the_start(toy: ToyFolder, settings_of: MakeSettings) -> None:
    with pytest.raises(KeysRefused, match="No such file"):
        create_app(settings_of(api_keys=toy.root / "nowhere"))


# --- the whole app ---


@pytest.fixture
def locked(toy: ToyFolder, settings_of: MakeSettings, file: Path) -> TestClient:
    return TestClient(create_app(settings_of(api_keys=file)))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/detect"),
        ("POST", "/classify"),
        ("GET", "/detect"),
        ("GET", "/models"),
        ("GET", "/metrics"),
        ("GET", "/docs"),
        ("GET", "/docs/assets/swagger-ui-bundle.js"),
        ("GET", "/openapi.json"),
        ("GET", "/problems/overloaded"),
        ("GET", "/nowhere"),
        ("OPTIONS", "/detect"),
    ],
)
def test_everything_but_health_asks_for_a_key(locked: TestClient, method: str, path: str) -> None:
    with locked:
        refused = locked.request(method, path)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == 'Bearer realm="parallax"'
        assert refused.json()["code"] == "unauthorized"
        assert refused.headers["content-type"] == "application/problem+json"
        assert locked.request(method, path, headers={"X-API-Key": OLD}).status_code != 401
        assert locked.get("/health/live").status_code == 200
        assert locked.get("/health/ready").status_code == 200
        metrics = locked.get("/metrics", headers={"Authorization": BEARER}).text
    assert 'parallax_rejected_total{reason="unauthorized"} 1.0' in metrics
    endpoint = path if method == "POST" else "unmatched"
    assert f'parallax_requests_total{{endpoint="{endpoint}",outcome="unauthorized"}} 1.0' in metrics


def test_the_document_says_that_keys_are_asked_for(locked: TestClient, client: TestClient) -> None:
    document = locked.get("/openapi.json", headers={"X-API-Key": OLD}).json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            asks = path not in OPEN
            assert ("security" in operation) == asks, path
            assert ("401" in operation["responses"]) == asks, path
    assert "securitySchemes" not in client.get("/openapi.json").json()["components"]


def test_a_limit_is_told_with_a_time(toy: ToyFolder, settings_of: MakeSettings, file: Path) -> None:
    limited = settings_of(api_keys=file, rate_limit=0.01, rate_burst=2, max_images=2)
    headers = {"X-API-Key": OLD}
    two = [("file", (name, NATURAL, "image/png")) for name in "ab"]
    with TestClient(create_app(limited), headers=headers) as client:
        assert client.post("/detect", content=NATURAL, headers=PNG).status_code == 200
        refused = client.post("/detect", files=two)
        assert refused.status_code == 429
        assert refused.json()["code"] == "rate-limited"
        assert int(refused.headers["retry-after"]) == 100
        assert client.get("/models").status_code == 200
        metrics = client.get("/metrics").text
    assert 'parallax_images_total{model="toy",verdict="accept",version="1"} 1.0' in metrics


# --- a real server ---


def head(key: str, length: int) -> bytes:
    return (
        f"POST /detect HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: image/png\r\n"
        f"Content-Length: {length}\r\nConnection: close\r\n\r\n"
    ).encode()


def test_a_real_server_asks_before_it_reads(toy: ToyFolder, file: Path) -> None:
    """Heads alone are answered, although their bodies never come."""
    with serving(toy, api_keys=file, deadline_ms=60_000, rate_limit=0.001) as server:
        answer = server.exchange(head("of somebody else", 1000))
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b'www-authenticate: bearer realm="parallax"' in answer.lower()
        answer = server.exchange(head(OLD, len(ATTACKED)) + ATTACKED)
        assert answer.startswith(b"HTTP/1.1 200 ")
        for _ in range(63):
            server.exchange(head(OLD, 1) + b"x")  # no image, and yet it was asked to look
        answer = server.exchange(head(OLD, 1000))
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"\r\nretry-after: 1000\r\n" in answer.lower()
        assert server.exchange(head(OTHER, len(NATURAL)) + NATURAL).startswith(b"HTTP/1.1 200 ")
        with httpx2.Client(base_url=server.url, timeout=30) as client:
            assert client.get("/health/ready").status_code == 200
            metrics = client.get("/metrics", headers={"Authorization": BEARER}).text
    assert 'parallax_key_images_total{key="robot"} 64.0' in metrics
    assert 'parallax_rejected_total{reason="rate-limited"} 1.0' in metrics
    assert OLD not in metrics
