"""Bodies of inference requests: what is asked, and everything that is not understood."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import (
    BodyEmpty,
    BodyMalformed,
    ParameterRefused,
    RequestError,
    TensorRefused,
    TooManyImages,
)
from service.manifest import InputSpec
from service.protocol.interface import inputs, outputs
from service.protocol.request import InferRequest, Parameters, Terms, json_size, read_request

TERMS = Terms(inputs(InputSpec(channels=1, height=2, width=3)), outputs(3), 4)
PIXELS = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 1, 2, 3)
RAW = PIXELS.tobytes()
IMAGE: dict[str, Any] = {"name": "image", "shape": [2, 1, 2, 3], "datatype": "FP32"}
AS_JSON = IMAGE | {"data": PIXELS.ravel().tolist()}
AS_BINARY = IMAGE | {"parameters": {"binary_data_size": len(RAW)}}
FILES: dict[str, Any] = {"name": "bytes", "shape": [2], "datatype": "BYTES"}
FILES_AS_JSON = FILES | {"data": [base64.b64encode(data).decode() for data in (b"a", b"b" * 999)]}


def read(request: Any, tail: bytes = b"", announced: str | None = None) -> InferRequest:
    text = json.dumps(request).encode()
    if tail and announced is None:
        announced = str(len(text))
    return decoded(text + tail, announced)


def decoded(body: bytes, announced: str | None, terms: Terms = TERMS) -> InferRequest:
    header = None if announced is None else announced.encode()
    return read_request(body, json_size(header, len(body)), terms)


def test_pixels_as_json() -> None:
    request = read({"inputs": [AS_JSON]})
    np.testing.assert_array_equal(request.images, PIXELS)
    assert request.id is None
    assert request.parameters == Parameters()
    assert [asked.spec for asked in request.outputs] == list(TERMS.outputs)
    assert not any(asked.binary for asked in request.outputs)


def test_pixels_as_bytes() -> None:
    request = read({"inputs": [AS_BINARY]}, RAW)
    np.testing.assert_array_equal(request.images, PIXELS)


def test_files() -> None:
    assert read({"inputs": [FILES_AS_JSON]}).images == [b"a", b"b" * 999]
    tail = b"\1\0\0\0a\2\0\0\0bb"
    binary = FILES | {"parameters": {"binary_data_size": len(tail)}}
    assert read({"inputs": [binary]}, tail).images == [b"a", b"bb"]


def test_as_kserve_and_mlserver_send_it() -> None:
    """A model's name in the body, content types, empty and null fields."""
    request = read(
        {
            "id": "41",
            "model_name": "other",
            "model_version": None,
            "parameters": {"content_type": "np"},
            "inputs": [AS_JSON | {"parameters": {"content_type": "np"}}],
            "outputs": [],
        }
    )
    assert request.id == "41"
    read({"inputs": [FILES_AS_JSON | {"parameters": {"content_type": "base64"}}]})
    read({"inputs": [AS_JSON | {"parameters": None}], "parameters": None, "outputs": None})
    read({"inputs": [AS_JSON | {"parameters": {}}], "parameters": {}, "id": None})


def test_outputs_are_those_asked_for() -> None:
    asked = [
        {"name": "score"},
        {"name": "label", "parameters": {"binary_data": True}},
        {"name": "verdict", "parameters": {"binary_data": False}},
    ]
    for everywhere in (True, False):
        parameters = {"binary_data_output": everywhere}
        request = read({"inputs": [AS_JSON], "outputs": asked, "parameters": parameters})
        assert [(out.spec.name, out.binary) for out in request.outputs] == [
            ("score", everywhere),
            ("label", True),
            ("verdict", False),
        ]


def test_parameters() -> None:
    given = {"policy": "strict", "fpr": "0.01", "strict_size": True}
    request = read({"inputs": [AS_JSON], "parameters": given})
    assert request.parameters == Parameters(policy="strict", fpr=0.01, strict_size=True)


@pytest.mark.parametrize("id_", ["", "a b", "\u00e9\U0001f600", "x" * 255, "\n\0"])
def test_an_id_is_any_text(id_: str) -> None:
    assert read({"inputs": [AS_JSON], "id": id_}).id == id_


def image(**changes: Any) -> dict[str, Any]:
    return {"inputs": [AS_JSON | changes]}


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        ([], BodyMalformed, "the request is not an object"),
        (1, BodyMalformed, "the request is not an object"),
        ([1, 2], BodyMalformed, "the request is not an object"),
        ("x" * 999, BodyMalformed, "the request is not an object"),
        ({}, BodyEmpty, "no image"),
        ({"inputs": []}, BodyEmpty, "no image"),
        ({"inputs": {}}, BodyMalformed, "inputs is not a list"),
        ({"inputs": [1]}, BodyMalformed, "inputs is not a list"),
        ({"inputs": ["a"]}, BodyMalformed, "an input is not an object"),
        ({"inputs": [AS_JSON, AS_JSON]}, BodyMalformed, "one input"),
        ({"inputs": [AS_JSON, FILES_AS_JSON]}, BodyMalformed, "one input"),
        ({"inputs": [AS_JSON], "x" * 200: 1}, BodyMalformed, "unknown"),
        ({"inputs": [AS_JSON], "parameter": {"policy": "strict"}}, BodyMalformed, "'parameter'"),
        ({"inputs": [AS_JSON], "id": 1}, BodyMalformed, "id is not a string"),
        ({"inputs": [AS_JSON], "id": "x" * 999}, BodyMalformed, "id is not a string"),
        ({"inputs": [AS_JSON], "id": "\ud800"}, BodyMalformed, "half a character"),
        ({"inputs": [AS_JSON], "parameters": []}, BodyMalformed, "not an object"),
        ({"inputs": [AS_JSON], "parameters": [1]}, BodyMalformed, "not an object"),
        ({"inputs": [AS_JSON], "parameters": {"polici": "eq12"}}, ParameterRefused, "policy"),
        ({"inputs": [AS_JSON], "parameters": {"policy": "none"}}, ParameterRefused, "'policy'"),
        ({"inputs": [AS_JSON], "parameters": {"policy": [1]}}, ParameterRefused, "'policy'"),
        ({"inputs": [AS_JSON], "parameters": {"fpr": 0}}, ParameterRefused, "'fpr'"),
        ({"inputs": [AS_JSON], "parameters": {"fpr": "x" * 999}}, ParameterRefused, "'fpr'"),
        (
            {"inputs": [AS_JSON], "parameters": {"strict_size": 2}},
            ParameterRefused,
            "'strict_size'",
        ),
        ({"inputs": [AS_JSON], "parameters": {"sequence_id": 1}}, ParameterRefused, "sequence_id"),
        ({"inputs": [AS_JSON], "parameters": {"priority": 1}}, ParameterRefused, "unknown"),
        ({"inputs": [AS_JSON], "parameters": {"content_type": "pd"}}, ParameterRefused, "content"),
        ({"inputs": [AS_JSON], "outputs": {}}, BodyMalformed, "outputs is not a list"),
        ({"inputs": [AS_JSON], "outputs": [1]}, BodyMalformed, "outputs is not a list"),
        ({"inputs": [AS_JSON], "outputs": ["score"]}, BodyMalformed, "an output is not an object"),
        ({"inputs": [AS_JSON], "outputs": [{}]}, BodyMalformed, "name is not a string"),
        ({"inputs": [AS_JSON], "outputs": [{"name": 1}]}, BodyMalformed, "name is not a string"),
        ({"inputs": [AS_JSON], "outputs": [{"name": "x"}]}, TensorRefused, "no such output"),
        ({"inputs": [AS_JSON], "outputs": [{"name": "score"}] * 2}, TensorRefused, "twice"),
        (
            {"inputs": [AS_JSON], "outputs": [{"name": "score", "shape": [1]}]},
            BodyMalformed,
            "'shape' of an output is unknown",
        ),
        (
            {"inputs": [AS_JSON], "outputs": [{"name": "score", "parameters": {"binary_data": 1}}]},
            ParameterRefused,
            "neither true nor false",
        ),
        (
            {"inputs": [AS_JSON], "outputs": [{"name": "x", "parameters": {"classification": 1}}]},
            TensorRefused,
            "no such output",
        ),
        (
            {"inputs": [AS_JSON], "outputs": [{"name": "label", "parameters": {"a": 1}}]},
            BodyMalformed,
            "'a' of an output's parameters is unknown",
        ),
        (image(name="pixels"), TensorRefused, "no such input; give 'image' or 'bytes'"),
        (image(name="\ud800"), TensorRefused, "no such input"),
        (image(name=None), BodyMalformed, "name is not a string"),
        (image(datatype="FP64"), TensorRefused, "not FP32"),
        (image(datatype="BYTES"), TensorRefused, "not FP32"),
        (image(datatype=None), TensorRefused, "not FP32"),
        (image(datatype=[1]), TensorRefused, "not FP32"),
        (image(extra=1), BodyMalformed, "'extra' of an input is unknown"),
        (image(data=None), TensorRefused, "neither data nor binary_data_size"),
        (image(data=[0.5]), TensorRefused, "1 values, where the shape has 12"),
        (image(data="a"), TensorRefused, "not a list of numbers"),
        (image(shape=[5, 1, 2, 3]), TooManyImages, "4"),
        (image(shape=[10**18, 1, 2, 3]), TooManyImages, "4"),
        (image(shape=[10**180, 1, 2, 3]), TooManyImages, "4"),
        (image(shape=[0, 1, 2, 3]), BodyEmpty, "no image"),
        (image(parameters={"shared_memory_region": "a"}), BodyMalformed, "shared_memory_region"),
        (image(parameters={"content_type": "base64"}), ParameterRefused, "'np'"),
        (image(parameters=[]), BodyMalformed, "not an object"),
        (image(parameters={"binary_data_size": 48}), TensorRefused, "both"),
        ({"inputs": [FILES_AS_JSON | {"shape": [1]}]}, TensorRefused, "2 values"),
        ({"inputs": [FILES_AS_JSON | {"shape": [2, 1]}]}, TensorRefused, r"not \[N\]"),
        ({"inputs": [FILES_AS_JSON | {"data": [1, 2]}]}, TensorRefused, "list of strings"),
    ],
)
def test_what_is_not_understood_is_refused(
    request_: Any, error: type[RequestError], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        read(request_)
    assert len(str(raised.value)) < 300
    str(raised.value).encode()


@pytest.mark.parametrize(
    "shape",
    [
        *([2, 1, 2], [2, 1, 3, 2], [2, 1, 2, 3, 1], [12], [], [2, 1, 2, -3], [-2, 1, 2, 3]),
        *([-1, 1, 2, 3], [2, -1, -2, 3], [2, 1, 2, 2**62], [2**32, 2**32, 2, 3], [2.0, 1, 2, 3]),
        *(["2", 1, 2, 3], [True, 1, 2, 3], [[2, 1, 2, 3]], [[2], 1, 2, 3], "2123", 12, None, {}),
        *([2, 1, 2, 3] * 9, [2, 1, 2, 3] + [1] * 5000, [2, 1, 2, 1e400], [10**400, 1, 2, 3]),
    ],
)
def test_other_shapes_are_refused(shape: Any) -> None:
    with pytest.raises((TensorRefused, BodyMalformed)) as raised:
        read(image(shape=shape))
    assert "shape" in str(raised.value) or "JSON" in str(raised.value)


@pytest.mark.parametrize(
    ("announced", "tail", "input_", "words"),
    [
        ("0", RAW, AS_BINARY, "is 0, and the body"),
        ("9999", RAW, AS_BINARY, "is 9999, and the body"),
        ("-1", RAW, AS_BINARY, "not a number of bytes"),
        ("many", RAW, AS_BINARY, "not a number of bytes"),
        ("\u00b2", RAW, AS_BINARY, "not a number of bytes"),
        ("1" * 5000, RAW, AS_BINARY, "not a number of bytes"),
        ("", RAW, AS_BINARY, "not a number of bytes"),
        ("10", RAW, AS_BINARY, "JSON"),
        (None, b"", AS_BINARY, "not the 0 bytes that follow"),
        (None, RAW[:-1], AS_BINARY, "not the 47 bytes that follow"),
        (None, RAW + b"1", AS_BINARY, "not the 49 bytes that follow"),
        (None, RAW, AS_JSON, "48 bytes after the JSON belong to no input"),
        (None, RAW, IMAGE | {"parameters": {"binary_data_size": 48.0}}, "binary_data_size"),
        (None, RAW, IMAGE | {"parameters": {"binary_data_size": -48}}, "binary_data_size"),
        (None, b"1", IMAGE | {"parameters": {"binary_data_size": True}}, "binary_data_size"),
        (None, RAW * 2, IMAGE | {"parameters": {"binary_data_size": 96}}, "96 bytes, where"),
    ],
)
def test_sizes_that_contradict_each_other(
    announced: str | None, tail: bytes, input_: dict[str, Any], words: str
) -> None:
    with pytest.raises((BodyMalformed, TensorRefused), match=words):
        read({"inputs": [input_]}, tail, announced)


def test_an_empty_body() -> None:
    with pytest.raises(BodyEmpty):
        decoded(b"", None)


def test_thousands_of_tensors() -> None:
    with pytest.raises(BodyMalformed, match="more than"):
        read({"inputs": [AS_JSON] * 20_000})


def test_short_files_leave_room_for_each_other() -> None:
    """So many as a request may hold, each just too short to be lifted out of the JSON."""
    terms = Terms(TERMS.inputs, TERMS.outputs, 1000)
    texts = [base64.b64encode(b"x" * 180).decode()] * 1000
    text = json.dumps({"inputs": [FILES | {"shape": [1000], "data": texts}]}, indent=8)
    assert decoded(text.encode(), None, terms).images == [b"x" * 180] * 1000


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.floats(-1, 2)
    | st.sampled_from(
        ["image", "bytes", "FP32", "BYTES", "score", "np", "YQ==", "\ud800", "x" * 300]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("inputs", "outputs", "parameters", "id", "name", "shape", "datatype", "data"),
                    *("binary_data_size", "binary_data", "content_type", "policy", "fpr"),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)
INPUTS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["image", "bytes"]),
        "datatype": st.sampled_from(["FP32", "BYTES"]),
        "shape": st.lists(st.integers(-2, 5), min_size=1, max_size=4) | st.just([1, 1, 2, 3]),
    },
    optional={
        "data": st.lists(st.floats(0, 1), max_size=6) | VALUES,
        "parameters": st.fixed_dictionaries(
            {"binary_data_size": st.sampled_from([24, 48, 0, 5]) | VALUES}
        ),
    },
)


@given(
    VALUES | st.fixed_dictionaries({"inputs": st.lists(INPUTS, min_size=1, max_size=2)}),
    st.sampled_from([b"", RAW, RAW[:24], b"\1\0\0\0a"]) | st.binary(max_size=30),
    st.none() | st.integers(0, 300).map(str) | st.text(max_size=5),
)
def test_any_request_is_understood_or_refused(
    request_: Any, tail: bytes, announced: str | None
) -> None:
    try:
        understood = read(request_, tail, announced)
    except RequestError as error:
        str(error).encode()
        return
    assert 1 <= len(understood.images) <= TERMS.max_images
    if isinstance(understood.images, np.ndarray):
        assert understood.images.shape[1:] == (1, 2, 3)


@given(st.binary(max_size=200), st.none() | st.text(max_size=8))
def test_any_body_is_refused(body: bytes, announced: str | None) -> None:
    with pytest.raises(RequestError):
        decoded(body, announced)
