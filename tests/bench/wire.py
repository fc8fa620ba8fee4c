"""The requests that clients send, as the bytes that travel, and binary answers. Knows no server.

Images of a request are PNG files as they lie on the disk, or float32 arrays (N, C, H, W) in [0, 1].
"""

import base64
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BOUNDARY = b"parallax-bench"


def post(path: str, body: bytes, content_type: str, **headers: str) -> bytes:
    """One POST request; `_` in a header's name stands for `-`."""
    lines = [f"POST {path} HTTP/1.1", "Host: bench", f"Content-Type: {content_type}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def png(path: str, image: bytes) -> bytes:
    """The file is the body."""
    return post(path, image, "image/png")


def multipart(path: str, image: bytes, part: str = "file") -> bytes:
    """A form with one file."""
    body = (
        b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="0.png"\r\n'
        b"Content-Type: image/png\r\n\r\n%b\r\n--%b--\r\n"
    ) % (_BOUNDARY, part.encode(), image, _BOUNDARY)
    return post(path, body, f"multipart/form-data; boundary={_BOUNDARY.decode()}")


def document(path: str, value: Any) -> bytes:
    """JSON."""
    return post(path, json.dumps(value, separators=(",", ":")).encode(), "application/json")


def text(image: bytes) -> str:
    """Base64."""
    return base64.b64encode(image).decode()


def tensor(path: str, images: NDArray[np.float32]) -> bytes:
    """Open Inference Protocol v2 with its binary tensor extension, answer in binary too."""
    values = np.ascontiguousarray(images, dtype="<f4").tobytes()
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "image",
                    "shape": list(images.shape),
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": len(values)},
                }
            ],
            "parameters": {"binary_data_output": True},
        },
        separators=(",", ":"),
    ).encode()
    return post(
        path,
        head + values,
        "application/octet-stream",
        Inference_Header_Content_Length=str(len(head)),
    )


def tensor_in(answer: bytes, name: str) -> NDArray[np.float32]:
    """A float32 output of an answer in binary, in its shape.

    Raises:
        StopIteration: there is no such output.
    """
    head, _ = json.JSONDecoder().raw_decode(answer.decode("latin-1"))
    sizes = [output["parameters"]["binary_data_size"] for output in head["outputs"]]
    index = next(i for i, output in enumerate(head["outputs"]) if output["name"] == name)
    begin = len(answer) - sum(sizes[index:])
    values = np.frombuffer(answer[begin : begin + sizes[index]], "<f4")
    return values.reshape(head["outputs"][index]["shape"])
