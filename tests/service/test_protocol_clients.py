"""The Open Inference Protocol as Triton's own client speaks it, against a server process."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tritonclient.http import (
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
    InferResult,
)
from tritonclient.utils import InferenceServerException

from tests.service.served import Served, serving
from tests.service.toy import ATTACKED, LABELS, NATURAL, ToyFolder, calibrated, pixels, toy_answers

SIZE = (1, 4, 4)
IMAGES: Any = np.stack([pixels(1, 1, 1), pixels(2, 1, 2), pixels(0, 0, 2)])[:, None] / np.float32(
    255
)
OUTPUTS = {
    "probabilities_standard": ("FP32", [-1, 3]),
    "probabilities_robust": ("FP32", [-1, 3]),
    "probabilities_nonrobust": ("FP32", [-1, 3]),
    "adversarial": ("BOOL", [-1]),
    "score": ("FP32", [-1]),
    "label": ("INT64", [-1]),
    "verdict": ("BYTES", [-1]),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("models")
    ToyFolder(root, version=1).write()
    toy = ToyFolder(root, version=2, changes={"decision": calibrated()}).write()
    with serving(toy) as server:
        yield server


@pytest.fixture
def client(server: Served) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


def image(pixels: Any = IMAGES, *, binary: bool = True) -> InferInput:
    given = InferInput("image", list(pixels.shape), "FP32")
    given.set_data_from_numpy(np.asarray(pixels, np.float32), binary_data=binary)
    return given


def files(*data: bytes) -> InferInput:
    given = InferInput("bytes", [len(data)], "BYTES")
    given.set_data_from_numpy(np.array(data, np.object_))
    return given


def softmax(logits: Any) -> Any:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def check(result: InferResult) -> None:
    """All outputs of IMAGES, compared with the toy's arithmetic."""
    answers = toy_answers(IMAGES)
    for way in ("standard", "robust", "nonrobust"):
        expected = softmax(answers[f"logits_{way}"])
        got = result.as_numpy(f"probabilities_{way}")
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, atol=1e-6)
    assert result.as_numpy("adversarial").tolist() == [False, True, True]
    assert result.as_numpy("label").tolist() == [1, 1, 0]
    assert result.as_numpy("label").dtype == np.int64
    np.testing.assert_allclose(result.as_numpy("score"), [0, 1, 1], atol=1e-3)
    verdicts = [as_text(verdict) for verdict in result.as_numpy("verdict")]
    assert verdicts == ["accept", "corrected", "corrected"]


def as_text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def test_health(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("toy")
    assert client.is_model_ready("toy", "1")
    assert not client.is_model_ready("toy", "3")
    assert not client.is_model_ready("../toy")


def test_metadata(client: InferenceServerClient) -> None:
    server = client.get_server_metadata()
    assert server["name"] == "parallax"
    assert server["extensions"] == ["binary_tensor_data", "parameters"]
    for version in ("", "1", "2"):
        model = client.get_model_metadata("toy", version)
        assert model["name"] == "toy"
        assert model["versions"] == ["1", "2"]
        assert model["inputs"] == [
            {"name": "image", "datatype": "FP32", "shape": [-1, *SIZE]},
            {"name": "bytes", "datatype": "BYTES", "shape": [-1]},
        ]
        told = {
            output["name"]: (output["datatype"], output["shape"]) for output in model["outputs"]
        }
        assert told == OUTPUTS


def test_index(client: InferenceServerClient) -> None:
    assert client.get_model_repository_index() == [
        {"name": "toy", "version": version, "state": "READY", "reason": ""} for version in "12"
    ]


@pytest.mark.parametrize("binary", [True, False])
def test_pixels(client: InferenceServerClient, binary: bool) -> None:
    """By default the client asks for binary outputs."""
    result = client.infer("toy", [image(binary=binary)], request_id="a 1")
    head = result.get_response()
    assert (head["id"], head["model_name"], head["model_version"]) == ("a 1", "toy", "2")
    assert all("binary_data_size" in output["parameters"] for output in head["outputs"])
    check(result)


def test_outputs_as_json(client: InferenceServerClient) -> None:
    outputs = [InferRequestedOutput(name, binary_data=False) for name in OUTPUTS]
    result = client.infer("toy", [image()], outputs=outputs)
    assert all("data" in output for output in result.get_response()["outputs"])
    check(result)


def test_some_outputs(client: InferenceServerClient) -> None:
    outputs = [
        InferRequestedOutput("verdict", binary_data=True),
        InferRequestedOutput("label", binary_data=False),
        InferRequestedOutput("score", binary_data=True),
    ]
    result = client.infer("toy", [image()], outputs=outputs)
    names = [output["name"] for output in result.get_response()["outputs"]]
    assert names == ["verdict", "label", "score"]
    assert result.as_numpy("label").tolist() == [1, 1, 0]
    assert result.as_numpy("verdict").tolist() == [b"accept", b"corrected", b"corrected"]
    assert result.as_numpy("adversarial") is None


def test_files(client: InferenceServerClient) -> None:
    result = client.infer("toy", [files(NATURAL, ATTACKED)])
    assert result.as_numpy("verdict").tolist() == [b"accept", b"corrected"]
    assert result.as_numpy("label").tolist() == [1, 1]
    assert result.as_numpy("probabilities_standard").shape == (2, len(LABELS))


def test_versions_and_parameters(client: InferenceServerClient) -> None:
    result = client.infer("toy", [image()], model_version="1")
    assert result.get_response()["model_version"] == "1"
    strict = client.infer("toy", [image()], parameters={"policy": "strict", "fpr": 0.01})
    assert strict.as_numpy("verdict").tolist() == [b"accept", b"reject", b"reject"]
    with pytest.raises(InferenceServerException, match="not calibrated") as refused:
        client.infer("toy", [image()], model_version="1", parameters={"policy": "strict"})
    assert refused.value.status() == "422"


def test_many_at_once(client: InferenceServerClient, server: Served) -> None:
    """Over several connections, each answer belongs to its own question."""
    rng = np.random.default_rng(0)
    questions = [rng.random((n, *SIZE), np.float32) for n in (1, 2, 5, 33, 64) * 4]
    with InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4) as many:
        pending = [many.async_infer("toy", [image(question)]) for question in questions]
        for question, promise in zip(questions, pending, strict=True):
            got = promise.get_result().as_numpy("probabilities_robust")
            expected = softmax(toy_answers(question)["logits_robust"])
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def ask_for(client: InferenceServerClient, output: InferRequestedOutput) -> InferResult:
    return client.infer("toy", [image()], outputs=[output])


@pytest.mark.parametrize(
    ("ask", "status", "words"),
    [
        (lambda c: c.infer("none", [image()]), "404", "model 'none' is not loaded"),
        (lambda c: c.infer("toy", [image()], model_version="9"), "404", "version 9"),
        (lambda c: c.infer("toy", [image()], model_version="x"), "422", "'version'"),
        (lambda c: c.infer("t\u00f6y/\u202e", [image()]), "404", "not"),
        (lambda c: c.infer("toy", []), "400", "no image"),
        (lambda c: c.infer("toy", [image(), files(NATURAL)]), "400", "one input"),
        (lambda c: c.infer("toy", [image(IMAGES[:, :, :3])]), "400", r"not \[N, 1, 4, 4\]"),
        (lambda c: c.infer("toy", [image(IMAGES * np.nan)]), "400", "image 0 has the value nan"),
        (lambda c: c.infer("toy", [image(IMAGES + 1)]), "400", "image 0 has the value"),
        (lambda c: c.infer("toy", [image(np.zeros((65, *SIZE)))]), "413", "at most 64"),
        (
            lambda c: c.infer("toy", [image()], outputs=[InferRequestedOutput("logits")]),
            "400",
            "no such output",
        ),
        (
            lambda c: c.infer(
                "toy", [image()], outputs=[InferRequestedOutput("label", class_count=2)]
            ),
            "400",
            "'classification'",
        ),
        (lambda c: c.infer("toy", [image()], priority=3), "422", "'priority'"),
        (lambda c: c.infer("toy", [image()], sequence_id=3), "422", "sequence"),
        (lambda c: c.infer("toy", [image()], parameters={"polici": "eq12"}), "422", "'policy'"),
        (lambda c: c.infer("toy", [image()], query_params={"policy": "eq12"}), "422", "unknown"),
        (lambda c: c.infer("toy", [image()], timeout=1), "504", "deadline"),
        (
            lambda c: c.infer("toy", [image()], request_compression_algorithm="gzip"),
            "415",
            "gzip",
        ),
        (lambda c: c.infer("toy", [files(NATURAL, NATURAL[:50])]), "422", "image 1: .* too early"),
        (lambda c: c.infer("toy", [files(b"", NATURAL)]), "400", "image 0: .* no bytes"),
        (lambda c: c.get_model_metadata("toy", "0"), "422", "'version'"),
        (lambda c: c.get_model_metadata("none"), "404", "is not loaded"),
        (lambda c: c.get_model_config("toy"), "404", "nothing is served"),
        (lambda c: c.load_model("toy"), "404", "nothing is served"),
        (lambda c: c.register_system_shared_memory("a", "/b", 9), "404", "nothing is served"),
    ],
)
def test_errors_are_the_protocols(
    client: InferenceServerClient, ask: Any, status: str, words: str
) -> None:
    with pytest.raises(InferenceServerException, match=words) as refused:
        ask(client)
    assert refused.value.status() == status


def send(server: Served, path: str, body: bytes | None, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(f"{server.url}{path}", body, headers)
    try:
        answer: Any = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as refused:
        answer = refused
    with answer:
        assert answer.headers["content-type"] == "application/json"
        return answer.status, json.load(answer)


def test_what_clients_of_kserve_look_at(server: Served) -> None:
    assert send(server, "/v2/health/live", None) == (200, {"live": True})
    assert send(server, "/v2/health/ready", None) == (200, {"ready": True})
    assert send(server, "/v2/models/toy/ready", None) == (200, {"name": "toy", "ready": True})


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v2/", None, 404, "not-found"),
        ("/v2/models", None, 404, "not-found"),
        ("/v2/models/toy/infer", None, 405, "method-not-allowed"),
        ("/v2/models/toy", b"", 405, "method-not-allowed"),
        ("/v2/models/toy/infer", b"", 400, "body-empty"),
        ("/v2/models/toy/infer", b"[" * 100_000, 400, "body-malformed"),
        ("/v2/models/toy/infer", b'{"inputs":' * 100_000, 400, "body-malformed"),
        ("/v2/models/toy/infer", b"\xff", 400, "body-malformed"),
        ("/v2/models/toy%2F1/infer", b"{}", 404, "not-found"),
        ("/v2/models/..%2F..%2Fetc/infer", b"{}", 404, "not-found"),
        ("/v2/models/%00/infer", b"{}", 404, "model-unknown"),
        ("/v2/models/%FF%FE/infer", b"{}", 404, "model-unknown"),
        ("/v2/models/toy/versions/-1/infer", b"{}", 422, "parameter-refused"),
        ("/v2/models/toy/versions/%D9%A1/infer", b"{}", 422, "parameter-refused"),
        ("/v2/models/toy/versions/" + "9" * 5000, None, 422, "parameter-refused"),
        ("/v2/repository/index", b'{"redy": true}', 400, "body-malformed"),
        ("/v2/repository/index", b"[1]", 400, "body-malformed"),
        ("/v2/repository/index", b'{"ready": [' + b"{}," * 999, 400, "body-malformed"),
    ],
)
def test_every_error_under_v2_has_one_shape(
    server: Served, path: str, body: bytes | None, status: int, code: str
) -> None:
    answered, problem = send(server, path, body)
    assert (answered, problem["code"]) == (status, code)
    assert problem.keys() == {"error", "code"}
    assert isinstance(problem["error"], str)


@pytest.mark.parametrize("body", [b"{}", b'{"ready": true}', b' {"ready": false}\n', b" "])
def test_index_queries(server: Served, body: bytes) -> None:
    status, entries = send(server, "/v2/repository/index", body)
    assert status == 200
    assert [entry["version"] for entry in entries] == ["1", "2"]


def test_errors_of_the_edge_have_it_too(server: Served) -> None:
    """This one is known before any route is asked."""
    head = b"POST /v2/models/toy/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    answer = server.exchange(head + b"Content-Length: 99999999\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    problem = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert problem == {"error": problem["error"], "code": "body-too-large"}


def test_a_false_length_of_json(server: Served) -> None:
    for announced in ("0", "-3", "99", "x"):
        headers = {"Inference-Header-Content-Length": announced}
        status, problem = send(server, "/v2/models/toy/infer", b"{}", **headers)
        assert (status, problem["code"]) == (400, "body-malformed")
