"""`/classify` and `/detect` as clients use them: shapes, bodies, parameters, every bad input."""

import base64
import gzip
import json
import threading
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic_core import from_json

from service.app import create_app
from tests.service.conftest import MakeSettings
from tests.service.toy import ATTACKED, NATURAL, ToyFolder, encode, pixels

PNG = {"Content-Type": "image/png"}
JSON = {"Content-Type": "application/json"}
LARGE = encode(np.full((8, 8), 255, np.uint8))
TWICE = b'{"image": "' + base64.b64encode(NATURAL) + b'", "image": ""}'
MANY = b'{"images":[' + b"1," * 100_000 + b"1]}"
NESTED = b'{"images":[' + b"[]" * 10 + b"]}"


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_classify_shape(client: TestClient) -> None:
    answer = client.post("/classify", content=ATTACKED, headers=PNG).json()
    likely, unlikely = pytest.approx(0.9999, abs=1e-4), pytest.approx(0.0, abs=1e-4)
    assert answer == {
        "model": {"name": "toy", "version": 1},
        "policy": "eq12",
        "verdict": "corrected",
        "reason": "disagreement",
        "score": likely,
        "threshold": 0.5,
        "corrected": {"label": 1, "class_name": "dog", "probability": likely},
        "label": 2,
        "class_name": "owl",
        "probability": likely,
        "top_k": [
            {"label": 2, "class_name": "owl", "probability": likely},
            {"label": 0, "class_name": "cat", "probability": unlikely},
            {"label": 1, "class_name": "dog", "probability": unlikely},
        ],
        "calibrated": {"label": 1, "class_name": "dog", "probability": likely},
        "calibrated_by": "switch",
        "resized": False,
    }


def test_detect_shape(client: TestClient) -> None:
    answer = client.post("/detect", content=ATTACKED, headers=PNG).json()
    timings = answer.pop("timings_ms")
    owl = {"label": 2, "class_name": "owl", "probability": pytest.approx(0.9999, abs=1e-4)}
    dog = {"label": 1, "class_name": "dog", "probability": pytest.approx(0.9999, abs=1e-4)}
    assert answer == {
        "model": {"name": "toy", "version": 1},
        "policy": "eq12",
        "adversarial": True,
        "score": pytest.approx(1.0, abs=1e-4),
        "threshold": 0.5,
        "verdict": "corrected",
        "reason": "disagreement",
        "ways": {"standard": owl, "robust": dog, "nonrobust": owl},
        "corrected": dog,
        "calibrated": dog,
        "calibrated_by": "switch",
        "resized": False,
    }
    assert set(timings) == {"decode", "queue", "inference"}
    assert all(value >= 0 for value in timings.values())


def test_natural_image_is_accepted(client: TestClient) -> None:
    answer = client.post("/detect", content=NATURAL, headers=PNG).json()
    assert answer["adversarial"] is False
    assert answer["verdict"] == "accept"
    assert answer.keys().isdisjoint({"reason", "corrected", "fpr"})
    assert answer["score"] < 0.001
    assert answer["calibrated"] == answer["ways"]["standard"]


@pytest.mark.parametrize(
    ("request_", "several"),
    [
        ({"content": NATURAL, "headers": PNG}, False),
        ({"content": NATURAL, "headers": {"Content-Type": "IMAGE/PNG; q=1"}}, False),
        ({"content": NATURAL, "headers": {"Content-Type": "application/octet-stream"}}, False),
        ({"content": NATURAL}, False),
        (
            {"content": encode(pixels(1, 1, 1), "JPEG"), "headers": {"Content-Type": "image/jpg"}},
            False,
        ),
        ({"files": {"file": NATURAL}}, False),
        ({"files": [("file", NATURAL), ("file", ATTACKED)]}, True),
        ({"files": {"file": ("name.bin", NATURAL, "application/octet-stream")}}, False),
        ({"json": {"image": text(NATURAL)}}, False),
        ({"json": {"images": [text(NATURAL)]}}, True),
        ({"json": {"images": [text(NATURAL), text(ATTACKED)]}}, True),
    ],
)
def test_every_kind_of_body(client: TestClient, request_: dict[str, Any], several: bool) -> None:
    response = client.post("/detect", **request_)
    assert response.status_code == 200
    assert ("results" in response.json()) is several


def test_results_keep_their_order_and_one_fails_alone(client: TestClient) -> None:
    images = [NATURAL, NATURAL[:50], ATTACKED, b"text", LARGE]
    response = client.post("/detect?strict_size=true", json={"images": [text(i) for i in images]})
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result.get("verdict") for result in results] == [
        "accept",
        None,
        "corrected",
        None,
        None,
    ]
    assert results[1] == {
        "error": {
            "type": "/problems/image-truncated",
            "code": "image-truncated",
            "title": "Truncated image",
            "status": 422,
            "detail": "the image ends too early; part of the file is missing",
        }
    }
    assert results[3]["error"]["code"] == "not-an-image"
    assert results[4]["error"]["code"] == "size-mismatch"


def test_all_bad_images_still_get_their_errors(client: TestClient) -> None:
    response = client.post("/classify", json={"images": [text(b"a"), text(b"b")]})
    assert response.status_code == 200
    assert [r["error"]["code"] for r in response.json()["results"]] == ["not-an-image"] * 2


def test_resizing_is_told(client: TestClient) -> None:
    assert client.post("/classify", content=LARGE, headers=PNG).json()["resized"] is True
    response = client.post("/classify?strict_size=false", content=LARGE, headers=PNG)
    assert response.json()["resized"] is True


@pytest.mark.parametrize(("k", "count"), [(1, 1), (2, 2), (3, 3), (1000, 3)])
def test_top_k_lists_so_many(client: TestClient, k: int, count: int) -> None:
    answer = client.post(f"/classify?top_k={k}", content=NATURAL, headers=PNG).json()
    assert len(answer["top_k"]) == count


def test_model_and_version_choose(toy: ToyFolder, settings_of: MakeSettings) -> None:
    ToyFolder(toy.root, version=10).write()
    ToyFolder(toy.root, version=9).write()
    ToyFolder(toy.root, name="zebra", channels=3).write()
    with TestClient(create_app(settings_of())) as client:
        for query, name, version in (
            ("", "toy", 10),
            ("?model=toy", "toy", 10),
            ("?model=toy&version=9", "toy", 9),
            ("?version=1", "toy", 1),
            ("?model=zebra", "zebra", 1),
        ):
            answer = client.post(f"/detect{query}", content=NATURAL, headers=PNG).json()
            assert answer["model"] == {"name": name, "version": version}
            assert answer["verdict"] == "accept"


PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}
DEEP = b'{"images":' + b"[" * 50_000 + b"]" * 50_000 + b"}"


@pytest.mark.parametrize(
    ("request_", "status", "code", "said"),
    [
        ({}, 400, "body-empty", "no image"),
        ({"content": b"", "headers": PNG}, 400, "body-empty", "no image"),
        ({"content": b"", "headers": JSON}, 400, "body-empty", "no image"),
        ({"content": b"--b--\r\n", "headers": MULTIPART}, 400, "body-empty", "no image"),
        ({"content": b"--c--", "headers": MULTIPART}, 400, "body-malformed", "pattern"),
        ({"json": {"images": []}}, 400, "body-empty", "no image"),
        ({"json": {"image": ""}}, 400, "image-empty", "no bytes"),
        ({"files": {"file": b""}}, 400, "image-empty", "no bytes"),
        ({"content": b"{", "headers": JSON}, 400, "body-malformed", "JSON"),
        ({"content": b"\xff", "headers": JSON}, 400, "body-malformed", "JSON"),
        ({"content": DEEP, "headers": JSON}, 400, "body-malformed", "JSON"),
        ({"json": []}, 400, "body-malformed", "object"),
        ({"json": {}}, 400, "body-malformed", "either"),
        ({"json": {"image": "", "images": []}}, 400, "body-malformed", "either"),
        ({"json": {"image": 7}}, 400, "body-malformed", "JSON image"),
        ({"content": TWICE, "headers": JSON}, 400, "body-malformed", "'image' is given twice"),
        ({"content": MANY, "headers": JSON}, 413, "too-many-images", "64"),
        ({"content": NESTED, "headers": JSON}, 400, "body-malformed", "either"),
        ({"json": {"image": None}}, 400, "body-malformed", "JSON image: not a string"),
        ({"json": {"images": "x"}}, 400, "body-malformed", "JSON images: not a list"),
        ({"json": {"images": [7]}}, 400, "body-malformed", "JSON images.0"),
        ({"json": {"imgae": ""}}, 400, "body-malformed", "'imgae' is unknown"),
        ({"json": {"": text(NATURAL)}}, 400, "body-malformed", "'' is unknown"),
        ({"json": {"image": "a"}}, 400, "body-malformed", "JSON image: not base64"),
        ({"json": {"image": "ä"}}, 400, "body-malformed", "JSON image: not base64"),
        ({"json": {"image": "data:image/png;base64,AA=="}}, 400, "body-malformed", "no data:"),
        ({"json": {"images": ["AA==", "AA\n=="]}}, 400, "body-malformed", "JSON images.1"),
        ({"files": {"photo": NATURAL}}, 400, "body-malformed", "'photo' is unknown"),
        (
            {"files": {"file": (None, NATURAL)}},
            400,
            "body-malformed",
            "no file name",
        ),
        ({"content": NATURAL, "headers": MULTIPART}, 400, "body-malformed", "multipart"),
        ({"content": PART + NATURAL, "headers": MULTIPART}, 400, "body-malformed", "closing"),
        (
            {"content": NATURAL, "headers": {"Content-Type": "multipart/form-data"}},
            400,
            "body-malformed",
            "boundary",
        ),
        (
            {"content": NATURAL, "headers": {"Content-Type": "text/html"}},
            415,
            "type-unsupported",
            "",
        ),
        (
            {"content": NATURAL, "headers": {"Content-Type": "image/gif"}},
            415,
            "type-unsupported",
            "",
        ),
        (
            {"content": gzip.compress(NATURAL), "headers": PNG | {"Content-Encoding": "gzip"}},
            415,
            "type-unsupported",
            "gzip",
        ),
        ({"content": b"hello", "headers": PNG}, 415, "not-an-image", "send PNG"),
        ({"content": encode(pixels(1, 1, 1), "GIF")}, 415, "not-an-image", "GIF"),
        (
            {"content": NATURAL, "headers": {"Content-Type": "image/webp"}},
            415,
            "type-mismatch",
            "image/png",
        ),
        (
            {"files": {"file": ("a.txt", NATURAL, "text/plain")}},
            415,
            "type-mismatch",
            "text/plain",
        ),
        ({"content": NATURAL[:-1], "headers": PNG}, 422, "image-truncated", "too early"),
        ({"files": {"file": NATURAL[:40]}}, 422, "image-truncated", "too early"),
    ],
)
@pytest.mark.parametrize("path", ["/detect", "/classify"])
def test_bad_bodies_are_named(
    client: TestClient, path: str, request_: dict[str, Any], status: int, code: str, said: str
) -> None:
    response = client.post(path, **request_)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code)
    assert said in problem["detail"]
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["type"] == f"/problems/{code}"
    assert problem["instance"] == path


@pytest.mark.parametrize(
    ("query", "status", "code", "said"),
    [
        ("model=cat", 404, "model-unknown", "loaded: toy version 1"),
        ("model=../../etc", 404, "model-unknown", "loaded: toy version 1"),
        ("model=", 404, "model-unknown", "loaded: toy version 1"),
        ("version=2", 404, "model-unknown", "'toy' version 2"),
        ("version=0", 422, "parameter-refused", "'version'"),
        ("version=one", 422, "parameter-refused", "'version'"),
        ("strict_size=perhaps", 422, "parameter-refused", "'strict_size'"),
        ("strict_szie=true", 422, "parameter-refused", "did you mean 'strict_size'"),
        ("surprise=1", 422, "parameter-refused", "'surprise': unknown here"),
    ],
)
@pytest.mark.parametrize("path", ["/detect", "/classify"])
def test_bad_parameters_are_named(
    client: TestClient, path: str, query: str, status: int, code: str, said: str
) -> None:
    response = client.post(f"{path}?{query}", content=NATURAL, headers=PNG)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code)
    assert said in problem["detail"]


@pytest.mark.parametrize("query", ["top_k=0", "top_k=1001", "top_k=x"])
def test_top_k_has_a_range(client: TestClient, query: str) -> None:
    response = client.post(f"/classify?{query}", content=NATURAL, headers=PNG)
    assert response.json()["code"] == "parameter-refused"


def test_top_k_is_not_for_detect(client: TestClient) -> None:
    response = client.post("/detect?top_k=1", content=NATURAL, headers=PNG)
    assert "'top_k': unknown here" in response.json()["detail"]


@pytest.mark.parametrize(
    ("limits", "request_", "code"),
    [
        ({"max_body_bytes": 50}, {"content": NATURAL}, "body-too-large"),
        ({"max_body_bytes": 50}, {"content": iter([NATURAL[:40], NATURAL[40:]])}, "body-too-large"),
        ({"max_body_bytes": 50}, {"files": {"file": NATURAL}}, "body-too-large"),
        ({"max_image_bytes": 50}, {"content": NATURAL}, "image-too-large"),
        ({"max_pixels": 15}, {"content": NATURAL}, "too-many-pixels"),
        ({"max_images": 1}, {"files": [("file", NATURAL)] * 2}, "too-many-images"),
        ({"max_images": 1}, {"json": {"images": [text(NATURAL)] * 2}}, "too-many-images"),
    ],
)
def test_limits_are_settings(
    toy: ToyFolder,
    settings_of: MakeSettings,
    limits: dict[str, int],
    request_: dict[str, Any],
    code: str,
) -> None:
    with TestClient(create_app(settings_of(**limits))) as client:
        response = client.post("/detect", **request_)
    assert (response.status_code, response.json()["code"]) == (413, code)


def test_answers_are_json_that_others_can_read(client: TestClient) -> None:
    response = client.post("/detect", content=NATURAL, headers=PNG)
    assert response.headers["content-type"] == "application/json"
    assert json.loads(response.text, parse_constant=pytest.fail) == response.json()
    assert "null" not in response.text


@pytest.mark.parametrize("body", [MANY, NESTED])
def test_a_hostile_body_is_refused_before_it_is_parsed(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """A megabyte of commas or brackets would become a hundred of objects."""
    monkeypatch.setattr("service.uploads.from_json", None)
    assert client.post("/detect", content=body, headers=JSON).status_code in (400, 413)


def test_large_bodies_leave_the_event_loop(
    toy: ToyFolder, settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsed in a thread, with the same answer."""
    threads: list[str] = []

    def watched(*arguments: Any, **options: Any) -> Any:
        threads.append(threading.current_thread().name)
        return from_json(*arguments, **options)

    monkeypatch.setattr("service.uploads.from_json", watched)
    small, large = ({"images": [text(NATURAL)] * count} for count in (1, 1000))
    with TestClient(create_app(settings_of(max_images=1000))) as client:
        answers = [client.post("/detect", json=body).json()["results"] for body in (small, large)]
    assert [len(results) for results in answers] == [1, 1000]
    assert threads[0] != threads[1]


@pytest.mark.parametrize("path", ["/detect", "/classify"])
@pytest.mark.parametrize("query", ["strict_size=true&strict_size=false", "model=toy&model=toy"])
def test_a_repeated_parameter_is_refused(client: TestClient, path: str, query: str) -> None:
    response = client.post(f"{path}?{query}", content=NATURAL, headers=PNG)
    assert (response.status_code, response.json()["code"]) == (422, "parameter-refused")
    assert "more than once" in response.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [{"Content-Type": ""}, {"Content-Type": " image/PNG "}, {"Content-Encoding": "Identity"}],
)
def test_headers_are_read_leniently(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/detect", content=NATURAL, headers=headers).status_code == 200


def test_no_redirect_to_a_host_of_the_clients(client: TestClient) -> None:
    response = client.post(
        "/detect/", content=NATURAL, headers={"Host": "evil.example"}, follow_redirects=False
    )
    assert (response.status_code, response.json()["code"]) == (404, "not-found")
