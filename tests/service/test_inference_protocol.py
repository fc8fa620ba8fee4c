"""`/v2` beside `/detect`: the same images, the same answers; and what fails as a whole."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.app import create_app
from service.protocol.request import JSON_SIZE
from tests.service.conftest import MakeSettings
from tests.service.toy import (
    ATTACKED,
    NATURAL,
    ToyFolder,
    calibrated,
    encode,
    pixels,
    toy_answers,
    toy_network,
    unsure,
)

INFER = "/v2/models/toy/infer"
SIZE = [1, 4, 4]


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def files(*images: bytes, **parameters: Any) -> dict[str, Any]:
    data = [text(image) for image in images]
    given = {"name": "bytes", "shape": [len(images)], "datatype": "BYTES", "data": data}
    return {"inputs": [given], "parameters": parameters}


def tensor(images: Any, **parameters: Any) -> dict[str, Any]:
    array = np.asarray(images, np.float32)
    given = {"name": "image", "shape": [*array.shape], "datatype": "FP32", "data": array.tolist()}
    return {"inputs": [given], "parameters": parameters}


def outputs(client: TestClient, request: dict[str, Any], path: str = INFER) -> dict[str, Any]:
    answer = client.post(path, json=request)
    assert answer.status_code == 200, answer.text
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


@pytest.mark.parametrize("parameters", [{}, {"policy": "score"}, {"policy": "strict", "fpr": 0.01}])
def test_answers_are_those_of_detect(
    toy: ToyFolder, settings_of: MakeSettings, parameters: dict[str, Any]
) -> None:
    ToyFolder(toy.root, changes={"decision": calibrated()}).write()
    images = [NATURAL, ATTACKED, unsure(1, 1, 1), unsure(0, 2, 0)]
    arrays = [pixels(1, 1, 1), pixels(2, 1, 2)]
    with TestClient(create_app(settings_of())) as client:
        data = [text(image) for image in images]
        told = client.post("/detect", params=parameters, json={"images": data}).json()["results"]
        got = outputs(client, files(*images, **parameters))
        assert got["verdict"] == [one["verdict"] for one in told]
        assert got["adversarial"] == [one["adversarial"] for one in told]
        assert got["label"] == [one["calibrated"]["label"] for one in told]
        np.testing.assert_allclose(got["score"], [one["score"] for one in told], rtol=1e-6)
        for way in ("standard", "robust", "nonrobust"):
            shares = np.reshape(got[f"probabilities_{way}"], (4, 3))
            ways = [one["ways"][way] for one in told]
            assert shares.argmax(axis=1).tolist() == [one["label"] for one in ways]
            np.testing.assert_allclose(
                shares.max(axis=1), [one["probability"] for one in ways], rtol=1e-6
            )
        decoded = outputs(client, tensor(np.stack(arrays)[:, None] / 255, **parameters))
        assert decoded["verdict"] == got["verdict"][:2]
        np.testing.assert_array_equal(decoded["score"], got["score"][:2])


def test_strict_size(client: TestClient) -> None:
    large = encode(np.full((8, 8), 255, np.uint8))
    outputs(client, files(large))
    refused = client.post(INFER, json=files(NATURAL, large, strict_size=True))
    assert (refused.status_code, refused.json()["code"]) == (422, "size-mismatch")
    assert refused.json()["error"].startswith("image 1: the image is 8x8")


def test_an_image_that_cannot_be_judged_fails_the_request(
    toy: ToyFolder, settings_of: MakeSettings
) -> None:
    golden = np.ones((2, *SIZE), np.float32)
    toy.write(toy_network(poison=True), {"image": golden, **toy_answers(golden)})
    images = np.full((3, *SIZE), 0.5)
    images[1, 0, 3, 3] = 0.0
    with TestClient(create_app(settings_of())) as client:
        answer = client.post(INFER, json=tensor(images))
    assert answer.status_code == 500
    assert answer.json()["code"] == "inference-failed"
    assert answer.json()["error"].startswith("image 1: ")


def test_verdicts_without_scores(toy: ToyFolder, settings_of: MakeSettings) -> None:
    ToyFolder(toy.root, changes={"decision": calibrated()}).write()
    images = files(NATURAL, ATTACKED, unsure(1, 1, 1))
    with TestClient(create_app(settings_of(disclose="verdict", policy="score"))) as client:
        told = {"label": [1, 1, -1], "verdict": ["accept", "corrected", "reject"]}
        assert outputs(client, images) == told
        model = client.get("/v2/models/toy").json()
        assert [output["name"] for output in model["outputs"]] == ["label", "verdict"]
        for name in ("score", "adversarial", "probabilities_robust"):
            refused = client.post(INFER, json=images | {"outputs": [{"name": name}]})
            assert (refused.status_code, refused.json()["code"]) == (400, "tensor-refused")
        for parameters in ({"policy": "eq12"}, {"fpr": 0.01}, {"policy": "score", "fpr": 0.1}):
            refused = client.post(INFER, json=images | {"parameters": parameters})
            assert (refused.status_code, refused.json()["code"]) == (422, "parameter-refused")
        document = client.get("/openapi.json").json()["paths"]["/v2/models/{name}/infer"]["post"]
        body = json.dumps(document["requestBody"])
        assert not any(word in body for word in ("policy", "fpr", "score", "probabilities"))


def test_keys_and_their_limits(toy: ToyFolder, settings_of: MakeSettings) -> None:
    keys = toy.root.parent / "keys"
    keys.write_text("arm:0123456789abcdef\n")
    keys.chmod(0o600)
    limited = settings_of(api_keys=keys, rate_limit=0.001, rate_burst=4, max_images=4)
    with TestClient(create_app(limited)) as client:
        assert client.get("/v2/health/ready").status_code == 200
        for answer in (client.get("/v2/models/toy"), client.post(INFER, json=files(NATURAL))):
            assert answer.status_code == 401
            assert answer.json() == {"error": answer.json()["error"], "code": "unauthorized"}
        client.headers["X-API-Key"] = "0123456789abcdef"
        outputs(client, files(NATURAL, ATTACKED, NATURAL))
        answer = client.post(INFER, json=files(NATURAL, NATURAL))
        assert (answer.status_code, answer.json()["code"]) == (429, "rate-limited")
        operation = client.get("/openapi.json").json()["paths"]["/v2/models/{name}"]["get"]
        assert list(operation["responses"]["401"]["content"]) == ["application/json"]


def test_a_full_service_says_so_in_the_protocols_words(
    toy: ToyFolder, settings_of: MakeSettings
) -> None:
    with TestClient(create_app(settings_of(max_pending=2, max_images=2))) as client:
        app: Any = client.app
        with app.state.pipeline.lane(None, None).batcher.admit(2):
            answer = client.post(INFER, json=files(NATURAL))
    assert answer.status_code == 429
    assert answer.json() == {"error": answer.json()["error"], "code": "overloaded"}
    assert int(answer.headers["retry-after"]) >= 1


def test_it_is_not_ready_before_the_start(app: FastAPI) -> None:
    client = TestClient(app)  # without its lifespan
    for path in ("/v2/health/ready", "/v2/models/toy/ready"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "not-ready")
    entry = {"name": "toy", "version": "1", "state": "UNAVAILABLE", "reason": ""}
    assert client.post("/v2/repository/index").json() == [entry]
    assert client.post("/v2/repository/index", json={"ready": True}).json() == []
    assert client.post(INFER, json=files(NATURAL)).status_code == 503


@pytest.mark.parametrize("binary", [True, False])
def test_large_requests(toy: ToyFolder, settings_of: MakeSettings, binary: bool) -> None:
    """Those that are read in a thread."""
    ToyFolder(toy.root, version=2, height=64, width=64).write()
    images = np.random.default_rng(0).random((100, 1, 64, 64), np.float32)
    request = tensor(images)
    tail, headers = b"", {}
    if binary:
        tail = images.tobytes()
        del request["inputs"][0]["data"]
        request["inputs"][0]["parameters"] = {"binary_data_size": len(tail)}
    body = json.dumps(request).encode()
    if binary:
        headers = {JSON_SIZE: str(len(body))}
    with TestClient(create_app(settings_of(max_images=100))) as client:
        answer = client.post(INFER, content=body + tail, headers=headers)
    label = np.where(*_labels(images))
    assert next(o for o in answer.json()["outputs"] if o["name"] == "label")["data"] == [*label]


def _labels(images: Any) -> tuple[Any, Any, Any]:
    standard, robust, nonrobust = (images[:, 0, way, :3].argmax(axis=1) for way in range(3))
    return robust != nonrobust, robust, standard


def test_a_request_has_a_metric_of_its_own(client: TestClient) -> None:
    outputs(client, files(NATURAL))
    outputs(client, files(NATURAL), "/v2/models/toy/versions/1/infer")
    client.post(INFER, content=b"{")
    metrics = client.get("/metrics").text
    for path, outcome in (
        ("/v2/models/{name}/infer", "ok"),
        ("/v2/models/{name}/versions/{version}/infer", "ok"),
        ("/v2/models/{name}/infer", "body-malformed"),
    ):
        line = f'parallax_requests_total{{endpoint="{path}",outcome="{outcome}"}} 1.0'
        assert line in metrics


@given(
    st.binary(max_size=200)
    | st.builds(
        lambda request, cut, tail: json.dumps(request).encode()[:cut] + tail,
        st.sampled_from([files(NATURAL), tensor(np.zeros((2, *SIZE))), {"inputs": [1]}]),
        st.integers(0, 700),
        st.binary(max_size=100),
    ),
    st.none() | st.integers(0, 700).map(str),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_any_body_is_answered(client: TestClient, body: bytes, announced: str | None) -> None:
    headers = {} if announced is None else {JSON_SIZE: announced}
    answer = client.post(INFER, content=body, headers=headers)
    assert answer.status_code in (200, 400, 413, 422)
    assert ("outputs" in answer.json()) is (answer.status_code == 200)
