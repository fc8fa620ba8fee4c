"""Bodies and parameters that mean harm, told to a real server: an answer of its own to each."""

import base64
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from math import nan

import httpx2
import pytest

from tests.service.hostile import (
    ZEROS,
    animated,
    exif,
    jpeg_of,
    multipart,
    nested,
    odd_json,
    part,
    png,
    profile,
    texts,
    webp_of,
    zipped,
)
from tests.service.served import Served, post, serving, statuses, unharmed
from tests.service.serving import PATIENCE_S
from tests.service.toy import ATTACKED, NATURAL, ToyFolder, encode, pixels

JPEG = encode(pixels(1, 1, 1), "JPEG")
PARTS = "Content-Type: multipart/form-data; boundary=b"
JSON = "Content-Type: application/json"
TEXT = base64.b64encode(NATURAL).decode()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    toy = ToyFolder(tmp_path_factory.mktemp("abuse") / "models").write()
    with serving(toy, deadline_ms=60_000) as server:
        yield server


def answer_to(served: Served, request: bytes) -> tuple[int, str]:
    """Status, and code of the problem or the verdict."""
    answer = served.exchange(request)
    (status,) = statuses(answer)
    said = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    if "results" in said:
        return status, "; ".join(
            result["error"]["code"] if "error" in result else result["verdict"]
            for result in said["results"]
        )
    return status, said.get("code") or said["verdict"]


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        (png(4, 4, ZEROS * 200), 422, "image-damaged"),
        (png(4, 4, ZEROS), 422, "image-damaged"),
        (png(10_000, 10_000, b""), 413, "too-many-pixels"),
        (png(2**31 - 1, 2**31 - 1, b""), 413, "too-many-pixels"),
        (png(25_000_000, 1, b""), 422, "image-truncated"),
        (png(25_000_001, 1, b""), 413, "too-many-pixels"),
        (png(5000, 5000, ZEROS), 422, "image-truncated"),
        (jpeg_of(10_000, 10_000), 413, "too-many-pixels"),
        (jpeg_of(65_500, 65_500), 413, "too-many-pixels"),
        (webp_of(10_000, 10_000), 413, "too-many-pixels"),
        (webp_of(16_384, 16_384), 413, "too-many-pixels"),
        (texts(20), 200, "accept"),
        (profile(200 << 20), 200, "accept"),
        (exif(2**31), 200, "accept"),
        (animated("PNG"), 422, "image-animated"),
        (animated("WEBP"), 422, "image-animated"),
        (animated("GIF"), 415, "not-an-image"),
        (NATURAL[:-1], 422, "image-truncated"),
        (NATURAL[:20], 422, "image-truncated"),
        (NATURAL[:8], 422, "image-truncated"),
        (JPEG[:-2], 422, "image-truncated"),
        (JPEG[:3], 422, "image-truncated"),
        (encode(pixels(1, 1, 1), "WEBP")[:-1], 422, "image-truncated"),
        (b"RIFF\xff\xff\xff\xffWEBP", 422, "image-truncated"),
        (b"RIFF\4\0\0\0WEBP", 422, "image-damaged"),
        (zipped(NATURAL), 200, "accept"),
        (zipped(JPEG), 200, "accept"),
        (NATURAL + JPEG, 200, "accept"),
        (JPEG + NATURAL, 200, "accept"),
        (b"GIF89a/*" + NATURAL, 415, "not-an-image"),
        (b"<html>" + NATURAL, 415, "not-an-image"),
        (b"\n" + NATURAL, 415, "not-an-image"),
        (bytes(1000), 415, "not-an-image"),
        (bytes(11 << 20), 413, "image-too-large"),
        (bytes(33 << 20), 413, "body-too-large"),
    ],
    ids=lambda value: str(value[:40]) if isinstance(value, bytes) else str(value),
)
def test_hostile_files(served: Served, data: bytes, status: int, said: str) -> None:
    with unharmed(served):
        assert answer_to(served, post("/detect", data)) == (status, said)


@pytest.mark.parametrize(
    ("header", "body", "status", "said"),
    [
        (PARTS, multipart([part(NATURAL)] * 5000), 413, "too-many-images"),
        (PARTS, multipart([part(b"")] * 65), 413, "too-many-images"),
        (PARTS, multipart([part(b"")] * 64), 200, "; ".join(["image-empty"] * 64)),
        (PARTS, multipart([part(NATURAL, "a" * 3000)]), 400, "body-malformed"),
        (PARTS, multipart([part(NATURAL, "file", "../" * 900 + "etc/passwd")]), 200, "accept"),
        (PARTS, multipart([part(NATURAL, "file", "\x01\u202e\U0001f4a9")]), 200, "accept"),
        (PARTS, multipart([part(multipart([part(NATURAL)], b"c"))]), 415, "not-an-image"),
        (PARTS, multipart([part(NATURAL, "file", "a", "a: b" * 2000)]), 400, "body-malformed"),
        (PARTS, multipart([part(NATURAL, "file", "a", *["a: b"] * 5000)]), 400, "body-malformed"),
        (PARTS, b"--b\r\n" * 100_000, 400, "body-malformed"),
        (PARTS, b"--b--" + bytes(1 << 20), 400, "body-empty"),
        (PARTS, bytes(1 << 20), 400, "body-malformed"),
        (PARTS + "b" * 5000, multipart([part(NATURAL)]), 400, "body-malformed"),
        (PARTS + ";" * 5000, multipart([part(NATURAL)]), 200, "accept"),
        (PARTS + ';a="' * 5000, multipart([part(NATURAL)]), 200, "accept"),
        (PARTS[:-2], multipart([part(NATURAL)]), 400, "body-malformed"),
        (JSON, nested(1_000_000), 400, "body-malformed"),
        (JSON, b'{"images":[' + b"{}," * 1_000_000 + b"{}]}", 400, "body-malformed"),
        (JSON, b'{"images":[' + b"1," * 1_000_000 + b"1]}", 413, "too-many-images"),
        (JSON, b'{"image":' + b"9" * 1_000_000 + b"}", 400, "body-malformed"),
        (JSON, b'{"image":"' + b"\\u0041" * 1_000_000 + b'"}', 415, "not-an-image"),
        (JSON, b'{"image":"' + b"\\" * 1_000_001 + b'"}', 400, "body-malformed"),
        (JSON, b'{"image":1e999}', 400, "body-malformed"),
        (JSON, odd_json(nan), 400, "body-malformed"),
        (JSON, odd_json("\ud800"), 400, "body-malformed"),
        (JSON, odd_json("\0"), 400, "body-malformed"),
        (JSON, odd_json(None), 400, "body-malformed"),
        (JSON, odd_json("A" * 12_000_000), 415, "not-an-image"),
        (JSON, odd_json(TEXT).decode().encode("utf-16"), 400, "body-malformed"),
        (JSON, b"\xef\xbb\xbf" + odd_json(TEXT), 400, "body-malformed"),
        (JSON, odd_json(TEXT) * 2, 400, "body-malformed"),
        (JSON, odd_json(TEXT)[:-1], 400, "body-malformed"),
        (JSON, b"\xff" * 1000, 400, "body-malformed"),
        (JSON, b'"' * 1_000_000, 400, "body-malformed"),
        (JSON, b" " * 1_000_000, 400, "body-malformed"),
        ("Content-Type: " + "a" * 30_000, NATURAL, 415, "type-unsupported"),
        ("Content-Type: image/png;" + "q=1;" * 9000, NATURAL, 200, "accept"),
        ("Content-Encoding: gzip", NATURAL, 415, "type-unsupported"),
        ("Content-Encoding: " + "identity, " * 3000, NATURAL, 415, "type-unsupported"),
    ],
    ids=lambda value: str(value[:40]) if isinstance(value, bytes | str) else str(value),
)
def test_hostile_bodies(served: Served, header: str, body: bytes, status: int, said: str) -> None:
    with unharmed(served, 64 << 20):
        assert answer_to(served, post("/detect", body, header)) == (status, said)


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("model=%00", 404, "model-unknown"),
        ("model=%F0%9F%92%A9", 404, "model-unknown"),
        ("model=%ff%fe", 404, "model-unknown"),
        ("model=%ed%a0%80", 404, "model-unknown"),
        ("model=%E2%80%AEtoy", 404, "model-unknown"),
        ("model=TOY", 404, "model-unknown"),
        ("model=toy%00", 404, "model-unknown"),
        ("model=toy/1", 404, "model-unknown"),
        ("model=./toy", 404, "model-unknown"),
        ("model=..%2f..%2f..%2fetc%2fpasswd", 404, "model-unknown"),
        ("model=..%5c..%5cwindows", 404, "model-unknown"),
        ("model=%252e%252e%252f", 404, "model-unknown"),
        ("model=C:%5c", 404, "model-unknown"),
        ("model=toy%0d%0aSet-Cookie:%20a=b", 404, "model-unknown"),
        ("model=" + "a" * 60_000, 422, "parameter-refused"),
        ("model=toy&model=toy", 422, "parameter-refused"),
        ("version=" + "9" * 5000, 422, "parameter-refused"),
        ("version=-1", 422, "parameter-refused"),
        ("version=1e0", 422, "parameter-refused"),
        ("version=0x1", 422, "parameter-refused"),
        ("version=%D9%A1", 422, "parameter-refused"),
        ("fpr=nan", 422, "parameter-refused"),
        ("fpr=-0", 422, "parameter-refused"),
        ("fpr=1e-999", 422, "parameter-refused"),
        ("policy=%00", 422, "parameter-refused"),
        ("&" * 60_000, 422, "parameter-refused"),
        ("&".join(f"a{number}" for number in range(9000)), 422, "parameter-refused"),
        ("&".join(f"a{number}" for number in range(9000)) + "&z&z", 422, "parameter-refused"),
        ("%" * 60_000, 422, "parameter-refused"),
        ("=" * 60_000, 422, "parameter-refused"),
        ("a" * 60_000, 422, "parameter-refused"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_hostile_parameters(served: Served, query: str, status: int, said: str) -> None:
    with unharmed(served):
        assert answer_to(served, post(f"/detect?{query}")) == (status, said)
        assert len(served.exchange(post(f"/detect?{query}"))) < 5000  # it is not sent back


def test_what_is_asked_with_a_header(served: Served) -> None:
    with unharmed(served):
        for value, status in (("1e-300", 422), ("0.000000001", 429), ("9" * 9, 200), ("\xb2", 422)):
            request = post("/detect", ATTACKED, f"X-Request-Timeout-Ms: {value}")
            assert statuses(served.exchange(request))[0] in (status, 408, 504)


def test_many_bombs_at_once(served: Served) -> None:
    """The largest images that are taken, all at the same time: memory goes up, and down again."""
    bomb = post("/detect", png(5000, 5000, bytes(5001 * 5000)))
    seen: list[list[int]] = []
    with unharmed(served, 128 << 20):
        clients = [
            threading.Thread(target=lambda: seen.append(statuses(served.exchange(bomb))))
            for _ in range(16)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    assert seen == [[200]] * 16


def test_hanging_up_while_it_is_judged(served: Served) -> None:
    bomb = post("/detect", png(5000, 5000, bytes(5001 * 5000)))
    with unharmed(served, 128 << 20):
        for pause in (0.0, 0.01, 0.1):
            connection = served.connect()
            connection.sendall(bomb)
            time.sleep(pause)
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()


def test_nothing_of_it_was_the_services_fault(served: Served) -> None:
    """Last: of all that this server was sent."""
    counted = httpx2.get(f"{served.url}/metrics", timeout=PATIENCE_S).text
    outcomes = [line for line in counted.splitlines() if line.startswith("parallax_requests_total")]
    assert len(outcomes) > 10 or os.environ.get("PYTEST_XDIST_WORKER")
    for fault in ("internal-error", "inference-failed", "not-ready"):
        assert not any(f'outcome="{fault}"' in line for line in outcomes)
