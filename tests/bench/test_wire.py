"""Requests are whole: what they announce is what they hold."""

import json

import numpy as np
import pytest

from tests.bench import wire

PNG = b"\x89PNG and so on"
PIXELS = np.linspace(0, 1, 2 * 6, dtype=np.float32).reshape(2, 1, 2, 3)


def split(request: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, dict(line.split(": ") for line in lines), body


@pytest.mark.parametrize(
    "request_",
    [
        wire.png("/detect", PNG),
        wire.multipart("/detect", PNG),
        wire.document("/detect", {"image": wire.text(PNG)}),
        wire.tensor("/infer", PIXELS),
    ],
)
def test_the_length_is_the_bodys(request_: bytes) -> None:
    first, headers, body = split(request_)
    assert first.startswith("POST /")
    assert int(headers["Content-Length"]) == len(body) > 0


def test_the_tensor_follows_its_description() -> None:
    _, headers, body = split(wire.tensor("/infer", PIXELS))
    length = int(headers["Inference-Header-Content-Length"])
    (described,) = json.loads(body[:length])["inputs"]
    assert described["shape"] == [2, 1, 2, 3]
    assert described["parameters"]["binary_data_size"] == len(body) - length
    np.testing.assert_array_equal(np.frombuffer(body[length:], "<f4"), PIXELS.ravel())


def test_an_output_is_found_behind_the_description() -> None:
    values = {"score": PIXELS[:, 0, 0, 0], "probabilities": PIXELS[:, 0, 0]}
    outputs = [
        {
            "name": name,
            "datatype": "FP32",
            "shape": list(array.shape),
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in values.items()
    ]
    answer = json.dumps({"outputs": outputs}).encode()
    answer += b"".join(array.tobytes() for array in values.values())
    for name, array in values.items():
        np.testing.assert_array_equal(wire.tensor_in(answer, name), array)
    with pytest.raises(StopIteration):
        wire.tensor_in(answer, "label")
